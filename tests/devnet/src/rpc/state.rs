//! Actors, results of messages, calls that change nothing.

use std::sync::Arc;

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::message::Message;
use serde_json::{Value, json};

use super::args::{Args, parse_address};
use super::{Answer, Method, Node, RpcError, lotus};
use crate::chain::tipset::Tipset;
use crate::codec::{cbor, cbor_cid};
use crate::exec::{Applied, Machine};
use crate::jwt::Permission;
use crate::message::{message_cid, required_gas_funds};
use crate::state::{Actor, Code, World};

pub(super) fn method(name: &str) -> Option<Method> {
    let now = |f| Some(Method::Now(Permission::Read, f));
    match name {
        "StateGetActor" => now(get_actor),
        "StateReadState" => now(read_state),
        "StateAccountKey" => now(account_key),
        "StateLookupID" => now(lookup_id),
        "StateListMiners" => now(list_miners),
        "StateSearchMsg" => now(search_msg),
        "StateWaitMsg" => Some(Method::Wait(wait_msg)),
        "StateCall" => now(call),
        "StateListMessages" => now(list_messages),
        "StateCirculatingSupply" | "StateVMCirculatingSupplyInternal" => {
            now(|n, _| Ok(json!(n.chain.config.circulating_supply)))
        }
        _ => None,
    }
}

/// The tipset of a key and what lookups at it see: the state before its own messages.
pub(super) fn world_at(node: &Node, key: &[Cid]) -> Result<(Arc<Tipset>, Arc<World>), RpcError> {
    let tipset = node.chain.by_key(key)?;
    let world = Arc::clone(&tipset.parent_state);
    Ok((tipset, world))
}

fn code_cid(code: Code) -> Cid {
    cbor_cid(&cbor(&format!("fil/18/{}", code.name())))
}

fn actor_json(actor: &Actor) -> Value {
    let head = actor
        .miner
        .as_ref()
        .map_or_else(|| cbor_cid(&cbor(&actor.key)), |m| m.state);
    json!({
        "Code": lotus::cid(&code_cid(actor.code)),
        "Head": lotus::cid(&head),
        "Nonce": actor.nonce,
        "Balance": lotus::token(&actor.balance),
        "DelegatedAddress": null,
    })
}

fn get_actor(node: &mut Node, args: &Args) -> Answer {
    let (_, world) = world_at(node, &args.key(1)?)?;
    let (_, actor) = world
        .lookup(&args.address(0)?)
        .ok_or_else(RpcError::actor_not_found)?;
    Ok(actor_json(actor))
}

fn read_state(node: &mut Node, args: &Args) -> Answer {
    let (_, world) = world_at(node, &args.key(1)?)?;
    let (_, actor) = world
        .lookup(&args.address(0)?)
        .ok_or_else(RpcError::actor_not_found)?;
    let state = match (&actor.miner, &actor.key) {
        (Some(miner), _) => {
            let state = crate::actor::load_state(&node.chain.scratch(), &miner.state)?;
            json!({
                "Info": lotus::cid(&state.info),
                "PreCommitDeposits": lotus::token(&state.pre_commit_deposits),
                "LockedFunds": lotus::token(&state.locked_funds),
                "FeeDebt": lotus::token(&state.fee_debt),
                "InitialPledge": lotus::token(&state.initial_pledge),
                "PreCommittedSectors": lotus::cid(&state.pre_committed_sectors),
                "AllocatedSectors": lotus::cid(&state.allocated_sectors),
                "Sectors": lotus::cid(&state.sectors),
                "ProvingPeriodStart": state.proving_period_start,
                "CurrentDeadline": state.current_deadline,
                "Deadlines": lotus::cid(&state.deadlines),
                "EarlyTerminations": lotus::bitfield(&state.early_terminations),
                "DeadlineCronActive": state.deadline_cron_active,
            })
        }
        (None, Some(key)) => json!({ "Address": key.to_string() }),
        (None, None) => json!({}),
    };
    Ok(json!({
        "Balance": lotus::token(&actor.balance),
        "Code": lotus::cid(&code_cid(actor.code)),
        "State": state,
    }))
}

fn account_key(node: &mut Node, args: &Args) -> Answer {
    let (_, world) = world_at(node, &args.key(1)?)?;
    let address = args.address(0)?;
    world
        .key_of(&address)
        .map(|key| json!(key.to_string()))
        .ok_or_else(|| {
            RpcError::new(format!(
                "failed to get account actor state for {address}: actor not found"
            ))
        })
}

fn lookup_id(node: &mut Node, args: &Args) -> Answer {
    let (_, world) = world_at(node, &args.key(1)?)?;
    let id = world
        .id_of(&args.address(0)?)
        .ok_or_else(RpcError::actor_not_found)?;
    Ok(json!(Address::new_id(id).to_string()))
}

fn list_miners(node: &mut Node, args: &Args) -> Answer {
    let (_, world) = world_at(node, &args.key(0)?)?;
    Ok(world
        .miners()
        .map(|(id, _)| json!(Address::new_id(id).to_string()))
        .collect())
}

fn search(
    node: &Node,
    key: &[Cid],
    cid: &Cid,
    lookback: i64,
    replaced: bool,
) -> Result<Option<(i64, Value)>, RpcError> {
    let from = node.chain.by_key(key)?;
    let Some(found) = node.chain.search(&from, cid, lookback, replaced)? else {
        return Ok(None);
    };
    let height = found.tipset.height;
    let value = json!({
        "Message": lotus::cid(&found.message),
        "Receipt": lotus::receipt(&found.receipt),
        "ReturnDec": null,
        "TipSet": lotus::key(&found.tipset.key),
        "Height": height,
    });
    Ok(Some((height, value)))
}

fn search_msg(node: &mut Node, args: &Args) -> Answer {
    let lookback = args.raw(2).as_i64().unwrap_or(-1);
    let replaced = args.raw(3).as_bool().unwrap_or(true);
    let found = search(node, &args.key(0)?, &args.cid(1)?, lookback, replaced)?;
    Ok(found.map_or(Value::Null, |(_, value)| value))
}

fn wait_msg(node: &mut Node, args: &Args) -> Result<Option<Value>, RpcError> {
    let confidence = args.raw(1).as_i64().unwrap_or(0);
    let lookback = args.raw(2).as_i64().unwrap_or(-1);
    let replaced = args.raw(3).as_bool().unwrap_or(true);
    let found = search(node, &[], &args.cid(0)?, lookback, replaced)?;
    let head = node.chain.head().height;
    Ok(found
        .filter(|(height, _)| head >= height + confidence)
        .map(|(_, value)| value))
}

/// Runs a message on a state that is thrown away afterwards.
pub(super) fn simulate(node: &Node, world: &World, epoch: i64, message: &Message) -> Applied {
    let chain = &node.chain;
    let store = chain.scratch();
    let randomness = chain.randomness_up_to(epoch);
    let machine = Machine {
        rules: &chain.rules,
        verifier: chain.verifier(),
        chain: &randomness,
        store: &store,
        epoch,
        base_fee: chain.next_base_fee(),
    };
    machine.simulate(world, message, cbor(message).len())
}

/// As [`simulate`], after what its sender has waiting in the pool.
pub(super) fn simulate_after_pending(node: &Node, message: &Message) -> Applied {
    let chain = &node.chain;
    let head = chain.head();
    let epoch = head.height + 1;
    let store = chain.scratch();
    let randomness = chain.randomness_up_to(epoch);
    let machine = Machine {
        rules: &chain.rules,
        verifier: chain.verifier(),
        chain: &randomness,
        store: &store,
        epoch,
        base_fee: chain.next_base_fee(),
    };
    let mut world = (*head.state).clone();
    let key = world.key_of(&message.from).unwrap_or(message.from);
    let mut waiting: Vec<_> = chain
        .mempool
        .iter()
        .filter(|m| m.message.from == key)
        .collect();
    waiting.sort_by_key(|m| m.message.sequence);
    for before in waiting {
        machine.apply(&mut world, &before.message, before.chain_len());
    }
    machine.simulate(&world, message, cbor(message).len())
}

fn call(node: &mut Node, args: &Args) -> Answer {
    let message = args.message(0)?;
    let (tipset, world) = world_at(node, &args.key(1)?)?;
    let applied = simulate(node, &world, tipset.height, &message);
    let cid = lotus::cid(&message_cid(&message));
    let outputs = &applied.outputs;
    let required = required_gas_funds(&message);
    Ok(json!({
        "MsgCid": cid,
        "Msg": lotus::message(&message),
        "MsgRct": lotus::receipt(&applied.receipt),
        "GasCost": {
            "Message": cid,
            "GasUsed": applied.receipt.gas_used.to_string(),
            "BaseFeeBurn": lotus::token(&outputs.base_fee_burn),
            "OverEstimationBurn": lotus::token(&outputs.over_estimation_burn),
            "MinerPenalty": lotus::token(&outputs.miner_penalty),
            "MinerTip": lotus::token(&outputs.miner_tip),
            "Refund": lotus::token(&outputs.refund),
            "TotalCost": lotus::token(&(required - &outputs.refund)),
        },
        "ExecutionTrace": {
            "Msg": {
                "From": message.from.to_string(), "To": message.to.to_string(),
                "Value": lotus::token(&message.value), "Method": message.method_num,
                "Params": lotus::bytes(message.params.bytes()), "ParamsCodec": 81,
                "GasLimit": message.gas_limit, "ReadOnly": false,
            },
            "MsgRct": {
                "ExitCode": applied.receipt.exit_code,
                "Return": lotus::bytes(&applied.receipt.return_data), "ReturnCodec": 81,
            },
            "GasCharges": [], "Subcalls": null, "Logs": null, "IpldOps": null, "InvokedActor": null,
        },
        "Error": applied.receipt.error,
        "Duration": 0,
    }))
}

fn list_messages(node: &mut Node, args: &Args) -> Answer {
    let filter = |field: &str| {
        let text = args.raw(0)[field].as_str().filter(|text| !text.is_empty());
        text.map(parse_address).transpose()
    };
    let (to, from) = (filter("To")?, filter("From")?);
    if to.is_none() && from.is_none() {
        return Err(RpcError::new(
            "must specify at least To or From in message filter",
        ));
    }
    let until = args.i64(2)?;
    let mut tipset = node.chain.by_key(&args.key(1)?)?;
    let mut out = Vec::new();
    while tipset.height >= until {
        for (message, cid) in tipset.messages.iter().zip(&tipset.message_cids) {
            let fits = to.is_none_or(|a| a == message.message.to)
                && from.is_none_or(|a| a == message.message.from);
            if fits {
                out.push(lotus::cid(cid));
            }
        }
        match node.chain.parent_of(&tipset) {
            Some(parent) => tipset = parent,
            None => break,
        }
    }
    Ok(lotus::list(out))
}
