//! Which sectors, messages and senders of a Miner to ask the chain about: a pure function of the world.

use std::collections::{BTreeMap, BTreeSet};

use filstar_core::world::{Id, World};
use filstar_crds::{ChainMessage, MessageState, Miner, Sector, SectorPhase};

/// What to ask of the chain for one Miner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Sectors whose state on chain matters.
    pub sectors: BTreeSet<u64>,
    /// Messages whose fate is open, by the CID of each signed version.
    pub messages: BTreeMap<String, Asked>,
    /// Senders, as written.
    pub senders: BTreeSet<String>,
}

/// A message whose fate is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its sender, as written.
    pub from: String,
    /// Its nonce.
    pub nonce: u64,
}

/// What the plans need to know of the chain.
pub fn questions(world: &World, id: &Id, miner: &Miner) -> Questions {
    let senders = &miner.spec.senders;
    let mut asked = Questions {
        senders: [
            &senders.pre_commit,
            &senders.commit,
            &senders.post,
            senders.recover(),
        ]
        .into_iter()
        .map(str::to_owned)
        .collect(),
        ..Questions::default()
    };
    for (_, sector) in world.sectors.in_namespace(&id.namespace) {
        if sector.spec.miner_ref.name == id.name && matters(sector) {
            asked.sectors.extend(u64::try_from(sector.spec.number));
        }
    }
    for (_, message) in world.messages.in_namespace(&id.namespace) {
        if message.spec.miner_ref.name == id.name {
            ask_message(&mut asked, message);
        }
    }
    asked
}

/// Whether the chain decides what comes next for a sector.
fn matters(sector: &Sector) -> bool {
    let status = sector.status.as_ref();
    match status.and_then(|s| s.phase).unwrap_or_default() {
        SectorPhase::PreCommitting
        | SectorPhase::WaitSeed
        | SectorPhase::C1
        | SectorPhase::C2
        | SectorPhase::Committing
        | SectorPhase::Finalizing
        | SectorPhase::Landing => true,
        // With a pre-commit of an earlier attempt behind it, or messages that may still land.
        SectorPhase::Allocated
        | SectorPhase::Packing
        | SectorPhase::Pc1
        | SectorPhase::Pc2
        | SectorPhase::Failed => status.is_some_and(|s| s.messages.is_some()),
        SectorPhase::Proving | SectorPhase::Removing => false,
    }
}

fn ask_message(asked: &mut Questions, message: &ChainMessage) {
    let status = message.status.as_ref();
    let state = status.and_then(|s| s.state).unwrap_or_default();
    if matches!(state, MessageState::Final | MessageState::Failed) {
        return;
    }
    asked.senders.insert(message.spec.from.clone());
    let Some((status, nonce)) = status.and_then(|s| s.nonce.map(|n| (s, n))) else {
        return;
    };
    for version in &status.versions {
        let from = message.spec.from.clone();
        asked
            .messages
            .insert(version.cid.clone(), Asked { from, nonce });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn miner() -> Miner {
        serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "Miner",
            "metadata": {"name": "m", "namespace": "ns", "uid": "m"},
            "spec": {
                "actorId": "t01000", "network": "devnet",
                "chain": {"endpoints": [{"name": "a", "url": "http://a/rpc/v1"}]},
                "senders": {"preCommit": "t1a", "commit": "t1b", "post": "t1b"},
                "signer": {"type": "Node"}, "sealProof": "StackedDrg2KiBV1P1",
            },
        }))
        .unwrap()
    }

    fn sector(number: u64, miner: &str, phase: &str) -> Sector {
        serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "Sector",
            "metadata": {"name": format!("t01000-{number}"), "namespace": "ns", "uid": number.to_string()},
            "spec": {
                "minerRef": {"name": miner}, "groupRef": {"name": "g"}, "number": number,
                "sealProof": "StackedDrg2KiBV1P1",
            },
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn message(name: &str, state: &str) -> ChainMessage {
        serde_json::from_value(json!({
            "apiVersion": "filstar.io/v1alpha1", "kind": "ChainMessage",
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {
                "minerRef": {"name": "m"}, "kind": "PreCommit", "from": "t1old", "to": "t01000",
                "method": 28, "params": "", "value": "0 attoFIL", "maxFee": "1 FIL",
            },
            "status": {"state": state, "nonce": 4, "versions": [
                {"cid": format!("cid-{name}"), "gasFeeCap": "1", "gasPremium": "1", "gasLimit": 1, "bytes": ""},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn sectors_are_asked_about_while_the_chain_decides_what_comes_next() {
        let mut world = World::default();
        for (number, phase) in [
            (1, "PC1"),
            (2, "PreCommitting"),
            (3, "Landing"),
            (4, "Proving"),
        ] {
            world.sectors.apply(sector(number, "m", phase));
        }
        world.sectors.apply(sector(5, "other", "C2"));
        let asked = questions(&world, &Id::new("ns", "m"), &miner());
        assert_eq!(asked.sectors, [2, 3].into());
    }

    #[test]
    fn messages_are_asked_about_until_their_fate_is_known() {
        let mut world = World::default();
        for (name, state) in [
            ("a", "Signed"),
            ("b", "Landed"),
            ("c", "Final"),
            ("d", "Failed"),
        ] {
            world.messages.apply(message(name, state));
        }
        let asked = questions(&world, &Id::new("ns", "m"), &miner());
        assert_eq!(
            asked.messages.keys().collect::<Vec<_>>(),
            ["cid-a", "cid-b"]
        );
        assert_eq!(
            asked.messages["cid-a"],
            Asked {
                from: "t1old".into(),
                nonce: 4
            }
        );
        let senders: Vec<_> = asked.senders.iter().map(String::as_str).collect();
        assert_eq!(senders, ["t1a", "t1b", "t1old"]);
    }
}
