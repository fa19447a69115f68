//! Gas: what a message is charged, and the base fee by FIP-0115.
//!
//! The amounts of [`charge`] are a model (typical amounts seen on mainnet), not the metering of the
//! real virtual machine. What is done with the amounts follows the protocol exactly.

use fil_actor_miner_state::v18::{
    DeclareFaultsParams, DeclareFaultsRecoveredParams, ExtendSectorExpiration2Params,
    PreCommitSectorBatchParams2, ProveCommitSectors3Params, SubmitWindowedPoStParams,
    TerminateSectorsParams,
};
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use num_bigint::BigInt;
use num_traits::{Signed as _, Zero as _};

use crate::codec::from_cbor;

/// Gas of one block.
pub(crate) const BLOCK_GAS_LIMIT: u64 = 10_000_000_000;
/// Least base fee, in attoFIL.
pub(crate) const MIN_BASE_FEE: i64 = 100;
/// Gas index at which the premium is read: 80 % of a block, counted from zero.
const PREMIUM_INDEX: u64 = BLOCK_GAS_LIMIT / 10 * 8 - 1;

/// What the base-fee rule looks at in one message.
#[derive(Clone, Debug)]
pub(crate) struct Bid {
    pub(crate) gas_limit: u64,
    pub(crate) premium: TokenAmount,
    pub(crate) fee_cap: TokenAmount,
}

impl Bid {
    pub(crate) fn of(message: &Message) -> Self {
        Self {
            gas_limit: message.gas_limit,
            premium: message.gas_premium.clone(),
            fee_cap: message.gas_fee_cap.clone(),
        }
    }

    /// What the block producer gets for each unit at this base fee; never negative.
    pub(crate) fn effective_premium(&self, base_fee: &TokenAmount) -> TokenAmount {
        let room = &self.fee_cap - base_fee;
        std::cmp::min(self.premium.clone(), room).max(TokenAmount::zero())
    }
}

/// The base fee after a tipset, by FIP-0115. The bids must be free of duplicates by sender and nonce.
pub(crate) fn next_base_fee(base_fee: &TokenAmount, bids: &[Bid]) -> TokenAmount {
    let percentile = percentile_premium(base_fee, bids);
    step_base_fee(base_fee, &percentile)
}

fn percentile_premium(base_fee: &TokenAmount, bids: &[Bid]) -> TokenAmount {
    let mut ranked: Vec<(TokenAmount, u64)> = bids
        .iter()
        .map(|b| (b.effective_premium(base_fee), b.gas_limit))
        .collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0));
    let mut gas = 0u64;
    for (premium, limit) in ranked {
        gas = gas.saturating_add(limit);
        if gas > PREMIUM_INDEX {
            return premium;
        }
    }
    TokenAmount::zero()
}

fn step_base_fee(base_fee: &TokenAmount, percentile: &TokenAmount) -> TokenAmount {
    let eight = BigInt::from(8);
    let max_adjust = TokenAmount::from_atto((base_fee.atto() + BigInt::from(7)) / eight);
    let change = std::cmp::min(max_adjust.clone(), percentile - &max_adjust);
    (base_fee + change).max(TokenAmount::from_atto(MIN_BASE_FEE))
}

/// Who gets what of the gas money of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GasOutputs {
    pub(crate) base_fee_burn: TokenAmount,
    pub(crate) over_estimation_burn: TokenAmount,
    pub(crate) miner_penalty: TokenAmount,
    pub(crate) miner_tip: TokenAmount,
    pub(crate) refund: TokenAmount,
}

impl GasOutputs {
    pub(crate) fn burn(&self) -> TokenAmount {
        &self.base_fee_burn + &self.over_estimation_burn
    }

    pub(crate) fn total(&self) -> TokenAmount {
        self.burn() + &self.miner_tip
    }

    pub(crate) fn new(used: u64, message: &Message, base_fee: &TokenAmount) -> Self {
        let limit = message.gas_limit;
        let fee_cap = &message.gas_fee_cap;
        let paid = std::cmp::min(base_fee, fee_cap).clone();
        let missing = base_fee - &paid;
        let tip = std::cmp::min(message.gas_premium.clone(), fee_cap - &paid);
        let burnt_gas = overestimation(used, limit);
        let base_fee_burn = paid.clone() * used;
        let over_estimation_burn = paid * burnt_gas;
        let miner_tip = tip * limit;
        let refund = fee_cap.clone() * limit - &base_fee_burn - &over_estimation_burn - &miner_tip;
        let miner_penalty = missing * used.saturating_add(burnt_gas);
        Self {
            base_fee_burn,
            over_estimation_burn,
            miner_penalty,
            miner_tip,
            refund,
        }
    }
}

/// Gas that is burnt because the limit was far above what was used.
fn overestimation(used: u64, limit: u64) -> u64 {
    if used == 0 {
        return limit;
    }
    let slack = limit.saturating_sub(used);
    let tolerated = u128::from(used) * 11 / 10;
    let over = u128::from(limit)
        .saturating_sub(tolerated)
        .min(u128::from(used));
    u64::try_from(u128::from(slack) * over / u128::from(used)).unwrap_or(u64::MAX)
}

/// Gas that a message uses. `to_miner`: whether its receiver is a miner actor.
pub(crate) fn charge(message: &Message, to_miner: bool, chain_len: usize) -> u64 {
    let on_chain = 400_000 + 1_300 * chain_len as u64;
    on_chain + if to_miner { miner_gas(message) } else { 0 }
}

/// Least gas limit that a mempool takes: the cost of being on chain.
pub(crate) fn min_gas_limit(chain_len: usize) -> u64 {
    1_300 * chain_len as u64
}

fn miner_gas(message: &Message) -> u64 {
    let params = message.params.bytes();
    let units = |count: Option<usize>| count.unwrap_or(0) as u64;
    match message.method_num {
        0 => 100_000,
        5 => {
            let n = from_cbor::<SubmitWindowedPoStParams>(params).map(|p| p.partitions.len());
            36_000_000 + 12_000_000 * units(n.ok())
        }
        9 => {
            let n = from_cbor::<TerminateSectorsParams>(params).map(|p| p.terminations.len());
            20_000_000 + 8_000_000 * units(n.ok())
        }
        10 => {
            let n = from_cbor::<DeclareFaultsParams>(params).map(|p| p.faults.len());
            12_000_000 + 4_000_000 * units(n.ok())
        }
        11 => {
            let n = from_cbor::<DeclareFaultsRecoveredParams>(params).map(|p| p.recoveries.len());
            12_000_000 + 4_000_000 * units(n.ok())
        }
        28 => {
            let n = from_cbor::<PreCommitSectorBatchParams2>(params).map(|p| p.sectors.len());
            16_000_000 + 630_000 * units(n.ok())
        }
        32 => {
            let n = from_cbor::<ExtendSectorExpiration2Params>(params).map(|p| p.extensions.len());
            15_000_000 + 6_000_000 * units(n.ok())
        }
        34 => {
            let n =
                from_cbor::<ProveCommitSectors3Params>(params).map(|p| p.sector_activations.len());
            163_000_000 + 104_000_000 * units(n.ok())
        }
        _ => 3_000_000,
    }
}

/// The premium that lotus would propose: gas-weighted middle of what was paid, with a floor.
pub(crate) fn estimate_premium(
    mut paid: Vec<(TokenAmount, u64)>,
    blocks: u64,
    within: u64,
) -> TokenAmount {
    const FLOOR: i64 = 100_000;
    const TARGET: u64 = BLOCK_GAS_LIMIT / 2;
    paid.sort_by(|a, b| b.0.cmp(&a.0));
    let mut at = TARGET * blocks / 2 + TARGET * blocks / 40;
    let mut previous = [TokenAmount::zero(), TokenAmount::zero()];
    let mut premium = TokenAmount::zero();
    for (price, gas) in paid {
        previous = [previous[1].clone(), price];
        if at <= gas {
            premium = (&previous[0] + &previous[1]).div_floor(2);
            break;
        }
        at -= gas;
    }
    let floor = TokenAmount::from_atto(match within {
        0 | 1 => 2 * FLOOR,
        2 => FLOOR * 3 / 2,
        _ => FLOOR,
    });
    premium.max(floor)
}

/// The fee cap that lotus would propose: the base fee after `blocks` full blocks, and the premium.
pub(crate) fn estimate_fee_cap(
    base_fee: &TokenAmount,
    premium: &TokenAmount,
    blocks: u32,
) -> TokenAmount {
    // 1.125^n in 8 fractional bits, as an integer computation.
    let mut factor = BigInt::from(1u64 << 40);
    for _ in 0..blocks.min(200) {
        factor = factor * 9 / 8;
    }
    let scaled: BigInt = factor >> 32;
    let future = (base_fee.atto() * scaled) >> 8;
    TokenAmount::from_atto(future) + premium
}

/// Whether an amount could be a fee at all.
pub(crate) fn is_negative(amount: &TokenAmount) -> bool {
    amount.atto().is_negative()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn atto(n: i64) -> TokenAmount {
        TokenAmount::from_atto(n)
    }

    fn bid(gas_limit: u64, premium: i64, fee_cap: i64) -> Bid {
        Bid {
            gas_limit,
            premium: atto(premium),
            fee_cap: atto(fee_cap),
        }
    }

    #[test]
    fn vector_fip_0115() {
        for (base, premium, next) in [
            (100, 13, 100),
            (100, 26, 113),
            (801, 201, 901),
            (808, 203, 909),
        ] {
            assert_eq!(step_base_fee(&atto(base), &atto(premium)), atto(next));
            let full = [bid(BLOCK_GAS_LIMIT, premium, base + 10 * premium)];
            assert_eq!(next_base_fee(&atto(base), &full), atto(next), "base {base}");
        }
    }

    #[test]
    fn percentile_is_zero_until_eight_tenths_of_a_block_are_used() {
        let short = [bid(7_999_999_999, 500, 5_000)];
        let enough = [bid(8_000_000_000, 500, 5_000)];
        assert_eq!(percentile_premium(&atto(100), &short), atto(0));
        assert_eq!(percentile_premium(&atto(100), &enough), atto(500));
    }

    #[test]
    fn percentile_counts_premiums_from_the_highest() {
        let bids = [
            bid(4_000_000_000, 10, 5_000),
            bid(5_000_000_000, 900, 5_000),
            bid(2_000_000_000, 90, 5_000),
        ];
        assert_eq!(percentile_premium(&atto(100), &bids), atto(10));
        assert_eq!(
            percentile_premium(
                &atto(100),
                &[bids[1].clone(), bid(3_000_000_000, 70, 5_000)]
            ),
            atto(70)
        );
    }

    #[test]
    fn effective_premium_is_what_the_fee_cap_leaves() {
        assert_eq!(bid(1, 50, 120).effective_premium(&atto(100)), atto(20));
        assert_eq!(bid(1, 50, 90).effective_premium(&atto(100)), atto(0));
    }

    #[test]
    fn empty_tipset_decays_by_an_eighth_down_to_the_floor() {
        assert_eq!(next_base_fee(&atto(8_000), &[]), atto(7_000));
        assert_eq!(next_base_fee(&atto(100), &[]), atto(100));
    }

    fn message(limit: u64, cap: i64, premium: i64) -> Message {
        Message {
            version: 0,
            from: fvm_shared::address::Address::new_id(100),
            to: fvm_shared::address::Address::new_id(101),
            sequence: 0,
            value: atto(0),
            method_num: 0,
            params: fvm_ipld_encoding::RawBytes::default(),
            gas_limit: limit,
            gas_fee_cap: atto(cap),
            gas_premium: atto(premium),
        }
    }

    #[test]
    fn outputs_charge_the_tip_on_the_limit_and_burn_what_was_used() {
        let out = GasOutputs::new(1_000, &message(1_100, 300, 20), &atto(100));
        assert_eq!(out.base_fee_burn, atto(100_000));
        assert_eq!(out.miner_tip, atto(22_000));
        assert_eq!(out.over_estimation_burn, atto(0));
        assert_eq!(out.refund, atto(330_000 - 122_000));
    }

    #[test]
    fn outputs_burn_all_slack_when_the_limit_is_far_too_high() {
        let out = GasOutputs::new(1_000, &message(10_000, 300, 0), &atto(100));
        assert_eq!(out.over_estimation_burn, atto(900_000));
    }

    proptest! {
        #[test]
        fn prop_outputs_add_up_to_the_funds_set_aside(
            used in 0u64..2_000_000, extra in 0u64..5_000_000, base in 100i64..1_000_000,
            cap in 0i64..2_000_000, premium in 0i64..2_000_000,
        ) {
            let premium = premium.min(cap);
            let message = message(used + extra, cap, premium);
            let out = GasOutputs::new(used, &message, &atto(base));
            let parts = out.total() + &out.refund;
            prop_assert_eq!(parts, atto(cap) * message.gas_limit);
            prop_assert!(!is_negative(&out.refund) && !is_negative(&out.miner_tip));
        }

        #[test]
        fn prop_base_fee_moves_by_at_most_an_eighth(base in 100i64..i64::MAX / 4, premium in 0i64..i64::MAX / 4) {
            let next = step_base_fee(&atto(base), &atto(premium));
            let max = atto((base + 7) / 8);
            prop_assert!(next <= atto(base) + &max && next >= (atto(base) - &max).max(atto(100)));
        }
    }
}
