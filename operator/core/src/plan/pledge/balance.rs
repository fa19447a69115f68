//! Gate `Balance`: whoever pays can pay deposit, pledge and fees of all sectors in work and of one more, and keeps some
//! FIL for each sealer pod.
//!
//! Deposit and pledge are the chain's own estimates. The deposit is given back when the pledge is locked, so a sector
//! costs the larger of the two. What the chain has locked already is no longer needed. A purse that several groups or
//! Miners pay from is shared by all of them.

use std::collections::BTreeMap;

use filstar_chain::types::AttoFil;
use filstar_crds::{MessageKind, MinerNetwork, SealingGroup, Sector, SectorPhase};

use super::gate::{Gate, Verdict};
use super::readings::Readings;
use super::text::{count, fil_down, fil_up};
use crate::plan::message;
use crate::world::{ChainFacts, Id, World};

/// An address on a network: a sender, or the actor itself.
type Key = (&'static str, String);

/// What an address has and what is wanted of it.
#[derive(Clone, Debug, Default)]
struct Purse {
    who: String,
    has: Option<AttoFil>,
    needed: AttoFil,
    pods: usize,
    sectors: usize,
}

impl Purse {
    fn of(who: &str) -> Self {
        Self {
            who: who.into(),
            ..Self::default()
        }
    }

    /// Of two answers the smaller one counts.
    fn has(&mut self, amount: Option<&AttoFil>) {
        if let Some(amount) = amount
            && self.has.as_ref().is_none_or(|has| amount < has)
        {
            self.has = Some(amount.clone());
        }
    }

    /// Who is not on chain has nothing.
    fn available(&self) -> AttoFil {
        self.has.clone().unwrap_or_default()
    }
}

/// All who pay, and what sectors of each Miner cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Purses {
    purses: Vec<Purse>,
    costs: BTreeMap<Id, Cost>,
}

/// What a sector of a Miner costs, and who pays it: places in the list of purses.
#[derive(Clone, Debug)]
struct Cost {
    /// Of a new sector: deposit, the rest of the pledge, fees; one entry for each who pays.
    new: Vec<(usize, AttoFil)>,
    pledge: AttoFil,
    pledge_from: usize,
    commit_fee: AttoFil,
    commit_from: usize,
}

impl Purses {
    /// What everybody has, and what the sealer pods ask to be kept.
    pub(super) fn of(world: &World, readings: &Readings) -> Self {
        let mut this = Self::default();
        let mut keys: BTreeMap<Key, usize> = BTreeMap::new();
        for (id, miner) in world.miners.iter() {
            // What was last heard is good enough for what is booked: a chain that cannot be trusted closes ChainSync.
            let Some(facts) = world.chains.get(id).and_then(|v| v.facts.as_ref()) else {
                continue;
            };
            let network = network(miner.spec.network);
            let mut purse = |who: &str, has: Option<&AttoFil>| {
                let next = this.purses.len();
                let index = *keys.entry((network, who.to_owned())).or_insert(next);
                if index == next {
                    this.purses.push(Purse::of(who));
                }
                if let Some(purse) = this.purses.get_mut(index) {
                    purse.has(has);
                }
                index
            };
            let senders = &miner.spec.senders;
            let known = |who: &str| facts.senders.get(who).map(|s| &s.balance);
            let pre_commit = purse(&senders.pre_commit, known(&senders.pre_commit));
            let commit = purse(&senders.commit, known(&senders.commit));
            let actor = purse(&miner.spec.actor_id, Some(&facts.available));
            let (deposit_from, pledge_from) = if miner.spec.collateral_from_miner_balance {
                (actor, actor)
            } else {
                (pre_commit, commit)
            };
            let fee = |kind| message::max_fee(world, id, kind, 1).unwrap_or_default();
            let commit_fee = fee(MessageKind::ProveCommit);
            let mut new: BTreeMap<usize, AttoFil> = BTreeMap::new();
            for (who, amount) in [
                (deposit_from, facts.deposit.clone()),
                (pledge_from, facts.pledge.saturating_sub(&facts.deposit)),
                (pre_commit, fee(MessageKind::PreCommit)),
                (commit, commit_fee.clone()),
            ] {
                *new.entry(who).or_default() += &amount;
            }
            let cost = Cost {
                new: new.into_iter().collect(),
                pledge: facts.pledge.clone(),
                pledge_from,
                commit_fee,
                commit_from: commit,
            };
            this.costs.insert(id.clone(), cost);
            this.keep(world, id, pre_commit, readings);
        }
        this
    }

    /// What the sealer pods of a Miner's groups ask its sender to keep.
    fn keep(&mut self, world: &World, miner: &Id, purse: usize, readings: &Readings) {
        let Some(purse) = self.purses.get_mut(purse) else {
            return;
        };
        for (id, group) in world.groups.in_namespace(&miner.namespace) {
            if group.spec.miner_ref.name != miner.name {
                continue;
            }
            let pods = readings.of_group(id).count();
            if let Ok(each) = per_pod(group)
                && !each.is_zero()
            {
                purse.pods += pods;
                purse.needed += &(&each * u64::try_from(pods).unwrap_or(u64::MAX));
            }
        }
    }

    /// Books what a sector still costs; without one, what a new one costs.
    pub(super) fn book(&mut self, world: &World, miner_id: &Id, sector: Option<&Sector>) {
        let facts = world.chains.get(miner_id).and_then(|v| v.facts.as_ref());
        let (Some(facts), Some(cost)) = (facts, self.costs.get(miner_id)) else {
            return;
        };
        let mut claim = |purse: usize, amount: &AttoFil| {
            if let Some(purse) = self.purses.get_mut(purse) {
                purse.needed += amount;
            }
        };
        match standing(facts, sector) {
            Standing::New => cost
                .new
                .iter()
                .for_each(|(who, amount)| claim(*who, amount)),
            Standing::PreCommitted(deposit) => {
                claim(cost.pledge_from, &cost.pledge.saturating_sub(deposit));
                claim(cost.commit_from, &cost.commit_fee);
            }
            Standing::OnChain => return,
        }
        for (who, _) in &cost.new {
            if let Some(purse) = self.purses.get_mut(*who) {
                purse.sectors += 1;
            }
        }
    }

    pub(super) fn verdict(&self, miner_id: &Id, group: &SealingGroup) -> Verdict {
        const GATE: Gate = Gate::Balance;
        if let Err(error) = per_pod(group) {
            let text = format!("pledge.gates.balance.perSealerPod: {error}");
            return Verdict::closed(GATE, text);
        }
        let Some(cost) = self.costs.get(miner_id) else {
            let text = "what a sector costs is not known until the chain node answers";
            return Verdict::closed(GATE, text);
        };
        // The one with the least to spare speaks.
        let spare = |(who, amount): &(usize, AttoFil)| {
            let purse = self.purses.get(*who)?;
            let needed = &purse.needed + amount;
            Some((&purse.available() - &needed, needed, purse))
        };
        let least = cost.new.iter().filter_map(spare);
        let least = least.min_by(|(a, ..), (b, ..)| a.cmp(b));
        least.map_or_else(
            || Verdict::open(GATE, "a sector costs nothing"),
            |(_, needed, purse)| judge(purse, &purse.available(), &needed),
        )
    }
}

/// One purse with one sector more.
fn judge(purse: &Purse, available: &AttoFil, needed: &AttoFil) -> Verdict {
    let sectors = format!("{} in flight and one more", count(purse.sectors, "sector"));
    let what = match purse.pods {
        0 => sectors,
        pods => format!("{}, {sectors}", count(pods, "pod")),
    };
    let text = format!(
        "{} available to {}, {} needed for {what}",
        fil_down(available),
        purse.who,
        fil_up(needed)
    );
    if available >= needed {
        Verdict::open(Gate::Balance, text)
    } else {
        let missing = fil_up(&needed.saturating_sub(available));
        Verdict::closed(Gate::Balance, format!("{text}; send it {missing}"))
    }
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
