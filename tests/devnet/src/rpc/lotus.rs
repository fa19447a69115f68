//! Our values in lotus's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cid::Cid;
use fil_actor_miner_state::v18::{PowerPair, SectorOnChainInfo, SectorPreCommitOnChainInfo};
use fvm_ipld_bitfield::BitField;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use serde_json::{Value, json};

use crate::chain::tipset::{BeaconEntry, Header, Tipset};
use crate::message::{Receipt, SignedMessage, message_cid};

pub(crate) fn cid(cid: &Cid) -> Value {
    json!({ "/": cid.to_string() })
}

pub(crate) fn key(key: &[Cid]) -> Value {
    key.iter().map(cid).collect()
}

/// Bytes; Go has null for none.
pub(crate) fn bytes(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        Value::Null
    } else {
        json!(STANDARD.encode(bytes))
    }
}

pub(crate) fn token(amount: &TokenAmount) -> Value {
    json!(amount.atto().to_string())
}

/// Run lengths that begin with zeros; `[0]` for the empty field.
pub(crate) fn bitfield(field: &BitField) -> Value {
    let mut runs = Vec::new();
    let mut at = 0;
    for range in field.ranges() {
        runs.push(range.start - at);
        runs.push(range.end - range.start);
        at = range.end;
    }
    if runs.is_empty() {
        runs.push(0);
    }
    json!(runs)
}

pub(crate) fn signature(signature: &Signature) -> Value {
    json!({ "Type": signature.sig_type as u8, "Data": STANDARD.encode(&signature.bytes) })
}

/// A bare message, under its own CID even where the chain knows it by that of its signed form.
pub(crate) fn message(message: &Message) -> Value {
    json!({
        "Version": message.version,
        "To": message.to.to_string(),
        "From": message.from.to_string(),
        "Nonce": message.sequence,
        "Value": token(&message.value),
        "GasLimit": message.gas_limit,
        "GasFeeCap": token(&message.gas_fee_cap),
        "GasPremium": token(&message.gas_premium),
        "Method": message.method_num,
        "Params": bytes(message.params.bytes()),
        "CID": cid(&message_cid(message)),
    })
}

pub(crate) fn signed_message(signed: &SignedMessage) -> Value {
    json!({
        "Message": message(&signed.message),
        "Signature": signature(&signed.signature),
        "CID": cid(&signed.cid()),
    })
}

pub(crate) fn receipt(receipt: &Receipt) -> Value {
    json!({
        "ExitCode": receipt.exit_code,
        "Return": bytes(&receipt.return_data),
        "GasUsed": receipt.gas_used,
        "EventsRoot": null,
    })
}

pub(crate) fn beacon_entry(entry: &BeaconEntry) -> Value {
    json!({ "Round": entry.round, "Data": STANDARD.encode(&entry.data) })
}

pub(crate) fn header(header: &Header) -> Value {
    let beacon: Vec<Value> = header.beacon.iter().map(beacon_entry).collect();
    json!({
        "Miner": header.miner.to_string(),
        "Ticket": { "VRFProof": STANDARD.encode(&header.ticket) },
        "ElectionProof": { "WinCount": 1, "VRFProof": bytes(&header.election) },
        "BeaconEntries": if beacon.is_empty() { Value::Null } else { Value::Array(beacon) },
        "WinPoStProof": null,
        "Parents": key(&header.parents),
        "ParentWeight": header.parent_weight.to_string(),
        "Height": header.height,
        "ParentStateRoot": cid(&header.parent_state_root),
        "ParentMessageReceipts": cid(&header.parent_receipts),
        "Messages": cid(&header.messages),
        "BLSAggregate": signature(&header.bls_aggregate),
        "Timestamp": header.timestamp,
        "BlockSig": header.signature.as_ref().map(signature),
        "ForkSignaling": 0,
        "ParentBaseFee": token(&header.parent_base_fee),
    })
}

pub(crate) fn tipset(tipset: &Tipset) -> Value {
    json!({
        "Cids": key(&tipset.key),
        "Blocks": tipset.blocks.iter().map(header).collect::<Vec<_>>(),
        "Height": tipset.height,
    })
}

pub(crate) fn power(power: &PowerPair) -> Value {
    json!({ "RawBytePower": power.raw.to_string(), "QualityAdjPower": power.qa.to_string() })
}

pub(crate) fn sector(sector: &SectorOnChainInfo) -> Value {
    let optional = |amount: &Option<TokenAmount>| amount.as_ref().map(token);
    json!({
        "SectorNumber": sector.sector_number,
        "SealProof": i64::from(sector.seal_proof),
        "SealedCID": cid(&sector.sealed_cid),
        "Activation": sector.activation,
        "Expiration": sector.expiration,
        "DealWeight": sector.deal_weight.to_string(),
        "VerifiedDealWeight": sector.verified_deal_weight.to_string(),
        "InitialPledge": token(&sector.initial_pledge),
        "ExpectedDayReward": optional(&sector.expected_day_reward),
        "ExpectedStoragePledge": optional(&sector.expected_storage_pledge),
        "PowerBaseEpoch": sector.power_base_epoch,
        "ReplacedDayReward": optional(&sector.replaced_day_reward),
        "SectorKeyCID": sector.sector_key_cid.as_ref().map(cid),
        "Flags": sector.flags.bits(),
        "DailyFee": token(&sector.daily_fee),
    })
}

pub(crate) fn pre_commit(pre_commit: &SectorPreCommitOnChainInfo) -> Value {
    let info = &pre_commit.info;
    let deals = if info.deal_ids.is_empty() {
        Value::Null
    } else {
        json!(info.deal_ids)
    };
    json!({
        "Info": {
            "SealProof": i64::from(info.seal_proof),
            "SectorNumber": info.sector_number,
            "SealedCID": cid(&info.sealed_cid),
            "SealRandEpoch": info.seal_rand_epoch,
            "DealIDs": deals,
            "Expiration": info.expiration,
            "UnsealedCid": info.unsealed_cid.0.as_ref().map(cid),
        },
        "PreCommitDeposit": token(&pre_commit.pre_commit_deposit),
        "PreCommitEpoch": pre_commit.pre_commit_epoch,
    })
}

/// What the list is in Go: null when empty.
pub(crate) fn list(items: Vec<Value>) -> Value {
    if items.is_empty() {
        Value::Null
    } else {
        Value::Array(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitfield_is_run_lengths_that_begin_with_zeros() {
        let of = |bits: &[u64]| BitField::try_from_bits(bits.iter().copied()).unwrap();
        assert_eq!(bitfield(&of(&[5])), json!([5, 1]));
        assert_eq!(bitfield(&of(&[])), json!([0]));
        assert_eq!(bitfield(&of(&[0, 1, 4])), json!([0, 2, 2, 1]));
    }
}
