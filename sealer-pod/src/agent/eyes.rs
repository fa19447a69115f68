//! One look at the node: everything that can be seen of it, put together.

use std::{path::Path, time::Instant};

use filstar_crds::{Gpu, Inventory};

use super::{
    Arguments,
    clock::{self, Clock},
    disk::{Disks, Place},
    gpu::{Known, Recorded, Source, Unasked},
    host::Host,
    nvml::Library,
    patient::Patient,
    report::{self, Report},
    topology,
};

/// A clock's offset that moved by less stays as it was told, milliseconds.
const OFFSET_MOVES: i64 = 200;

/// What the node is looked at with.
pub(crate) struct Eyes {
    host: Host,
    /// What hwloc said, and of which CPUs and nodes: reading it again costs.
    topology: Option<([Option<String>; 2], Inventory)>,
    source: Box<dyn Source>,
    known: Known,
    disks: Disks,
    kubelet_config: Option<std::path::PathBuf>,
    since: Instant,
}

impl Eyes {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let places = arguments.scratch.iter().filter(|p| !p.is_empty());
        let places = places.map(|path| Place {
            path: path.clone(),
            seen_at: arguments.host.join(path.trim_start_matches('/')),
        });
        Self {
            host: Host::at("/"),
            topology: None,
            source: match &arguments.gpus {
                Some(path) => Box::new(Recorded(path.clone())),
                None => Box::new(Patient::new(Library::default)),
            },
            known: Known::default(),
            disks: Disks::new(places.collect()),
            kubelet_config: arguments.kubelet_config.clone(),
            since: Instant::now(),
        }
    }

    /// Looks. `before` is what was last told, also by an agent before us.
    ///
    /// # Errors
    /// hwloc cannot read the machine.
    pub(crate) fn look(&mut self, before: Option<&Inventory>) -> anyhow::Result<Report> {
        let boot_id = self.host.boot_id();
        let before = before.filter(|b| b.boot_id == boot_id);
        let mut inventory = self.topology()?;
        let clock = clock::read();
        inventory.boot_id = boot_id;
        inventory.kernel = self.host.kernel();
        inventory.cpu_features = self.host.cpu_features();
        inventory.kubelet = self.host.kubelet(self.kubelet_config.as_deref());
        for node in &mut inventory.numa_nodes {
            node.hugepages = self.host.hugepages(node.id);
        }
        inventory.clock_offset_ms = offset(before.and_then(|b| b.clock_offset_ms), clock);
        let (unasked, readings) = match self.source.look() {
            Ok(readings) => (None, readings),
            Err(why) => (Some(why), Vec::new()),
        };
        let host = &self.host;
        inventory.gpus = self.known.gpus(
            before.map(|b| b.gpus.as_slice()).unwrap_or_default(),
            &readings,
            self.since.elapsed().as_secs(),
            |pci| host.numa_node_of(pci),
        );
        inventory.scratch = self
            .disks
            .look(before.map(|b| b.scratch.as_slice()).unwrap_or_default());
        let unasked = unasked.as_ref().map(Unasked::to_string);
        Ok(Report {
            gpus: report::gpus(
                &inventory.gpus,
                unasked.as_deref(),
                self.host.gpus_on_the_bus(),
            ),
            disks: report::disks(&inventory.scratch),
            clock: clock.finding(),
            inventory,
        })
    }

    fn topology(&mut self) -> anyhow::Result<Inventory> {
        let layout = self.host.layout();
        if let Some((known, inventory)) = &self.topology
            && *known == layout
        {
            return Ok(inventory.clone());
        }
        let mut inventory = topology::inventory(&topology::of_this_machine()?);
        // NVML is asked for them.
        inventory.gpus.clear();
        self.topology = Some((layout, inventory.clone()));
        Ok(inventory)
    }
}

/// The offset to tell: that told before, unless it moved.
fn offset(before: Option<i64>, clock: Clock) -> Option<i64> {
    let now = clock.offset_ms()?;
    Some(
        before
            .filter(|old| (now - old).abs() < OFFSET_MOVES)
            .unwrap_or(now),
    )
}

/// Recorded GPUs, each next to the node where the export shows its PCI address.
///
/// # Errors
/// The recording cannot be read.
pub(crate) fn recorded(path: &Path, shown: &[Gpu]) -> anyhow::Result<Vec<Gpu>> {
    let readings = Recorded(path.to_owned()).look()?;
    let node = |pci: &str| shown.iter().find(|g| g.pci == pci)?.numa_node;
    Ok(Known::default().gpus(&[], &readings, 0, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_at_the_border_of_two_steps_is_told_once() {
        let clock = |ms: i64| Clock {
            synced: true,
            offset_us: ms * 1000,
        };
        assert_eq!(offset(None, clock(250)), Some(200));
        assert_eq!(offset(Some(200), clock(310)), Some(200));
        assert_eq!(offset(Some(200), clock(450)), Some(400));
        let lost = Clock {
            synced: false,
            ..clock(250)
        };
        assert_eq!(offset(Some(200), lost), None);
    }
}
