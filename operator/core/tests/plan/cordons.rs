//! Who undoes whose cordon: all cases in one table.

use filstar_core::action::NodeChange;
use filstar_core::plan::plan;

use crate::drain::maintenance;
use crate::overdue::{cordon, cordons, draining};
use crate::support::*;

/// What is done about a Node, by its mark and whether it is cordoned, when nothing asks for that, a task is over its
/// time, it is in maintenance, and both.
#[test]
fn each_cordon_is_undone_by_those_who_asked_for_it() {
    const NONE: &str = "";
    let table = [
        // Nobody's, and somebody else's: the latter is never touched.
        ("", false, [NONE, "for task", "cordon", "cordon"]),
        ("", true, [NONE; 4]),
        // Of a maintenance: it ends with it, or becomes that of a task over its time. Whoever lifts it is heeded.
        ("ours", false, ["unmark", "lifted", "lifted", "lifted"]),
        ("ours", true, ["uncordon", "for task", NONE, NONE]),
        // Of a task: only a person ends it.
        (
            "task-overdue",
            false,
            ["unmark", "lifted", "lifted", "lifted"],
        ),
        ("task-overdue", true, [NONE; 4]),
        // Lifted: nothing until all reasons are gone. A cordon beside it is somebody else's, and so is what we cannot read.
        ("lifted", false, ["unmark", NONE, NONE, NONE]),
        ("lifted", true, ["unmark", NONE, NONE, NONE]),
        ("unknown", true, ["unmark", NONE, NONE, NONE]),
    ];
    for (mark, cordoned, wanted) in table {
        let cases = [(false, 599), (false, 600), (true, 599), (true, 600)];
        for ((maintained, second), wanted) in cases.into_iter().zip(wanted) {
            let mut world = draining();
            let mark = Some(mark).filter(|mark| !mark.is_empty());
            cordon(
                &mut world,
                "node-a",
                mark.map(|mark| (mark, "why")),
                cordoned,
            );
            if maintained {
                maintenance(&mut world, None, None);
            }
            let actions = plan(&world, at(second));
            let found = cordons(&actions)
                .first()
                .map_or(NONE, |(_, change)| match change {
                    NodeChange::Cordon => "cordon",
                    NodeChange::CordonForTask { .. } => "for task",
                    NodeChange::MarkLifted => "lifted",
                    NodeChange::Uncordon => "uncordon",
                    NodeChange::Unmark => "unmark",
                });
            let case = format!(
                "mark {mark:?}, cordoned {cordoned}, maintenance {maintained}, at {second}"
            );
            assert_eq!(found, wanted, "{case}");
        }
    }
}
