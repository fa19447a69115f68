//! Chain time: an epoch is one round of the chain.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A height of the chain, in epochs. Arithmetic saturates: no text from a node can make it panic.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// How many epochs lie between `earlier` and `self`; negative when `self` is the earlier one.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<i64> for Epoch {
    type Output = Self;
    fn add(self, epochs: i64) -> Self {
        Self(self.0.saturating_add(epochs))
    }
}

impl Sub<i64> for Epoch {
    type Output = Self;
    fn sub(self, epochs: i64) -> Self {
        Self(self.0.saturating_sub(epochs))
    }
}

impl Sub for Epoch {
    type Output = i64;
    fn sub(self, earlier: Self) -> i64 {
        self.since(earlier)
    }
}

impl From<i64> for Epoch {
    fn from(epoch: i64) -> Self {
        Self(epoch)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
