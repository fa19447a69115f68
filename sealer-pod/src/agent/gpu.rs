//! GPUs: where readings come from, and what they mean for the work on a GPU.
//!
//! Reading is apart from judging: [`judge`] is a pure function of what was seen before and what is seen now, so that
//! health is tested on recorded readings, without a GPU.

use std::{collections::BTreeMap, fs, path::PathBuf};

use filstar_crds::{Gpu, GpuHealth};
use serde::{Deserialize, Serialize};

/// A GPU that held back its clock for so many looks in a row is throttled, and well again after as many without.
const LOOKS: u32 = 3;
/// After an Xid that says nothing of the hardware's state a GPU rests for so long, seconds.
const REST: u64 = 600;
/// Xids that a program causes to itself, by NVIDIA's list: the GPU is well.
const OF_PROGRAMS: [u64; 8] = [8, 13, 31, 32, 43, 45, 68, 109];
/// Xids after which only a reset or a new boot helps: ECC, row remapping, off the bus, GSP.
const LASTING: [u64; 8] = [48, 64, 74, 79, 95, 119, 120, 140];

/// What is asked for GPUs.
pub(crate) trait Source {
    /// All GPUs as they are now. Xids are those since the last look.
    ///
    /// # Errors
    /// Why nobody can be asked.
    fn look(&mut self) -> Result<Vec<Reading>, Unasked>;
}

/// Why there are no readings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unasked {
    /// There is no driver.
    #[error("NVML is not there ({0})")]
    NoDriver(String),
    /// There is one, and it does not answer.
    #[error("NVML does not answer ({0})")]
    Broken(String),
}

/// One GPU at one moment, as NVML tells it; also the form of recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Reading {
    pub(crate) uuid: String,
    pub(crate) model: String,
    /// Bytes.
    pub(crate) memory: u64,
    /// PCI address, such as `0000:41:00.0`.
    pub(crate) pci: String,
    /// It no longer answers.
    #[serde(default)]
    pub(crate) lost: bool,
    /// Uncorrected memory errors since the driver was loaded; none where there is no ECC.
    #[serde(default)]
    pub(crate) ecc_uncorrected: Option<u64>,
    /// Bad memory was found, and is replaced at the next reset.
    #[serde(default)]
    pub(crate) repair_pending: bool,
    /// What holds its clock back, in NVML's words: heat or a power brake.
    #[serde(default)]
    pub(crate) throttled: Vec<String>,
    /// Xid errors since the last look.
    #[serde(default)]
    pub(crate) xids: Vec<u64>,
}

/// What was seen of a GPU before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The Xid that counts, and when it was seen, in seconds.
    xid: Option<(u64, u64)>,
    /// Looks in a row that differ from `throttled`.
    differs: u32,
    throttled: bool,
}

/// Whether a GPU can be used, and why not. `now` in seconds of any clock that only rises.
pub(crate) fn judge(
    memory: &mut Memory,
    reading: &Reading,
    now: u64,
) -> (GpuHealth, Option<String>) {
    remember(memory, reading, now);
    if reading.lost {
        let why = "NVML no longer reaches it: reset it or restart the node";
        return (GpuHealth::Lost, Some(why.into()));
    }
    if let Some((xid, _)) = memory.xid {
        let what = if LASTING.contains(&xid) {
            "only a reset or a restart of the node helps"
        } else {
            "it rests for ten minutes"
        };
        return (GpuHealth::Unhealthy, Some(format!("Xid {xid}: {what}")));
    }
    if let Some(errors) = reading.ecc_uncorrected.filter(|e| *e > 0) {
        let why = format!(
            "{errors} uncorrected memory errors since the driver was loaded: results may be wrong; reset it"
        );
        return (GpuHealth::Unhealthy, Some(why));
    }
    if reading.repair_pending {
        let why = "bad memory waits for a reset to be replaced";
        return (GpuHealth::Unhealthy, Some(why.into()));
    }
    if memory.throttled {
        let why = match reading.throttled.join(", ") {
            words if words.is_empty() => "its clock was held back a moment ago".to_owned(),
            words => format!("its clock is held back: {words}"),
        };
        return (GpuHealth::Throttled, Some(why));
    }
    (GpuHealth::Healthy, None)
}

fn remember(memory: &mut Memory, reading: &Reading, now: u64) {
    let lasting = |xid: u64| LASTING.contains(&xid);
    if let Some((xid, seen)) = memory.xid
        && !lasting(xid)
        && now.saturating_sub(seen) >= REST
    {
        memory.xid = None;
    }
    for xid in reading.xids.iter().filter(|x| !OF_PROGRAMS.contains(x)) {
        if !memory.xid.is_some_and(|(old, _)| lasting(old)) {
            memory.xid = Some((*xid, now));
        }
    }
    if reading.throttled.is_empty() == memory.throttled {
        memory.differs += 1;
    } else {
        memory.differs = 0;
    }
    if memory.differs >= LOOKS {
        memory.throttled = !memory.throttled;
        memory.differs = 0;
    }
}

/// What is known of all GPUs of this boot.
#[derive(Debug, Default)]
pub(crate) struct Known {
    memories: BTreeMap<String, Memory>,
}

impl Known {
    /// GPUs for the inventory. One that was there before in this boot and that nobody sees any more is lost, not
    /// forgotten: work waits for it. `numa_node` tells the node next to a PCI address.
    pub(crate) fn gpus(
        &mut self,
        before: &[Gpu],
        readings: &[Reading],
        now: u64,
        numa_node: impl Fn(&str) -> Option<u32>,
    ) -> Vec<Gpu> {
        let mut gpus: Vec<Gpu> = readings
            .iter()
            .map(|reading| {
                let memory = self.memories.entry(reading.uuid.clone()).or_default();
                let (health, why) = judge(memory, reading, now);
                let old = before.iter().find(|g| g.uuid == reading.uuid);
                // A GPU that no longer answers cannot say these any more.
                let or_old = |now: &str, old: Option<&String>| {
                    if now.is_empty() {
                        old.cloned().unwrap_or_default()
                    } else {
                        now.to_owned()
                    }
                };
                Gpu {
                    uuid: reading.uuid.clone(),
                    model: or_old(&reading.model, old.map(|o| &o.model)),
                    memory: if reading.memory == 0 {
                        old.map_or(0, |o| o.memory)
                    } else {
                        reading.memory
                    },
                    pci: or_old(&reading.pci, old.map(|o| &o.pci)),
                    numa_node: numa_node(&reading.pci).or(old.and_then(|o| o.numa_node)),
                    health,
                    why,
                }
            })
            .collect();
        let gone = before
            .iter()
            .filter(|old| !readings.iter().any(|r| r.uuid == old.uuid));
        gpus.extend(gone.map(|old| Gpu {
            health: GpuHealth::Lost,
            why: Some("it was there in this boot and NVML no longer lists it".into()),
            ..old.clone()
        }));
        gpus.sort_by(|a, b| (&a.pci, &a.uuid).cmp(&(&b.pci, &b.uuid)));
        gpus
    }
}

/// Readings from a file: recordings of people's machines, and GPUs for tests. The file is read at every look.
#[derive(Debug)]
pub(crate) struct Recorded(pub(crate) PathBuf);

impl Source for Recorded {
    fn look(&mut self) -> Result<Vec<Reading>, Unasked> {
        let broken = |e: String| Unasked::Broken(format!("{}: {e}", self.0.display()));
        let text = fs::read_to_string(&self.0).map_err(|e| broken(e.to_string()))?;
        serde_json::from_str(&text).map_err(|e| broken(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Reading {
        Reading {
            uuid: "GPU-1".into(),
            model: "NVIDIA A100".into(),
            memory: 80 << 30,
            pci: "0000:41:00.0".into(),
            ecc_uncorrected: Some(0),
            ..Reading::default()
        }
    }

    fn health(memory: &mut Memory, reading: &Reading, now: u64) -> GpuHealth {
        let (health, why) = judge(memory, reading, now);
        assert_eq!(
            why.is_some(),
            health != GpuHealth::Healthy,
            "{health:?}: {why:?}"
        );
        health
    }

    #[test]
    fn a_gpu_that_answers_without_errors_is_healthy() {
        assert_eq!(
            health(&mut Memory::default(), &well(), 0),
            GpuHealth::Healthy
        );
    }

    #[test]
    fn a_gpu_off_the_bus_is_lost_and_well_when_it_is_back() {
        let mut memory = Memory::default();
        let lost = Reading {
            lost: true,
            ..well()
        };
        assert_eq!(health(&mut memory, &lost, 0), GpuHealth::Lost);
        assert_eq!(health(&mut memory, &well(), 10), GpuHealth::Healthy);
    }

    #[test]
    fn uncorrected_memory_errors_close_a_gpu_until_they_are_gone() {
        let mut memory = Memory::default();
        let bad = Reading {
            ecc_uncorrected: Some(2),
            ..well()
        };
        assert_eq!(health(&mut memory, &bad, 0), GpuHealth::Unhealthy);
        let pending = Reading {
            repair_pending: true,
            ..well()
        };
        assert_eq!(health(&mut memory, &pending, 0), GpuHealth::Unhealthy);
        assert_eq!(health(&mut memory, &well(), 9), GpuHealth::Healthy);
        let without = Reading {
            ecc_uncorrected: None,
            ..well()
        };
        assert_eq!(health(&mut memory, &without, 9), GpuHealth::Healthy);
    }

    #[test]
    fn an_xid_of_a_program_leaves_the_gpu_open() {
        let crash = Reading {
            xids: vec![31, 43],
            ..well()
        };
        assert_eq!(
            health(&mut Memory::default(), &crash, 0),
            GpuHealth::Healthy
        );
    }

    #[test]
    fn an_xid_of_the_gpu_closes_it_for_a_rest() {
        let mut memory = Memory::default();
        let xid = Reading {
            xids: vec![62],
            ..well()
        };
        assert_eq!(health(&mut memory, &xid, 100), GpuHealth::Unhealthy);
        assert_eq!(
            health(&mut memory, &well(), 100 + REST - 1),
            GpuHealth::Unhealthy
        );
        assert_eq!(health(&mut memory, &well(), 100 + REST), GpuHealth::Healthy);
    }

    #[test]
    fn a_lasting_xid_closes_it_for_good_whatever_follows() {
        let mut memory = Memory::default();
        let fallen = Reading {
            xids: vec![79, 62],
            ..well()
        };
        assert_eq!(health(&mut memory, &fallen, 0), GpuHealth::Unhealthy);
        let (_, why) = judge(&mut memory, &well(), 10 * REST);
        assert!(why.unwrap().starts_with("Xid 79"));
    }

    #[test]
    fn throttling_counts_when_it_lasts_and_ends_when_it_stays_away() {
        let mut memory = Memory::default();
        let hot = Reading {
            throttled: vec!["HW_THERMAL_SLOWDOWN".into()],
            ..well()
        };
        let seen: Vec<_> = [
            &hot,
            &hot,
            &well(),
            &hot,
            &hot,
            &hot,
            &well(),
            &well(),
            &well(),
        ]
        .iter()
        .map(|r| health(&mut memory, r, 0))
        .collect();
        let (h, t) = (GpuHealth::Healthy, GpuHealth::Throttled);
        assert_eq!(seen, [h, h, h, h, h, t, t, t, h]);
    }

    #[test]
    fn a_gpu_of_this_boot_that_nobody_lists_is_lost_not_forgotten() {
        let mut known = Known::default();
        let first = known.gpus(&[], &[well()], 0, |_| Some(1));
        assert_eq!(
            (first[0].numa_node, first[0].health),
            (Some(1), GpuHealth::Healthy)
        );
        let gone = known.gpus(&first, &[], 10, |_| None);
        assert_eq!(
            (gone[0].numa_node, gone[0].health),
            (Some(1), GpuHealth::Lost)
        );
        let back = known.gpus(&gone, &[well()], 20, |_| Some(1));
        assert_eq!(back, first);
    }

    #[test]
    fn a_gpu_that_no_longer_answers_keeps_its_name() {
        let mut known = Known::default();
        let first = known.gpus(&[], &[well()], 0, |_| Some(1));
        let silent = Reading {
            uuid: "GPU-1".into(),
            lost: true,
            ..Reading::default()
        };
        let lost = known.gpus(&first, &[silent], 10, |_| None);
        assert_eq!(lost[0].model, "NVIDIA A100");
        assert_eq!(lost[0].memory, 80 << 30);
        assert_eq!(lost[0].health, GpuHealth::Lost);
    }

    #[test]
    fn recordings_are_read_and_a_wrong_one_is_said_to_be() {
        let file = |name: &str| {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("testdata/gpus")
                .join(name)
        };
        let mut known = Known::default();
        let readings = Recorded(file("hgx-a100.json")).look().unwrap();
        let gpus = known.gpus(&[], &readings, 0, |_| None);
        let healths: Vec<_> = gpus.iter().map(|g| g.health).collect();
        let (h, u, l) = (GpuHealth::Healthy, GpuHealth::Unhealthy, GpuHealth::Lost);
        assert_eq!(healths, [h, h, u, h, l, u, h, u]);
        let wrong = Recorded(file("missing.json")).look().unwrap_err();
        assert!(matches!(wrong, Unasked::Broken(_)), "{wrong}");
    }
}
