//! How the tree over a replica (tree-r-last) is cut into base trees, rows and files.
//!
//! # Shape
//! A replica has one, 8 or 16 base trees of arity 8 over equal parts of its leaves; 8 of them make a
//! subtree, two subtrees the tree of 64 GiB. A file holds the upper rows of one base tree, lowest
//! first; the leaves are the replica itself, and one or two rows above them are not stored.

use super::plan::FileId;
use crate::proof::SealProof;

/// Children of a node in a base tree and in a subtree.
pub(crate) const ARITY: u64 = 8;
/// Bytes of a node.
pub(crate) const NODE_BYTES: u64 = 32;

/// The cut of one sector size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of a base tree, leaves and root included.
    rows: u32,
    /// Base trees in a subtree; 1 when there is no such level.
    sub: u64,
    /// Subtrees; 1 when there is no such level.
    top: u64,
}

impl Shape {
    /// The cut of a sector size.
    pub const fn of(proof: SealProof) -> Self {
        let (sub, top) = match proof {
            SealProof::StackedDrg2KiBV1P1
            | SealProof::StackedDrg8MiBV1P1
            | SealProof::StackedDrg512MiBV1P1 => (1, 1),
            SealProof::StackedDrg32GiBV1P1 => (8, 1),
            SealProof::StackedDrg64GiBV1P1 => (8, 2),
        };
        Self::new(proof.nodes(), sub, top)
    }

    /// A cut with `top` × `sub` base trees over `nodes` leaves, a power of 8 in each.
    pub const fn new(nodes: u64, sub: u64, top: u64) -> Self {
        let leaves = nodes / sub / top;
        Self {
            rows: leaves.trailing_zeros() / 3 + 1,
            sub,
            top,
        }
    }

    /// Leaves of the whole replica.
    pub const fn nodes(self) -> u64 {
        self.base_leaves() * self.base_trees()
    }

    /// Leaves of one base tree.
    pub(crate) const fn base_leaves(self) -> u64 {
        ARITY.pow(self.rows - 1)
    }

    /// Base trees, and files.
    pub(crate) const fn base_trees(self) -> u64 {
        self.sub * self.top
    }

    /// Base trees in a subtree.
    pub(crate) const fn sub(self) -> u64 {
        self.sub
    }

    /// Subtrees.
    pub(crate) const fn top(self) -> u64 {
        self.top
    }

    /// Rows of a base tree, leaves (row 0) and root included.
    pub(crate) const fn rows(self) -> u32 {
        self.rows
    }

    /// The lowest row that is stored: two above the leaves are not, or as many as there are between
    /// leaves and root.
    ///
    /// # Source
    /// `default_rows_to_discard` in storage-proofs-core 19.1.
    pub(crate) const fn stored_from(self) -> u32 {
        let between = self.rows - 2;
        if between < 2 { between + 1 } else { 3 }
    }

    /// Nodes of a row of a base tree.
    pub(crate) const fn row_nodes(self, row: u32) -> u64 {
        ARITY.pow(self.rows - 1 - row)
    }

    /// Leaves below one node of the lowest stored row.
    pub(crate) const fn segment_leaves(self) -> u64 {
        ARITY.pow(self.stored_from())
    }

    /// Where a stored row begins in its file, bytes.
    pub(crate) const fn row_offset(self, row: u32) -> u64 {
        let (mut offset, mut below) = (0, self.stored_from());
        while below < row {
            offset += self.row_nodes(below) * NODE_BYTES;
            below += 1;
        }
        offset
    }

    /// Size of a file.
    pub(crate) const fn file_bytes(self, file: FileId) -> u64 {
        match file {
            FileId::Replica => self.nodes() * NODE_BYTES,
            FileId::Tree(_) => self.row_offset(self.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of files as lotus has them.
    #[test]
    fn vector_file_sizes_of_tree_r_last() {
        for (proof, trees, bytes) in [
            (SealProof::StackedDrg2KiBV1P1, 1, 32),
            (SealProof::StackedDrg8MiBV1P1, 1, 585 * 32),
            (SealProof::StackedDrg32GiBV1P1, 8, 9_586_976),
            (SealProof::StackedDrg64GiBV1P1, 16, 9_586_976),
        ] {
            let shape = Shape::of(proof);
            assert_eq!(shape.base_trees(), trees, "{proof}");
            assert_eq!(shape.file_bytes(FileId::Tree(0)), bytes, "{proof}");
            assert_eq!(shape.file_bytes(FileId::Replica), proof.sector_bytes());
        }
    }
}
