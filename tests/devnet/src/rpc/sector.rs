//! Sectors: what is promised, what is proven, what a new one costs.

use fil_actor_miner_state::v18::{ExpirationQueue, NO_QUANTIZATION, Sectors};
use fvm_ipld_bitfield::BitField;
use fvm_shared::econ::TokenAmount;
use serde_json::{Value, json};

use super::args::Args;
use super::miner::{View, over_partitions, view};
use super::{Answer, Method, Node, RpcError, lotus};
use crate::codec::from_cbor;
use crate::jwt::Permission;

pub(super) fn method(name: &str) -> Option<Method> {
    let now = |f| Some(Method::Now(Permission::Read, f));
    match name {
        "StateMinerSectors" => now(sectors),
        "StateMinerActiveSectors" => now(active_sectors),
        "StateMinerAllocated" => now(allocated),
        "StateMinerSectorAllocated" => now(sector_allocated),
        "StateSectorGetInfo" => now(get_info),
        "StateSectorPreCommitInfo" => now(pre_commit_info),
        "StateSectorPartition" => now(partition),
        "StateSectorExpiration" => now(expiration),
        "StateMinerInitialPledgeForSector" => now(|n, _| Ok(with_margin(&n.chain.rules.pledge))),
        "StateMinerInitialPledgeCollateral" => now(|n, _| Ok(with_margin(&n.chain.rules.pledge))),
        "StateMinerPreCommitDepositForPower" => now(|n, _| Ok(with_margin(&n.chain.rules.deposit))),
        _ => None,
    }
}

/// Lotus adds a tenth: the amount may have grown until the message lands.
fn with_margin(amount: &TokenAmount) -> Value {
    lotus::token(&(amount.clone() * 110u64).div_floor(100u64))
}

fn all_sectors(view: &View<'_>) -> Result<BitField, RpcError> {
    let mut numbers = Vec::new();
    view.state.for_each_sector(&view.store, |s| {
        numbers.push(s.sector_number);
        Ok(())
    })?;
    BitField::try_from_bits(numbers).map_err(|_| RpcError::new("sector number out of range"))
}

fn infos(view: &View<'_>, numbers: &BitField) -> Answer {
    let sectors = Sectors::load(&view.store, &view.state.sectors)
        .map_err(|e| RpcError::new(format!("failed to load sectors: {e}")))?;
    let mut out = Vec::new();
    for number in numbers.iter() {
        if let Some(info) = sectors.get(number)? {
            out.push(lotus::sector(&info));
        }
    }
    Ok(lotus::list(out))
}

fn sectors(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    let all = all_sectors(&view)?;
    let wanted = match args.bitfield(1)? {
        Some(filter) => &all & &filter,
        None => all,
    };
    infos(&view, &wanted)
}

fn active_sectors(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    infos(
        &view,
        &over_partitions(&view, fil_actor_miner_state::v18::Partition::active_sectors)?,
    )
}

fn allocated_bits(view: &View<'_>) -> Result<BitField, RpcError> {
    use fvm_ipld_blockstore::Blockstore as _;
    let block = view
        .store
        .get(&view.state.allocated_sectors)?
        .ok_or_else(|| RpcError::new("failed to load allocated sectors"))?;
    from_cbor(&block).map_err(|e| RpcError::new(e.to_string()))
}

fn allocated(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 1)?;
    Ok(lotus::bitfield(&allocated_bits(&view)?))
}

fn sector_allocated(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    Ok(json!(allocated_bits(&view)?.get(args.u64(1)?)))
}

fn get_info(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    let info = view.state.get_sector(&view.store, args.u64(1)?)?;
    Ok(info.as_ref().map_or(Value::Null, lotus::sector))
}

fn pre_commit_info(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    let info = view
        .state
        .get_precommitted_sector(&view.store, args.u64(1)?)?;
    Ok(info.as_ref().map_or(Value::Null, lotus::pre_commit))
}

fn partition(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    let (deadline, partition) = view.find(args.u64(1)?)?;
    Ok(json!({ "Deadline": deadline, "Partition": partition }))
}

fn expiration(node: &mut Node, args: &Args) -> Answer {
    let view = view(node, args, 2)?;
    let number = args.u64(1)?;
    let (deadline, partition) = view.find(number)?;
    let partition = view
        .deadline(deadline)?
        .load_partition(&view.store, partition)?;
    let queue = ExpirationQueue::new(&view.store, &partition.expirations_epochs, NO_QUANTIZATION)
        .map_err(|e| RpcError::new(e.to_string()))?;
    let (mut on_time, mut early) = (0, 0);
    queue
        .amt
        .for_each(|epoch, set| {
            let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
            if set.on_time_sectors.get(number) {
                on_time = epoch;
            }
            if set.early_sectors.get(number) {
                early = epoch;
            }
            Ok(())
        })
        .map_err(|e| RpcError::new(e.to_string()))?;
    if on_time == 0 && early == 0 {
        return Err(RpcError::new(format!("failed to find sector {number}")));
    }
    Ok(json!({ "OnTime": on_time, "Early": early }))
}
