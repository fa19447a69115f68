//! The parents of all nodes in a file that all sectors of a proof type share.
//!
//! # Shape
//! A row of 14 `u32`, little-endian, for each node: the format of the stock library's cache.
//!
//! The file is read block by block, never mapped: one that is cut short while it is in use is an
//! error that names it, not the death of the process. The page cache holds one copy for all.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    graph::{DEGREE, Graph, Row},
};

/// Bytes of a row.
pub const ROW_BYTES: usize = DEGREE * 4;

/// Rows that one thread computes at a time.
const BLOCK_ROWS: usize = 1 << 14;

/// Where rows come from.
pub trait Rows: Sync {
    /// Nodes of the graph.
    fn nodes(&self) -> u64;

    /// Reads the rows of nodes from `first` on.
    ///
    /// # Errors
    /// When there are not so many, or they cannot be read.
    fn read(&self, first: u64, rows: &mut [Row]) -> Result<()>;
}

/// Computing them, for small graphs and samples.
impl Rows for Graph {
    fn nodes(&self) -> u64 {
        self.nodes()
    }

    fn read(&self, first: u64, rows: &mut [Row]) -> Result<()> {
        let last = first + rows.len() as u64;
        if last > self.nodes() {
            return Err(Error::Input(format!("there is no node {}", last - 1)));
        }
        for (node, row) in (first..last).zip(rows) {
            *row = self.row(u32::try_from(node).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}

/// An open parents file of the right size.
#[derive(Debug)]
pub struct ParentsFile {
    file: File,
    path: PathBuf,
    nodes: u64,
}

impl ParentsFile {
    /// Opens the file of a graph with so many nodes.
    ///
    /// # Errors
    /// `Damaged` when it has another size; else what the file system says.
    pub fn open(path: &Path, nodes: u64) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let found = file.metadata().map_err(Error::io("look at", path))?.len();
        let want = nodes * ROW_BYTES as u64;
        if found != want {
            let why = format!("it has {found} bytes, a graph of {nodes} nodes has {want}");
            return Err(Error::damaged(path, why));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            nodes,
        })
    }

    /// Compares rows all over the file with the graph: a file of another graph never passes, and
    /// one with many wrong rows hardly. `shift` chooses which rows.
    ///
    /// # Errors
    /// `Damaged`, naming the first row that differs.
    pub fn compare(&self, graph: &Graph, samples: u64, shift: u64) -> Result<()> {
        let step = (self.nodes / samples.max(1)).max(1);
        let chosen = (0..self.nodes).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        for node in chosen.map(|n| n + shift % step.min(self.nodes - n)) {
            let mut row = [[[0; 4]; DEGREE]];
            self.read(node, &mut row)?;
            if row[0] != graph.row(u32::try_from(node).unwrap_or(u32::MAX)) {
                let why = format!("the parents of node {node} are not those of the graph");
                return Err(Error::damaged(&self.path, why));
            }
        }
        Ok(())
    }
}

impl Rows for ParentsFile {
    fn nodes(&self) -> u64 {
        self.nodes
    }

    fn read(&self, first: u64, rows: &mut [Row]) -> Result<()> {
        let bytes = rows.as_flattened_mut().as_flattened_mut();
        let read = self.file.read_exact_at(bytes, first * ROW_BYTES as u64);
        read.map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                Error::damaged(&self.path, format!("it ends before node {first} is read"))
            } else {
                Error::io("read", &self.path)(e)
            }
        })
    }
}

/// Computes all rows on so many threads and writes them in order.
///
/// # Errors
/// What the writer says.
pub fn write(graph: &Graph, threads: usize, out: &mut impl Write) -> io::Result<()> {
    let starts: Vec<u64> = (0..graph.nodes()).step_by(BLOCK_ROWS).collect();
    for turn in starts.chunks(threads.max(1)) {
        let blocks: Vec<Option<Vec<u8>>> = std::thread::scope(|scope| {
            let work: Vec<_> = turn
                .iter()
                .map(|first| scope.spawn(|| block(graph, *first)))
                .collect();
            work.into_iter().map(|w| w.join().ok()).collect()
        });
        for bytes in blocks {
            let bytes = bytes.ok_or_else(|| io::Error::other("a thread panicked"))?;
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

fn block(graph: &Graph, first: u64) -> Vec<u8> {
    let nodes = first..(first + BLOCK_ROWS as u64).min(graph.nodes());
    nodes
        .filter_map(|node| u32::try_from(node).ok())
        .flat_map(|node| graph.row(node))
        .flatten()
        .collect()
}
