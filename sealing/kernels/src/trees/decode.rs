//! The way back: data from a replica and the last layer, and the commitment of data.
//!
//! Both go chunk by chunk, as the trees do; memory does not depend on the size of the sector.
//!
//! # Source
//! `storage-proofs-porep` 19.1 (`encode.rs`: a replica's node is data plus key); the specification, section
//! Piece Commitment (SHA-256 of two nodes, cut to the field).

use std::{
    fmt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};

use super::{CHUNK, Result, TreeError, apart, chunks::each, file::NodeFile};
use crate::poseidon::{NODE_BYTES, Node, subtract};

/// What is decoded and with what.
#[derive(Clone, Copy)]
pub struct Decode<'a> {
    /// Nodes of the sector: a power of two.
    pub nodes: u64,
    /// The last layer.
    pub key: &'a Path,
    /// The replica; it is only read.
    pub replica: &'a Path,
    /// Threads; at least one is used.
    pub threads: usize,
    /// Told by the threads how many nodes are done.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl fmt::Debug for Decode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decode")
            .field("nodes", &self.nodes)
            .field("key", &self.key)
            .field("replica", &self.replica)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Writes the data that a replica was made from to a new file, which is not synced.
///
/// # Errors
/// Names the file that cannot be read, written, or is damaged. What was written then is useless.
pub fn decode(job: &Decode<'_>, data: &Path) -> Result<()> {
    let size = chunk_of(job.nodes)?;
    let key = NodeFile::open(job.key.to_owned(), job.nodes)?;
    let replica = NodeFile::open(job.replica.to_owned(), job.nodes)?;
    apart(job.replica, data)?;
    let data = NodeFile::create(data)?;
    let done = AtomicU64::new(0);
    let buffers = || (nodes(size), nodes(size));
    each(
        job.threads,
        job.nodes / size,
        buffers,
        |(keys, values), chunk| {
            let from = chunk * size;
            key.read(from, keys)?;
            replica.read(from, values)?;
            for (i, (value, key_node)) in values.iter_mut().zip(&*keys).enumerate() {
                let node = subtract(value, key_node);
                *value = node.ok_or_else(|| {
                    let good_key = subtract(key_node, key_node).is_some();
                    let file = if good_key { &replica } else { &key };
                    TreeError::NotInField {
                        path: file.path.clone(),
                        node: from + i as u64,
                    }
                })?;
            }
            data.write(from, values)?;
            (job.progress)(done.fetch_add(size, Ordering::Relaxed) + size);
            Ok(())
        },
    )?;
    Ok(())
}

/// The commitment of a file of data: the root of the binary tree over its nodes (a power of two).
///
/// # Errors
/// When the file cannot be read or has another size.
pub fn comm_d(data: &Path, count: u64, threads: usize) -> Result<Node> {
    let size = chunk_of(count)?;
    let data = NodeFile::open(data.to_owned(), count)?;
    let mut tops = each(
        threads,
        count / size,
        || nodes(size),
        |leaves, chunk| {
            data.read(chunk * size, leaves)?;
            Ok(root(leaves))
        },
    )?;
    Ok(root(&mut tops))
}

/// The root over nodes whose number is a power of two; they are used up.
fn root(nodes: &mut [Node]) -> Node {
    let mut len = nodes.len();
    while len > 1 {
        len /= 2;
        for i in 0..len {
            let hash = Sha256::digest(nodes[2 * i..2 * i + 2].as_flattened());
            nodes[i] = hash.into();
            nodes[i][NODE_BYTES - 1] &= 0x3f;
        }
    }
    nodes.first().copied().unwrap_or_default()
}

fn chunk_of(nodes: u64) -> Result<u64> {
    if nodes.is_power_of_two() {
        return Ok(CHUNK.min(nodes));
    }
    Err(TreeError::Input(format!("no sector has {nodes} nodes")))
}

fn nodes(count: u64) -> Vec<Node> {
    vec![[0; NODE_BYTES]; usize::try_from(count).unwrap_or(usize::MAX)]
}
