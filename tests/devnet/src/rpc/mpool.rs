//! The message pool.

use fvm_shared::econ::TokenAmount;
use num_traits::Zero as _;
use serde_json::{Value, json};

use super::args::Args;
use super::gas::estimate_message;
use super::{Answer, Method, Node, RpcError, lotus};
use crate::jwt::Permission;
use crate::message::{SignedMessage, message_cid, required_gas_funds};

pub(super) fn method(name: &str) -> Option<Method> {
    let read = |f| Some(Method::Now(Permission::Read, f));
    match name {
        "MpoolPush" | "MpoolPushUntrusted" => Some(Method::Now(Permission::Write, push)),
        "MpoolBatchPush" => Some(Method::Now(Permission::Write, batch_push)),
        "MpoolPushMessage" => Some(Method::Now(Permission::Sign, push_message)),
        "MpoolPending" => read(pending),
        "MpoolSelect" => read(select),
        "MpoolGetNonce" => read(|n, a| Ok(json!(n.chain.next_nonce(&a.address(0)?)))),
        "MpoolGetConfig" => read(|_, _| {
            Ok(json!({
                "PriorityAddrs": null, "SizeLimitHigh": 30_000, "SizeLimitLow": 20_000,
                "ReplaceByFeeRatio": 1.25, "PruneCooldown": 60_000_000_000i64,
                "GasLimitOverestimation": 1.25,
            }))
        }),
        _ => None,
    }
}

fn push(node: &mut Node, args: &Args) -> Answer {
    let message = args.signed_message(0)?;
    let (from, nonce) = (message.message.from, message.message.sequence);
    let taken = node.chain.push(message, None)?;
    tracing::info!(cid = %taken, %from, nonce, "message taken");
    Ok(lotus::cid(&taken))
}

fn batch_push(node: &mut Node, args: &Args) -> Answer {
    let list = args
        .raw(0)
        .as_array()
        .ok_or_else(|| RpcError::new("expected a list of messages"))?;
    let mut cids = Vec::new();
    for value in list {
        let one = Args::new(json!([value]));
        cids.push(lotus::cid(&node.chain.push(one.signed_message(0)?, None)?));
    }
    Ok(Value::Array(cids))
}

fn push_message(node: &mut Node, args: &Args) -> Answer {
    let mut message = args.message(0)?;
    let spec = args.raw(1);
    let uuid = spec
        .get("MsgUuid")
        .and_then(Value::as_str)
        .filter(|u| u.chars().any(|c| c != '0' && c != '-'))
        .map(str::to_owned);
    if let Some(done) = uuid.as_deref().and_then(|u| node.chain.by_uuid(u)) {
        return Ok(lotus::signed_message(done));
    }
    if message.sequence != 0 {
        return Err(RpcError::new(format!(
            "MpoolPushMessage expects message nonce to be 0, was {}",
            message.sequence
        )));
    }
    message.from = node
        .chain
        .head()
        .state
        .key_of(&message.from)
        .ok_or_else(|| RpcError::new("getting key address: actor not found"))?;
    message = estimate_message(node, message, spec).map_err(|e| RpcError {
        code: e.code,
        message: format!("GasEstimateMessageGas error: {}", e.message),
    })?;
    let balance = node.chain.sender(&message.from).balance;
    let required = required_gas_funds(&message) + &message.value;
    if balance < required {
        return Err(RpcError::new(format!(
            "mpool push: not enough funds: {balance} < {required}"
        )));
    }
    message.sequence = node.chain.next_nonce(&message.from);
    let key = node.keystore.get(&message.from).ok_or_else(|| {
        RpcError::new(format!(
            "mpool push: failed to sign message: key not found: {}",
            message.from
        ))
    })?;
    let signature = key.sign(&message_cid(&message).to_bytes());
    let signed = SignedMessage { message, signature };
    node.chain.push(signed.clone(), uuid)?;
    Ok(lotus::signed_message(&signed))
}

fn pending(node: &mut Node, _: &Args) -> Answer {
    Ok(node
        .chain
        .mempool
        .iter()
        .map(lotus::signed_message)
        .collect())
}

fn select(node: &mut Node, _: &Args) -> Answer {
    let chain = &node.chain;
    let chosen = chain
        .mempool
        .select(&chain.next_base_fee(), &TokenAmount::zero(), 1, |a| {
            chain.sender(a)
        });
    Ok(chosen.iter().map(lotus::signed_message).collect())
}
