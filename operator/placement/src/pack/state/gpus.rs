//! Where GPUs are free.

use super::State;

impl State<'_> {
    /// Free GPUs of some NUMA nodes.
    pub(super) fn free_gpus(&self, domain: &[usize]) -> usize {
        let here = |numa: Option<u32>| domain.iter().any(|n| Some(self.server.numa[*n].id) == numa);
        let gpus = self.server.gpus.iter().zip(&self.gpus);
        gpus.filter(|(gpu, free)| **free && here(gpu.numa)).count()
    }

    /// Whether a free GPU is on the NUMA node of the group at a place.
    pub(super) fn is_near_free_gpu(&self, at: usize) -> bool {
        let numa = Some(self.server.groups[at].numa);
        let mut gpus = self.server.gpus.iter().zip(&self.gpus);
        gpus.any(|(gpu, free)| *free && gpu.numa == numa)
    }
}
