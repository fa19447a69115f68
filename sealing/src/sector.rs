//! Sectors and where their files are, in the layout that lotus uses.
//!
//! ```text
//! <root>/unsealed/s-t01000-7        data
//! <root>/sealed/s-t01000-7          replica
//! <root>/sealed/s-t01000-7.json     facts, in a store only
//! <root>/cache/s-t01000-7/…         layers and trees
//! <root>/unsealing/s-t01000-7/…     layers of a sector that is unsealed, in scratch only
//! <root>/ledger/s-t01000-7/…        what was computed from what, in scratch only
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{error::Result, proof::SealProof};

/// A sector of a miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SectorId {
    /// The miner's actor id.
    pub actor: u64,
    /// The sector's number.
    pub number: u64,
}

impl SectorId {
    /// The prover id of the proofs: the actor id as ULEB128, padded with zeros.
    pub fn prover_id(self) -> [u8; 32] {
        prover_id(self.actor)
    }
}

/// File name of the sector, the same on every network: `s-t01000-7`.
impl fmt::Display for SectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s-t0{}-{}", self.actor, self.number)
    }
}

/// The prover id of an actor: its id as ULEB128, padded with zeros.
pub fn prover_id(actor: u64) -> [u8; 32] {
    let mut out = [0; 32];
    let mut rest = actor;
    for byte in &mut out {
        let low = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest >>= 7;
        *byte = if rest == 0 { low } else { low | 0x80 };
        if rest == 0 {
            break;
        }
    }
    out
}

/// A sector with its proof type in a folder: what every step works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Which sector.
    pub sector: SectorId,
    /// How it is sealed.
    pub proof: SealProof,
    /// The folder that holds `sealed`, `cache` and the others.
    pub root: PathBuf,
}

impl Place {
    /// The data before sealing.
    pub fn unsealed(&self) -> PathBuf {
        self.root.join("unsealed").join(self.sector.to_string())
    }

    /// The replica.
    pub fn sealed(&self) -> PathBuf {
        self.root.join("sealed").join(self.sector.to_string())
    }

    /// The facts beside the replica.
    pub fn facts(&self) -> PathBuf {
        self.root
            .join("sealed")
            .join(format!("{}.json", self.sector))
    }

    /// The folder of layers and trees.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache").join(self.sector.to_string())
    }

    /// The folder of what only unsealing needs.
    pub fn unsealing(&self) -> PathBuf {
        self.root.join("unsealing").join(self.sector.to_string())
    }

    /// The folder of the ledger.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger").join(self.sector.to_string())
    }

    /// The same sector elsewhere.
    #[must_use]
    pub fn at(&self, root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            ..self.clone()
        }
    }

    /// Names of the files in the cache folder that `keep` accepts, sorted.
    pub(crate) fn cache_files(&self, keep: impl Fn(CacheFile) -> bool) -> Result<Vec<PathBuf>> {
        let dir = self.cache();
        let names = crate::durable::list(&dir)?;
        let kept = names.into_iter().filter(|n| keep(CacheFile::of(n)));
        Ok(kept.map(|n| dir.join(n)).collect())
    }
}

/// What a file in the cache folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheFile {
    /// Tree over the data.
    TreeD,
    /// A layer of labels.
    Layer,
    /// A layer that grows, or the journal beside a layer.
    LayerPart,
    /// Column tree.
    TreeC,
    /// Upper rows of the replica's tree, `p_aux` and `t_aux`: what proving needs.
    Lasting,
    /// Anything else, temporary files included.
    Other,
}

impl CacheFile {
    /// What the file with this path is.
    pub(crate) fn of_path(path: &Path) -> Self {
        path.file_name()
            .map_or(Self::Other, |n| Self::of(&n.to_string_lossy()))
    }

    fn of(name: &str) -> Self {
        if name.starts_with("sc-02-data-layer-")
            && (name.ends_with(".dat.part") || name.ends_with(".dat.journal"))
        {
            return Self::LayerPart;
        }
        let Some(stem) = name
            .strip_suffix(".dat")
            .and_then(|n| n.strip_prefix("sc-02-data-"))
        else {
            return if matches!(name, "p_aux" | "t_aux") {
                Self::Lasting
            } else {
                Self::Other
            };
        };
        match stem {
            "tree-d" => Self::TreeD,
            s if s.starts_with("layer-") => Self::Layer,
            s if s.starts_with("tree-c") => Self::TreeC,
            s if s.starts_with("tree-r-last") => Self::Lasting,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_prover_ids_are_uleb128() {
        let known: [(u64, &[u8]); 4] = [
            (0, &[0]),
            (127, &[0x7f]),
            (1000, &[0xe8, 0x07]),
            (
                u64::MAX,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (actor, want) in known {
            let got = prover_id(actor);
            assert_eq!(&got[..want.len()], want, "{actor}");
            assert!(got[want.len()..].iter().all(|b| *b == 0));
        }
    }

    proptest::proptest! {
        #[test]
        fn prop_prover_id_reads_back_as_uleb128(actor: u64) {
            let id = prover_id(actor);
            let mut back = 0u64;
            for (i, byte) in id.iter().enumerate().take(10) {
                back |= u64::from(byte & 0x7f) << (7 * i);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            proptest::prop_assert_eq!(back, actor);
        }
    }

    #[test]
    fn files_have_the_names_of_lotus() {
        let place = Place {
            sector: SectorId {
                actor: 1000,
                number: 7,
            },
            proof: SealProof::StackedDrg2KiBV1P1,
            root: "/scratch".into(),
        };
        assert_eq!(place.sealed(), Path::new("/scratch/sealed/s-t01000-7"));
        assert_eq!(place.cache(), Path::new("/scratch/cache/s-t01000-7"));
    }

    #[test]
    fn cache_files_are_told_apart_by_name() {
        assert_eq!(
            CacheFile::of("sc-02-data-tree-r-last-3.dat"),
            CacheFile::Lasting
        );
        assert_eq!(CacheFile::of("sc-02-data-tree-c-3.dat"), CacheFile::TreeC);
        assert_eq!(CacheFile::of("sc-02-data-tree-d.dat"), CacheFile::TreeD);
        assert_eq!(CacheFile::of("sc-02-data-layer-11.dat"), CacheFile::Layer);
        assert_eq!(
            CacheFile::of("sc-02-data-layer-2.dat.part"),
            CacheFile::LayerPart
        );
        assert_eq!(
            CacheFile::of("sc-02-data-layer-2.dat.tmp"),
            CacheFile::Other
        );
    }
}
