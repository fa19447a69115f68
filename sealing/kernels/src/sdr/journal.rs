//! The journal beside a layer: how far its file is good, and by which digest.
//!
//! The first line says what is labelled; each further line a number of nodes, and the SHA-256 of
//! all their labels. So one pass over the file checks every line, and the last one is the digest of
//! the whole. A line that was torn by a crash, and all after it, are as if they were not there.

use sha2::{Digest, Sha256};

/// What is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) replica_id: [u8; 32],
    pub(super) layer: u32,
    pub(super) nodes: u64,
}

/// Labels up to this node are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) nodes: u64,
    pub(super) sha256: [u8; 32],
}

impl Mark {
    /// After so many nodes, by the hash of all their labels.
    pub(super) fn of(nodes: u64, hash: &Sha256) -> Self {
        let sha256 = hash.clone().finalize().into();
        Self { nodes, sha256 }
    }

    /// As a line.
    pub(super) fn line(&self) -> String {
        format!("{} {}\n", self.nodes, hex::encode(self.sha256))
    }
}

impl Head {
    /// The whole journal.
    pub(super) fn text(&self, marks: &[Mark]) -> String {
        let marks: String = marks.iter().map(Mark::line).collect();
        format!("{}{marks}", self.line())
    }

    /// The marks in a journal of the same labels; none in another's.
    pub(super) fn marks(&self, journal: &str) -> Vec<Mark> {
        let Some(lines) = journal.strip_prefix(&self.line()) else {
            return Vec::new();
        };
        let mut marks: Vec<Mark> = Vec::new();
        for line in lines.split_inclusive('\n') {
            let last = marks.last().map_or(0, |m| m.nodes);
            match mark(line) {
                Some(m) if m.nodes > last && m.nodes <= self.nodes => marks.push(m),
                Some(_) | None => break,
            }
        }
        marks
    }

    fn line(&self) -> String {
        let (layer, nodes) = (self.layer, self.nodes);
        let id = hex::encode(self.replica_id);
        format!("filstar-layer 1 replica {id} layer {layer} nodes {nodes}\n")
    }
}

fn mark(line: &str) -> Option<Mark> {
    let (nodes, digest) = line.strip_suffix('\n')?.split_once(' ')?;
    let mut sha256 = [0; 32];
    hex::decode_to_slice(digest, &mut sha256).ok()?;
    let nodes = nodes.parse().ok()?;
    Some(Mark { nodes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head {
        replica_id: [3; 32],
        layer: 2,
        nodes: 64,
    };

    fn marks() -> Vec<Mark> {
        let mark = |n: u8| Mark {
            nodes: u64::from(n) * 16,
            sha256: [n; 32],
        };
        (1..=4).map(mark).collect()
    }

    #[test]
    fn journal_reads_back_and_another_one_is_no_journal() {
        let text = HEAD.text(&marks());
        assert_eq!(HEAD.marks(&text), marks());
        let others = [
            Head { layer: 1, ..HEAD },
            Head { nodes: 32, ..HEAD },
            Head {
                replica_id: [4; 32],
                ..HEAD
            },
        ];
        for other in others {
            assert_eq!(other.marks(&text), []);
        }
    }

    #[test]
    fn journal_cut_anywhere_gives_its_whole_lines() {
        let text = HEAD.text(&marks());
        for cut in 0..text.len() {
            let got = HEAD.marks(&text[..cut]);
            assert_eq!(got, marks()[..got.len()], "cut at {cut}");
            assert!(got.len() < 4);
        }
    }

    proptest::proptest! {
        #[test]
        fn prop_any_text_gives_growing_marks_within_the_layer(noise: String, at in 0usize..500) {
            let mut text = HEAD.text(&marks());
            text.insert_str(at.min(text.len()), &noise);
            let got = HEAD.marks(&text);
            proptest::prop_assert!(got.windows(2).all(|w| w[0].nodes < w[1].nodes));
            proptest::prop_assert!(got.iter().all(|m| m.nodes <= 64));
        }
    }
}
