//! Poseidon over the field of the proofs, in batches, on the fastest kernel that there is.

use filstar_kernels::poseidon::{Arity, HashError, Kernel, hash_groups};

use super::Node;
use crate::error::{Error, Result};

/// The field's modulus, little-endian.
///
/// # Source
/// BLS12-381, order of the group.
const MODULUS: Node = [
    0x01, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0x02, 0xa4, 0xbd, 0x53,
    0x05, 0xd8, 0xa1, 0x09, 0x08, 0xd8, 0x39, 0x33, 0x48, 0x7d, 0x9d, 0x29, 0x53, 0xa7, 0xed, 0x73,
];

/// Whether a node is an element of the field, below the modulus.
pub(crate) fn is_canonical(node: &Node) -> bool {
    node.iter().rev().lt(MODULUS.iter().rev())
}

/// Hashes of groups of eight nodes.
///
/// # Errors
/// When a node is no element of the field; callers check what they read before.
pub(crate) fn hash_eights(nodes: &[Node]) -> Result<Vec<Node>> {
    hash(Arity::Eight, nodes)
}

/// The hash of two nodes.
///
/// # Errors
/// When one is no element of the field.
pub(crate) fn hash_two(left: Node, right: Node) -> Result<Node> {
    Ok(hash(Arity::Two, &[left, right])?[0])
}

fn hash(arity: Arity, nodes: &[Node]) -> Result<Vec<Node>> {
    let mut digests = vec![[0; 32]; nodes.len() / arity.inputs()];
    hash_groups(Kernel::best(), arity, nodes, &mut digests).map_err(failed)?;
    Ok(digests)
}

fn failed(e: HashError) -> Error {
    Error::Prover {
        step: "Poseidon",
        text: e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modulus_is_the_first_value_outside_the_field() {
        let mut below = MODULUS;
        below[0] = 0;
        assert!(is_canonical(&below) && is_canonical(&[0; 32]));
        assert!(!is_canonical(&MODULUS) && !is_canonical(&[0xff; 32]));
        assert!(hash_two(below, [0; 32]).is_ok());
        assert!(hash_two(MODULUS, [0; 32]).is_err());
    }
}
