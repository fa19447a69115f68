//! Estimates of gas and fees, as lotus makes them; without its random noise.

use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use num_traits::Zero as _;
use serde_json::{Value, json};

use super::args::token;
use super::state::simulate_after_pending;
use super::{Method, Node, RpcError, lotus};
use crate::gas::{BLOCK_GAS_LIMIT, estimate_fee_cap, estimate_premium};
use crate::jwt::Permission;

/// Lotus's default for messages without a limit of their own: 0.07 FIL.
const DEFAULT_MAX_FEE_NANO: i64 = 70_000_000;

pub(super) fn method(name: &str) -> Option<Method> {
    let now = |f| Some(Method::Now(Permission::Read, f));
    match name {
        "GasEstimateMessageGas" => now(|n, a| {
            let message = estimate_message(n, a.message(0)?, a.raw(1))?;
            Ok(lotus::message(&message))
        }),
        "GasEstimateFeeCap" => now(|n, a| {
            let message = a.message(0)?;
            let blocks = u32::try_from(a.i64(1)?.max(0)).unwrap_or(u32::MAX);
            Ok(lotus::token(&estimate_fee_cap(
                &n.chain.next_base_fee(),
                &message.gas_premium,
                blocks,
            )))
        }),
        "GasEstimateGasPremium" => now(|n, a| Ok(lotus::token(&premium(n, a.u64(0)?)))),
        "GasEstimateGasLimit" => now(|n, a| Ok(json!(gas_limit(n, &a.message(0)?)?))),
        "EthBaseFee" => now(|n, _| {
            Ok(json!(format!(
                "0x{}",
                n.chain.next_base_fee().atto().to_str_radix(16)
            )))
        }),
        _ => None,
    }
}

fn gas_limit(node: &Node, message: &Message) -> Result<u64, RpcError> {
    let mut message = message.clone();
    message.gas_limit = BLOCK_GAS_LIMIT;
    message.gas_fee_cap = TokenAmount::zero();
    message.gas_premium = TokenAmount::zero();
    let applied = simulate_after_pending(node, &message);
    let code = applied.receipt.exit_code;
    if code == ExitCode::SYS_OUT_OF_GAS.value() {
        return Err(RpcError::out_of_gas("call ran out of gas"));
    }
    if code != 0 {
        return Err(RpcError::new(format!(
            "message execution failed: exit {}, reason: {}",
            exit_name(code),
            applied.receipt.error
        )));
    }
    Ok(applied.receipt.gas_used)
}

/// An exit code as lotus prints it.
pub(super) fn exit_name(code: u32) -> String {
    let name = match code {
        0 => "Ok",
        1 => "SysErrSenderInvalid",
        2 => "SysErrSenderStateInvalid",
        4 => "SysErrIllegalInstruction",
        5 => "SysErrInvalidReceiver",
        6 => "SysErrInsufficientFunds",
        7 => "SysErrOutOfGas",
        16 => "ErrIllegalArgument",
        17 => "ErrNotFound",
        18 => "ErrForbidden",
        19 => "ErrInsufficientFunds",
        20 => "ErrIllegalState",
        21 => "ErrSerialization",
        22 => "ErrUnhandledMessage",
        other => return other.to_string(),
    };
    format!("{name}({code})")
}

fn premium(node: &Node, within: u64) -> TokenAmount {
    let mut paid = Vec::new();
    let mut blocks = 0;
    let mut tipset = std::sync::Arc::clone(node.chain.head());
    for _ in 0..within.saturating_mul(2) {
        let Some(parent) = node.chain.parent_of(&tipset) else {
            break;
        };
        blocks += tipset.blocks.len() as u64;
        for message in &tipset.messages {
            paid.push((
                message.message.gas_premium.clone(),
                message.message.gas_limit,
            ));
        }
        tipset = parent;
    }
    estimate_premium(paid, blocks, within)
}

/// Fills in what the caller left at zero, then cuts the fee to what it allows.
pub(super) fn estimate_message(
    node: &Node,
    mut message: Message,
    spec: &Value,
) -> Result<Message, RpcError> {
    if message.gas_limit == 0 {
        let used = gas_limit(node, &message).map_err(|e| RpcError {
            code: e.code,
            message: format!("estimating gas used: {}", e.message),
        })?;
        message.gas_limit = (used + used / 4).min(BLOCK_GAS_LIMIT);
    }
    if message.gas_premium.is_zero() {
        message.gas_premium = premium(node, 10);
    }
    if message.gas_fee_cap.is_zero() {
        message.gas_fee_cap =
            estimate_fee_cap(&node.chain.next_base_fee(), &message.gas_premium, 20);
    }
    let given = spec
        .get("MaxFee")
        .and_then(token)
        .filter(|fee| !fee.is_zero());
    let max_fee = given.unwrap_or_else(|| TokenAmount::from_nano(DEFAULT_MAX_FEE_NANO));
    let maximize = spec
        .get("MaximizeFeeCap")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let total = message.gas_fee_cap.clone() * message.gas_limit;
    if maximize || total > max_fee {
        message.gas_fee_cap = max_fee.div_floor(message.gas_limit);
    }
    message.gas_premium = std::cmp::min(message.gas_premium, message.gas_fee_cap.clone());
    Ok(message)
}
