//! Gate `Pace`: the time between two sectors of a group, and how long the other gates must have been open.
//!
//! Everything comes from data: the youngest sector, the next number, and since when the status shows each gate open. So
//! another operator that takes over waits no longer and no shorter.

use filstar_crds::{GateStatus, LastPledge, SealingGroup, parse_duration};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::gate::{Gate, Verdict};
use crate::world::{Id, World};

/// The youngest sector of a group; what the status remembers counts when that sector is gone.
pub(crate) fn last(world: &World, group_id: &Id, group: &SealingGroup) -> Option<LastPledge> {
    let living = world
        .sectors
        .in_namespace(&group_id.namespace)
        .filter(|(_, s)| s.spec.group_ref.name == group_id.name)
        .filter_map(|(_, s)| Some((s.metadata.creation_timestamp.as_ref()?.0, s.spec.number)));
    let known = group.status.as_ref().and_then(|s| s.last_pledge.as_ref());
    living
        .chain(known.map(|l| (l.time.0, l.number)))
        .max()
        .map(|(time, number)| LastPledge {
            time: Time(time),
            number,
        })
}

/// `others`: whether every other gate is open now.
pub(super) fn verdict(
    now: Timestamp,
    group_id: &Id,
    group: &SealingGroup,
    last: Option<&LastPledge>,
    others: bool,
) -> Verdict {
    const GATE: Gate = Gate::Pace;
    let pledge = &group.spec.pledge;
    let [delay, jitter, recheck] =
        [&pledge.delay, &pledge.jitter, &pledge.recheck].map(|t| length(t));
    let jitter = last.map_or(SignedDuration::ZERO, |l| part(jitter, group_id, l.number));
    let due = last.and_then(|l| l.time.0.checked_add(delay.checked_add(jitter)?).ok());
    if let Some(due) = due.filter(|due| *due > now) {
        let text = format!(
            "the next sector is pledged after {due:.0}: {} after the last",
            seconds(due.duration_since(last.map_or(due, |l| l.time.0)))
        );
        return later(text, due.checked_add(recheck).unwrap_or(due));
    }
    if recheck.is_zero() || !others {
        return Verdict::open(GATE, "the delay since the last sector is over");
    }
    let open = open_since(group.status.as_ref().map_or(&[], |s| &s.gates)).unwrap_or(now);
    let first = due.map_or(open, |due| due.max(open));
    match first.checked_add(recheck) {
        Ok(check) if check > now => later(
            format!("every gate is open; looked at again after {check:.0}"),
            check,
        ),
        _ => Verdict::open(GATE, "every gate was open at both looks"),
    }
}

fn later(text: String, at: Timestamp) -> Verdict {
    Verdict {
        next_check: Some(at),
        ..Verdict::closed(Gate::Pace, text)
    }
}

/// Since when the status shows every other gate open; none while it does not.
fn open_since(gates: &[GateStatus]) -> Option<Timestamp> {
    let others = || gates.iter().filter(|g| g.name != Gate::Pace.name());
    if others().any(|g| !g.open) {
        return None;
    }
    others().filter_map(|g| Some(g.since.as_ref()?.0)).max()
}

/// A part of the jitter that a number always gets.
fn part(jitter: SignedDuration, group: &Id, number: i64) -> SignedDuration {
    let millis = u64::try_from(jitter.as_millis()).unwrap_or(0);
    let hash = fnv(format!("{group}/{number}").as_bytes());
    let part = hash % (millis.saturating_add(1));
    SignedDuration::from_millis(i64::try_from(part).unwrap_or(0))
}

/// FNV-1a, the same in every build.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The schema admits nothing that cannot be read, except what is longer than time: that is for ever.
fn length(text: &str) -> SignedDuration {
    parse_duration(text)
        .ok()
        .and_then(|d| SignedDuration::try_from(d).ok())
        .unwrap_or(SignedDuration::MAX)
}

fn seconds(length: SignedDuration) -> String {
    format!("{}s", length.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_always_gets_the_same_part_and_others_get_others() {
        let (jitter, group) = (SignedDuration::from_secs(120), Id::new("ns", "g"));
        let parts: Vec<_> = (0..100).map(|n| part(jitter, &group, n)).collect();
        assert_eq!(parts[7], part(jitter, &group, 7));
        assert!(parts.iter().all(|p| *p <= jitter));
        let below: usize = parts.iter().filter(|p| **p < jitter / 2).count();
        assert!(
            (30..70).contains(&below),
            "{below} of 100 in the first half"
        );
        assert_eq!(part(SignedDuration::ZERO, &group, 7), SignedDuration::ZERO);
    }
}
