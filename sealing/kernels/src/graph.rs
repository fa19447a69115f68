//! Who the parents of a node are: six of the same layer (DRG), eight of the layer before (expander).
//!
//! The graph depends on the proof type alone: every sector of that type has the same one.
//!
//! # Source
//! Depth-robust sampling: Alwen, Blocki, Harsha, "Practical Graphs for Optimal Side-Channel
//! Resistant Memory-Hard Functions". Constants and orders: storage-proofs-core 19.1, `drgraph.rs`,
//! and storage-proofs-porep 19.1, `stacked/vanilla/graph.rs`, for API version 1.1 and later.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use sha2::{Digest, Sha256};

/// Parents of the same layer.
pub const BASE: usize = 6;
/// Parents of the layer before.
pub const EXPANSION: usize = 8;
/// All parents of a node.
pub const DEGREE: usize = BASE + EXPANSION;
/// Largest graph, nodes: rows name nodes as `u32`.
pub const MAX_NODES: u64 = 1 << 32;

/// The parents of one node, those of the same layer first, as files hold them: little-endian.
pub type Row = [[u8; 4]; DEGREE];

/// The parents in a row.
pub fn parents(row: &Row) -> [u32; DEGREE] {
    row.map(u32::from_le_bytes)
}

/// Rounds of the Feistel network, and keys that it uses.
const ROUNDS: usize = 3;

/// The number of nodes is none that a graph can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a graph has a power of two of nodes, from 2 to {MAX_NODES}; {0} is none")]
pub struct BadSize(pub u64);

/// The graph of one proof type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    nodes: u64,
    drg_seed: [u8; 28],
    keys: [u64; ROUNDS],
    half_bits: u32,
}

impl Graph {
    /// The graph of a proof type with so many nodes and this id.
    ///
    /// # Errors
    /// When the number of nodes is no power of two, or out of range.
    pub fn new(nodes: u64, porep_id: &[u8; 32]) -> Result<Self, BadSize> {
        if !nodes.is_power_of_two() || !(2..=MAX_NODES).contains(&nodes) {
            return Err(BadSize(nodes));
        }
        let drg = domain_seed("Filecoin_DRSample", porep_id);
        let feistel = domain_seed("Filecoin_Feistel", porep_id);
        let mut drg_seed = [0; 28];
        drg_seed.copy_from_slice(&drg[..28]);
        let (words, _) = feistel.as_chunks::<8>();
        // The network works on indices of edges; each half has half of their bits, rounded up.
        let edge_bits = (nodes * EXPANSION as u64).trailing_zeros();
        Ok(Self {
            nodes,
            drg_seed,
            keys: std::array::from_fn(|i| u64::from_le_bytes(words[i])),
            half_bits: edge_bits.div_ceil(2),
        })
    }

    /// Nodes of a layer.
    pub const fn nodes(&self) -> u64 {
        self.nodes
    }

    /// The parents of a node.
    pub fn row(&self, node: u32) -> Row {
        let mut parents = [0; DEGREE];
        let (base, expansion) = parents.split_at_mut(BASE);
        self.base(node, base);
        for (edge, parent) in (u64::from(node) * EXPANSION as u64..).zip(expansion) {
            *parent = narrow(self.permute(edge) / EXPANSION as u64);
        }
        parents.map(u32::to_le_bytes)
    }

    /// The predecessor, then five drawn at distances that grow by powers of two.
    fn base(&self, node: u32, out: &mut [u32]) {
        if node < 2 {
            out.fill(0);
            return;
        }
        let mut seed = [0; 32];
        seed[..28].copy_from_slice(&self.drg_seed);
        seed[28..].copy_from_slice(&node.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(seed);
        // Each node is drawn as a row of five, one of which each parent takes.
        let drawn = out.len() as u64 - 1;
        let last = u64::from(node) * drawn;
        let buckets = u64::from(u64::BITS - (last - 1).leading_zeros());
        out[0] = node - 1;
        for parent in &mut out[1..] {
            let bucket = rng.next_u64() % buckets + 1;
            let far = last.min(1 << bucket);
            let near = (far >> 1).max(2);
            let distance = near + rng.next_u64() % (far - near + 1);
            *parent = narrow((last - distance) / drawn);
        }
    }

    /// The permutation of edges: the network, again and again until its result is an edge.
    fn permute(&self, edge: u64) -> u64 {
        let mut at = self.feistel(edge);
        while at >= self.nodes * EXPANSION as u64 {
            at = self.feistel(at);
        }
        at
    }

    fn feistel(&self, edge: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (edge >> self.half_bits, edge & mask);
        for key in self.keys {
            let next = left ^ (mix(right, key) & mask);
            (left, right) = (right, next);
        }
        (left << self.half_bits) | right
    }
}

/// First eight bytes of BLAKE2b-512 of the two words, all big-endian.
fn mix(word: u64, key: u64) -> u64 {
    let mut input = [0; 16];
    input[..8].copy_from_slice(&word.to_be_bytes());
    input[8..].copy_from_slice(&key.to_be_bytes());
    let hash = blake2b_simd::blake2b(&input);
    let (words, _) = hash.as_bytes().as_chunks::<8>();
    u64::from_be_bytes(words[0])
}

/// Nodes are fewer than `MAX_NODES`, so that their numbers fit.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
const fn narrow(node: u64) -> u32 {
    debug_assert!(node < MAX_NODES);
    node as u32
}

fn domain_seed(tag: &str, porep_id: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(tag)
        .chain_update(porep_id)
        .finalize()
        .into()
}

/// The id that the network gives to a proof type with this registered number and no nonce.
pub fn porep_id(registered: u64) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&registered.to_le_bytes());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(graph: &Graph) -> String {
        let mut hash = Sha256::new();
        for node in 0..u32::try_from(graph.nodes()).unwrap() {
            hash.update(graph.row(node).as_flattened());
        }
        hex::encode(hash.finalize())
    }

    /// Digests as published with storage-proofs-porep 19.1, `parent_cache.json`.
    #[test]
    fn vector_rows_of_2_kib_and_8_mib() {
        for (registered, nodes, want) in [
            (
                5,
                1 << 6,
                "840057702eea7652cf97e04306c30fe57174714d90de156a25eddd6075c25b97",
            ),
            (
                6,
                1 << 18,
                "03cd13565ded97c240a5f52e54295ad127bd0461b57904cb3a4d79b097bbecab",
            ),
        ] {
            let graph = Graph::new(nodes, &porep_id(registered)).unwrap();
            assert_eq!(digest(&graph), want, "{nodes} nodes");
        }
    }

    #[test]
    fn size_that_no_graph_has_is_refused() {
        for nodes in [0, 1, 63, MAX_NODES * 2] {
            assert_eq!(Graph::new(nodes, &[0; 32]), Err(BadSize(nodes)));
        }
    }

    proptest::proptest! {
        #[test]
        fn prop_parents_exist_and_those_of_the_same_layer_come_before(
            bits in 1u32..=32, registered: u64, node: u32,
        ) {
            let graph = Graph::new(1 << bits, &porep_id(registered)).unwrap();
            let node = u32::try_from(u64::from(node) % graph.nodes()).unwrap();
            let row = parents(&graph.row(node));
            for parent in &row[..BASE] {
                proptest::prop_assert!(*parent < node.max(1));
            }
            for parent in &row[BASE..] {
                proptest::prop_assert!(u64::from(*parent) < graph.nodes());
            }
        }

        #[test]
        fn prop_each_node_is_parent_of_as_many_edges_as_it_has(bits in 1u32..=8, registered: u64) {
            let graph = Graph::new(1 << bits, &porep_id(registered)).unwrap();
            let mut children = vec![0; 1 << bits];
            for node in 0..1 << bits {
                for parent in &parents(&graph.row(node))[BASE..] {
                    children[*parent as usize] += 1;
                }
            }
            proptest::prop_assert!(children.iter().all(|c| *c == EXPANSION));
        }
    }
}
