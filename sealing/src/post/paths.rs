//! The Merkle paths from challenged leaves to the replica's root, rebuilt from what was read, and
//! checked from the root down, so that the file that is damaged can be named. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Node, SectorFiles, path_of,
    plan::{self, FileId, Span},
    poseidon,
    shape::{ARITY, NODE_BYTES, Shape},
};
use crate::error::{Error, Result};

/// Siblings of a node, without itself, and its position among them.
pub(crate) type Step = (Vec<Node>, u64);

/// What `p_aux` holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roots {
    pub(crate) comm_c: Node,
    pub(crate) comm_r_last: Node,
}

/// A leaf with its way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeafPath {
    pub(crate) leaf: Node,
    /// Inside the base tree, lowest first.
    pub(crate) base: Vec<Step>,
    /// Among the base trees of a subtree; none when there is no such level.
    pub(crate) sub: Option<Step>,
    /// Among the subtrees; none when there is no such level.
    pub(crate) top: Option<Step>,
}

/// What was read, by file and offset.
#[derive(Debug, Default)]
pub(crate) struct Reads(BTreeMap<(FileId, u64), Vec<u8>>);

impl Reads {
    pub(crate) fn insert(&mut self, file: FileId, span: Span, bytes: Vec<u8>) {
        self.0.insert((file, span.offset), bytes);
    }

    /// The nodes of a piece. The plan holds every piece that is asked for here.
    fn nodes(&self, files: &SectorFiles, file: FileId, span: Span) -> Result<Vec<Node>> {
        let path = path_of(files, file);
        let missing = || Error::damaged(&path, "a piece of it was not read");
        let before = self.0.range(..=(file, span.offset)).next_back();
        let (from, bytes) = before
            .filter(|((f, _), _)| *f == file)
            .map(|((_, from), bytes)| (*from, bytes))
            .ok_or_else(missing)?;
        let start = usize::try_from(span.offset - from).map_err(|_e| missing())?;
        let len = usize::try_from(span.len).map_err(|_e| missing())?;
        let piece = bytes.get(start..start + len).ok_or_else(missing)?;
        let nodes: Vec<Node> = piece.as_chunks::<32>().0.to_vec();
        match nodes.iter().position(|n| !poseidon::is_canonical(n)) {
            None => Ok(nodes),
            Some(i) => {
                let at = span.offset + i as u64 * NODE_BYTES;
                let why = format!("what it has at byte {at} is no element of the field");
                Err(Error::damaged(&path, why))
            }
        }
    }
}

/// Rebuilds and checks the paths of some leaves.
pub(crate) fn build(
    files: &SectorFiles,
    roots: &Roots,
    reads: &Reads,
    leaves: &[u64],
) -> Result<Vec<LeafPath>> {
    let shape = files.shape;
    let upper = Upper::check(files, roots, reads)?;
    let stored = check_stored(files, &upper, reads, leaves)?;
    let segments = rebuild(files, &stored, reads, leaves)?;
    leaves
        .iter()
        .map(|leaf| {
            let segment = &segments[&(leaf / shape.segment_leaves())];
            let (sub, top) = upper.steps(shape, leaf / shape.base_leaves());
            let path = LeafPath {
                leaf: segment[0][index(leaf % shape.segment_leaves())],
                base: base_steps(shape, segment, &stored, *leaf),
                sub,
                top,
            };
            Ok(path)
        })
        .collect()
}

/// What is above the base trees.
struct Upper {
    /// Roots of the base trees.
    base: Vec<Node>,
    /// Roots of the subtrees.
    sub: Vec<Node>,
}

impl Upper {
    fn check(files: &SectorFiles, roots: &Roots, reads: &Reads) -> Result<Self> {
        let shape = files.shape;
        let root = plan::group(shape, shape.rows() - 1, 0);
        let base: Vec<Node> = (0..shape.base_trees())
            .map(|tree| Ok(reads.nodes(files, FileId::Tree(tree), root)?[0]))
            .collect::<Result<_>>()?;
        let sub = if shape.sub() == 1 {
            base.clone()
        } else {
            poseidon::hash_eights(&base)?
        };
        let top = match sub.as_slice() {
            [one] => *one,
            [left, right] => poseidon::hash_two(*left, *right)?,
            _ => {
                return Err(Error::Setup(
                    "no tree has more than two subtrees".to_owned(),
                ));
            }
        };
        if top != roots.comm_r_last {
            let path = path_of(files, FileId::Tree(0));
            let why = "the roots in the files of tree-r-last are not those of the replica's \
                       commitment";
            return Err(Error::damaged(&path, why));
        }
        Ok(Self { base, sub })
    }

    fn steps(&self, shape: Shape, tree: u64) -> (Option<Step>, Option<Step>) {
        let first = index(tree / shape.sub() * shape.sub());
        let group = &self.base[first..first + index(shape.sub())];
        let sub = (shape.sub() > 1).then(|| step(group, tree % shape.sub()));
        let top = (shape.top() > 1).then(|| step(&self.sub, tree / shape.sub()));
        (sub, top)
    }
}

/// Tree, row and index of the parent: the group of a node's children.
type Group = (u64, u32, u64);

/// Groups of siblings in the stored rows, each checked against its parent, highest first.
fn check_stored(
    files: &SectorFiles,
    upper: &Upper,
    reads: &Reads,
    leaves: &[u64],
) -> Result<BTreeMap<Group, Vec<Node>>> {
    let shape = files.shape;
    let mut wanted: BTreeSet<Group> = BTreeSet::new();
    for leaf in leaves {
        let (tree, inside) = (leaf / shape.base_leaves(), leaf % shape.base_leaves());
        for row in shape.stored_from()..shape.rows() - 1 {
            wanted.insert((tree, row, inside / ARITY.pow(row + 1)));
        }
    }
    let mut groups = BTreeMap::new();
    for (tree, row, parent) in &wanted {
        let span = plan::group(shape, *row, *parent);
        groups.insert(
            (*tree, *row, *parent),
            reads.nodes(files, FileId::Tree(*tree), span)?,
        );
    }
    let eights: Vec<Node> = groups.values().flatten().copied().collect();
    let hashes: BTreeMap<Group, Node> = groups
        .keys()
        .copied()
        .zip(poseidon::hash_eights(&eights)?)
        .collect();
    // Highest first: below a damaged node everything seems wrong.
    let mut from_above: Vec<_> = hashes.into_iter().collect();
    from_above.sort_by_key(|((_, row, _), _)| std::cmp::Reverse(*row));
    for ((tree, row, parent), hash) in from_above {
        let above = node_of(shape, &groups, upper, tree, row + 1, parent);
        if hash != above {
            let path = path_of(files, FileId::Tree(tree));
            let span = plan::group(shape, row, parent);
            let why = format!(
                "the nodes at bytes {} to {} do not hash to their parent",
                span.offset,
                span.offset + span.len
            );
            return Err(Error::damaged(&path, why));
        }
    }
    Ok(groups)
}

/// A stored node, or the root of its base tree.
fn node_of(
    shape: Shape,
    groups: &BTreeMap<Group, Vec<Node>>,
    upper: &Upper,
    tree: u64,
    row: u32,
    i: u64,
) -> Node {
    if row == shape.rows() - 1 {
        upper.base[index(tree)]
    } else {
        groups[&(tree, row, i / ARITY)][index(i % ARITY)]
    }
}

/// The rows that are not stored, of each segment of leaves: the leaves first.
type Segment = Vec<Vec<Node>>;

fn rebuild(
    files: &SectorFiles,
    stored: &BTreeMap<Group, Vec<Node>>,
    reads: &Reads,
    leaves: &[u64],
) -> Result<BTreeMap<u64, Segment>> {
    let shape = files.shape;
    let width = shape.segment_leaves();
    let starts: BTreeSet<u64> = leaves.iter().map(|leaf| leaf / width).collect();
    let mut segments = BTreeMap::new();
    for start in starts {
        let span = Span {
            offset: start * width * NODE_BYTES,
            len: width * NODE_BYTES,
        };
        segments.insert(start, vec![reads.nodes(files, FileId::Replica, span)?]);
    }
    // Row by row over all segments, so that the batches are long.
    for _ in 0..shape.stored_from() {
        let below = segments.values().flat_map(|rows| &rows[rows.len() - 1]);
        let below: Vec<Node> = below.copied().collect();
        let above = poseidon::hash_eights(&below)?;
        let each = above.len() / segments.len().max(1);
        for (rows, nodes) in segments.values_mut().zip(above.chunks(each)) {
            rows.push(nodes.to_vec());
        }
    }
    for (start, rows) in &mut segments {
        let (tree, inside) = (
            start * width / shape.base_leaves(),
            start * width % shape.base_leaves(),
        );
        let root = rows.pop().and_then(|top| top.first().copied());
        let i = inside / width;
        let want = stored
            .get(&(tree, shape.stored_from(), i / ARITY))
            .map(|group| group[index(i % ARITY)]);
        // In the smallest sectors the lowest stored row is the root itself.
        let span = plan::group(shape, shape.rows() - 1, 0);
        let want = match want {
            None => reads
                .nodes(files, FileId::Tree(tree), span)?
                .first()
                .copied(),
            stored => stored,
        };
        if root != want {
            let why = format!(
                "what it has at bytes {} to {} is not what was sealed",
                start * width * NODE_BYTES,
                (start + 1) * width * NODE_BYTES
            );
            return Err(Error::damaged(&files.replica, why));
        }
    }
    Ok(segments)
}

fn base_steps(
    shape: Shape,
    segment: &Segment,
    stored: &BTreeMap<Group, Vec<Node>>,
    leaf: u64,
) -> Vec<Step> {
    let (tree, inside) = (leaf / shape.base_leaves(), leaf % shape.base_leaves());
    let in_segment = leaf % shape.segment_leaves();
    let mut steps = Vec::new();
    for row in 0..shape.rows() - 1 {
        if row < shape.stored_from() {
            let at = in_segment / ARITY.pow(row);
            let first = index(at / ARITY * ARITY);
            let group = &segment[index(u64::from(row))][first..first + index(ARITY)];
            steps.push(step(group, at % ARITY));
        } else {
            let at = inside / ARITY.pow(row);
            steps.push(step(&stored[&(tree, row, at / ARITY)], at % ARITY));
        }
    }
    steps
}

fn step(group: &[Node], own: u64) -> Step {
    let siblings = (0..).zip(group).filter(|(i, _)| *i != own);
    (siblings.map(|(_, node)| *node).collect(), own)
}

/// Positions are small: a segment has 512 leaves, a tree 16 parts.
fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
