//! What to say about the CPUs of a prover.

use filstar_crds::{PostBatch, conditions};
use filstar_placement::write_cpus;

use crate::plan::fleet::{Seat, is_seated};
use crate::plan::names;
use crate::plan::pods::fallback;
use crate::status::Say;
use crate::world::pod::{condition, is_live, node};
use crate::world::{Id, Now, World};

/// Says whether the prover has the CPUs that it was promised, by the kernel's word.
pub(super) fn say(
    say: &mut Say<'_>,
    world: &World,
    seat: Option<&Seat>,
    id: &Id,
    batch: &PostBatch,
) {
    let (verified, reason, text) = placement(world, say.now, seat, id, batch);
    say.set(conditions::PLACEMENT_VERIFIED, verified, &reason, &text);
}

fn placement(
    world: &World,
    now: Now,
    seat: Option<&Seat>,
    id: &Id,
    batch: &PostBatch,
) -> (bool, String, String) {
    let not = |reason: &str, text: String| (false, reason.to_owned(), text);
    if batch.spec.suspend {
        return not("Suspended", "proving is suspended".into());
    }
    if let Some(Err(why)) = seat {
        let text = format!(
            "the prover shares CPUs with others, since no node has room for it: {why}. Take pods or CPUs from a lane there, \
             or ask for fewer"
        );
        return not("NoRoom", text);
    }
    let name = names::prover_pod(&id.name);
    let pod = world.pods.get(&Id::new(&id.namespace, &name));
    let refused = seat.and_then(|_| fallback::why(batch, pod, now));
    if let Some(why) = refused {
        return not(fallback::REFUSED, why);
    }
    let Some(pod) = pod.filter(|pod| is_live(pod)) else {
        return not("NoPods", "there is no prover pod yet".into());
    };
    let place = seat.and_then(|seat| seat.as_ref().ok());
    if let Some(place) = place.filter(|_| !is_seated(pod)) {
        let text = format!(
            "pod {name} shares CPUs with others; between two deadlines it gets core groups {} of node {}",
            write_cpus(&place.plan.groups),
            place.node
        );
        return not("Moving", text);
    }
    let Some(said) = condition(pod, conditions::POD_PLACEMENT_VERIFIED) else {
        return not("Unknown", format!("pod {name} has not said yet"));
    };
    let at = node(pod).unwrap_or("?");
    let words = said.message.as_deref().unwrap_or("it does not say which");
    let why: Vec<String> = place
        .iter()
        .flat_map(|p| &p.plan.why)
        .map(ToString::to_string)
        .collect();
    let why = match place {
        Some(place) if !place.plan.groups.is_empty() => format!(
            "; core groups {}: {}",
            write_cpus(&place.plan.groups),
            why.join("; ")
        ),
        Some(_) | None => String::new(),
    };
    let reason = said.reason.clone().unwrap_or_else(|| "Unknown".into());
    let text = format!("pod {name} on node {at}: {words}{why}");
    (said.status == "True", reason, text)
}
