//! Gate `Balance`: whoever pays can pay deposit, pledge and fees of all sectors in work and of one more, and keeps some
//! FIL for each sealer pod.
//!
//! Deposit and pledge are the chain's own estimates. The deposit is given back when the pledge is locked, so a sector
//! costs the larger of the two. What the chain has locked already is no longer needed. A purse that several groups or
//! Miners pay from is shared by all of them.

use std::collections::BTreeMap;

use filstar_chain::types::AttoFil;
use filstar_crds::{MessageKind, Miner, MinerNetwork, SealingGroup, Sector, SectorPhase, labels};
use kube::ResourceExt;

use super::gate::{Gate, Verdict};
use super::text::{count, fil_down, fil_up};
use crate::plan::bookings::is_live;
use crate::plan::message;
use crate::world::{ChainFacts, Id, World};

/// An address on a network: a sender, or the actor itself.
type Key = (&'static str, String);

/// What an address has and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Purse {
    available: Option<AttoFil>,
    needed: AttoFil,
    pods: usize,
    sectors: usize,
}

/// All who pay.
#[derive(Clone, Debug, Default)]
pub(super) struct Purses(BTreeMap<Key, Purse>);

/// What one sector still costs, by who pays it.
type Claims = BTreeMap<Key, AttoFil>;

impl Purses {
    /// What everybody has, and what the sealer pods ask to be kept.
    pub(super) fn of(world: &World) -> Self {
        let mut this = Self::default();
        for (id, miner) in world.miners.iter() {
            let Some(facts) = world.chains.get(id).and_then(|v| v.facts.as_ref()) else {
                continue;
            };
            let network = network(miner.spec.network);
            this.has((network, miner.spec.actor_id.clone()), &facts.available);
            for (sender, known) in &facts.senders {
                this.has((network, sender.clone()), &known.balance);
            }
        }
        let mut pods: BTreeMap<Id, usize> = BTreeMap::new();
        for (id, pod) in world.pods.iter().filter(|(_, p)| is_live(p)) {
            if let Some(group) = pod.labels().get(labels::GROUP) {
                *pods.entry(Id::new(&id.namespace, group)).or_default() += 1;
            }
        }
        for (id, pods) in pods {
            let Some(group) = world.groups.get(&id) else {
                continue;
            };
            let miner = world.miner_of(&id.namespace, &group.spec.miner_ref.name);
            let (Some((_, miner)), Ok(each)) = (miner, per_pod(group)) else {
                continue;
            };
            let key = (
                network(miner.spec.network),
                miner.spec.senders.pre_commit.clone(),
            );
            let purse = this.0.entry(key).or_default();
            purse.pods += pods;
            purse.needed += &(&each * pods.try_into().unwrap_or(u64::MAX));
        }
        this
    }

    /// Of two answers the smaller one counts.
    fn has(&mut self, key: Key, amount: &AttoFil) {
        let purse = self.0.entry(key).or_default();
        let less = purse.available.as_ref().is_none_or(|a| amount < a);
        if less {
            purse.available = Some(amount.clone());
        }
    }

    /// Books what a sector still costs; without one, what a new one costs.
    pub(super) fn book(&mut self, world: &World, miner_id: &Id, sector: Option<&Sector>) {
        for (key, amount) in claims(world, miner_id, sector).unwrap_or_default() {
            let purse = self.0.entry(key).or_default();
            purse.needed += &amount;
            purse.sectors += 1;
        }
    }

    pub(super) fn verdict(&self, world: &World, miner_id: &Id, group: &SealingGroup) -> Verdict {
        const GATE: Gate = Gate::Balance;
        if let Err(error) = per_pod(group) {
            let text = format!("pledge.gates.balance.perSealerPod: {error}");
            return Verdict::closed(GATE, text);
        }
        let Some(claims) = claims(world, miner_id, None) else {
            let text = "what a sector costs is not known until the chain node answers";
            return Verdict::closed(GATE, text);
        };
        // The one with the least to spare speaks.
        let mut said: Option<(AttoFil, Verdict)> = None;
        for (key, amount) in claims {
            let purse = self.0.get(&key).cloned().unwrap_or_default();
            let available = purse.available.clone().unwrap_or_else(AttoFil::zero);
            let needed = &purse.needed + &amount;
            let spare = &available - &needed;
            if said.as_ref().is_none_or(|(least, _)| spare < *least) {
                said = Some((spare, judge(&purse, &available, &needed, &key.1)));
            }
        }
        said.map_or_else(
            || Verdict::open(GATE, "a sector costs nothing"),
            |(_, verdict)| verdict,
        )
    }
}

/// One purse with one sector more.
fn judge(purse: &Purse, available: &AttoFil, needed: &AttoFil, who: &str) -> Verdict {
    let what = match (purse.pods, purse.sectors) {
        (0, sectors) => format!("{} in flight and one more", count(sectors, "sector")),
        (pods, sectors) => format!(
            "{}, {} in flight and one more",
            count(pods, "pod"),
            count(sectors, "sector")
        ),
    };
    let text = format!(
        "{} available to {who}, {} needed for {what}",
        fil_down(available),
        fil_up(needed)
    );
    if available >= needed {
        Verdict::open(Gate::Balance, text)
    } else {
        let missing = fil_up(&needed.saturating_sub(available));
        Verdict::closed(Gate::Balance, format!("{text}; send it {missing}"))
    }
}

/// What a sector still costs; none while the chain has said nothing.
fn claims(world: &World, miner_id: &Id, sector: Option<&Sector>) -> Option<Claims> {
    let miner = world.miners.get(miner_id)?;
    // What was last heard is good enough for what is booked: a chain that cannot be trusted closes ChainSync.
    let facts = world.chains.get(miner_id)?.facts.as_ref()?;
    let fee = |kind| message::max_fee(world, miner_id, kind, 1).unwrap_or_default();
    let (pre_commit_fee, commit_fee) = (fee(MessageKind::PreCommit), fee(MessageKind::ProveCommit));
    let mut claims = Claims::new();
    let mut claim = |who: &str, amount: AttoFil| {
        if !amount.is_zero() {
            let key = (network(miner.spec.network), who.to_owned());
            *claims.entry(key).or_default() += &amount;
        }
    };
    let senders = &miner.spec.senders;
    match standing(facts, sector) {
        Standing::New => {
            claim(deposit_from(miner), facts.deposit.clone());
            claim(
                pledge_from(miner),
                facts.pledge.saturating_sub(&facts.deposit),
            );
            claim(&senders.pre_commit, pre_commit_fee);
            claim(&senders.commit, commit_fee);
        }
        Standing::PreCommitted(deposit) => {
            claim(pledge_from(miner), facts.pledge.saturating_sub(deposit));
            claim(&senders.commit, commit_fee);
        }
        Standing::OnChain => {}
    }
    Some(claims)
}

/// How far the chain has taken a sector's money.
enum Standing<'a> {
    New,
    PreCommitted(&'a AttoFil),
    OnChain,
}

fn standing<'a>(facts: &'a ChainFacts, sector: Option<&Sector>) -> Standing<'a> {
    let Some(sector) = sector else {
        return Standing::New;
    };
    let number = sector.spec.number.unsigned_abs();
    if facts.sectors.get(&number).is_some_and(Option::is_some) {
        return Standing::OnChain;
    }
    if let Some(Some(pre_commit)) = facts.precommits.get(&number) {
        return Standing::PreCommitted(&pre_commit.pre_commit_deposit);
    }
    match phase(sector) {
        SectorPhase::Finalizing
        | SectorPhase::Landing
        | SectorPhase::Proving
        | SectorPhase::Removing => Standing::OnChain,
        SectorPhase::Allocated
        | SectorPhase::Packing
        | SectorPhase::Pc1
        | SectorPhase::Pc2
        | SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Committing
        | SectorPhase::Failed => Standing::New,
    }
}

/// Where a sector is; of a failed one, where it failed.
pub(super) fn phase(sector: &Sector) -> SectorPhase {
    let status = sector.status.as_ref();
    let phase = status.and_then(|s| s.phase).unwrap_or_default();
    if phase != SectorPhase::Failed {
        return phase;
    }
    let failure = status.and_then(|s| s.failure.as_ref());
    failure.map_or(SectorPhase::Allocated, |f| f.phase)
}

fn deposit_from(miner: &Miner) -> &str {
    if miner.spec.collateral_from_miner_balance {
        &miner.spec.actor_id
    } else {
        &miner.spec.senders.pre_commit
    }
}

fn pledge_from(miner: &Miner) -> &str {
    if miner.spec.collateral_from_miner_balance {
        &miner.spec.actor_id
    } else {
        &miner.spec.senders.commit
    }
}

fn per_pod(group: &SealingGroup) -> Result<AttoFil, filstar_chain::types::Error> {
    group.spec.pledge.gates.balance.per_sealer_pod.parse()
}

fn network(network: MinerNetwork) -> &'static str {
    match network {
        MinerNetwork::Mainnet => "mainnet",
        MinerNetwork::Calibration => "calibration",
        MinerNetwork::Devnet => "devnet",
    }
}
