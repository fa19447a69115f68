//! What no real node has: time, forks, crowds and money on demand (`Devnet.*`, permission admin).

use std::collections::BTreeSet;

use fvm_shared::econ::TokenAmount;
use serde_json::{Value, json};

use super::args::{Args, cid, parse_address, token};
use super::{Answer, Method, Node, RpcError, lotus};
use crate::chain::Congestion;
use crate::chain::reorg::Drop;
use crate::clock;
use crate::jwt::Permission;

/// Most epochs that one call may make.
const MAX_ADVANCE: i64 = 100_000;

pub(super) fn method(name: &str) -> Option<Method> {
    let admin = |f| Some(Method::Now(Permission::Admin, f));
    match name.strip_prefix("Devnet.")? {
        "Advance" => admin(advance),
        "Pause" => admin(pause),
        "Resume" => admin(resume),
        "Reorg" => admin(reorg),
        "SetBaseFee" => admin(set_base_fee),
        "Congest" => admin(congest),
        "NullRounds" => admin(null_rounds),
        "SyncLag" => admin(sync_lag),
        "Fund" => admin(fund),
        "Snapshot" => admin(|n, _| n.chain.snapshot().map(|()| Value::Null).map_err(Into::into)),
        "Stats" => admin(|n, _| Ok(n.chain.stats())),
        _ => None,
    }
}

/// A field of the one object that these calls take.
fn field<'a>(args: &'a Args, name: &str) -> &'a Value {
    &args.raw(0)[name]
}

fn number(args: &Args, name: &str, default: i64) -> Result<i64, RpcError> {
    let value = field(args, name);
    if value.is_null() {
        return Ok(default);
    }
    value
        .as_i64()
        .ok_or_else(|| RpcError::params(format!("{name}: expected a number")))
}

fn amount(args: &Args, name: &str) -> Result<TokenAmount, RpcError> {
    token(field(args, name))
        .ok_or_else(|| RpcError::params(format!("{name}: expected attoFIL as a string")))
}

fn advance(node: &mut Node, args: &Args) -> Answer {
    let epochs = number(args, "epochs", 1)?;
    if !(1..=MAX_ADVANCE).contains(&epochs) {
        return Err(RpcError::params(format!("epochs: from 1 to {MAX_ADVANCE}")));
    }
    let delay = i64::try_from(node.chain.config.block_delay_ms).unwrap_or(i64::MAX);
    for _ in 0..epochs {
        // Timestamps stay where the clock is: these epochs take no time.
        node.chain.change_settings(|s| s.shift_ms -= delay)?;
        clock::next_epoch(&mut node.chain)?;
    }
    Ok(json!({ "height": node.chain.head().height }))
}

fn pause(node: &mut Node, _: &Args) -> Answer {
    node.chain.change_settings(|s| s.paused = true)?;
    Ok(json!({ "height": node.chain.head().height }))
}

fn resume(node: &mut Node, _: &Args) -> Answer {
    clock::realign(&mut node.chain, clock::now_ms())?;
    node.chain.change_settings(|s| s.paused = false)?;
    Ok(json!({ "height": node.chain.head().height }))
}

/// What a reorg is to drop: nothing, `"all"`, or a list of CIDs.
fn dropped(value: &Value) -> Option<Drop> {
    if value.is_null() {
        return Some(Drop::None);
    }
    if value.as_str() == Some("all") {
        return Some(Drop::All);
    }
    let cids = value
        .as_array()?
        .iter()
        .map(|v| cid(v).or_else(|| v.as_str()?.parse().ok()));
    cids.collect::<Option<BTreeSet<_>>>().map(Drop::These)
}

fn reorg(node: &mut Node, args: &Args) -> Answer {
    let depth = usize::try_from(number(args, "depth", 1)?).unwrap_or(0);
    let drop = dropped(field(args, "dropMessages"))
        .ok_or_else(|| RpcError::params("dropMessages: expected CIDs or \"all\""))?;
    let result = node
        .chain
        .reorg(depth, &drop, number(args, "delayEpochs", 0)?)?;
    Ok(json!({
        "ancestor": result.ancestor,
        "height": node.chain.head().height,
        "returned": result.returned.iter().map(lotus::cid).collect::<Vec<_>>(),
        "dropped": result.dropped.iter().map(lotus::cid).collect::<Vec<_>>(),
    }))
}

fn set_base_fee(node: &mut Node, args: &Args) -> Answer {
    let fee = amount(args, "baseFee")?.max(TokenAmount::from_atto(crate::gas::MIN_BASE_FEE));
    node.chain
        .change_settings(|s| s.base_fee_override = Some(fee))?;
    Ok(Value::Null)
}

fn congest(node: &mut Node, args: &Args) -> Answer {
    let premium = amount(args, "premium")?;
    let epochs = number(args, "epochs", 1)?;
    let until = node.chain.head().height + epochs;
    let crowd = (epochs > 0).then_some(Congestion { premium, until });
    node.chain.change_settings(|s| s.congestion = crowd)?;
    Ok(json!({ "until": until }))
}

fn null_rounds(node: &mut Node, args: &Args) -> Answer {
    let next = u64::try_from(number(args, "next", 1)?).unwrap_or(0);
    node.chain.change_settings(|s| s.null_rounds = next)?;
    Ok(Value::Null)
}

fn sync_lag(node: &mut Node, args: &Args) -> Answer {
    let epochs = number(args, "epochs", 0)?.max(0);
    node.chain.change_settings(|s| s.sync_lag = epochs)?;
    Ok(Value::Null)
}

fn fund(node: &mut Node, args: &Args) -> Answer {
    let text = field(args, "address")
        .as_str()
        .ok_or_else(|| RpcError::params("address: missing"))?;
    let (address, amount) = (parse_address(text)?, amount(args, "amount")?);
    node.chain
        .change_settings(|s| s.funds.push((address, amount)))?;
    Ok(Value::Null)
}
