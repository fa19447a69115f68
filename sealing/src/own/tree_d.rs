//! Tree-d: the binary tree over the data.
//!
//! # Shape
//! All nodes of 32 bytes, row after row: the data itself, then each row half as long, the root last.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    durable,
    error::{Error, Result},
    hash::Hash32,
};

const NODE: u64 = 32;
const BLOCK_BYTES: usize = 1 << 20;

/// Takes the tree that is there, or builds it from the data (none: zeros); returns its root.
///
/// # Errors
/// When a file cannot be read or written.
pub fn ensure(path: &Path, data: Option<&Path>, nodes: u64) -> Result<Hash32> {
    let bytes = (2 * nodes - 1) * NODE;
    if durable::size(path)? != Some(bytes) {
        let new = durable::temporary(path);
        match data {
            Some(data) => drop(durable::copy(data, &new)?),
            None => drop(File::create(&new).map_err(Error::io("create", &new))?),
        }
        build(&new, nodes)?;
        durable::publish(&new, path)?;
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut root = [0; 32];
    file.read_exact_at(&mut root, bytes - NODE)
        .map_err(Error::io("read", path))?;
    Ok(Hash32(root))
}

/// Adds the rows above the data to a file that holds it.
fn build(path: &Path, nodes: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(Error::io("open", path))?;
    file.set_len(nodes * NODE)
        .map_err(Error::io("extend", path))?;
    let append = File::options().append(true).open(path);
    let mut out = BufWriter::with_capacity(BLOCK_BYTES, append.map_err(Error::io("open", path))?);
    let (mut row, mut at) = (nodes, 0);
    let mut block = vec![0; BLOCK_BYTES];
    while row > 1 {
        let end = at + row * NODE;
        while at < end {
            let size = usize::try_from(end - at).map_or(BLOCK_BYTES, |n| n.min(BLOCK_BYTES));
            let block = &mut block[..size];
            file.read_exact_at(block, at)
                .map_err(Error::io("read", path))?;
            for pair in block.chunks_exact(64) {
                let node = Hash32(Sha256::digest(pair).into()).in_field();
                out.write_all(&node.0).map_err(Error::io("write", path))?;
            }
            at += size as u64;
        }
        out.flush().map_err(Error::io("write", path))?;
        row /= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hash::zero_commitment, proof::SealProof};

    /// The file of the stock library, storage-proofs-porep 19.1.
    #[test]
    fn vector_tree_of_8_mib_of_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let (zeros, tree) = (dir.path().join("zeros"), dir.path().join("tree"));
        File::create(&zeros).unwrap().set_len(8 << 20).unwrap();
        let root = zero_commitment(SealProof::StackedDrg8MiBV1P1);
        assert_eq!(ensure(&tree, None, 1 << 18).unwrap(), root);
        let digest = "78650dc6e7629a430d3961b59129b787f0f423054bfe043beac76fea75f24e13";
        assert_eq!(durable::sha256(&tree).unwrap(), digest);
        durable::remove(&tree).unwrap();
        assert_eq!(ensure(&tree, Some(&zeros), 1 << 18).unwrap(), root);
        assert_eq!(durable::sha256(&tree).unwrap(), digest);
    }
}
