//! The miner actor: info, money, power, deadlines, partitions.

use fil_actor_miner_state::v18::{Deadline, MinerInfo, Partition, PowerPair, State};
use fvm_ipld_bitfield::BitField;
use serde_json::{Value, json};

use super::args::Args;
use super::state::world_at;
use super::{Answer, Method, Node, RpcError, lotus};
use crate::actor::load_state;
use crate::jwt::Permission;
use crate::state::Actor;
use crate::store::Overlay;

pub(super) fn method(name: &str) -> Option<Method> {
    let now = |f| Some(Method::Now(Permission::Read, f));
    match name {
        "StateMinerInfo" => now(info),
        "StateMinerPower" => now(power),
        "StateMinerAvailableBalance" => now(available_balance),
        "StateMinerProvingDeadline" => now(proving_deadline),
        "StateMinerDeadlines" => now(deadlines),
        "StateMinerPartitions" => now(partitions),
        "StateMinerSectorCount" => now(sector_count),
        "StateMinerFaults" => now(|n, a| union(n, a, |p| p.faults.clone())),
        "StateMinerRecoveries" => now(|n, a| union(n, a, |p| p.recoveries.clone())),
        _ => None,
    }
}

/// A miner as a lookup at a tipset sees it.
pub(super) struct View<'a> {
    pub(super) store: Overlay<'a>,
    pub(super) state: State,
    pub(super) epoch: i64,
    pub(super) actor: Actor,
}

impl View<'_> {
    pub(super) fn info(&self) -> Result<MinerInfo, RpcError> {
        Ok(self.state.get_info(&self.store)?)
    }

    pub(super) fn deadline(&self, index: u64) -> Result<Deadline, RpcError> {
        Ok(self
            .state
            .load_deadlines(&self.store)?
            .load_deadline(&self.store, index)?)
    }

    pub(super) fn partitions(&self, index: u64) -> Result<Vec<Partition>, RpcError> {
        let deadline = self.deadline(index)?;
        let mut out = Vec::new();
        deadline.for_each(&self.store, |_, partition| {
            out.push(partition.clone());
            Ok(())
        })?;
        Ok(out)
    }
}

/// The miner of parameter 0 at the tipset of parameter `key`.
pub(super) fn view<'a>(node: &'a Node, args: &Args, key: usize) -> Result<View<'a>, RpcError> {
    let (tipset, world) = world_at(node, &args.key(key)?)?;
    let address = args.address(0)?;
    let actor = world
        .lookup(&address)
        .map(|(_, a)| a.clone())
        .ok_or_else(RpcError::actor_not_found)?;
    let head = actor.miner.as_ref().ok_or_else(|| {
        RpcError::new(format!(
            "failed to load miner actor state: actor code is not miner: {}",
            actor.code.name()
        ))
    })?;
    let store = node.chain.scratch();
    let state = load_state(&store, &head.state)?;
    Ok(View {
        store,
        state,
        epoch: tipset.height,
        actor,
    })
}

fn info(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    let info = view.info()?;
    let control: Vec<Value> = info
        .control_addresses
        .iter()
        .map(|a| json!(a.to_string()))
        .collect();
    let pending = info.pending_worker_key.as_ref();
    Ok(json!({
        "Owner": info.owner.to_string(),
        "Worker": info.worker.to_string(),
        "NewWorker": pending.map_or_else(|| "<empty>".to_owned(), |p| p.new_worker.to_string()),
        "ControlAddresses": lotus::list(control),
        "WorkerChangeEpoch": pending.map_or(-1, |p| p.effective_at),
        "PeerId": null,
        "Multiaddrs": null,
        "WindowPoStProofType": i64::from(info.window_post_proof_type),
        "SectorSize": info.sector_size as u64,
        "WindowPoStPartitionSectors": info.window_post_partition_sectors,
        "ConsensusFaultElapsed": info.consensus_fault_elapsed,
        "PendingOwnerAddress": null,
        "Beneficiary": info.beneficiary.to_string(),
        "BeneficiaryTerm": { "Quota": "0", "UsedQuota": "0", "Expiration": 0 },
        "PendingBeneficiaryTerm": null,
    }))
}

fn power(node: &mut Node, args: &Args) -> Answer {
    let (_, world) = world_at(node, &args.key(1)?)?;
    let mut total = PowerPair::zero();
    for (_, miner) in world.miners() {
        total += &miner.power;
    }
    let (_, actor) = world
        .lookup(&args.address(0)?)
        .ok_or_else(RpcError::actor_not_found)?;
    let own = actor
        .miner
        .as_ref()
        .map(|m| m.power.clone())
        .unwrap_or_default();
    Ok(json!({
        "MinerPower": lotus::power(&own),
        "TotalPower": lotus::power(&total),
        "HasMinPower": own.raw >= node.chain.config.consensus_min_power.into(),
    }))
}

fn available_balance(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    Ok(lotus::token(
        &view.state.get_available_balance(&view.actor.balance)?,
    ))
}

fn proving_deadline(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    let deadline = view
        .state
        .deadline_info(&node.chain.rules.policy, view.epoch)
        .next_not_elapsed();
    serde_json::to_value(deadline).map_err(|e| RpcError::new(e.to_string()))
}

fn deadlines(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    let mut out = Vec::new();
    view.state
        .load_deadlines(&view.store)?
        .for_each(&view.store, |_, deadline| {
            let disputable = deadline
                .optimistic_proofs_snapshot_amt(&view.store)?
                .count();
            out.push(json!({
                "PostSubmissions": lotus::bitfield(&deadline.partitions_posted),
                "DisputableProofCount": disputable,
                "DailyFee": lotus::token(&deadline.daily_fee),
            }));
            Ok(())
        })?;
    Ok(Value::Array(out))
}

fn partitions(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    let out = view
        .partitions(args.u64(1)?)?
        .iter()
        .map(|p| {
            json!({
                "AllSectors": lotus::bitfield(&p.sectors),
                "FaultySectors": lotus::bitfield(&p.faults),
                "RecoveringSectors": lotus::bitfield(&p.recoveries),
                "LiveSectors": lotus::bitfield(&p.live_sectors()),
                "ActiveSectors": lotus::bitfield(&p.active_sectors()),
            })
        })
        .collect();
    Ok(lotus::list(out))
}

/// One bit field over all partitions of all deadlines.
pub(super) fn over_partitions(
    view: &View<'_>,
    pick: impl Fn(&Partition) -> BitField,
) -> Result<BitField, RpcError> {
    let mut all = BitField::new();
    let deadlines = view.state.load_deadlines(&view.store)?;
    deadlines.for_each(&view.store, |_, deadline| {
        deadline.for_each(&view.store, |_, partition| {
            all |= &pick(partition);
            Ok(())
        })
    })?;
    Ok(all)
}

fn union(node: &mut Node, args: &Args, pick: impl Fn(&Partition) -> BitField) -> Answer {
    let view = view(node, args, 1)?;
    Ok(lotus::bitfield(&over_partitions(&view, pick)?))
}

fn sector_count(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    Ok(json!({
        "Live": over_partitions(&view, Partition::live_sectors)?.len(),
        "Active": over_partitions(&view, Partition::active_sectors)?.len(),
        "Faulty": over_partitions(&view, |p| p.faults.clone())?.len(),
    }))
}

impl View<'_> {
    /// Where a sector is; not found is an error as in lotus.
    pub(super) fn find(&self, number: u64) -> Result<(u64, u64), RpcError> {
        Ok(self.state.find_sector(&self.store, number)?)
    }
}
