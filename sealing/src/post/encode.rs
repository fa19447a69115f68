//! A vanilla proof as the bytes that the proof library reads: bincode of its
//! `FallbackPoStSectorProof`. Pure.
//!
//! # Source
//! `filecoin_proofs::types::FallbackPoStSectorProof` and `storage_proofs_core::merkle::MerkleProof`
//! 19.1; bincode writes integers as 8 bytes little-endian, variants as 4, lists with their length,
//! arrays and structures bare.

use super::{
    Node, SectorFiles,
    paths::{LeafPath, Roots, Step},
};

/// The proof of one sector.
pub(crate) fn sector(files: &SectorFiles, roots: &Roots, paths: &[LeafPath]) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, files.number);
    out.extend_from_slice(&files.comm_r.0);
    number(&mut out, 1); // one sector
    number(&mut out, paths.len() as u64);
    for path in paths {
        inclusion(&mut out, path, &roots.comm_r_last);
    }
    out.extend_from_slice(&roots.comm_c);
    out.extend_from_slice(&roots.comm_r_last);
    out
}

/// One `MerkleProof`: which fields there are, and their order, depends on the number of levels.
fn inclusion(out: &mut Vec<u8>, path: &LeafPath, root: &Node) {
    let variant: u32 = match (&path.sub, &path.top) {
        (None, _) => 0,
        (Some(_), None) => 1,
        (Some(_), Some(_)) => 2,
    };
    out.extend_from_slice(&variant.to_le_bytes());
    if variant == 0 {
        out.extend_from_slice(root);
        out.extend_from_slice(&path.leaf);
        steps(out, &path.base);
        return;
    }
    steps(out, &path.base);
    for level in [&path.sub, &path.top].into_iter().flatten() {
        steps(out, std::slice::from_ref(level));
    }
    out.extend_from_slice(root);
    out.extend_from_slice(&path.leaf);
}

fn steps(out: &mut Vec<u8>, steps: &[Step]) {
    number(out, steps.len() as u64);
    for (siblings, own) in steps {
        number(out, siblings.len() as u64);
        for node in siblings {
            out.extend_from_slice(node);
        }
        number(out, *own);
    }
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}
