//! What to say of faulty sectors: whether they can be read, and what is done to get them back.

use filstar_crds::{FaultReport, PostBatch, PostBatchStatus, conditions};

use super::Say;
use crate::plan::recover::{Standing, Step, standings};
use crate::world::{Id, World};

/// Sectors that a condition names.
const NAMED: usize = 3;

/// Says whether the prover reads what is faulty.
pub(super) fn say_readable(say: &mut Say<'_>, next: &PostBatchStatus, reports: &[FaultReport]) {
    let kind = conditions::FAULTS_READABLE;
    let unreadable: i64 = reports.iter().map(|r| r.unreadable_sectors).sum();
    if next.faulty_sectors == 0 {
        say.set(kind, true, "NoFaults", "no sector is faulty");
    } else if unreadable == 0 {
        let text = "the prover reads every faulty sector that it tried";
        say.set(kind, true, "Readable", text);
    } else {
        let text = unreadable_text(unreadable, reports);
        say.set(kind, false, "Unreadable", &text);
    }
}

/// Names sectors and files, and says what to do.
fn unreadable_text(count: i64, reports: &[FaultReport]) -> String {
    let all = reports.iter().flat_map(|r| &r.unreadable);
    let named: Vec<String> = all
        .take(NAMED)
        .map(|s| format!("sector {}: {}", s.number, s.reason))
        .collect();
    let named_count = i64::try_from(named.len()).unwrap_or(0);
    let more = match count - named_count {
        1.. => format!("; and {} more", count - named_count),
        _ => String::new(),
    };
    format!(
        "{}{more}. Bring the files back into a store that the prover mounts; it looks again by itself. A sector whose \
         files are lost stays faulty and costs its fee every day until it is sealed again or terminated",
        named.join("; ")
    )
}

/// Ready, stalled, reason and text of a batch with faulty sectors: of the deadline that comes first.
pub(super) fn why(
    world: &World,
    id: &Id,
    batch: &PostBatch,
    next: &PostBatchStatus,
) -> (bool, bool, &'static str, String) {
    let faults = batch.status.iter().flat_map(|s| &s.faults);
    let unreadable: i64 = faults.clone().map(|r| r.unreadable_sectors).sum();
    let standings = standings(world, id, batch);
    let urgent = standings
        .iter()
        .find(|s| person_must_act(&s.step))
        .or(standings.first());
    let (stalled, reason, what) = match urgent {
        Some(standing) if unreadable == 0 || standing.step != Step::NoneReadable => say(standing),
        Some(_) => {
            let reports: Vec<FaultReport> = faults.cloned().collect();
            (
                true,
                "FaultsUnreadable",
                unreadable_text(unreadable, &reports),
            )
        }
        None => (
            false,
            "Recovering",
            "their recovery is declared; the next proof of their deadline brings them back"
                .to_owned(),
        ),
    };
    let (faulty, recovering) = (next.faulty_sectors, next.recovering_sectors);
    let text = format!("{faulty} sectors are faulty, {recovering} of them recovering: {what}");
    (false, stalled, reason, text)
}

fn person_must_act(step: &Step) -> bool {
    matches!(step, Step::GivenUp(_) | Step::NotWanted)
}

fn say(standing: &Standing) -> (bool, &'static str, String) {
    let (window, lost) = (&standing.window, standing.lost);
    let at = format!("deadline {}", window.deadline);
    match &standing.step {
        Step::Suspended => (
            true,
            "Suspended",
            "spec.suspend is true, so nothing proves them".to_owned(),
        ),
        Step::NotWanted => (
            true,
            "NotDeclared",
            format!(
                "the prover reads sectors of {at} again and spec.declareRecoveries is false: set it to true, or declare \
                 them before epoch {}",
                window.fault_cutoff
            ),
        ),
        Step::TooLate => (
            false,
            "CutoffPassed",
            format!(
                "the cutoff of {at} has passed; its {lost} sectors are declared recovered after it closes at epoch {}",
                window.close
            ),
        ),
        Step::NoneReadable => (
            false,
            "FaultySectors",
            format!(
                "the prover has yet to read the {lost} sectors of {at}, before epoch {}",
                window.fault_cutoff
            ),
        ),
        Step::Gathering(until) => (
            false,
            "Gathering",
            format!(
                "some of the {lost} sectors of {at} can be read again; they are declared recovered once all can, or at \
                 epoch {until}"
            ),
        ),
        Step::Declaring(message) => (
            false,
            "Declaring",
            format!("ChainMessage {message} declares sectors of {at} recovered"),
        ),
        Step::GivenUp(message) => (
            true,
            "DeclarationFailed",
            format!(
                "declarations for {at} failed, the last is ChainMessage {message}: see why there; the next are made after \
                 the deadline closes at epoch {}",
                window.close
            ),
        ),
        Step::Declare(id, _) => (
            false,
            "Declaring",
            format!(
                "ChainMessage {} declares sectors of {at} recovered",
                id.name
            ),
        ),
    }
}
