//! Every drain ends with an empty node or with a reason, whoever asks for it and whenever the operator dies.

use crate::drain_sim::{Asks, ROUNDS, sim};
use crate::support::*;
use filstar_crds::SectorPhase;
use filstar_operator::plan::drain::node_is_closing;
use filstar_operator::plan::plan;
use filstar_operator::world::Id;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_drain_ends_with_an_empty_node_or_a_reason_and_loses_nothing_on_chain(
        phases in prop::collection::vec(0_usize..11, 0..6),
        by_hand in any::<bool>(),
        delete in any::<bool>(),
        deadline in prop::option::of(1_i64..2000),
        stubborn in prop::bool::weighted(0.2),
        paused in prop::bool::weighted(0.2),
        seed in any::<u64>(),
    ) {
        let policy = if delete { "Delete" } else { "Checkpoint" };
        let asks = if by_hand { Asks::Cordon } else { Asks::Maintenance };
        let mut sim = sim(&phases, asks, policy, deadline, seed);
        sim.stubborn = stubborn;
        if paused && !phases.is_empty() {
            sim.change(&Id::new(NS, "t01000-0"), |s| s.spec.paused = true);
        }
        for _ in 0..ROUNDS {
            sim.round();
        }
        // A last plan that is done whole, so that what the API server says is known.
        for action in plan(&sim.world, at(sim.second)) {
            sim.apply(action);
        }
        let view = sim.view();
        let said = view.blocked.as_ref().map(|b| b.message.clone()).unwrap_or_default();
        prop_assert!(view.is_drained() || !said.is_empty(), "{view:#?}");
        prop_assert!(!view.is_drained() || sim.evicted == 1);
        for name in &sim.on_chain {
            prop_assert!(sim.world.sectors.get(&Id::new(NS, name)).is_some(), "{name} is gone");
        }
        if view.is_drained() {
            for (id, sector) in sim.world.sectors.iter() {
                let phase = sector.status.as_ref().unwrap().phase;
                if sim.on_chain.contains(&id.name) {
                    prop_assert_eq!(phase, Some(SectorPhase::Proving));
                } else {
                    prop_assert!(!delete, "{} is left in {:?}", id, phase);
                }
            }
        }
    }

    /// Whoever uncordons the node, and whenever the operator dies: it is cordoned again only for a task that was not
    /// over its time then, and a cordon that stands empties the node.
    #[test]
    fn a_task_over_its_time_empties_its_node_and_a_person_who_uncordons_it_is_heeded(
        phases in prop::collection::vec(0_usize..11, 1..6),
        delete in any::<bool>(),
        uncordons in prop::collection::vec(0_usize..ROUNDS / 2, 0..6),
        seed in any::<u64>(),
    ) {
        let policy = if delete { "Delete" } else { "Checkpoint" };
        let mut sim = sim(&phases, Asks::Task, policy, None, seed);
        let mut closing = 0;
        for round in 0..3 * ROUNDS {
            if uncordons.contains(&round) {
                sim.uncordon();
            }
            if uncordons.iter().all(|last| *last < round) && sim.is_settled() {
                break;
            }
            sim.round();
            let closes = node_is_closing(&sim.world, "node-a").is_some();
            closing = if closes { closing + 1 } else { 0 };
            prop_assert!(closing < ROUNDS, "it is never empty: {:#?}", sim.view());
        }
        for name in &sim.on_chain {
            prop_assert!(sim.world.sectors.get(&Id::new(NS, name)).is_some(), "{name} is gone");
        }
    }
}
