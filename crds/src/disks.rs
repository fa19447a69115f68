//! What a sealer or prover says of the file systems that its pod mounts: an annotation on its own pod.
//!
//! It is measured where the files are written, and it goes with the pod: a node whose sealer is gone has no room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::annotations;

/// The file systems of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Disks {
    /// The file system of `/scratch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Disk>,
    /// Those of `/stores/<name>`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stores: BTreeMap<String, Disk>,
}

/// One file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Disk {
    /// Number of its device: folders with the same one on a node share its space.
    pub device: u64,
    /// Bytes that may be used in all: those that are, and those that still can be.
    pub capacity: u64,
    /// Bytes that can still be used.
    pub free: u64,
    /// Number in the file `.filstar-store` of a store: pods that read the same one see the same files. None of scratch,
    /// and while the file is not there; [`Disk::NO_MARK`] once a pod that only reads has looked for it in vain for a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u64>,
}

impl Disk {
    /// No store has this number.
    pub const NO_MARK: u64 = 0;

    /// Whether another reading tells nothing new: it is of the same file system, and within a hundredth of it.
    pub fn is_like(&self, other: &Self) -> bool {
        self.device == other.device
            && self.mark == other.mark
            && self.capacity == other.capacity
            && self.free.abs_diff(other.free) <= self.capacity / 100
    }
}

impl Disks {
    /// What a pod's annotations say; none when they say nothing that can be read.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str(annotations.get(annotations::DISKS)?).ok()
    }

    /// The annotation's text.
    ///
    /// # Errors
    /// None in practice: the type has no value that JSON lacks.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Whether another reading tells nothing new.
    pub fn is_like(&self, other: &Self) -> bool {
        let scratch = match (&self.scratch, &other.scratch) {
            (Some(a), Some(b)) => a.is_like(b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        scratch
            && self.stores.len() == other.stores.len()
            && self
                .stores
                .iter()
                .all(|(name, disk)| other.stores.get(name).is_some_and(|o| disk.is_like(o)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(free: u64) -> Disk {
        Disk {
            device: 7,
            capacity: 1000,
            free,
            mark: None,
        }
    }

    #[test]
    fn what_a_sealer_writes_is_what_the_operator_reads() {
        let disks = Disks {
            scratch: Some(disk(500)),
            stores: BTreeMap::from([("a".into(), disk(3))]),
        };
        let text = disks.to_text().unwrap();
        let annotations = BTreeMap::from([(annotations::DISKS.to_owned(), text)]);
        assert_eq!(Disks::of(&annotations), Some(disks));
        let broken = BTreeMap::from([(annotations::DISKS.to_owned(), "{".to_owned())]);
        assert_eq!(Disks::of(&broken), None);
    }

    #[test]
    fn a_hundredth_more_or_less_is_no_news_but_another_disk_is() {
        assert!(disk(500).is_like(&disk(510)));
        assert!(!disk(500).is_like(&disk(511)));
        let other = Disk {
            device: 8,
            ..disk(500)
        };
        assert!(!disk(500).is_like(&other));
        let marked = Disk {
            mark: Some(1),
            ..disk(500)
        };
        assert!(!disk(500).is_like(&marked));
        let with = Disks {
            stores: BTreeMap::from([("a".into(), disk(1))]),
            ..Disks::default()
        };
        assert!(!with.is_like(&Disks::default()) && !Disks::default().is_like(&with));
    }
}
