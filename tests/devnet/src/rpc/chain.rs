//! Chain and node health.

use serde_json::{Value, json};

use super::args::Args;
use super::{Answer, Method, Node, RpcError, lotus};
use crate::chain::read::beacon_entry;
use crate::jwt::{Permission, verify};

pub(super) fn method(name: &str) -> Option<Method> {
    let now = |f| Some(Method::Now(Permission::Read, f));
    match name {
        "ChainHead" => now(head),
        "ChainGetGenesis" => now(|n, _| Ok(lotus::tipset(n.chain.genesis()))),
        "ChainGetTipSet" => now(|n, a| Ok(lotus::tipset(&*n.chain.by_key(&a.key(0)?)?))),
        "ChainGetTipSetByHeight" => now(|n, a| by_height(n, a, true)),
        "ChainGetTipSetAfterHeight" => now(|n, a| by_height(n, a, false)),
        "ChainGetBlock" => now(get_block),
        "ChainGetBlockMessages" => now(block_messages),
        "ChainGetMessage" => now(get_message),
        "ChainGetParentMessages" => now(parent_messages),
        "ChainGetParentReceipts" => now(parent_receipts),
        "ChainGetMessagesInTipset" => now(messages_in_tipset),
        "ChainTipSetWeight" => now(|n, a| {
            let tipset = n.chain.by_key(&a.key(0)?)?;
            Ok(json!(
                (tipset.weight() + 256 * tipset.blocks.len() as u64).to_string()
            ))
        }),
        "NodeStatus" => now(node_status),
        "SyncState" => now(sync_state),
        "Version" => now(version),
        "AuthVerify" => now(auth_verify),
        "StateNetworkName" => now(|n, _| Ok(json!(n.chain.config.network_name))),
        "StateNetworkVersion" => now(|_, _| Ok(json!(28))),
        "StateGetNetworkParams" => now(network_params),
        "StateGetRandomnessFromTickets" => now(|n, a| draw(n, a, false)),
        "StateGetRandomnessFromBeacon" => now(|n, a| draw(n, a, true)),
        "StateGetRandomnessDigestFromTickets" => now(|n, a| digest(n, a, false)),
        "StateGetRandomnessDigestFromBeacon" => now(|n, a| digest(n, a, true)),
        "StateGetBeaconEntry" => Some(Method::Wait(get_beacon_entry)),
        _ => None,
    }
}

fn head(node: &mut Node, _: &Args) -> Answer {
    Ok(lotus::tipset(&visible_head(node)))
}

/// The head that the node admits to: older when the admin lets it lag.
fn visible_head(node: &Node) -> std::sync::Arc<crate::chain::tipset::Tipset> {
    let head = node.chain.head();
    let lag = node.chain.settings.sync_lag;
    if lag <= 0 {
        return head.clone();
    }
    node.chain
        .seen_from(head, (head.height - lag).max(0), true)
        .unwrap_or_else(|_| head.clone())
}

fn by_height(node: &mut Node, args: &Args, before: bool) -> Answer {
    let from = node.chain.by_key(&args.key(1)?)?;
    Ok(lotus::tipset(&*node.chain.seen_from(
        &from,
        args.i64(0)?,
        before,
    )?))
}

fn get_block(node: &mut Node, args: &Args) -> Answer {
    let cid = args.cid(0)?;
    let tipset = node.chain.of_block(&cid)?;
    let index = tipset.key.iter().position(|c| *c == cid).unwrap_or(0);
    Ok(lotus::header(&tipset.blocks[index]))
}

fn block_messages(node: &mut Node, args: &Args) -> Answer {
    let cid = args.cid(0)?;
    let tipset = node.chain.of_block(&cid)?;
    let index = tipset.key.iter().position(|c| *c == cid).unwrap_or(0);
    let start: usize = tipset.counts[..index].iter().sum();
    let messages = &tipset.messages[start..start + tipset.counts[index]];
    let (mut bls, mut secp) = (Vec::new(), Vec::new());
    for signed in messages {
        match signed.signature.sig_type {
            fvm_shared::crypto::signature::SignatureType::BLS => {
                bls.push(lotus::message(&signed.message));
            }
            fvm_shared::crypto::signature::SignatureType::Secp256k1 => {
                secp.push(lotus::signed_message(signed));
            }
        }
    }
    let cids: Vec<Value> = messages.iter().map(|m| lotus::cid(&m.cid())).collect();
    Ok(json!({
        "BlsMessages": lotus::list(bls), "SecpkMessages": lotus::list(secp), "Cids": lotus::list(cids)
    }))
}

fn get_message(node: &mut Node, args: &Args) -> Answer {
    let cid = args.cid(0)?;
    node.chain
        .find_message(&cid)
        .map(|m| lotus::message(&m.message))
        .ok_or_else(|| {
            RpcError::new(format!(
                "blockstore: block not found: ipld: could not find {cid}"
            ))
        })
}

fn with_cids(tipset: &crate::chain::tipset::Tipset) -> Value {
    let items = tipset
        .messages
        .iter()
        .zip(&tipset.message_cids)
        .map(|(m, cid)| json!({ "Cid": lotus::cid(cid), "Message": lotus::message(&m.message) }))
        .collect();
    lotus::list(items)
}

fn parent_messages(node: &mut Node, args: &Args) -> Answer {
    let tipset = node.chain.of_block(&args.cid(0)?)?;
    Ok(node
        .chain
        .parent_of(&tipset)
        .map_or(Value::Null, |parent| with_cids(&parent)))
}

fn messages_in_tipset(node: &mut Node, args: &Args) -> Answer {
    Ok(with_cids(&*node.chain.by_key(&args.key(0)?)?))
}

fn parent_receipts(node: &mut Node, args: &Args) -> Answer {
    let tipset = node.chain.of_block(&args.cid(0)?)?;
    Ok(node.chain.parent_of(&tipset).map_or(Value::Null, |parent| {
        lotus::list(parent.receipts.iter().map(lotus::receipt).collect())
    }))
}

fn node_status(node: &mut Node, _: &Args) -> Answer {
    let head = visible_head(node);
    let behind = u64::try_from(node.chain.settings.sync_lag.max(0)).unwrap_or(0);
    let blocks = node.chain.config.blocks_per_tipset;
    Ok(json!({
        "SyncStatus": { "Epoch": head.height, "Behind": behind },
        "PeerStatus": { "PeersToPublishMsgs": 4, "PeersToPublishBlocks": 4 },
        "ChainStatus": { "BlocksPerTipsetLast100": blocks, "BlocksPerTipsetLastFinality": blocks },
    }))
}

fn sync_state(node: &mut Node, _: &Args) -> Answer {
    let head = node.chain.head().clone();
    let seen = visible_head(node);
    // Stages of lotus: 1 messages, 4 complete.
    let stage = if seen.height == head.height { 4 } else { 1 };
    Ok(json!({
        "ActiveSyncs": [{
            "WorkerID": 1, "Base": lotus::tipset(&seen), "Target": lotus::tipset(&head), "Stage": stage,
            "Height": seen.height, "Start": "0001-01-01T00:00:00Z", "End": "0001-01-01T00:00:00Z",
            "Message": "",
        }],
        "VMApplied": 0,
    }))
}

fn version(node: &mut Node, _: &Args) -> Answer {
    Ok(json!({
        "Version": concat!("filstar-devnet-", env!("CARGO_PKG_VERSION")),
        "APIVersion": 131_840,
        "BlockDelay": (node.chain.config.block_delay_ms / 1_000).max(1),
        "Agent": concat!("filstar-devnet/", env!("CARGO_PKG_VERSION")),
    }))
}

fn auth_verify(node: &mut Node, args: &Args) -> Answer {
    let allowed = verify(&node.secret, args.str(0)?)
        .ok_or_else(|| RpcError::new("JWT Verification failed: invalid signature"))?;
    Ok(allowed.iter().map(|p| p.name()).collect())
}

fn network_params(node: &mut Node, _: &Args) -> Answer {
    let config = &node.chain.config;
    let names = "Smoke Breeze Ignition Liftoff Assembly Refuel Tape Kumquat BreezeGasTamping Calico \
                 Persian Orange Claus Trust Norwegian Turbo Hyperdrive Chocolate OhSnap Skyr Shark \
                 Hygge Lightning Thunder Watermelon Dragon Phoenix Waffle Tuktuk Teep Tock GoldenWeek \
                 FireHorse Xx";
    let mut forks = serde_json::Map::new();
    for name in names.split_whitespace() {
        if name == "BreezeGasTamping" {
            forks.insert("BreezeGasTampingDuration".to_owned(), json!(0));
        } else {
            let height = if name == "Xx" {
                999_999_999_999_999i64
            } else {
                -1
            };
            forks.insert(format!("Upgrade{name}Height"), json!(height));
        }
    }
    Ok(json!({
        "NetworkName": config.network_name,
        "BlockDelaySecs": (config.block_delay_ms / 1_000).max(1),
        "ConsensusMinerMinPower": config.consensus_min_power.to_string(),
        "PreCommitChallengeDelay": config.pre_commit_challenge_delay,
        "ForkUpgradeParams": forks,
        "Eip155ChainID": 31_415_926,
        "GenesisTimestamp": config.genesis_time_ms / 1_000,
    }))
}

fn digest_at(
    node: &Node,
    epoch: i64,
    key: &[cid::Cid],
    beacon: bool,
) -> Result<[u8; 32], RpcError> {
    let from = node.chain.by_key(key)?;
    Ok(if beacon {
        node.chain.beacon_digest(&from, epoch)?
    } else {
        node.chain.ticket_digest(&from, epoch)?
    })
}

fn draw(node: &mut Node, args: &Args, beacon: bool) -> Answer {
    let (tag, epoch, entropy) = (args.i64(0)?, args.i64(1)?, args.bytes(2)?);
    let digest = digest_at(node, epoch, &args.key(3)?, beacon)?;
    Ok(lotus::bytes(&crate::codec::draw_randomness(
        tag, &digest, epoch, &entropy,
    )))
}

fn digest(node: &mut Node, args: &Args, beacon: bool) -> Answer {
    Ok(lotus::bytes(&digest_at(
        node,
        args.i64(0)?,
        &args.key(1)?,
        beacon,
    )?))
}

fn get_beacon_entry(node: &mut Node, args: &Args) -> Result<Option<Value>, RpcError> {
    let epoch = args.i64(0)?;
    if epoch > node.chain.head().height {
        return Ok(None);
    }
    Ok(Some(lotus::beacon_entry(&beacon_entry(
        node.chain.config.seed.as_bytes(),
        epoch,
    ))))
}
