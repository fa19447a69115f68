//! Files of nodes: layers that are read, trees and replicas that are written, in any order.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{ARITY, Result, TreeError};
use crate::poseidon::{NODE_BYTES, Node};

/// A file of nodes.
#[derive(Debug)]
pub(super) struct NodeFile {
    file: File,
    pub(super) path: PathBuf,
}

impl NodeFile {
    /// Opens one that must have so many nodes.
    pub(super) fn open(path: PathBuf, nodes: u64) -> Result<Self> {
        let file = File::open(&path).map_err(TreeError::io("open", &path))?;
        let meta = file.metadata().map_err(TreeError::io("look at", &path))?;
        let (found, want) = (meta.len(), nodes * NODE_BYTES as u64);
        if found == want {
            Ok(Self { file, path })
        } else {
            Err(TreeError::Size { path, found, want })
        }
    }

    /// Makes a new one, in place of what was there. It grows as it is written.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(TreeError::io("create", path))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Opens one that is there, to write parts of it.
    pub(super) fn writable(path: &Path) -> Result<Self> {
        let file = File::options().write(true).open(path);
        let file = file.map_err(TreeError::io("open", path))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Reads the nodes from `at` on.
    pub(super) fn read(&self, at: u64, nodes: &mut [Node]) -> Result<()> {
        let bytes = nodes.as_flattened_mut();
        self.file
            .read_exact_at(bytes, at * NODE_BYTES as u64)
            .map_err(TreeError::io("read", &self.path))
    }

    /// Writes nodes from `at` on.
    pub(super) fn write(&self, at: u64, nodes: &[Node]) -> Result<()> {
        self.file
            .write_all_at(nodes.as_flattened(), at * NODE_BYTES as u64)
            .map_err(TreeError::io("write", &self.path))
    }
}

/// A tree's file: its rows one after another, from the first that is kept up to the root.
#[derive(Debug)]
pub(super) struct TreeFile {
    nodes: NodeFile,
    leaves: u64,
    first_row: u32,
}

impl TreeFile {
    /// Makes a new one, in place of what was there.
    pub(super) fn create(path: PathBuf, leaves: u64, first_row: u32) -> Result<Self> {
        let file = File::create(&path).map_err(TreeError::io("create", &path))?;
        let root_row = leaves.trailing_zeros() / ARITY.trailing_zeros();
        let tree = Self {
            nodes: NodeFile { file, path },
            leaves,
            first_row,
        };
        let (file, path) = (&tree.nodes.file, &tree.nodes.path);
        file.set_len((tree.offset(root_row) + 1) * NODE_BYTES as u64)
            .map_err(TreeError::io("extend", path))?;
        Ok(tree)
    }

    /// Writes nodes of a row, unless that row is left out.
    pub(super) fn write(&self, row: u32, at: u64, nodes: &[Node]) -> Result<()> {
        if row < self.first_row {
            return Ok(());
        }
        self.nodes.write(self.offset(row) + at, nodes)
    }

    /// Nodes in the file before a row.
    fn offset(&self, row: u32) -> u64 {
        (self.first_row..row)
            .map(|r| self.leaves / ARITY.pow(r))
            .sum()
    }
}
