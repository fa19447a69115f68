//! The node's wallet, and tokens.

use fvm_shared::address::Address;
use serde_json::json;

use super::args::Args;
use super::{Answer, Method, Node, RpcError, lotus};
use crate::jwt::{self, Permission};
use crate::keys::{Key, KeyInfo, KeyKind};
use crate::message::{SignedMessage, message_cid};

pub(super) fn method(name: &str) -> Option<Method> {
    let with = |permission, f| Some(Method::Now(permission, f));
    match name {
        "WalletBalance" => with(Permission::Read, balance),
        "WalletHas" => with(Permission::Write, has),
        "WalletList" => with(Permission::Write, |n, _| {
            Ok(n.keystore
                .addresses()
                .map(|a| json!(a.to_string()))
                .collect())
        }),
        "WalletSign" => with(Permission::Sign, sign),
        "WalletSignMessage" => with(Permission::Sign, sign_message),
        "WalletNew" => with(Permission::Write, new),
        "WalletImport" => with(Permission::Admin, import),
        "WalletExport" => with(Permission::Admin, export),
        "WalletDefaultAddress" => with(Permission::Write, |n, _| {
            n.keystore
                .addresses()
                .next()
                .map(|a| json!(a.to_string()))
                .ok_or_else(|| RpcError::new("no keys in wallet"))
        }),
        "AuthNew" => with(Permission::Admin, auth_new),
        _ => None,
    }
}

/// After the head's own messages, as lotus's wallet counts.
fn balance(node: &mut Node, args: &Args) -> Answer {
    Ok(lotus::token(&node.chain.sender(&args.address(0)?).balance))
}

fn key_of<'a>(node: &'a Node, address: &Address) -> Result<&'a Key, RpcError> {
    let key = node.chain.head().state.key_of(address).unwrap_or(*address);
    node.keystore
        .get(&key)
        .ok_or_else(|| RpcError::new(format!("signing using key '{key}': key info not found")))
}

fn has(node: &mut Node, args: &Args) -> Answer {
    Ok(json!(node.keystore.get(&args.address(0)?).is_some()))
}

fn sign(node: &mut Node, args: &Args) -> Answer {
    let signature = key_of(node, &args.address(0)?)?.sign(&args.bytes(1)?);
    Ok(lotus::signature(&signature))
}

fn sign_message(node: &mut Node, args: &Args) -> Answer {
    let mut message = args.message(1)?;
    let key = key_of(node, &args.address(0)?)?;
    message.from = key.address;
    let signature = key.sign(&message_cid(&message).to_bytes());
    Ok(lotus::signed_message(&SignedMessage { message, signature }))
}

fn new(node: &mut Node, args: &Args) -> Answer {
    let key = Key::generate(KeyKind::parse(args.str(0)?)?);
    Ok(json!(node.keystore.add(key)?.to_string()))
}

fn import(node: &mut Node, args: &Args) -> Answer {
    let info: KeyInfo = serde_json::from_value(args.raw(0).clone())
        .map_err(|e| RpcError::new(format!("not a key: {e}")))?;
    Ok(json!(node.keystore.add(Key::from_info(info)?)?.to_string()))
}

fn export(node: &mut Node, args: &Args) -> Answer {
    let info = &key_of(node, &args.address(0)?)?.info;
    Ok(json!({ "Type": info.kind, "PrivateKey": info.private }))
}

fn auth_new(node: &mut Node, args: &Args) -> Answer {
    let names = args.raw(0).as_array().cloned().unwrap_or_default();
    let mut allow = Vec::new();
    for name in names {
        let parsed = name.as_str().and_then(jwt::parse);
        allow.push(parsed.ok_or_else(|| RpcError::new(format!("no permission {name}")))?);
    }
    // Go has bytes for a token, so it goes over the wire in base64.
    Ok(lotus::bytes(jwt::issue(&node.secret, &allow).as_bytes()))
}
