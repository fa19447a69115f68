//! Every SDR kernel against the definition, on random inputs.
#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]

use filstar_kernels::{
    graph::{DEGREE, Graph, Row, porep_id},
    sdr::{Kernel, Labels, Span},
};
use proptest::prelude::*;
use sha2::Digest;

const NODES: usize = 32;

/// Labels a whole layer in spans of the given sizes.
fn layer<const L: usize>(
    kernel: Kernel,
    layer: u32,
    ids: &[[u8; 32]; L],
    rows: &[Row],
    previous: &[Labels<L>],
    cuts: &[usize],
) -> Vec<Labels<L>> {
    let mut current = vec![[[0; 32]; L]; rows.len()];
    let mut first = 0;
    for count in cuts.iter().copied().chain([rows.len()]) {
        let count = count.min(rows.len() - first);
        kernel.label(&mut Span {
            layer,
            first: u32::try_from(first).unwrap(),
            count,
            rows: &rows[first..],
            replica_ids: ids,
            previous,
            current: &mut current,
        });
        first += count;
    }
    current
}

fn same_as_portable<const L: usize>(
    ids: &[[u8; 32]; L],
    rows: &[Row],
    previous: &[Labels<L>],
    number: u32,
    cuts: &[usize],
) {
    let Some(kernel) = Kernel::sha() else { return };
    let want = layer(Kernel::PORTABLE, number, ids, rows, previous, &[]);
    assert_eq!(layer(kernel, number, ids, rows, previous, cuts), want);
    // A lane alone is what it is among others.
    let alone: Vec<Labels<1>> = previous.iter().map(|n| [n[L - 1]]).collect();
    let got = layer(kernel, number, &[ids[L - 1]], rows, &alone, cuts);
    assert!(got.iter().zip(&want).all(|(a, b)| a[0] == b[L - 1]));
}

proptest! {
    /// Rows may hold anything: parents that are not labelled yet, or that do not exist.
    #[test]
    fn prop_sha_kernel_is_the_portable_one(
        ids: [[u8; 32]; 4],
        rows in prop::collection::vec(any::<[[u8; 4]; DEGREE]>(), NODES),
        previous in prop::collection::vec(any::<[[u8; 32]; 4]>(), NODES),
        number in prop_oneof![Just(1u32), 2..12u32],
        cuts in prop::collection::vec(0..NODES, 0..6),
    ) {
        let two: Vec<Labels<2>> = previous.iter().map(|n| [n[0], n[1]]).collect();
        let one: Vec<Labels<1>> = previous.iter().map(|n| [n[0]]).collect();
        same_as_portable(&[ids[0]], &rows, &one, number, &cuts);
        same_as_portable(&[ids[0], ids[1]], &rows, &two, number, &cuts);
        same_as_portable(&ids, &rows, &previous, number, &cuts);
    }
}

/// Both layers of a sector of 8 MiB, as storage-proofs-porep 19.1 labels them.
#[test]
fn vector_layers_of_8_mib() {
    let digest = |layer: &[Labels<1>]| {
        let bytes = layer.as_flattened().as_flattened();
        hex::encode(sha2::Sha256::digest(bytes))
    };
    let graph = Graph::new(1 << 18, &porep_id(6)).unwrap();
    let rows: Vec<Row> = (0..1 << 18).map(|n| graph.row(n)).collect();
    let id = "571c05b7b243a2106a3cda55aeada4abc51264b1f63f257b756399cf1d979d31";
    let id = [hex::decode(id).unwrap().try_into().unwrap()];
    for kernel in [Kernel::best(), Kernel::PORTABLE] {
        let first = layer(kernel, 1, &id, &rows, &[], &[]);
        let second = layer(kernel, 2, &id, &rows, &first, &[]);
        assert_eq!(
            [digest(&first), digest(&second)],
            [
                "1e02b4e0b4227b47cc0e1d7ce64dc8436d282a327a015414a2863bbcb6828d82",
                "f98496b4104ec8baa9def263000bb7d4879784a2ea8cc15fd313606ab9a8e38b",
            ]
        );
    }
}
