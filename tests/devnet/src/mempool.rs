//! The message pool: what it takes, and what a block takes from it. Texts as in lotus.
//!
//! Invariant: for each sender at most one message of a nonce; every message has a valid signature.

use std::collections::BTreeMap;

use cid::Cid;
use fvm_shared::address::{Address, Protocol};
use fvm_shared::econ::TokenAmount;
use num_traits::Zero as _;

use crate::gas::{self, BLOCK_GAS_LIMIT, Bid, MIN_BASE_FEE};
use crate::keys;
use crate::message::{SignedMessage, message_cid, required_gas_funds};

/// Largest message, in bytes.
const MAX_MESSAGE_SIZE: usize = 64 * 1024;
/// How far a nonce may be ahead of the next one.
const MAX_NONCE_GAP: u64 = 4;
/// Messages that one sender may have waiting.
const MAX_PENDING: usize = 1000;
/// Percent of the old premium that a replacement must bid, and one attoFIL on top.
const REPLACE_PERCENT: u64 = 110;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum MempoolError {
    #[error("mpool message too large ({0}B): message too big")]
    TooBig(usize),
    #[error("message not valid for block inclusion: {0}")]
    Invalid(String),
    #[error("gas fee cap too low")]
    FeeCapTooLow,
    #[error("{0}")]
    Signature(String),
    #[error("minimum expected nonce is {0}: message nonce too low")]
    NonceTooLow(u64),
    #[error(
        "not enough funds (required: {required} FIL, balance: {balance} FIL): not enough funds to execute transaction"
    )]
    Funds { required: String, balance: String },
    #[error(
        "not enough funds including pending messages (required: {required} FIL, balance: {balance} FIL): validation failure"
    )]
    PendingFunds { required: String, balance: String },
    #[error(
        "message nonce has too big a gap from expected nonce (Nonce: {nonce}, nextNonce: {next}): unfulfilled nonce gap"
    )]
    NonceGap { nonce: u64, next: u64 },
    #[error(
        "rejecting replace by fee because of nonce gap (Nonce: {nonce}, nextNonce: {next}): unfulfilled nonce gap"
    )]
    ReplaceAcrossGap { nonce: u64, next: u64 },
    #[error(
        "message from {from} with nonce {nonce} already in mpool, increase GasPremium to {least} from {premium} to trigger replace by fee: replace by fee has too low GasPremium"
    )]
    ReplaceTooLow {
        from: String,
        nonce: u64,
        least: String,
        premium: String,
    },
    #[error(
        "message from {from} with nonce {nonce} already in mpool: message with nonce already exists"
    )]
    Exists { from: String, nonce: u64 },
    #[error("too many pending messages for actor")]
    TooManyPending,
}

/// What the pool needs to know of a sender: its state after the head.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) nonce: u64,
    pub(crate) balance: TokenAmount,
}

/// Messages that wait, by sender and nonce.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    by_sender: BTreeMap<Address, BTreeMap<u64, SignedMessage>>,
}

/// The premium that replaces a message of this premium.
pub(crate) fn least_replacement(premium: &TokenAmount) -> TokenAmount {
    (premium.clone() * REPLACE_PERCENT).div_floor(100u64) + TokenAmount::from_atto(1)
}

impl Mempool {
    /// Takes a message, or says why not. `strict` is off for messages that were in the pool before.
    pub(crate) fn push(
        &mut self,
        message: SignedMessage,
        sender: &Sender,
        strict: bool,
    ) -> Result<Cid, MempoolError> {
        check_alone(&message)?;
        let from = message.message.from;
        let nonce = message.message.sequence;
        if sender.nonce > nonce {
            return Err(MempoolError::NonceTooLow(sender.nonce));
        }
        self.check_funds(&message, sender)?;
        let next = self.next_nonce(&from, sender.nonce);
        let waiting = self.by_sender.entry(from).or_default();
        if strict && nonce > next + MAX_NONCE_GAP {
            return Err(MempoolError::NonceGap { nonce, next });
        }
        if let Some(old) = waiting.get(&nonce) {
            check_replacement(old, &message, strict && nonce > next, next)?;
        } else if strict && waiting.len() >= MAX_PENDING {
            return Err(MempoolError::TooManyPending);
        }
        let cid = message.cid();
        waiting.insert(nonce, message);
        Ok(cid)
    }

    fn check_funds(&self, message: &SignedMessage, sender: &Sender) -> Result<(), MempoolError> {
        let balance = sender.balance.clone();
        let needs = |m: &SignedMessage| required_gas_funds(&m.message) + &m.message.value;
        let required = needs(message);
        if balance < required_gas_funds(&message.message) {
            return Err(MempoolError::Funds {
                required: required.to_string(),
                balance: balance.to_string(),
            });
        }
        let others: TokenAmount = self
            .by_sender
            .get(&message.message.from)
            .into_iter()
            .flatten()
            .filter(|(nonce, _)| **nonce != message.message.sequence)
            .map(|(_, m)| needs(m))
            .sum();
        let required = required + others;
        if balance < required {
            return Err(MempoolError::PendingFunds {
                required: required.to_string(),
                balance: balance.to_string(),
            });
        }
        Ok(())
    }

    /// The nonce that a new message of this sender should have.
    pub(crate) fn next_nonce(&self, from: &Address, state_nonce: u64) -> u64 {
        let mut next = state_nonce;
        if let Some(waiting) = self.by_sender.get(from) {
            while waiting.contains_key(&next) {
                next += 1;
            }
        }
        next
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SignedMessage> {
        self.by_sender.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_sender.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn find(&self, cid: &Cid) -> Option<&SignedMessage> {
        self.iter()
            .find(|m| m.cid() == *cid || message_cid(&m.message) == *cid)
    }

    /// Removes one message; says whether it was there.
    pub(crate) fn remove(&mut self, from: &Address, nonce: u64) -> bool {
        let Some(waiting) = self.by_sender.get_mut(from) else {
            return false;
        };
        let was = waiting.remove(&nonce).is_some();
        if waiting.is_empty() {
            self.by_sender.remove(from);
        }
        was
    }

    /// Removes what can never land: nonces that the state has passed.
    pub(crate) fn forget_landed(&mut self, state_nonce: impl Fn(&Address) -> u64) {
        self.by_sender.retain(|from, waiting| {
            let nonce = state_nonce(from);
            waiting.retain(|n, _| *n >= nonce);
            !waiting.is_empty()
        });
    }

    /// What the next blocks take: best premium first, nonces in order, within the gas of the blocks.
    pub(crate) fn select(
        &self,
        base_fee: &TokenAmount,
        least_premium: &TokenAmount,
        blocks: u64,
        sender: impl Fn(&Address) -> Sender,
    ) -> Vec<SignedMessage> {
        let mut room = BLOCK_GAS_LIMIT.saturating_mul(blocks);
        let mut heads: BTreeMap<Address, Sender> = self
            .by_sender
            .keys()
            .map(|from| (*from, sender(from)))
            .collect();
        let mut chosen = Vec::new();
        while let Some((from, premium)) = self.best_head(&heads, base_fee) {
            let state = heads
                .get_mut(&from)
                .expect("invariant: best_head names a key of heads");
            let message = &self.by_sender[&from][&state.nonce];
            let cost = required_gas_funds(&message.message);
            let fits = message.message.gas_limit <= room && premium >= *least_premium;
            if !fits || message.message.gas_fee_cap < *base_fee || cost > state.balance {
                // The messages behind it wait with it: nonces land in order.
                heads.remove(&from);
                continue;
            }
            room -= message.message.gas_limit;
            state.balance -= cost + &message.message.value;
            state.nonce += 1;
            chosen.push(message.clone());
        }
        chosen
    }

    fn best_head(
        &self,
        heads: &BTreeMap<Address, Sender>,
        base_fee: &TokenAmount,
    ) -> Option<(Address, TokenAmount)> {
        let mut best: Option<(Address, TokenAmount)> = None;
        for (from, sender) in heads {
            let Some(message) = self.by_sender.get(from).and_then(|w| w.get(&sender.nonce)) else {
                continue;
            };
            let premium = Bid::of(&message.message).effective_premium(base_fee);
            if best.as_ref().is_none_or(|(_, p)| premium > *p) {
                best = Some((*from, premium));
            }
        }
        best
    }
}

/// The checks that need nothing but the message.
fn check_alone(signed: &SignedMessage) -> Result<(), MempoolError> {
    let invalid = |why: String| Err(MempoolError::Invalid(why));
    let message = &signed.message;
    let size = crate::codec::cbor(signed).len();
    if size > MAX_MESSAGE_SIZE {
        return Err(MempoolError::TooBig(size));
    }
    if message.version != 0 {
        return invalid("'Version' unsupported".to_owned());
    }
    if gas::is_negative(&message.value) || gas::is_negative(&message.gas_fee_cap) {
        return invalid("'Value' and 'GasFeeCap' fields cannot be negative".to_owned());
    }
    if gas::is_negative(&message.gas_premium) {
        return invalid("'GasPremium' field cannot be negative".to_owned());
    }
    if message.gas_premium > message.gas_fee_cap {
        return invalid("'GasFeeCap' less than 'GasPremium'".to_owned());
    }
    if message.gas_limit > BLOCK_GAS_LIMIT {
        return invalid(format!(
            "'GasLimit' field cannot be greater than a block's gas limit ({} > {BLOCK_GAS_LIMIT})",
            message.gas_limit
        ));
    }
    let least = gas::min_gas_limit(signed.chain_len());
    if message.gas_limit < least {
        return invalid(format!(
            "'GasLimit' field cannot be less than the cost of storing a message on chain {} < {least}",
            message.gas_limit
        ));
    }
    if message.gas_fee_cap < TokenAmount::from_atto(MIN_BASE_FEE) {
        return Err(MempoolError::FeeCapTooLow);
    }
    if !matches!(message.from.protocol(), Protocol::Secp256k1 | Protocol::BLS) {
        return Err(MempoolError::Signature(format!(
            "signature verification failed: sender {} is not a key address",
            message.from
        )));
    }
    keys::verify(
        &signed.signature,
        &message_cid(message).to_bytes(),
        &message.from,
    )
    .map_err(|e| MempoolError::Signature(e.to_string()))
}

fn check_replacement(
    old: &SignedMessage,
    new: &SignedMessage,
    across_gap: bool,
    next: u64,
) -> Result<(), MempoolError> {
    let from = new.message.from.to_string();
    let nonce = new.message.sequence;
    if across_gap {
        return Err(MempoolError::ReplaceAcrossGap { nonce, next });
    }
    if old.cid() == new.cid() {
        return Err(MempoolError::Exists { from, nonce });
    }
    let least = least_replacement(&old.message.gas_premium);
    if new.message.gas_premium < least {
        return Err(MempoolError::ReplaceTooLow {
            from,
            nonce,
            least: least.atto().to_string(),
            premium: new.message.gas_premium.atto().to_string(),
        });
    }
    Ok(())
}

/// A sender that the chain has never seen.
pub(crate) fn unknown_sender() -> Sender {
    Sender {
        nonce: 0,
        balance: TokenAmount::zero(),
    }
}

#[cfg(test)]
mod tests {
    use fvm_ipld_encoding::RawBytes;
    use fvm_shared::message::Message;
    use proptest::prelude::*;

    use super::*;
    use crate::keys::{Key, KeyKind};

    fn key() -> Key {
        Key::from_seed(KeyKind::Secp256k1, b"mempool")
    }

    fn rich(nonce: u64) -> Sender {
        Sender {
            nonce,
            balance: TokenAmount::from_whole(1_000_000),
        }
    }

    fn bare(key: &Key, nonce: u64, premium: i64) -> Message {
        Message {
            version: 0,
            from: key.address,
            to: Address::new_id(1000),
            sequence: nonce,
            value: TokenAmount::zero(),
            method_num: 0,
            params: RawBytes::default(),
            gas_limit: 1_000_000,
            gas_fee_cap: TokenAmount::from_atto(1_000_000),
            gas_premium: TokenAmount::from_atto(premium),
        }
    }

    fn sign(key: &Key, message: Message) -> SignedMessage {
        let signature = key.sign(&message_cid(&message).to_bytes());
        SignedMessage { message, signature }
    }

    fn signed(key: &Key, nonce: u64, premium: i64) -> SignedMessage {
        sign(key, bare(key, nonce, premium))
    }

    #[test]
    fn pool_takes_nonces_up_to_the_gap_and_no_further() {
        let key = key();
        let mut pool = Mempool::default();
        pool.push(signed(&key, 4, 1), &rich(0), true).unwrap();
        let error = pool.push(signed(&key, 5, 1), &rich(0), true).unwrap_err();
        assert_eq!(error, MempoolError::NonceGap { nonce: 5, next: 0 });
        assert!(error.to_string().ends_with("unfulfilled nonce gap"));
        for nonce in 0..4 {
            pool.push(signed(&key, nonce, 1), &rich(0), true).unwrap();
        }
        assert_eq!(pool.next_nonce(&key.address, 0), 5);
    }

    #[test]
    fn replacement_needs_a_tenth_more_and_one_atto() {
        let key = key();
        let mut pool = Mempool::default();
        pool.push(signed(&key, 0, 1_005), &rich(0), true).unwrap();
        let error = pool
            .push(signed(&key, 0, 1_105), &rich(0), true)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("increase GasPremium to 1106 from 1105 to trigger replace by fee"),
            "{error}"
        );
        pool.push(signed(&key, 0, 1_106), &rich(0), true).unwrap();
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn same_message_twice_is_named_as_existing() {
        let key = key();
        let mut pool = Mempool::default();
        pool.push(signed(&key, 0, 5), &rich(0), true).unwrap();
        let error = pool.push(signed(&key, 0, 5), &rich(0), true).unwrap_err();
        assert!(
            error.to_string().contains("with nonce 0 already in mpool"),
            "{error}"
        );
    }

    #[test]
    fn replacement_across_a_gap_is_refused() {
        let key = key();
        let mut pool = Mempool::default();
        pool.push(signed(&key, 2, 5), &rich(0), true).unwrap();
        let error = pool.push(signed(&key, 2, 500), &rich(0), true).unwrap_err();
        assert_eq!(error, MempoolError::ReplaceAcrossGap { nonce: 2, next: 0 });
    }

    #[test]
    fn fee_cap_below_the_least_base_fee_is_refused() {
        let key = key();
        let mut low = bare(&key, 0, 10);
        low.gas_fee_cap = TokenAmount::from_atto(99);
        assert_eq!(
            Mempool::default().push(sign(&key, low), &rich(0), true),
            Err(MempoolError::FeeCapTooLow)
        );
    }

    #[test]
    fn message_over_64_kib_is_refused() {
        let key = key();
        let mut big = bare(&key, 0, 10);
        big.params = RawBytes::new(vec![0; MAX_MESSAGE_SIZE]);
        big.gas_limit = 1_000_000_000;
        let error = Mempool::default()
            .push(sign(&key, big), &rich(0), true)
            .unwrap_err();
        assert!(matches!(error, MempoolError::TooBig(_)));
    }

    #[test]
    fn forged_signature_is_refused() {
        let key = key();
        let mut forged = signed(&key, 0, 10);
        forged.message.value = TokenAmount::from_atto(1);
        let error = Mempool::default().push(forged, &rich(0), true).unwrap_err();
        assert!(
            error.to_string().contains("signature verification failed"),
            "{error}"
        );
    }

    #[test]
    fn nonce_that_landed_is_refused_with_the_expected_one() {
        let key = key();
        let error = Mempool::default()
            .push(signed(&key, 3, 10), &rich(7), true)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "minimum expected nonce is 7: message nonce too low"
        );
    }

    #[test]
    fn funds_count_what_is_already_waiting() {
        let key = key();
        let poor = Sender {
            nonce: 0,
            balance: TokenAmount::from_atto(1_500_000_000_000i64),
        };
        let mut pool = Mempool::default();
        pool.push(signed(&key, 0, 10), &poor, true).unwrap();
        let error = pool.push(signed(&key, 1, 10), &poor, true).unwrap_err();
        assert!(matches!(error, MempoolError::PendingFunds { .. }));
    }

    #[test]
    fn thousand_messages_may_wait_and_no_more() {
        let key = Key::from_seed(KeyKind::Secp256k1, b"many");
        let mut pool = Mempool::default();
        for nonce in 0..MAX_PENDING as u64 {
            pool.push(signed(&key, nonce, 10), &rich(0), true).unwrap();
        }
        let error = pool
            .push(signed(&key, MAX_PENDING as u64, 10), &rich(0), true)
            .unwrap_err();
        assert_eq!(error, MempoolError::TooManyPending);
    }

    #[test]
    fn selection_lets_a_low_fee_cap_block_what_is_behind_it() {
        let key = key();
        let mut pool = Mempool::default();
        let mut low = bare(&key, 0, 10);
        low.gas_fee_cap = TokenAmount::from_atto(150);
        pool.push(sign(&key, low), &rich(0), true).unwrap();
        pool.push(signed(&key, 1, 10_000), &rich(0), true).unwrap();
        let none = TokenAmount::zero();
        assert!(
            pool.select(&TokenAmount::from_atto(200), &none, 1, |_| rich(0))
                .is_empty()
        );
        assert_eq!(
            pool.select(&TokenAmount::from_atto(100), &none, 1, |_| rich(0))
                .len(),
            2
        );
    }

    proptest! {
        #[test]
        fn prop_selection_keeps_nonces_in_order_and_within_gas(
            premiums in proptest::collection::vec(0i64..100_000, 1..12),
            gas in proptest::collection::vec(1_000_000u64..4_000_000_000, 12),
        ) {
            let keys = [key(), Key::from_seed(KeyKind::Secp256k1, b"other")];
            let mut pool = Mempool::default();
            for (i, premium) in premiums.iter().enumerate() {
                let key = &keys[i % 2];
                let mut message = bare(key, (i / 2) as u64, *premium);
                message.gas_limit = gas[i];
                pool.push(sign(key, message), &rich(0), true).unwrap();
            }
            let chosen = pool.select(&TokenAmount::from_atto(100), &TokenAmount::zero(), 1, |_| rich(0));
            prop_assert!(chosen.iter().map(|m| m.message.gas_limit).sum::<u64>() <= BLOCK_GAS_LIMIT);
            for key in &keys {
                let nonces: Vec<u64> = chosen.iter().filter(|m| m.message.from == key.address)
                    .map(|m| m.message.sequence).collect();
                prop_assert_eq!(&nonces, &(0..nonces.len() as u64).collect::<Vec<_>>());
            }
        }
    }
}
