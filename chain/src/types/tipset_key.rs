//! The name of a tipset: the CIDs of its blocks.

use std::fmt;

use cid::Cid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::json;

/// The CIDs of a tipset's blocks. Empty means "the heaviest tipset the node knows".
///
/// An answer "at a tipset" shows the state *before* that tipset's own messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TipSetKey(pub Vec<Cid>);

impl TipSetKey {
    /// The node's own head, whatever that is when it answers.
    pub fn heaviest() -> Self {
        Self::default()
    }

    /// Whether it names no tipset in particular.
    pub fn is_heaviest(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for TipSetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cids: Vec<String> = self.0.iter().map(Cid::to_string).collect();
        f.write_str(&cids.join(","))
    }
}

impl Serialize for TipSetKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|cid| json::Link {
            cid: cid.to_string(),
        }))
    }
}

impl<'de> Deserialize<'de> for TipSetKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let links: Option<Vec<json::Link>> = Option::deserialize(deserializer)?;
        links
            .unwrap_or_default()
            .iter()
            .map(json::Link::parse)
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}
