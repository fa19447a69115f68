//! Blocks by CID: what is committed, and an overlay for what one execution writes.
//!
//! Invariant: a block, once committed, never changes; it goes away only by [`Blocks::retain_reachable`].

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use cid::Cid;
use fvm_ipld_blockstore::Blockstore;
use fvm_ipld_encoding::DAG_CBOR;

/// Committed blocks.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    map: HashMap<Cid, Vec<u8>>,
}

impl Blocks {
    pub(crate) fn get(&self, cid: &Cid) -> Option<&Vec<u8>> {
        self.map.get(cid)
    }

    pub(crate) fn insert(&mut self, cid: Cid, block: Vec<u8>) {
        self.map.insert(cid, block);
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Drops every block that no root leads to.
    pub(crate) fn retain_reachable(&mut self, roots: impl IntoIterator<Item = Cid>) {
        let mut seen = HashSet::new();
        let mut todo: Vec<Cid> = roots.into_iter().collect();
        while let Some(cid) = todo.pop() {
            if !seen.insert(cid) {
                continue;
            }
            if let Some(block) = self.map.get(&cid) {
                todo.extend(links(block));
            }
        }
        self.map.retain(|cid, _| seen.contains(cid));
        self.map.shrink_to_fit();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Cid, &Vec<u8>)> {
        self.map.iter()
    }
}

/// The CIDs of dag-cbor blocks that a block names, in no order and with repeats. Commitments have
/// other codecs and no blocks.
fn links(block: &[u8]) -> Vec<Cid> {
    // A link is tag 42 (d8 2a) and a byte string of 39 bytes (58 27) whose first byte is 0. Reading
    // the bytes for this mark may find too much (in some other byte string), never too little.
    const MARK: [u8; 5] = [0xd8, 0x2a, 0x58, 0x27, 0x00];
    const CID_LEN: usize = 38;
    let mut out = Vec::new();
    for at in 0..block.len().saturating_sub(MARK.len() + CID_LEN - 1) {
        if block[at..at + MARK.len()] == MARK {
            let start = at + MARK.len();
            if let Ok(cid) = Cid::try_from(&block[start..start + CID_LEN])
                && cid.codec() == DAG_CBOR
            {
                out.push(cid);
            }
        }
    }
    out
}

/// Reads through to the committed blocks, keeps what is written to itself.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    base: &'a Blocks,
    new: RefCell<BTreeMap<Cid, Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(base: &'a Blocks) -> Self {
        Self {
            base,
            new: RefCell::default(),
        }
    }

    /// What was written, to be committed by whoever owns the blocks.
    pub(crate) fn into_new(self) -> BTreeMap<Cid, Vec<u8>> {
        self.new.into_inner()
    }
}

impl Blockstore for Overlay<'_> {
    fn get(&self, cid: &Cid) -> anyhow::Result<Option<Vec<u8>>> {
        if let Some(block) = self.new.borrow().get(cid) {
            return Ok(Some(block.clone()));
        }
        Ok(self.base.get(cid).cloned())
    }

    fn put_keyed(&self, cid: &Cid, block: &[u8]) -> anyhow::Result<()> {
        if self.base.get(cid).is_none() {
            self.new.borrow_mut().insert(*cid, block.to_vec());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{cbor, cbor_cid};

    #[test]
    fn retain_reachable_keeps_what_a_root_leads_to_and_drops_the_rest() {
        let mut blocks = Blocks::default();
        let leaf = cbor(&"leaf");
        let leaf_cid = cbor_cid(&leaf);
        let root = cbor(&(1u8, leaf_cid));
        let root_cid = cbor_cid(&root);
        let stray = cbor(&"stray");
        let stray_cid = cbor_cid(&stray);
        for (cid, block) in [(leaf_cid, leaf), (root_cid, root), (stray_cid, stray)] {
            blocks.insert(cid, block);
        }
        blocks.retain_reachable([root_cid]);
        assert!(blocks.get(&leaf_cid).is_some() && blocks.get(&root_cid).is_some());
        assert!(blocks.get(&stray_cid).is_none());
    }

    #[test]
    fn overlay_leaves_the_committed_blocks_alone() {
        let blocks = Blocks::default();
        let overlay = Overlay::new(&blocks);
        let block = cbor(&7u8);
        let cid = cbor_cid(&block);
        overlay.put_keyed(&cid, &block).unwrap();
        assert_eq!(overlay.get(&cid).unwrap(), Some(block));
        assert_eq!(overlay.into_new().len(), 1);
        assert!(blocks.get(&cid).is_none());
    }
}
