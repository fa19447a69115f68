//! Gate `ChainSync`: nothing is pledged on a chain that cannot be decided upon. Its bound is `chain.maxLagEpochs` of the
//! Miner.

use super::gate::{Gate, Verdict};
use crate::world::{Id, World};

pub(super) fn verdict(world: &World, miner_id: &Id) -> Verdict {
    const GATE: Gate = Gate::ChainSync;
    if world.miners.get(miner_id).is_none() {
        let text = format!(
            "there is no Miner {} in this namespace: create it",
            miner_id.name
        );
        return Verdict::closed(GATE, text);
    }
    if let Some(other) = world.older_twin(miner_id) {
        let text = format!("Miner {other} is the same actor and is older: delete one of the two");
        return Verdict::closed(GATE, text);
    }
    let view = world.chains.get(miner_id);
    match view {
        Some(view) if view.problem.is_some() => {
            let problem = view.problem.as_ref();
            Verdict::closed(GATE, problem.map_or("", |p| p.message()))
        }
        Some(view) if view.facts.is_some() => Verdict::open(GATE, "the chain node is in sync"),
        Some(_) | None => Verdict::closed(GATE, "the chain node has not answered yet"),
    }
}
