//! The trees of PC2: columns of labels (tree-c), the replica and its tree (tree-r-last); and the way back, from
//! replica to data.
//!
//! In: the layers that PC1 wrote, and the data. Out: files with the names and bytes of the reference,
//! and the commitments. The replica is always made from data and key, never encoded in place: so all
//! of it can be done again after any failure, and gives the same.
//!
//! A base tree is the unit of work: 1 up to 512 MiB, 8 in 32 GiB, 16 in 64 GiB. Its leaves are
//! taken in chunks of [`CHUNK`] nodes by any number of threads; a chunk is read, hashed up to its
//! top and written, so memory does not depend on the size of the sector: see [`memory_bytes`].
//!
//! # Source
//! `storage-proofs-porep` 19.1 (`stacked/vanilla/proof.rs`: order and encoding), `storage-proofs-core`
//! (`util.rs`: rows to discard; `cache_key.rs`: names), `merkletree` 0.23 (rows one after another).

mod chunks;
mod decode;
mod file;
mod sums;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::poseidon::{Arity, HashError, Kernel, NODE_BYTES, Node, hash_groups};
use chunks::Chunks;
pub use decode::{Decode, comm_d, decode};
pub use sums::LayerSums;

/// Nodes that a thread takes at once: 128 KiB of each file, a whole subtree.
pub const CHUNK: u64 = 8 * 8 * 8 * 8;

/// Children of a node.
const ARITY: u64 = 8;

/// Result of building trees.
pub type Result<T> = std::result::Result<T, TreeError>;

/// Why a tree could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has not the size that it must have.
    #[error("{}: it has {found} bytes, not {want}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What it must be.
        want: u64,
    },
    /// A file holds something that no label or data can be.
    #[error("{}: node {node} is not a number of the field", path.display())]
    NotInField {
        /// The file.
        path: PathBuf,
        /// Which node of 32 bytes, from 0.
        node: u64,
    },
    /// A layer is not what it was when its checksums were taken.
    #[error("{}: labels of node {node} or after it are not those that were checked before", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// First node of 32 bytes, from 0, of the chunk that differs.
        node: u64,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Input(String),
}

impl TreeError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// How the nodes of a sector are split into base trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    leaves: u64,
    trees: u64,
}

impl Shape {
    /// The shape of a sector of this size, bytes, when there are such sectors.
    pub fn of_sector(bytes: u64) -> Option<Self> {
        let trees = match bytes {
            0x800 | 0x80_0000 | 0x2000_0000 => 1,
            0x8_0000_0000 => 8,
            0x10_0000_0000 => 16,
            _ => return None,
        };
        Self::new(bytes / NODE_BYTES as u64 / trees, trees)
    }

    /// Base trees (1, 8 or 16) of so many leaves each: a power of 8, at least 64.
    pub fn new(leaves: u64, trees: u64) -> Option<Self> {
        let good = leaves.is_power_of_two()
            && leaves.trailing_zeros().is_multiple_of(3)
            && leaves >= ARITY * ARITY
            && [1, ARITY, 2 * ARITY].contains(&trees);
        good.then_some(Self { leaves, trees })
    }

    /// Nodes of the sector.
    pub const fn nodes(self) -> u64 {
        self.leaves * self.trees
    }

    /// Base trees.
    pub const fn trees(self) -> u64 {
        self.trees
    }

    /// Row of the root of a base tree; the leaves are row 0.
    const fn root_row(self) -> u32 {
        self.leaves.trailing_zeros() / 3
    }

    /// Rows above the leaves that tree-r-last leaves out: two, if one is left besides the root.
    pub const fn rows_to_discard(self) -> u32 {
        let inner = self.root_row() - 1;
        if inner < 2 { inner } else { 2 }
    }

    /// File name of a base tree of tree-c.
    pub fn tree_c(self, tree: u64) -> String {
        self.name("tree-c", tree)
    }

    /// File name of a base tree of tree-r-last.
    pub fn tree_r_last(self, tree: u64) -> String {
        self.name("tree-r-last", tree)
    }

    fn name(self, id: &str, tree: u64) -> String {
        match self.trees {
            1 => format!("sc-02-data-{id}.dat"),
            _ => format!("sc-02-data-{id}-{tree}.dat"),
        }
    }
}

/// File name of a layer, from 1.
pub fn layer_name(layer: u32) -> String {
    format!("sc-02-data-layer-{layer}.dat")
}

/// What is built, where and with what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The sector's shape.
    pub shape: Shape,
    /// The folder with the layers; trees are written there.
    pub cache: &'a Path,
    /// Number of layers: 2 or 11. The last is the key of the replica.
    pub layers: u32,
    /// What the layers must be, the first first; those after the end are taken as they are.
    pub sums: &'a [LayerSums],
    /// Who hashes.
    pub kernel: Kernel,
    /// Threads; at least one is used.
    pub threads: usize,
    /// Told by the threads how much of the whole is done, and how much the whole is.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("shape", &self.shape)
            .field("cache", &self.cache)
            .field("layers", &self.layers)
            .field("kernel", &self.kernel)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// What a replica is made from, besides the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// Committed capacity.
    Zeros,
    /// A file as large as the sector, bits already padded.
    File(&'a Path),
}

/// The roots of both trees, and what they make together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitments {
    /// Root of tree-c.
    pub comm_c: Node,
    /// Root of the replica's tree.
    pub comm_r_last: Node,
    /// The commitment of the replica: Poseidon of both.
    pub comm_r: Node,
}

/// Most bytes of memory that building one tree takes: buffers of the threads and the tops of chunks.
pub fn memory_bytes(shape: Shape, layers: u32, threads: usize) -> u64 {
    let chunk = CHUNK.min(shape.leaves);
    // The rows of a chunk are 8/7 of its leaves, as are the rows above all chunks of their number.
    let buffers = threads as u64 * chunk * (u64::from(layers) + 2);
    let tops = 3 * (shape.leaves / chunk);
    (buffers + tops) * NODE_BYTES as u64
}

/// Builds all: tree-c, the replica, tree-r-last and `p_aux`.
///
/// # Errors
/// Names the file that cannot be read, written, or is damaged. What was written then is useless.
pub fn build(job: &Job<'_>, data: Data<'_>, replica: &Path) -> Result<Commitments> {
    let trees = 0..job.shape.trees;
    let columns: Vec<_> = trees
        .clone()
        .map(|t| column_tree(job, t))
        .collect::<Result<_>>()?;
    create_replica(job, data, replica)?;
    let replicas = trees.map(|t| replica_tree(job, t, data, replica));
    let replicas: Vec<_> = replicas.collect::<Result<_>>()?;
    let comm_c = top(job.kernel, &columns)?;
    let comm_r_last = top(job.kernel, &replicas)?;
    let comm_r = comm_r(job.kernel, comm_c, comm_r_last)?;
    let path = job.cache.join("p_aux");
    let content = [comm_c, comm_r_last];
    fs::write(&path, content.as_flattened()).map_err(TreeError::io("write", &path))?;
    Ok(Commitments {
        comm_c,
        comm_r_last,
        comm_r,
    })
}

/// Builds one base tree of tree-c; returns its root.
///
/// # Errors
/// As [`build`].
pub fn column_tree(job: &Job<'_>, tree: u64) -> Result<Node> {
    Chunks::new(job, tree)?.columns()
}

/// Makes the replica's file, empty and of its full size, for [`replica_tree`] to fill.
///
/// # Errors
/// When it cannot be made, or is the file that the data is in.
pub fn create_replica(job: &Job<'_>, data: Data<'_>, replica: &Path) -> Result<()> {
    if let Data::File(source) = data {
        apart(source, replica)?;
    }
    let file = File::create(replica).map_err(TreeError::io("create", replica))?;
    file.set_len(job.shape.nodes() * NODE_BYTES as u64)
        .map_err(TreeError::io("extend", replica))
}

/// Data and replica must be two files.
fn apart(source: &Path, target: &Path) -> Result<()> {
    let id = |path: &Path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    if id(source).is_none_or(|a| Some(a) != id(target)) {
        return Ok(());
    }
    let text = format!(
        "{} is the data and the replica: what is done in place cannot be done again",
        source.display()
    );
    Err(TreeError::Input(text))
}

/// Writes one base tree's part of the replica, and its tree; returns the root.
///
/// # Errors
/// As [`build`].
pub fn replica_tree(job: &Job<'_>, tree: u64, data: Data<'_>, replica: &Path) -> Result<Node> {
    Chunks::new(job, tree)?.replica(data, replica)
}

/// The root over the roots of the base trees: of 8 by one hash, of 16 by two and one of those.
///
/// # Errors
/// When their number is not 1, 8 or 16.
pub fn top(kernel: Kernel, roots: &[Node]) -> Result<Node> {
    let mut row = roots.to_vec();
    while row.len() > 1 {
        let arity = if row.len() == 2 {
            Arity::Two
        } else {
            Arity::Eight
        };
        let mut above = vec![[0; NODE_BYTES]; row.len() / arity.inputs()];
        hash_groups(kernel, arity, &row, &mut above).map_err(root_error)?;
        row = above;
    }
    row.first()
        .copied()
        .ok_or_else(|| TreeError::Input("there are no roots".to_owned()))
}

/// The commitment of a replica, from the roots of its two trees.
///
/// # Errors
/// When one is not a number of the field.
pub fn comm_r(kernel: Kernel, comm_c: Node, comm_r_last: Node) -> Result<Node> {
    top(kernel, &[comm_c, comm_r_last])
}

fn root_error(e: HashError) -> TreeError {
    TreeError::Input(format!("roots of base trees: {e}"))
}
