//! Labels of a run of nodes in one layer: what goes in, and which kernel does it.

use super::portable;
#[cfg(target_arch = "x86_64")]
use super::shani;
use crate::graph::Row;

/// The labels of one node in all lanes. A lane is a sector; lanes share the graph, so that one row
/// of parents and nearly one line of memory serve all of them.
pub type Labels<const L: usize> = [[u8; 32]; L];

/// Rows beyond a span's own that let the kernel fetch memory ahead.
pub const AHEAD: usize = 16;

/// Where a parent's label is: always within the layer, whatever the row holds.
#[inline]
pub(super) const fn index(parent: [u8; 4], mask: usize) -> usize {
    u32::from_le_bytes(parent) as usize & mask
}

/// A run of nodes to label.
#[derive(Debug)]
pub struct Span<'a, const L: usize> {
    /// The layer, from 1.
    pub layer: u32,
    /// The first node.
    pub first: u32,
    /// How many nodes.
    pub count: usize,
    /// Their rows; more rows than nodes are those of the nodes after, which are only fetched ahead.
    pub rows: &'a [Row],
    /// What makes the labels of each lane its own.
    pub replica_ids: &'a [[u8; 32]; L],
    /// The layer before, a power of two of nodes; of no use in layer 1.
    pub previous: &'a [Labels<L>],
    /// This layer, as many nodes; those before `first` must be labelled.
    pub current: &'a mut [Labels<L>],
}

/// Which code labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Sha,
    Portable,
}

impl Kernel {
    /// The one for any processor.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The fastest one that this processor can run.
    pub fn best() -> Self {
        Self::sha().unwrap_or(Self::PORTABLE)
    }

    /// The one for x86 processors with SHA instructions, where this is one.
    pub fn sha() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
        {
            return Some(Self(Kind::Sha));
        }
        None
    }

    /// Its name, for logs.
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Sha => "sha-ni",
            Kind::Portable => "portable",
        }
    }

    /// Labels a span.
    ///
    /// # Panics
    /// When the layers are not of the same power of two of nodes, or the span does not fit into
    /// them or has too few rows. Rows may hold anything: a parent that does not exist is another
    /// node's label, and never memory beyond the layer.
    pub fn label<const L: usize>(self, span: &mut Span<'_, L>) {
        let nodes = span.current.len();
        assert!(nodes.is_power_of_two(), "{nodes} nodes");
        assert!(span.layer == 1 || span.previous.len() == nodes);
        assert!(span.rows.len() >= span.count);
        assert!((span.first as usize).saturating_add(span.count) <= nodes);
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Sha => shani::label(span),
            Kind::Portable => portable::label(span),
        }
    }
}
