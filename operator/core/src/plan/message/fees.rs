//! What senders have given out: nonces, and money that messages on their way may still take.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::params::{MinerParams, SubmitWindowedPost};
use filstar_chain::types::AttoFil;
use filstar_crds::{ChainMessage, MessageKind, MessageState};

use crate::world::{ChainFacts, World};

/// All senders, by address.
#[derive(Debug, Default)]
pub(super) struct Senders<'a>(BTreeMap<&'a str, Sender>);

#[derive(Debug, Default)]
struct Sender {
    /// The smallest nonce above all that we ever signed.
    next_nonce: u64,
    /// What signed messages that have not landed may take at most: pools ask that the balance covers it.
    reserved: AttoFil,
}

impl<'a> Senders<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let mut senders = Self::default();
        for (_, message) in world.messages.iter() {
            let status = message.status.as_ref();
            let Some((status, nonce)) = status.and_then(|s| s.nonce.map(|n| (s, n))) else {
                continue;
            };
            let sender = senders.0.entry(message.spec.from.as_str()).or_default();
            sender.next_nonce = sender.next_nonce.max(nonce.saturating_add(1));
            if matches!(
                status.state,
                Some(MessageState::Signed | MessageState::Pushed)
            ) {
                sender.reserved += &reserved(message);
            }
        }
        senders
    }

    pub(super) fn next_nonce(&self, sender: &str) -> u64 {
        self.0.get(sender).map_or(0, |s| s.next_nonce)
    }

    /// What a message that must land in time may reserve of its sender's balance, so that it lands although the base fee
    /// rises: an equal share for each partition of its deadline that is not proven yet, and one for all other messages.
    /// None for messages that can wait until the base fee falls.
    pub(super) fn spendable(&self, chain: &ChainFacts, message: &ChainMessage) -> Option<AttoFil> {
        let shares = match message.spec.kind {
            MessageKind::WindowPost => unproven(chain, message) + 1,
            MessageKind::DeclareRecovered => 2,
            MessageKind::PreCommit | MessageKind::ProveCommit => return None,
        };
        let from = message.spec.from.as_str();
        let balance = &chain.senders.get(from)?.balance;
        let rest = match self.0.get(from) {
            Some(sender) => balance.saturating_sub(&sender.reserved),
            None => balance.clone(),
        };
        Some(rest.div_floor(shares))
    }
}

/// The most that a signed message may take: gas at its fee cap, and its value.
fn reserved(message: &ChainMessage) -> AttoFil {
    let versions = message.status.iter().flat_map(|s| &s.versions);
    let fees = versions.filter_map(|v| {
        let cap = AttoFil::from_atto_str(&v.gas_fee_cap).ok()?;
        Some(&cap * u64::try_from(v.gas_limit).ok()?)
    });
    let value: AttoFil = message.spec.value.parse().unwrap_or_default();
    fees.max().unwrap_or_default() + value
}

/// Partitions of the message's deadline that the chain has no proof of; at least one, which is its own.
fn unproven(chain: &ChainFacts, message: &ChainMessage) -> u64 {
    let params = BASE64.decode(&message.spec.params).ok();
    let params = params.and_then(|p| SubmitWindowedPost::from_cbor(&p).ok());
    params.map_or(1, |p| chain.unproven(p.deadline).len().max(1))
}
