//! One base tree, chunk by chunk, on several threads.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::{
    ARITY, CHUNK, Data, Job, Result, TreeError,
    file::{NodeFile, TreeFile},
    layer_name,
};
use crate::poseidon::{Arity, HashError, NODE_BYTES, Node, add, hash_columns, hash_groups};

/// What a replica's chunk costs beside one of tree-c, which hashes all layers.
const REPLICA_COST: u64 = 1;

/// One base tree of a job.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    job: &'a Job<'a>,
    tree: u64,
    /// Leaves in a chunk.
    size: u64,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(job: &'a Job<'a>, tree: u64) -> Result<Self> {
        if tree >= job.shape.trees {
            let text = format!("there is no base tree {tree} of {}", job.shape.trees);
            return Err(TreeError::Input(text));
        }
        if job.layers < 2 || Arity::of(job.layers as usize).is_none() {
            let text = format!("columns of {} layers cannot be hashed", job.layers);
            return Err(TreeError::Input(text));
        }
        let size = CHUNK.min(job.shape.leaves);
        Ok(Self { job, tree, size })
    }

    /// Tree-c: hashes the columns, and the tree above them.
    pub(super) fn columns(&self) -> Result<Node> {
        let job = self.job;
        let layers: Vec<_> = (1..=job.layers)
            .map(|l| self.layer(l))
            .collect::<Result<_>>()?;
        let path = job.cache.join(job.shape.tree_c(self.tree));
        let tree = TreeFile::create(path, job.shape.leaves, 0)?;
        let done = AtomicU64::new(self.tree * job.shape.leaves * self.column_cost());
        let tops = self.each(layers.len(), |buffers, chunk| {
            let from = self.first_node() + chunk * self.size;
            for ((layer, file), nodes) in (1..).zip(&layers).zip(&mut buffers.inputs) {
                self.read_layer(layer, file, from, nodes)?;
            }
            let inputs: Vec<&[Node]> = buffers.inputs.iter().map(Vec::as_slice).collect();
            hash_columns(job.kernel, &inputs, &mut buffers.rows[0]).map_err(|e| match e {
                HashError::NotInField { hash, input } => TreeError::NotInField {
                    path: layers[input].path.clone(),
                    node: from + hash as u64,
                },
                HashError::Shape { .. } => TreeError::Input(e.to_string()),
            })?;
            let top = self.rise(&tree, &mut buffers.rows, chunk)?;
            self.tell(&done, self.column_cost());
            Ok(top)
        })?;
        self.finish(&tree, tops)
    }

    /// The replica, and its tree.
    pub(super) fn replica(&self, data: Data<'_>, replica: &Path) -> Result<Node> {
        let job = self.job;
        let key = self.layer(job.layers)?;
        let data = match data {
            Data::Zeros => None,
            Data::File(path) => Some(NodeFile::open(path.to_owned(), job.shape.nodes())?),
        };
        let replica = NodeFile::writable(replica)?;
        let path = job.cache.join(job.shape.tree_r_last(self.tree));
        let tree = TreeFile::create(path, job.shape.leaves, 1 + job.shape.rows_to_discard())?;
        let before = job.shape.nodes() * self.column_cost() + self.first_node() * REPLICA_COST;
        let done = AtomicU64::new(before);
        let tops = self.each(2, |buffers, chunk| {
            let from = self.first_node() + chunk * self.size;
            let [keys, values] = &mut buffers.inputs[..] else {
                return Err(TreeError::Input("two inputs were asked for".to_owned()));
            };
            self.read_layer(job.layers, &key, from, keys)?;
            if let Some(data) = &data {
                data.read(from, values)?;
            }
            encode(keys, values, &mut buffers.rows[0]).map_err(|(i, which)| {
                let file = if which == Operand::Key {
                    &key
                } else {
                    data.as_ref().unwrap_or(&key)
                };
                TreeError::NotInField {
                    path: file.path.clone(),
                    node: from + i as u64,
                }
            })?;
            replica.write(from, &buffers.rows[0])?;
            let top = self.rise(&tree, &mut buffers.rows, chunk)?;
            self.tell(&done, REPLICA_COST);
            Ok(top)
        })?;
        self.finish(&tree, tops)
    }

    fn layer(&self, layer: u32) -> Result<NodeFile> {
        NodeFile::open(
            self.job.cache.join(layer_name(layer)),
            self.job.shape.nodes(),
        )
    }

    /// Reads a chunk of a layer; it must be what it was when its checksums were taken.
    fn read_layer(&self, layer: u32, file: &NodeFile, from: u64, nodes: &mut [Node]) -> Result<()> {
        file.read(from, nodes)?;
        let sums = self.job.sums.get(layer as usize - 1);
        if sums.is_none_or(|s| s.has(from, nodes)) {
            return Ok(());
        }
        Err(TreeError::Changed {
            path: file.path.clone(),
            node: from,
        })
    }

    /// First node of this base tree in the sector.
    fn first_node(&self) -> u64 {
        self.tree * self.job.shape.leaves
    }

    fn column_cost(&self) -> u64 {
        u64::from(self.job.layers) + 1
    }

    fn tell(&self, done: &AtomicU64, cost: u64) {
        let now = done.fetch_add(self.size * cost, Ordering::Relaxed) + self.size * cost;
        let whole = self.job.shape.nodes() * (self.column_cost() + REPLICA_COST);
        (self.job.progress)(now, whole);
    }

    /// Hashes the rows of a chunk above its leaves and writes all but the top, which is returned.
    fn rise(&self, tree: &TreeFile, rows: &mut [Vec<Node>], chunk: u64) -> Result<Node> {
        for row in 0..rows.len() - 1 {
            let (below, above) = rows.split_at_mut(row + 1);
            let (below, above) = (&below[row], &mut above[0]);
            tree.write(level(row), chunk * below.len() as u64, below)?;
            self.hash_row(below, above)?;
        }
        let top = rows.last().and_then(|row| row.first());
        top.copied()
            .ok_or_else(|| TreeError::Input("a chunk has no top".to_owned()))
    }

    /// Writes the tops of all chunks and the rows above them; returns the root.
    fn finish(&self, tree: &TreeFile, tops: Vec<Node>) -> Result<Node> {
        let (mut row, mut nodes) = (height(self.size), tops);
        loop {
            tree.write(row, 0, &nodes)?;
            if let [root] = nodes[..] {
                return Ok(root);
            }
            let mut above = vec![[0; NODE_BYTES]; nodes.len() / Arity::Eight.inputs()];
            self.hash_row(&nodes, &mut above)?;
            (row, nodes) = (row + 1, above);
        }
    }

    fn hash_row(&self, below: &[Node], above: &mut [Node]) -> Result<()> {
        hash_groups(self.job.kernel, Arity::Eight, below, above)
            .map_err(|e| TreeError::Input(format!("a row of hashes: {e}")))
    }

    /// Runs `work` for every chunk.
    fn each(
        &self,
        inputs: usize,
        work: impl Fn(&mut Buffers, u64) -> Result<Node> + Sync,
    ) -> Result<Vec<Node>> {
        let chunks = self.job.shape.leaves / self.size;
        let buffers = || Buffers::new(self.size, inputs);
        each(self.job.threads, chunks, buffers, work)
    }
}

/// Runs `work` for every chunk, each thread with its own buffers; the first failure ends all. What came out, in
/// the order of the chunks.
pub(super) fn each<B, T: Send>(
    threads: usize,
    chunks: u64,
    buffers: impl Fn() -> B + Sync,
    work: impl Fn(&mut B, u64) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let one_thread = || {
        let (mut buffers, mut done) = (buffers(), Vec::new());
        while !failed.load(Ordering::Relaxed) {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                break;
            }
            match work(&mut buffers, chunk) {
                Ok(made) => done.push((chunk, made)),
                Err(e) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(e);
                }
            }
        }
        Ok(done)
    };
    let threads = (threads.max(1) as u64).min(chunks);
    let parts: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        handles.into_iter().map(join).collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    all.sort_unstable_by_key(|(chunk, _)| *chunk);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

/// What a thread keeps from chunk to chunk.
#[derive(Debug)]
struct Buffers {
    /// As they were read.
    inputs: Vec<Vec<Node>>,
    /// The leaves and the rows above them, up to the top.
    rows: Vec<Vec<Node>>,
}

impl Buffers {
    fn new(size: u64, inputs: usize) -> Self {
        let nodes = |n: u64| vec![[0; NODE_BYTES]; usize::try_from(n).unwrap_or(usize::MAX)];
        Self {
            inputs: (0..inputs).map(|_| nodes(size)).collect(),
            rows: (0..=height(size))
                .map(|row| nodes(size / ARITY.pow(row)))
                .collect(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Key,
    Data,
}

/// Adds keys to data. What is not a number of the field is named by its place and kind.
fn encode(
    keys: &[Node],
    data: &[Node],
    replica: &mut [Node],
) -> std::result::Result<(), (usize, Operand)> {
    for (i, ((key, value), out)) in keys.iter().zip(data).zip(replica).enumerate() {
        *out = add(key, value).ok_or_else(|| {
            let key_is_good = add(key, &[0; NODE_BYTES]).is_some();
            (
                i,
                if key_is_good {
                    Operand::Data
                } else {
                    Operand::Key
                },
            )
        })?;
    }
    Ok(())
}

/// Rows above the leaves of a subtree.
fn height(leaves: u64) -> u32 {
    leaves.trailing_zeros() / ARITY.trailing_zeros()
}

/// A row's number as trees count.
fn level(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// A thread's result; a panic goes on in the caller.
fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    match handle.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
