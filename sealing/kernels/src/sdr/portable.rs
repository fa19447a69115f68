//! Labels on any processor: the definition, written down.

use sha2::{Digest, Sha256};

use super::kernel::{Span, index};
use crate::graph::{BASE, Row};

/// Parents that a label is made of; a node's own are repeated until there are so many.
const PARENTS: usize = 37;
/// The label is a number of the proofs' field, which has no more bits.
const TOP_BYTE: u8 = 0x3f;

/// Labels a span, lane by lane.
pub(super) fn label<const L: usize>(span: &mut Span<'_, L>) {
    for (node, row) in (span.first..).zip(&span.rows[..span.count]) {
        for lane in 0..L {
            span.current[node as usize][lane] = one(span, node, row, lane);
        }
    }
}

fn one<const L: usize>(span: &Span<'_, L>, node: u32, row: &Row, lane: usize) -> [u8; 32] {
    let mut hash = header(&span.replica_ids[lane], span.layer, node);
    let mask = span.current.len() - 1;
    let of_this_layer = row[..BASE]
        .iter()
        .map(|p| &span.current[index(*p, mask)][lane]);
    match (node, span.layer) {
        (0, _) => {}
        (_, 1) => feed(&mut hash, of_this_layer),
        _ => {
            let of_previous = row[BASE..]
                .iter()
                .map(|p| &span.previous[index(*p, mask)][lane]);
            feed(&mut hash, of_this_layer.chain(of_previous));
        }
    }
    finish(hash)
}

fn feed<'a>(hash: &mut Sha256, parents: impl Iterator<Item = &'a [u8; 32]> + Clone) {
    for parent in parents.cycle().take(PARENTS) {
        hash.update(parent);
    }
}

/// The label of node 0, which has no parents.
pub(super) fn root(replica_id: &[u8; 32], layer: u32) -> [u8; 32] {
    finish(header(replica_id, layer, 0))
}

fn header(replica_id: &[u8; 32], layer: u32, node: u32) -> Sha256 {
    Sha256::new()
        .chain_update(replica_id)
        .chain_update(layer.to_be_bytes())
        .chain_update(u64::from(node).to_be_bytes())
        .chain_update([0; 20])
}

fn finish(hash: Sha256) -> [u8; 32] {
    let mut label: [u8; 32] = hash.finalize().into();
    label[31] &= TOP_BYTE;
    label
}
