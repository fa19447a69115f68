//! Whether the signer can sign for all senders, and whether those may speak for the miner.

use std::collections::BTreeSet;

use filstar_chain::node::{ActorReader, Error as NodeError, Node, NodeSigner};
use filstar_chain::types::{Address, parse_address};
use filstar_core::world::facts::network;
use filstar_core::world::{ChainFacts, Id};
use filstar_crds::{MinerSpec, SignerType};

use crate::secrets::Secrets;

/// Checks all senders. The error says which is no good, and what to do.
pub(super) async fn check(
    node: &Node,
    secrets: &Secrets,
    namespace: &str,
    spec: &MinerSpec,
    facts: &ChainFacts,
) -> Result<(), String> {
    let senders = [
        &spec.senders.pre_commit,
        &spec.senders.commit,
        &spec.senders.post,
        spec.senders.recover(),
    ];
    for text in BTreeSet::from(senders) {
        let address = parse_address(text).map_err(|e| format!("spec.senders: {e}"))?;
        check_key(node, secrets, namespace, spec, &address, text).await?;
        check_role(node, facts, spec, &address, text).await?;
    }
    Ok(())
}

async fn check_key(
    node: &Node,
    secrets: &Secrets,
    namespace: &str,
    spec: &MinerSpec,
    address: &Address,
    text: &str,
) -> Result<(), String> {
    match (spec.signer.type_, &spec.signer.secret_ref) {
        (SignerType::Node, _) => match node.wallet_has(address).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "the wallet of endpoint {} has no key of {text}: import it there (lotus wallet import), or use signer Secret",
                node.name()
            )),
            Err(error) => Err(error.to_string()),
        },
        (SignerType::Secret, Some(secret)) => {
            let id = Id::new(namespace, &secret.name);
            let network = network(spec.network);
            let found = secrets.signer(&id, address, network).await;
            found.map(drop).map_err(|error| error.to_string())
        }
        (SignerType::Secret, None) => {
            Err("spec.signer of type Secret has no secretRef: name the Secret with the keys".into())
        }
    }
}

/// The actor takes messages from its owner, its worker and its control addresses only.
async fn check_role(
    node: &Node,
    facts: &ChainFacts,
    spec: &MinerSpec,
    address: &Address,
    text: &str,
) -> Result<(), String> {
    match node.lookup_id(address, &facts.head_key).await {
        Ok(id) if facts.info.may_send(&id) => Ok(()),
        Ok(id) => Err(format!(
            "{text} ({}) is neither owner, worker nor control address of {}: make it one (lotus-miner actor control set), \
             or name another sender",
            network(spec.network).format(&id),
            spec.actor_id
        )),
        Err(NodeError::ActorNotFound { .. }) => Err(format!(
            "{text} is not on chain yet: send it some FIL, then make it a control address"
        )),
        Err(error) => Err(error.to_string()),
    }
}
