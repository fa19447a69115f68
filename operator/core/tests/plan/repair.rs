//! Sectors whose files are damaged in scratch: how far they go back.

use crate::support::*;
use filstar_core::action::Action;
use filstar_core::plan::plan;
use filstar_crds::{
    SectorPhase::{self, Committing, Finalizing, Pc2, PreCommitting},
    StoreRef, TaskKind,
};
use serde_json::json;

#[test]
fn a_sector_on_chain_whose_replica_is_damaged_is_sealed_again_and_asks_the_chain_for_nothing() {
    for (phase, kind) in [
        (SectorPhase::Finalizing, TaskKind::Finalize),
        (SectorPhase::Landing, TaskKind::Land),
    ] {
        let error =
            json!({"state": "Failed", "errorClass": "Corrupt", "error": "sealed/s-t01000-0"});
        let mut s = with_task(sector(phase), kind, Some(error));
        s.status.as_mut().unwrap().store = Some(StoreRef {
            name: "store-a".into(),
            landed: false,
        });
        let mut world = world();
        world.sectors.apply(s.clone());
        chain_mut(&mut world)
            .sectors
            .insert(0, Some(on_chain(COMM_R)));
        let ticket = s.status.as_ref().unwrap().ticket.clone();
        let mut way = Vec::new();
        for turn in 1..6 {
            let actions = plan(&world, at(60 * turn));
            let wished = |a: &Action| matches!(a, Action::CreateMessage { .. });
            assert!(!actions.iter().any(wished), "{actions:#?}");
            s.status = Some(new_status(&actions).clone());
            s.metadata.resource_version = Some(format!("1{turn}"));
            assert_eq!(s.status.as_ref().unwrap().ticket, ticket);
            way.extend(s.status.as_ref().unwrap().phase);
            let next = s.status.as_ref().unwrap();
            if next.phase == Some(SectorPhase::Pc2) && next.task.is_some() {
                let result = json!({"commD": COMM_D, "commR": COMM_R});
                s = with_task(
                    s,
                    TaskKind::Pc2,
                    Some(json!({"state": "Succeeded", "result": result})),
                );
            }
            world.sectors.apply(s.clone());
        }
        assert_eq!(
            way,
            [Pc2, Pc2, PreCommitting, Committing, Finalizing],
            "{phase:?}"
        );
    }
}
