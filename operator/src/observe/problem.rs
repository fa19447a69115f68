//! What is wrong between us and the chain, from errors to words that say what to do.

use filstar_chain::endpoints::{NoneHealthy, Unwell};
use filstar_chain::node::Error as NodeError;
use filstar_chain::transport::Error as TransportError;
use filstar_core::world::ChainProblem;
use filstar_crds::{MinerSpec, SignerType};

/// Newest network version whose rules we know.
const NEWEST_VERSION: u32 = 28;
/// Oldest network version whose rules we know: method 28 and 34 as we write them.
const OLDEST_VERSION: u32 = 22;

/// Why no endpoint can be used: the gravest reason first decides, since it will not pass by itself.
pub(super) fn of_endpoints(none: &NoneHealthy, spec: &MinerSpec) -> ChainProblem {
    together(none.reasons.iter().map(|r| of_unwell(r, spec)).collect())
}

/// One problem from those of several endpoints, in the order in which they were asked: the gravest one decides.
pub(super) fn together(mut problems: Vec<ChainProblem>) -> ChainProblem {
    problems.sort_by_key(rank);
    if problems.is_empty() {
        return ChainProblem::InvalidSpec(
            "spec.chain.endpoints is empty: name a chain node".into(),
        );
    }
    let others = problems.split_off(1);
    let first = problems.remove(0);
    if others.is_empty() {
        return first;
    }
    let rest: Vec<&str> = others.iter().map(ChainProblem::message).collect();
    let text = format!("{}; and {}", first.message(), rest.join("; "));
    with_text(&first, text)
}

fn of_unwell(unwell: &Unwell, spec: &MinerSpec) -> ChainProblem {
    match unwell {
        Unwell::Node(error) => of_node(error, spec),
        Unwell::Network { .. } | Unwell::Genesis { .. } => {
            ChainProblem::WrongNetwork(unwell.to_string())
        }
        Unwell::Slow { .. } => ChainProblem::Unreachable(unwell.to_string()),
        Unwell::Behind { .. } | Unwell::Ahead { .. } => ChainProblem::OutOfSync(unwell.to_string()),
    }
}

/// What an error of a chain node means for its Miner.
pub(super) fn of_node(error: &NodeError, spec: &MinerSpec) -> ChainProblem {
    let text = error.to_string();
    match error {
        NodeError::Transport(
            TransportError::BadToken { .. } | TransportError::TokenForm { .. },
        ) => ChainProblem::TokenRejected(text),
        NodeError::Transport(TransportError::Url { .. }) => ChainProblem::InvalidSpec(text),
        NodeError::Transport(transport) => ChainProblem::Unreachable(format!(
            "{text}{}: check that the node runs and that this URL leads to it",
            url_of(transport, spec)
        )),
        NodeError::MissingPermission { .. } => ChainProblem::MissingPermission(text),
        NodeError::ActorNotFound { .. } => actor_not_found(spec),
        NodeError::Value(_)
        | NodeError::NoSuchMethod { .. }
        | NodeError::NullRound { .. }
        | NodeError::Forgotten { .. }
        | NodeError::OutOfGas { .. }
        | NodeError::Execution { .. }
        | NodeError::Pool { .. }
        | NodeError::Refused { .. }
        | NodeError::Unreadable { .. }
        | NodeError::Unwritable { .. } => ChainProblem::Unreachable(text),
    }
}

/// Whether another endpoint may do what this one did not.
pub(super) fn is_of_endpoint(problem: &ChainProblem) -> bool {
    matches!(
        problem,
        ChainProblem::Unreachable(_)
            | ChainProblem::TokenRejected(_)
            | ChainProblem::MissingPermission(_)
    )
}

/// The network has no such actor.
pub(super) fn actor_not_found(spec: &MinerSpec) -> ChainProblem {
    let network = filstar_core::world::facts::network(spec.network);
    ChainProblem::ActorNotFound(format!(
        "{} has no miner actor {}: correct spec.actorId, or spec.network, or create the actor first; actorId is \
         immutable, so make another Miner",
        network, spec.actor_id
    ))
}

/// The permissions that a token lacks for what we do.
pub(super) fn permissions(
    endpoint: &str,
    has: &[String],
    spec: &MinerSpec,
) -> Option<ChainProblem> {
    let needed: &[&str] = match spec.signer.type_ {
        SignerType::Node => &["read", "write", "sign"],
        SignerType::Secret => &["read", "write"],
    };
    let missing: Vec<&str> = needed
        .iter()
        .filter(|n| !has.iter().any(|h| h == *n))
        .copied()
        .collect();
    let most = missing.last()?;
    Some(ChainProblem::MissingPermission(format!(
        "endpoint {endpoint}: the token lacks the permission {}: make one with `lotus auth create-token --perm {most}` \
         and put it into the Secret that tokenSecretRef names",
        missing.join(" and ")
    )))
}

/// Under a network version that we do not know nothing is sealed and nothing spent, but proofs go on.
pub(super) fn version(found: u32) -> Option<ChainProblem> {
    let known = (OLDEST_VERSION..=NEWEST_VERSION).contains(&found);
    (!known).then(|| {
        ChainProblem::UnknownNetworkVersion(format!(
            "the network runs version {found}; this operator knows {OLDEST_VERSION} to {NEWEST_VERSION}: upgrade the \
             operator; until then window proofs and recoveries are sent, and nothing else is signed"
        ))
    })
}

/// The actor's sector size is fixed when it is made.
pub(super) fn sector_size(actor_bytes: u64, spec: &MinerSpec) -> Option<ChainProblem> {
    let ours = spec.seal_proof.sector_size();
    (ours != actor_bytes).then(|| {
        ChainProblem::SealProofMismatch(format!(
            "sealProof {} is for sectors of {ours} bytes, actor {} has sectors of {actor_bytes} bytes: set the sealProof \
             of that size",
            spec.seal_proof.as_str(),
            spec.actor_id
        ))
    })
}

/// The URL of the endpoint that an error names, without credentials.
fn url_of(error: &TransportError, spec: &MinerSpec) -> String {
    let name = match error {
        TransportError::Url { endpoint, .. }
        | TransportError::TokenForm { endpoint }
        | TransportError::Tls { endpoint, .. }
        | TransportError::Unreachable { endpoint, .. }
        | TransportError::Timeout { endpoint, .. }
        | TransportError::BadToken { endpoint, .. }
        | TransportError::NoSuchPath { endpoint, .. }
        | TransportError::Http { endpoint, .. }
        | TransportError::TooLarge { endpoint, .. } => endpoint,
    };
    let url = spec
        .chain
        .endpoints
        .iter()
        .find(|e| e.name == *name)
        .map(|e| e.url.as_str());
    let shown = url.map(|url| match url.rsplit_once('@') {
        Some((_credentials, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    });
    shown.map(|url| format!(" ({url})")).unwrap_or_default()
}

/// Problems that a person must solve come before those that may pass.
fn rank(problem: &ChainProblem) -> u8 {
    match problem {
        ChainProblem::InvalidSpec(_) => 0,
        ChainProblem::WrongNetwork(_) => 1,
        ChainProblem::TokenRejected(_)
        | ChainProblem::MissingPermission(_)
        | ChainProblem::SecretMissing(_) => 2,
        ChainProblem::ActorNotFound(_)
        | ChainProblem::SealProofMismatch(_)
        | ChainProblem::UnknownNetworkVersion(_) => 3,
        ChainProblem::OutOfSync(_) => 4,
        ChainProblem::Unreachable(_) => 5,
    }
}

fn with_text(problem: &ChainProblem, text: String) -> ChainProblem {
    match problem {
        ChainProblem::Unreachable(_) => ChainProblem::Unreachable(text),
        ChainProblem::WrongNetwork(_) => ChainProblem::WrongNetwork(text),
        ChainProblem::TokenRejected(_) => ChainProblem::TokenRejected(text),
        ChainProblem::MissingPermission(_) => ChainProblem::MissingPermission(text),
        ChainProblem::SecretMissing(_) => ChainProblem::SecretMissing(text),
        ChainProblem::ActorNotFound(_) => ChainProblem::ActorNotFound(text),
        ChainProblem::SealProofMismatch(_) => ChainProblem::SealProofMismatch(text),
        ChainProblem::OutOfSync(_) => ChainProblem::OutOfSync(text),
        ChainProblem::UnknownNetworkVersion(_) => ChainProblem::UnknownNetworkVersion(text),
        ChainProblem::InvalidSpec(_) => ChainProblem::InvalidSpec(text),
    }
}

#[cfg(test)]
mod tests;
