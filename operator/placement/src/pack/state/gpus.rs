//! Where GPUs are free.

use super::State;

impl State<'_> {
    /// Free GPUs of some NUMA nodes.
    pub(super) fn free_gpus(&self, domain: &[usize]) -> usize {
        let here = |numa: &Option<u32>| {
            domain
                .iter()
                .any(|n| Some(self.server.numa[*n].id) == *numa)
        };
        self.numa_of_free_gpus().filter(here).count()
    }

    /// Whether a free GPU is on the NUMA node of the group at a place.
    pub(super) fn is_near_free_gpu(&self, at: usize) -> bool {
        let numa = Some(self.server.groups[at].numa);
        self.numa_of_free_gpus().any(|gpu| gpu == numa)
    }

    /// The NUMA node of each free GPU, where it is known.
    fn numa_of_free_gpus(&self) -> impl Iterator<Item = Option<u32>> {
        let gpus = self.server.gpus.iter().zip(&self.gpus);
        gpus.filter(|(_, free)| **free).map(|(gpu, _)| gpu.numa)
    }
}
