//! Every drain ends with an empty node or with a reason, whoever asks for it and whenever the operator dies.

use crate::drain_sim::{Asks, PHASES, ROUNDS, sim};
use crate::support::*;
use filstar_core::action::Action;
use filstar_core::plan::drain::node_is_closing;
use filstar_core::plan::plan;
use filstar_core::world::Id;
use filstar_crds::{SectorPhase, TaskKind};
use proptest::prelude::*;
use serde_json::json;

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

/// Both policies, both ways to ask, with and without a task that runs.
#[test]
fn each_phase_ends_as_its_policy_says_however_the_drain_is_asked_for() {
    let name = Id::new(NS, "t01000-0");
    let ways = [Asks::Cordon, Asks::Maintenance];
    for (number, phase) in PHASES.into_iter().enumerate() {
        for (asks, delete, busy) in ways.into_iter().flat_map(|asks| {
            [(false, false), (false, true), (true, false), (true, true)]
                .map(|(delete, busy)| (asks, delete, busy))
        }) {
            let policy = if delete { "Delete" } else { "Checkpoint" };
            let mut sim = sim(&[number], asks, policy, None, 11 + number as u64);
            let task = match phase {
                SectorPhase::Packing => Some(TaskKind::AddPiece),
                SectorPhase::Pc1 => Some(TaskKind::Pc1),
                SectorPhase::Pc2 => Some(TaskKind::Pc2),
                _ => None,
            };
            if let Some(kind) = task.filter(|_| busy) {
                sim.change(&name, |s| {
                    *s = with_task(s.clone(), kind, Some(json!({"state": "Running"})));
                });
            }
            for _ in 0..ROUNDS {
                sim.round();
            }
            let what = format!("{phase:?}, {policy}, busy {busy}: {:#?}", sim.view());
            assert!(sim.view().is_drained(), "{what}");
            let left = sim
                .world
                .sectors
                .get(&name)
                .map(|s| s.status.clone().unwrap());
            match left {
                None => assert!(delete && phase <= SectorPhase::PreCommitting, "{what}"),
                Some(status) if phase > SectorPhase::PreCommitting => {
                    assert_eq!(status.phase, Some(SectorPhase::Proving), "{what}");
                }
                Some(status) => {
                    // A task that ended just before it was taken away has its result taken over.
                    let further = PHASES[number + usize::from(busy)];
                    assert!(!delete && status.task.is_none(), "{what}");
                    assert!(
                        [Some(phase), Some(further)].contains(&status.phase),
                        "{what}"
                    );
                    assert_eq!(status.binding.unwrap().node, "node-a", "{what}");
                }
            }
        }
    }
}

#[test]
fn a_node_maintenance_of_medik8s_is_a_cordon_that_says_where_it_comes_from() {
    let with = |spec| {
        let (mut world, mut node) = (world(), node("node-a"));
        node.metadata.resource_version = Some("2".into());
        node.spec = Some(serde_json::from_value(spec).unwrap());
        world.nodes.apply(node);
        world
    };
    let taint = json!({"key": "medik8s.io/drain", "effect": "NoSchedule"});
    let mut world = with(json!({"unschedulable": true, "taints": [taint]}));
    world.sectors.apply(sector(SectorPhase::WaitSeed));
    let why = node_is_closing(&world, "node-a").unwrap();
    assert!(
        why.of("node-a").contains("kubectl get nodemaintenances"),
        "{why}"
    );
    // As with any cordon: what is on chain is guarded, and the cordon is left to whom it belongs.
    let actions = plan(&world, at(0));
    let guards = |a: &Action| matches!(a, Action::CreateBudget { .. });
    let touches = |a: &Action| matches!(a, Action::PatchNode { .. } | Action::EvictPod { .. });
    assert!(actions.iter().any(guards), "{actions:#?}");
    assert!(!actions.iter().any(touches), "{actions:#?}");
    // The taint alone empties nothing.
    let open = with(json!({"taints": [taint]}));
    assert!(node_is_closing(&open, "node-a").is_none());
}
