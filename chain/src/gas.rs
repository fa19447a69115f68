//! What messages cost: the base fee and its next value, fee caps, replacement.
//!
//! In: amounts and gas limits. Out: amounts. Effects: none.
//! Source: FIP-0115 (base fee since network version 28); lotus `chain/store/basefee.go`,
//! `chain/vm/gas.go`, `chain/messagepool`.

#![deny(clippy::as_conversions, clippy::float_arithmetic)]

use std::collections::HashSet;

use fvm_shared::address::Address;
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use serde_json::{Value, json};

use crate::message::Message;
use crate::types::AttoFil;

/// The least base fee of the protocol. Unit: attoFIL.
pub const MIN_BASE_FEE_ATTO: u64 = 100;
/// The gas of one block.
pub const BLOCK_GAS_LIMIT: u64 = 10_000_000_000;
/// The place in the order of bids whose premium drives the base fee: 80 % of a block. Unit: gas.
pub const PREMIUM_TARGET_GAS: u64 = BLOCK_GAS_LIMIT / 10 * 8;
/// The base fee moves by at most this part of itself in an epoch.
const MAX_CHANGE_DENOMINATOR: u64 = 8;
/// A replacement must bid at least this much of what it replaces (network constant).
pub const MIN_REPLACE_PERCENT: u64 = 110;
/// What nodes ask of a replacement unless they are set otherwise.
pub const USUAL_REPLACE_PERCENT: u64 = 125;

/// The part of a message that bids for a place in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bid {
    /// Who sends it.
    pub sender: Address,
    /// With which nonce.
    pub nonce: u64,
    /// Unit: gas.
    pub gas_limit: u64,
    /// Per unit of gas.
    pub gas_fee_cap: AttoFil,
    /// Per unit of gas.
    pub gas_premium: AttoFil,
}

impl Bid {
    /// The bid of a message.
    pub fn of(message: &Message) -> Self {
        Self {
            sender: message.from,
            nonce: message.nonce,
            gas_limit: message.gas_limit,
            gas_fee_cap: message.gas_fee_cap.clone(),
            gas_premium: message.gas_premium.clone(),
        }
    }

    /// What the block's miner gets for a unit of gas at this base fee.
    pub fn effective_premium(&self, base_fee: &AttoFil) -> AttoFil {
        effective_premium(&self.gas_fee_cap, &self.gas_premium, base_fee)
    }
}

fn effective_premium(fee_cap: &AttoFil, premium: &AttoFil, base_fee: &AttoFil) -> AttoFil {
    fee_cap
        .saturating_sub(base_fee)
        .min(premium.clone())
        .max(AttoFil::zero())
}

/// The premium at [`PREMIUM_TARGET_GAS`] of a tipset's messages, highest bid first; zero when they do not reach it.
///
/// A message that is in several blocks counts once.
pub fn premium_at_target(base_fee: &AttoFil, bids: impl IntoIterator<Item = Bid>) -> AttoFil {
    let mut seen = HashSet::new();
    let mut premiums: Vec<(AttoFil, u64)> = bids
        .into_iter()
        .filter(|bid| seen.insert((bid.sender, bid.nonce)))
        .map(|bid| (bid.effective_premium(base_fee), bid.gas_limit))
        .collect();
    premiums.sort_unstable_by(|left, right| right.cmp(left));
    let mut gas = 0_u64;
    for (premium, limit) in premiums {
        gas = gas.saturating_add(limit);
        // The target is the index PREMIUM_TARGET_GAS − 1, so reaching the sum is enough.
        if gas >= PREMIUM_TARGET_GAS {
            return premium;
        }
    }
    AttoFil::zero()
}

/// The base fee after one in which the premium at the target was `premium`.
pub fn next_base_fee(base_fee: &AttoFil, premium: &AttoFil) -> AttoFil {
    let up = eighth(base_fee);
    let change = (premium - &up).min(up);
    (base_fee + &change).max(AttoFil::from(MIN_BASE_FEE_ATTO))
}

/// The base fee of the block after a tipset with these messages.
pub fn next_base_fee_after(base_fee: &AttoFil, bids: impl IntoIterator<Item = Bid>) -> AttoFil {
    next_base_fee(base_fee, &premium_at_target(base_fee, bids))
}

/// What a message cost, or would cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Burnt for the gas that was used.
    pub base_fee_burn: AttoFil,
    /// Burnt because the limit was far above what was used.
    pub over_estimation_burn: AttoFil,
    /// The block's miner gets it, for the whole limit.
    pub miner_tip: AttoFil,
}

impl Cost {
    /// All of it.
    pub fn total(&self) -> AttoFil {
        [
            &self.base_fee_burn,
            &self.over_estimation_burn,
            &self.miner_tip,
        ]
        .into_iter()
        .sum()
    }
}

/// What a message costs that used `gas_used` of its limit, at this base fee.
pub fn cost(fees: &Fees, gas_used: u64, base_fee: &AttoFil) -> Cost {
    // A fee cap below the base fee pays no more than the cap; the block's miner pays the rest.
    let paid_base_fee = base_fee.clone().min(fees.gas_fee_cap.clone());
    let tip = effective_premium(&fees.gas_fee_cap, &fees.gas_premium, base_fee);
    Cost {
        base_fee_burn: &paid_base_fee * gas_used,
        over_estimation_burn: &paid_base_fee * over_estimation_gas(fees.gas_limit, gas_used),
        miner_tip: &tip * fees.gas_limit,
    }
}

/// The gas that is burnt because the limit was more than 110 % of what was used.
fn over_estimation_gas(limit: u64, used: u64) -> u64 {
    if used == 0 {
        return limit;
    }
    let (limit, used) = (u128::from(limit), u128::from(used));
    let over = limit.saturating_sub(used.saturating_mul(11) / 10).min(used);
    let unused = limit.saturating_sub(used);
    u64::try_from(unused.saturating_mul(over) / used).unwrap_or(u64::MAX)
}

/// The gas fields of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fees {
    /// Unit: gas.
    pub gas_limit: u64,
    /// The most a unit of gas may cost, base fee and premium together.
    pub gas_fee_cap: AttoFil,
    /// What the block's miner gets for a unit of gas.
    pub gas_premium: AttoFil,
}

impl Fees {
    /// The fees of a message.
    pub fn of(message: &Message) -> Self {
        Self {
            gas_limit: message.gas_limit,
            gas_fee_cap: message.gas_fee_cap.clone(),
            gas_premium: message.gas_premium.clone(),
        }
    }

    /// Puts the fees into a message.
    pub fn set(&self, message: &mut Message) {
        message.gas_limit = self.gas_limit;
        message.gas_fee_cap = self.gas_fee_cap.clone();
        message.gas_premium = self.gas_premium.clone();
    }

    /// The most they can come to: limit × fee cap.
    pub fn max_fee(&self) -> AttoFil {
        &self.gas_fee_cap * self.gas_limit
    }
}

/// Cuts the fee cap (and with it the premium) so that a message can cost at most `max_fee`.
///
/// A message whose cap is cut below the base fee waits until that falls, and all messages of its sender behind it
/// wait too.
pub fn cap_fees(message: &mut Message, max_fee: &AttoFil) {
    if message.gas_limit > 0 && message.max_fee() > *max_fee {
        message.gas_fee_cap = max_fee.div_floor(message.gas_limit);
    }
    if message.gas_premium > message.gas_fee_cap {
        message.gas_premium = message.gas_fee_cap.clone();
    }
}

/// The highest base fee that there can be after so many epochs: it rises by at most an eighth in each.
pub fn highest_base_fee(base_fee: &AttoFil, epochs: u64) -> AttoFil {
    // Beyond this no amount of FIL would pay for a message.
    const MOST: u64 = 400;
    let least = AttoFil::from(MIN_BASE_FEE_ATTO);
    (0..epochs.min(MOST)).fold(base_fee.clone().max(least), |fee, _| &fee + &eighth(&fee))
}

/// An eighth, rounded up.
fn eighth(base_fee: &AttoFil) -> AttoFil {
    let eighth: BigInt =
        (base_fee.atto() + MAX_CHANGE_DENOMINATOR - 1_u64) / MAX_CHANGE_DENOMINATOR;
    AttoFil::from_atto(eighth)
}

/// Raises the fee cap so that the message can land at any base fee of the next `epochs`, as far as `most` allows (limit ×
/// fee cap). It still pays only base fee and premium: the cap says up to which sum it may land. It is never lowered.
pub fn raise_cap(message: &mut Message, base_fee: &AttoFil, epochs: u64, most: &AttoFil) {
    if message.gas_limit == 0 {
        return;
    }
    let wanted = highest_base_fee(base_fee, epochs) + message.gas_premium.clone();
    let cap = wanted.min(most.div_floor(message.gas_limit));
    if cap > message.gas_fee_cap {
        message.gas_fee_cap = cap;
    }
}

/// The least premium with which a message replaces one of the same nonce: 110 % of it, and 1 more.
pub fn min_replacement_premium(old: &AttoFil) -> AttoFil {
    old.percent(MIN_REPLACE_PERCENT) + AttoFil::from(1)
}

/// The fees of a message that replaces one which is stuck.
///
/// `estimate` holds what the node would ask today. None when there is nothing to do: the old fees are as good as the
/// estimate, or `max_fee` is below what a replacement must bid (then a person must allow more).
///
/// Source: Curio `tasks/message/replace.go`; chain rule in [`min_replacement_premium`].
pub fn replacement(
    old: &Fees,
    estimate: &Fees,
    base_fee: &AttoFil,
    min_bump_percent: u64,
    max_fee: &AttoFil,
) -> Option<Fees> {
    let good_enough =
        old.gas_fee_cap >= estimate.gas_fee_cap && old.gas_premium >= estimate.gas_premium;
    if good_enough {
        return None;
    }
    let percent = min_bump_percent
        .saturating_add(100)
        .max(USUAL_REPLACE_PERCENT);
    let gas_premium = estimate
        .gas_premium
        .clone()
        .max(old.gas_premium.percent(percent))
        .max(min_replacement_premium(&old.gas_premium));
    let gas_fee_cap = estimate
        .gas_fee_cap
        .clone()
        .max(gas_premium.clone())
        .max(base_fee * 2)
        .max(old.gas_fee_cap.clone());
    let fees = Fees {
        gas_limit: old.gas_limit,
        gas_fee_cap,
        gas_premium,
    };
    (fees.max_fee() <= *max_fee).then_some(fees)
}

/// What a node is asked to keep to when it estimates fees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeeSpec {
    /// The most the message may cost; none leaves it to the node's own settings.
    pub max_fee: Option<AttoFil>,
    /// Use all of `max_fee` for the fee cap, whatever the sender's balance; see [`raise_cap`].
    pub maximize_fee_cap: bool,
}

impl FeeSpec {
    pub(crate) fn to_json(&self) -> Value {
        match &self.max_fee {
            None => Value::Null,
            Some(max_fee) => json!({
                "MaxFee": max_fee,
                "MsgUuid": "00000000-0000-0000-0000-000000000000",
                "MaximizeFeeCap": self.maximize_fee_cap,
            }),
        }
    }
}

/// What a message is for. Decides its default limit of fees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageKind {
    /// Method 28.
    PreCommit,
    /// Method 34.
    ProveCommit,
    /// Method 5.
    WindowPost,
    /// Method 10.
    DeclareFaults,
    /// Method 11.
    DeclareRecovered,
    /// Method 32.
    Extend,
    /// Method 9.
    Terminate,
    /// Method 35.
    ReplicaUpdate,
    /// Method 16.
    Withdraw,
}

/// The most a message of this kind may cost when no rule says otherwise.
///
/// Source: defaults of lotus-miner (`node/config/def.go`, 2026-08). Lotus has none for extensions and withdrawals:
/// those get what a prove-commit gets.
pub fn default_max_fee(kind: MessageKind, sectors: u64) -> AttoFil {
    const MILLI_FIL_IN_NANO: u64 = 1_000_000;
    let milli_fil = |milli: u64| AttoFil::from_nano(milli.saturating_mul(MILLI_FIL_IN_NANO));
    let sectors = sectors.max(1);
    match kind {
        MessageKind::PreCommit if sectors == 1 => milli_fil(25),
        MessageKind::PreCommit => milli_fil(sectors.saturating_mul(20)),
        MessageKind::ProveCommit | MessageKind::ReplicaUpdate if sectors == 1 => milli_fil(50),
        MessageKind::ProveCommit | MessageKind::ReplicaUpdate => {
            milli_fil(sectors.saturating_mul(30))
        }
        MessageKind::WindowPost | MessageKind::DeclareFaults | MessageKind::DeclareRecovered => {
            milli_fil(5000)
        }
        MessageKind::Terminate => milli_fil(500),
        MessageKind::Extend | MessageKind::Withdraw => milli_fil(50),
    }
}

/// An amount as a number for a metric, in attoFIL; saturates.
pub fn to_metric(amount: &AttoFil) -> u64 {
    amount
        .atto()
        .to_u64()
        .unwrap_or(if amount.is_negative() { 0 } else { u64::MAX })
}
