//! What a sealer or prover says of its place, read from the message of its condition.

use std::collections::BTreeSet;

use serde_json::Value;

const CONDITION: &str = "filstar.io/PlacementVerified";

/// CPUs and GPUs that a pod has to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) cpus: BTreeSet<u32>,
    pub(super) gpus: BTreeSet<String>,
}

impl Place {
    /// By a patch of a pod's status; none when it says nothing of that.
    pub(super) fn reported(body: &Value) -> Option<Self> {
        let conditions = body.pointer("/status/conditions")?.as_array()?;
        let ours = conditions.iter().find(|c| c["type"] == CONDITION)?;
        if ours["status"] != "True" {
            return Some(Self::default());
        }
        Some(Self::of(ours["message"].as_str().unwrap_or_default()))
    }

    /// By words such as `cpus 2 (4-5) of 2 asked, memory nodes 0, GPUs GPU-1 on NUMA node 0; GPU-2, NUMA node not told`.
    fn of(message: &str) -> Self {
        let cpus = message
            .strip_prefix("cpus ")
            .and_then(|rest| Some(rest.split_once('(')?.1.split_once(')')?.0))
            .map(list)
            .unwrap_or_default();
        let gpus = message.split_once(", GPUs ").map_or("", |(_, gpus)| gpus);
        let gpus = gpus.split([';', ',', ' ']).map(str::trim);
        let gpus = gpus.filter(|word| word.starts_with("GPU-"));
        Self {
            cpus,
            gpus: gpus.map(str::to_owned).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cpus.is_empty() && self.gpus.is_empty()
    }

    /// What two places have in common; none when nothing.
    pub(super) fn common(&self, other: &Self) -> Option<String> {
        let cpus = self.cpus.intersection(&other.cpus);
        let gpus = self.gpus.intersection(&other.gpus);
        let words: Vec<String> = cpus
            .map(|cpu| format!("CPU {cpu}"))
            .chain(gpus.cloned())
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// A list of the kernel, such as `0-3,8`.
fn list(text: &str) -> BTreeSet<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_read_from_the_sealers_own_words() {
        let place = Place::of(
            "cpus 3 (4-5,9) of 3 asked, memory nodes 0-1, GPUs GPU-a on NUMA node 0; GPU-b, NUMA node not told, huge \
             pages 1024 MiB",
        );
        assert_eq!(place.cpus, BTreeSet::from([4, 5, 9]));
        assert_eq!(place.gpus, BTreeSet::from(["GPU-a".into(), "GPU-b".into()]));
        assert!(Place::of("8 shared cpus (0-7), memory nodes 0").is_empty());
    }
}
