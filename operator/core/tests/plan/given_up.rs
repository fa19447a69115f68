//! A person's word that a node does not come back, and what must not be done for a sector whose files are gone.

use crate::gone::{
    aborts, change, comes_back, follow, forget, is_unbound, ready, takes_back, without_node,
};
use crate::support::*;
use filstar_chain::types::Epoch;
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_core::world::World;
use filstar_crds::{
    ChainMessageStatus, MessageKind, MessageRefs, MessageState, NotOnChain, Sector, SectorPhase,
    TimelineEntry,
};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const WISH: &str = "t01000-0-precommit-1";

fn given_up(phase: SectorPhase) -> Sector {
    let mut sector = sector(phase);
    forget(&mut sector, "node-a");
    sector
}

/// Sector 0 in `PreCommitting` without node, and the pre-commit that it waits for.
fn wishing(status: ChainMessageStatus) -> World {
    let mut waiting = sector(SectorPhase::PreCommitting);
    waiting.status.as_mut().unwrap().messages = Some(MessageRefs {
        pre_commit: Some(WISH.into()),
        ..MessageRefs::default()
    });
    let mut world = without_node(waiting, NotOnChain::Checkpoint);
    world
        .messages
        .apply(message(WISH, MessageKind::PreCommit, status));
    world
}

fn signs(world: &World) -> bool {
    let actions = plan(world, at(0));
    let mut all = actions.iter();
    all.any(|a| matches!(a, Action::SignMessage { .. }))
}

#[test]
fn the_word_is_taken_back_before_the_sector_is_bound_and_a_younger_node_gets_the_whole_time() {
    let mut world = without_node(given_up(SectorPhase::Pc1), NotOnChain::Checkpoint);
    assert!(is_unbound(&follow(&mut world, 0)));
    // The machine is installed anew under its name, and is the only one.
    let other: Node = node("node-b");
    world.nodes.delete(&other);
    world.pods = filstar_core::world::Index::default();
    comes_back(&mut world);
    assert!(takes_back(&plan(&world, at(1))), "first the word");
    let bound = follow(&mut world, 1);
    assert_eq!(bound.binding.unwrap().node, "node-a");
    let mut again: Node = node("node-a");
    again.metadata.uid = Some("another".into());
    world.nodes.delete(&again);
    let waits = follow(&mut world, 2);
    assert_eq!(
        (waits.phase, ready(&waits).0),
        (Some(SectorPhase::Packing), "NodeGone")
    );
}

#[test]
fn the_word_is_taken_back_once_the_node_is_there_or_its_files_are_not_missed() {
    let mut there = without_node(given_up(SectorPhase::C1), NotOnChain::Delete);
    assert!(!takes_back(&plan(&there, at(0))), "it says something");
    comes_back(&mut there);
    assert!(takes_back(&plan(&there, at(0))));
    let landed = without_node(given_up(SectorPhase::Proving), NotOnChain::Delete);
    assert!(takes_back(&plan(&landed, at(0))));
    let mut elsewhere = sector(SectorPhase::Pc1);
    forget(&mut elsewhere, "node-z");
    let elsewhere = without_node(elsewhere, NotOnChain::Delete);
    assert!(takes_back(&plan(&elsewhere, at(0))));
}

#[test]
fn what_ends_or_restarts_a_sector_names_the_node_that_must_not_be_there() {
    for phase in [SectorPhase::Pc1, SectorPhase::C1] {
        let world = without_node(given_up(phase), NotOnChain::Checkpoint);
        let actions = plan(&world, at(0));
        let names = |a: &Action| matches!(a, Action::PatchSector { gone: Some(node), .. } if node == "node-a");
        assert!(actions.iter().any(names), "{actions:#?}");
    }
    let world = without_node(given_up(SectorPhase::Pc1), NotOnChain::Delete);
    let actions = plan(&world, at(0));
    let names =
        |a: &Action| matches!(a, Action::AbortSector { gone: Some(node), .. } if node == "node-a");
    assert!(actions.iter().any(names), "{actions:#?}");
}

#[test]
fn a_pre_commit_is_not_signed_while_its_replica_is_gone() {
    let mut world = wishing(ChainMessageStatus::default());
    assert!(!signs(&world));
    let held = new_message(&plan(&world, at(0))).clone();
    assert_eq!(held.conditions[0].reason, "NodeGone");
    assert_eq!(held.state, None, "it may still be signed");
    let mut back = world.clone();
    comes_back(&mut back);
    assert!(signs(&back));
    // Given up, the replica is made again elsewhere: until it is there nothing is signed.
    change(&mut world, |s| forget(s, "node-a"));
    assert!(is_unbound(&follow(&mut world, 0)));
    assert!(!signs(&world));
    let bound = follow(&mut world, 1);
    assert_eq!(bound.binding.unwrap().node, "node-b");
    for phase in [SectorPhase::Packing, SectorPhase::Pc1, SectorPhase::Pc2] {
        change(&mut world, |s| {
            s.status.as_mut().unwrap().phase = Some(phase);
        });
        assert!(!signs(&world), "{phase:?}");
    }
    let made = Some(SectorPhase::PreCommitting);
    change(&mut world, |s| s.status.as_mut().unwrap().phase = made);
    assert!(signs(&world));
}

#[test]
fn a_pre_commit_that_is_signed_goes_on_without_the_node() {
    let world = wishing(signed(MessageState::Signed, 3));
    let actions = plan(&world, at(0));
    let pushes = |a: &Action| matches!(a, Action::PushMessage { .. });
    assert!(actions.iter().any(pushes), "{actions:#?}");
}

#[test]
fn a_sector_whose_pre_commit_expired_is_not_sealed_again_for_nothing() {
    for phase in [
        SectorPhase::PreCommitting,
        SectorPhase::WaitSeed,
        SectorPhase::C1,
        SectorPhase::C2,
    ] {
        let mut landed = signed(MessageState::Final, 3);
        landed.landed_epoch = Some(900);
        let mut world = wishing(landed);
        change(&mut world, |s| {
            s.status.as_mut().unwrap().phase = Some(phase);
        });
        let mut told = world.clone();
        change(&mut told, |s| forget(s, "node-a"));
        // An endpoint that lags behind says nothing.
        let mut early = told.clone();
        chain_mut(&mut early).head = Epoch(901);
        assert!(is_unbound(new_status(&plan(&early, at(0)))), "{phase:?}");
        for (world, who) in [(&mut told, "given up"), (&mut world, "waiting")] {
            let failed = follow(world, 0);
            // Without the word the chain's own steps may come to it in two.
            let failed = match failed.phase {
                Some(SectorPhase::PreCommitting) => follow(world, 1),
                _ => failed,
            };
            assert_eq!(failed.phase, Some(SectorPhase::Failed), "{phase:?} {who}");
            let text = failed.failure.unwrap().message;
            assert!(text.contains("expired"), "{text}");
        }
        assert_eq!(aborts(&plan(&told, at(2))), 0);
    }
}

#[test]
fn messages_that_failed_before_a_sector_began_anew_are_not_held_against_it() {
    let mut world = world();
    let mut anew = sector(SectorPhase::PreCommitting);
    let begun = TimelineEntry {
        phase: SectorPhase::Allocated,
        started: Time(at(60).wall),
        seconds: None,
    };
    anew.status.as_mut().unwrap().timeline = vec![begun];
    world.sectors.apply(anew);
    for n in 1..=3 {
        let name = format!("t01000-0-precommit-{n}");
        let mut failed = message(
            &name,
            MessageKind::PreCommit,
            signed(MessageState::Failed, n),
        );
        failed.metadata.creation_timestamp = Some(Time(at(0).wall));
        world.messages.apply(failed);
    }
    let actions = plan(&world, at(100));
    let wishes =
        |a: &Action| matches!(a, Action::CreateMessage { id, .. } if id.name.ends_with("-4"));
    assert!(actions.iter().any(wishes), "{actions:#?}");
    // Those since then are.
    let mut same = world.clone();
    let early = Time(at(-60).wall);
    change(&mut same, |s| {
        s.status.as_mut().unwrap().timeline[0].started = early;
    });
    let failed = new_status(&plan(&same, at(100))).clone();
    assert_eq!(failed.phase, Some(SectorPhase::Failed));
}
