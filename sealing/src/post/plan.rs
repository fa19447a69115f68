//! Which bytes of which files the challenges of a sector take: sorted, and merged where pieces touch
//! or nearly touch. Pure.

use std::collections::BTreeMap;

use super::shape::{ARITY, NODE_BYTES, Shape};

/// Pieces that are nearer to each other than this are read as one: a further read costs more than
/// the bytes between them.
const MERGE_GAP_BYTES: u64 = 16 << 10;

/// A file of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileId {
    /// The replica.
    Replica,
    /// The upper rows of one base tree.
    Tree(u64),
}

/// A piece of a file, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Span {
    const fn end(self) -> u64 {
        self.offset + self.len
    }
}

/// All reads of one sector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan(BTreeMap<FileId, Vec<Span>>);

impl Plan {
    /// The pieces by file, in the order in which they lie there.
    pub(crate) fn files(&self) -> impl Iterator<Item = (FileId, &[Span])> {
        self.0.iter().map(|(file, spans)| (*file, spans.as_slice()))
    }
}

/// Plans the reads for some leaves.
pub(crate) fn plan(shape: Shape, leaves: &[u64]) -> Plan {
    let mut wanted: BTreeMap<FileId, Vec<Span>> = BTreeMap::new();
    for leaf in leaves {
        for (file, span) in of_leaf(shape, *leaf) {
            wanted.entry(file).or_default().push(span);
        }
    }
    // The roots of all base trees are siblings of each other.
    for tree in 0..shape.base_trees() {
        let spans = wanted.entry(FileId::Tree(tree)).or_default();
        spans.push(group(shape, shape.rows() - 1, 0));
    }
    let merged = wanted.into_iter().map(|(file, spans)| (file, merge(spans)));
    Plan(merged.collect())
}

/// The segment of leaves around one, and in each stored row the siblings on the way up.
fn of_leaf(shape: Shape, leaf: u64) -> Vec<(FileId, Span)> {
    let width = shape.segment_leaves();
    let segment = Span {
        offset: leaf / width * width * NODE_BYTES,
        len: width * NODE_BYTES,
    };
    let tree = FileId::Tree(leaf / shape.base_leaves());
    let inside = leaf % shape.base_leaves();
    let rows = shape.stored_from()..shape.rows() - 1;
    let groups = rows.map(|row| (tree, group(shape, row, inside / ARITY.pow(row + 1))));
    std::iter::once((FileId::Replica, segment))
        .chain(groups)
        .collect()
}

/// The children of node `index` of the row above, or the root, in their file.
pub(crate) fn group(shape: Shape, row: u32, index: u64) -> Span {
    let nodes = ARITY.min(shape.row_nodes(row));
    Span {
        offset: shape.row_offset(row) + index * nodes * NODE_BYTES,
        len: nodes * NODE_BYTES,
    }
}

fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.offset <= last.end() + MERGE_GAP_BYTES => {
                last.len = last.end().max(span.end()) - last.offset;
            }
            Some(_) | None => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::SealProof;

    fn shapes() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::of(SealProof::StackedDrg2KiBV1P1)),
            Just(Shape::of(SealProof::StackedDrg8MiBV1P1)),
            Just(Shape::of(SealProof::StackedDrg32GiBV1P1)),
            Just(Shape::of(SealProof::StackedDrg64GiBV1P1)),
        ]
    }

    proptest! {
        #[test]
        fn prop_plan_is_sorted_apart_within_files_and_has_all(
            shape in shapes(),
            seeds in proptest::collection::vec(any::<u64>(), 1..12),
        ) {
            let leaves: Vec<_> = seeds.iter().map(|s| s % shape.nodes()).collect();
            let plan = plan(shape, &leaves);
            for (file, spans) in plan.files() {
                for pair in spans.windows(2) {
                    prop_assert!(pair[0].end() + MERGE_GAP_BYTES < pair[1].offset);
                }
                prop_assert!(spans.iter().all(|s| s.end() <= shape.file_bytes(file)));
            }
            for leaf in leaves {
                for (file, want) in of_leaf(shape, leaf) {
                    let spans = &plan.0[&file];
                    let holds = |s: &Span| s.offset <= want.offset && want.end() <= s.end();
                    prop_assert!(spans.iter().any(holds), "{file:?} {want:?}");
                }
            }
        }
    }

    #[test]
    fn every_base_tree_gives_its_root() {
        let plan = plan(Shape::of(SealProof::StackedDrg32GiBV1P1), &[5]);
        assert_eq!(plan.0.len(), 9, "the replica and 8 files");
    }

    /// One read of 16 KiB, six of siblings merged into four, and seven roots.
    #[test]
    fn one_challenge_of_32_gib_takes_few_reads() {
        let plan = plan(Shape::of(SealProof::StackedDrg32GiBV1P1), &[123_456_789]);
        let reads: usize = plan.files().map(|(_, spans)| spans.len()).sum();
        assert!(reads <= 12, "{plan:?}");
    }
}
