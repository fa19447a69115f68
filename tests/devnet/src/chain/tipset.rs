//! Block headers and tipsets.

use std::sync::Arc;

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::bigint::bigint_ser::BigIntSer;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use num_bigint::BigInt;
use serde::{Deserialize, Serialize};

use crate::codec::{blake2b256, cbor, cbor_cid};
use crate::message::{Receipt, SignedMessage, message_cid};
use crate::state::World;

/// One round of the beacon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BeaconEntry {
    pub(crate) round: u64,
    #[serde(with = "fvm_ipld_encoding::strict_bytes")]
    pub(crate) data: Vec<u8>,
}

/// A block header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) miner: Address,
    #[serde(with = "fvm_ipld_encoding::strict_bytes")]
    pub(crate) ticket: Vec<u8>,
    #[serde(with = "fvm_ipld_encoding::strict_bytes")]
    pub(crate) election: Vec<u8>,
    pub(crate) beacon: Vec<BeaconEntry>,
    pub(crate) parents: Vec<Cid>,
    pub(crate) parent_weight: u64,
    pub(crate) height: i64,
    pub(crate) parent_state_root: Cid,
    pub(crate) parent_receipts: Cid,
    pub(crate) messages: Cid,
    pub(crate) bls_aggregate: Signature,
    pub(crate) timestamp: u64,
    pub(crate) signature: Option<Signature>,
    pub(crate) parent_base_fee: TokenAmount,
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(self.0)
    }
}

impl Header {
    /// The header as it is on chain: a tuple.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let beacon: Vec<_> = self
            .beacon
            .iter()
            .map(|e| (e.round, Bytes(&e.data)))
            .collect();
        let no_winning_proofs: [u8; 0] = [];
        let weight = BigInt::from(self.parent_weight);
        cbor(&(
            &self.miner,
            (Bytes(&self.ticket),),
            (1i64, Bytes(&self.election)),
            beacon,
            no_winning_proofs.as_slice(),
            &self.parents,
            BigIntSer(&weight),
            self.height,
            &self.parent_state_root,
            &self.parent_receipts,
            &self.messages,
            &self.bls_aggregate,
            self.timestamp,
            &self.signature,
            0u64,
            &self.parent_base_fee,
        ))
    }

    pub(crate) fn cid(&self) -> Cid {
        cbor_cid(&self.canonical())
    }
}

/// What a tipset is on disk: all but the worlds, which are blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredTipset {
    pub(crate) blocks: Vec<Header>,
    /// How many of the messages each block has.
    pub(crate) counts: Vec<usize>,
    pub(crate) messages: Vec<SignedMessage>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) state_root: Cid,
    /// Length of the history file with this tipset.
    pub(crate) history_end: u64,
}

/// The blocks of one epoch, what their messages came to, and the state after them.
#[derive(Debug)]
pub(crate) struct Tipset {
    pub(crate) key: Vec<Cid>,
    pub(crate) blocks: Vec<Header>,
    pub(crate) counts: Vec<usize>,
    pub(crate) height: i64,
    /// Messages in the order in which they ran.
    pub(crate) messages: Vec<SignedMessage>,
    pub(crate) message_cids: Vec<Cid>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) state_root: Cid,
    /// After the messages and cron of this tipset.
    pub(crate) state: Arc<World>,
    /// Before them: what a lookup at this tipset sees.
    pub(crate) parent_state: Arc<World>,
    pub(crate) history_end: u64,
}

impl Tipset {
    pub(crate) fn new(stored: StoredTipset, state: Arc<World>, parent_state: Arc<World>) -> Self {
        let StoredTipset {
            blocks,
            counts,
            messages,
            receipts,
            state_root,
            history_end,
        } = stored;
        let height = blocks.first().map_or(0, |b| b.height);
        Self {
            key: blocks.iter().map(Header::cid).collect(),
            message_cids: messages.iter().map(SignedMessage::cid).collect(),
            blocks,
            counts,
            height,
            messages,
            receipts,
            state_root,
            state,
            parent_state,
            history_end,
        }
    }

    pub(crate) fn to_stored(&self) -> StoredTipset {
        StoredTipset {
            blocks: self.blocks.clone(),
            counts: self.counts.clone(),
            messages: self.messages.clone(),
            receipts: self.receipts.clone(),
            state_root: self.state_root,
            history_end: self.history_end,
        }
    }

    fn first(&self) -> &Header {
        self.blocks
            .first()
            .expect("invariant: a tipset has a block")
    }

    pub(crate) fn parents(&self) -> &[Cid] {
        &self.first().parents
    }

    pub(crate) fn base_fee(&self) -> &TokenAmount {
        &self.first().parent_base_fee
    }

    pub(crate) fn weight(&self) -> u64 {
        self.first().parent_weight
    }

    /// Digest of the least ticket; blocks are in the order of their tickets.
    pub(crate) fn ticket_digest(&self) -> [u8; 32] {
        blake2b256(&[&self.first().ticket])
    }

    /// Where a message is, by the CID of the signed or the bare one.
    pub(crate) fn index_of(&self, cid: &Cid) -> Option<usize> {
        self.message_cids.iter().position(|c| c == cid).or_else(|| {
            self.messages
                .iter()
                .position(|m| message_cid(&m.message) == *cid)
        })
    }

    /// CID of the list of receipts, as the next header names it.
    pub(crate) fn receipts_root(&self) -> Cid {
        let list: Vec<_> = self
            .receipts
            .iter()
            .map(|r| (r.exit_code, Bytes(&r.return_data), r.gas_used, None::<Cid>))
            .collect();
        cbor_cid(&cbor(&list))
    }
}

/// CID of the list of messages of a block.
pub(crate) fn messages_root(messages: &[SignedMessage]) -> Cid {
    let cids: Vec<Cid> = messages.iter().map(SignedMessage::cid).collect();
    cbor_cid(&cbor(&cids))
}
