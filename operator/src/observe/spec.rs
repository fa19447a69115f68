//! From a Miner's spec to chain nodes that can be asked.

use filstar_chain::endpoints::{Endpoints, Policy};
use filstar_chain::node::Node;
use filstar_chain::transport::{Endpoint, Token};
use filstar_core::world::facts::network;
use filstar_core::world::{ChainProblem, Id};
use filstar_crds::MinerSpec;

use crate::secrets::Secrets;

/// What was made of a Miner's spec.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) endpoints: Endpoints,
    /// Token of each endpoint that has one, by its name.
    pub(super) tokens: Vec<(String, Token)>,
}

/// Reads the tokens and makes the nodes; no connection is made yet.
pub(super) async fn nodes(
    secrets: &Secrets,
    namespace: &str,
    spec: &MinerSpec,
) -> Result<Nodes, ChainProblem> {
    let network = network(spec.network);
    let mut tokens = Vec::new();
    let mut nodes = Vec::new();
    for endpoint in &spec.chain.endpoints {
        let token = match &endpoint.token_secret_ref {
            None => None,
            Some(key) => {
                let id = Id::new(namespace, &key.name);
                let text = secrets.text(&id, &key.key).await.map_err(|error| {
                    ChainProblem::SecretMissing(format!(
                        "chain endpoint {}: {error}",
                        endpoint.name
                    ))
                })?;
                Some(Token::new(&text))
            }
        };
        if let Some(token) = &token {
            tokens.push((endpoint.name.clone(), token.clone()));
        }
        let node = Node::new(Endpoint::new(&endpoint.name, &endpoint.url, token), network)
            .map_err(|error| ChainProblem::InvalidSpec(format!("spec.chain.endpoints: {error}")))?;
        nodes.push(node);
    }
    let max_lag_epochs = u64::try_from(spec.chain.max_lag_epochs).unwrap_or(0);
    let policy = Policy {
        network,
        max_lag_epochs,
        genesis: None,
    };
    Ok(Nodes {
        endpoints: Endpoints::new(nodes, policy),
        tokens,
    })
}
