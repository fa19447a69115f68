//! Checksums of the chunks of a layer: what was checked once, from its first byte to its last, is known again
//! when threads read it piece by piece.
//!
//! They live in memory for as long as PC2 runs and guard against disks and other programs, not against
//! somebody who computes them too: for that there are SHA-256 and the vanilla proofs.

use super::{CHUNK, Shape};
use crate::poseidon::{NODE_BYTES, Node};

/// Odd, so that multiplying by it loses nothing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Checksums of one layer, 8 bytes for each 128 KiB.
///
/// A change within one 8-byte word is always seen; any other with all but 2⁻⁶⁴ of the chances.
#[derive(Clone, Debug)]
pub struct LayerSums {
    /// Nodes of a chunk.
    chunk: u64,
    done: Vec<u64>,
    open: Sum,
    /// Nodes in the open chunk.
    nodes: u64,
    /// Bytes that are no whole node yet.
    rest: Vec<u8>,
}

impl LayerSums {
    /// Of a layer of which nothing was read.
    pub const fn new(shape: Shape) -> Self {
        let chunk = if shape.leaves < CHUNK {
            shape.leaves
        } else {
            CHUNK
        };
        Self {
            chunk,
            done: Vec::new(),
            open: Sum::NEW,
            nodes: 0,
            rest: Vec::new(),
        }
    }

    /// Takes the next bytes of the layer, any number of them.
    pub fn add(&mut self, mut bytes: &[u8]) {
        if !self.rest.is_empty() {
            let missing = (NODE_BYTES - self.rest.len()).min(bytes.len());
            let (first, more) = bytes.split_at(missing);
            self.rest.extend_from_slice(first);
            bytes = more;
            if let Ok(node) = Node::try_from(self.rest.as_slice()) {
                self.rest.clear();
                self.node(&node);
            }
        }
        let (nodes, rest) = bytes.as_chunks();
        for node in nodes {
            self.node(node);
        }
        self.rest.extend_from_slice(rest);
    }

    fn node(&mut self, node: &Node) {
        self.open.add(node);
        self.nodes += 1;
        if self.nodes == self.chunk {
            self.done.push(self.open.value());
            (self.open, self.nodes) = (Sum::NEW, 0);
        }
    }

    /// Whether these are the nodes of the chunk that begins with node `first`.
    pub(super) fn has(&self, first: u64, nodes: &[Node]) -> bool {
        let mut sum = Sum::NEW;
        for node in nodes {
            sum.add(node);
        }
        let chunk = usize::try_from(first / self.chunk).unwrap_or(usize::MAX);
        self.done.get(chunk) == Some(&sum.value())
    }
}

/// Four sums side by side, so that the processor need not wait for one.
#[derive(Clone, Copy, Debug)]
struct Sum([u64; 4]);

impl Sum {
    const NEW: Self = Self([1, 2, 3, 4]);

    fn add(&mut self, node: &Node) {
        let (words, _) = node.as_chunks();
        for (sum, word) in self.0.iter_mut().zip(words) {
            *sum = (*sum ^ u64::from_le_bytes(*word))
                .wrapping_mul(FACTOR)
                .rotate_left(29);
        }
    }

    const fn value(self) -> u64 {
        let [a, b, c, d] = self.0;
        a ^ b.rotate_left(16) ^ c.rotate_left(32) ^ d.rotate_left(48)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: fn() -> Shape = || Shape::new(64, 8).unwrap();

    fn nodes(seed: u8) -> Vec<Node> {
        (0..=255).map(|i: u8| [i.wrapping_mul(seed); 32]).collect()
    }

    proptest::proptest! {
        #[test]
        fn prop_layer_is_known_again_however_it_was_cut_and_no_other(
            seed: u8, cuts in proptest::collection::vec(0usize..300, 0..40),
            byte in 0usize..8192, change in 1u8..,
        ) {
            let all = nodes(seed);
            let mut sums = LayerSums::new(SHAPE());
            let mut left = all.as_flattened();
            for cut in cuts {
                let (now, more) = left.split_at(cut.min(left.len()));
                sums.add(now);
                left = more;
            }
            sums.add(left);
            let mut bad = all.clone();
            bad.as_flattened_mut()[byte] ^= change;
            for first in (0..256).step_by(64) {
                let range = first..first + 64;
                proptest::prop_assert!(sums.has(first as u64, &all[range.clone()]));
                let hit = range.contains(&(byte / 32));
                proptest::prop_assert_eq!(sums.has(first as u64, &bad[range]), !hit);
            }
        }
    }

    #[test]
    fn chunk_that_was_never_read_is_unknown() {
        let mut sums = LayerSums::new(SHAPE());
        sums.add(&nodes(3).as_flattened()[..64 * 32]);
        assert!(sums.has(0, &nodes(3)[..64]));
        assert!(!sums.has(64, &nodes(3)[64..128]));
    }
}
