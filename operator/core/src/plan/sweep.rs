//! Files of sectors that ended on chain: which they are, who looks for them in a store, and when they are removed.
//!
//! A sector has ended when the actor has used its number and no partition has it alive; a number is never used twice, so it
//! stays ended. Who removes files of it asks the chain again first, at a tipset that is final (see `action::Action::RemoveGarbage`).
//!
//! ```text
//! ended ──List──► found ──a person's word for exactly these──Remove──► removed ──List──► …
//! ```
//! Never: a removal without that word; a sector that has a Sector object, or of an actor whose chain cannot be asked now.

mod ended;

use filstar_chain::types::{BitField, bitfield};
use filstar_crds::{
    EndedSectors, SectorStore, StoreAccess, Sweep, SweepKind, SweepReport, TaskState, annotations,
    labels, parse_ranges,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::names::{fnv1a, hex};
use super::reach::Reach;
use crate::action::EndedCheck;
use crate::world::{Id, Now, World, pod};
pub(crate) use ended::Ended;

/// A store is looked through again after so long, where further sectors have ended.
const AGAIN: SignedDuration = SignedDuration::from_hours(6);
/// What failed is tried again after so long.
const RETRY: SignedDuration = SignedDuration::from_mins(10);
/// Longest text of one actor's sectors, in characters: what the API takes.
pub const NUMBERS_CHARS: usize = 32_768;
/// Text of sectors in a message for people.
const TEXT_CHARS: usize = 300;

/// What becomes of a store's garbage.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    /// In short, for a column; none when there is none.
    pub(crate) garbage: Option<String>,
    /// What to say: whether there is garbage, a reason, a message. None leaves what was said.
    pub(crate) says: Option<(bool, &'static str, String)>,
    /// What to ask of a pod next.
    pub(crate) ask: Option<Sweep>,
    /// Whether what a pod does now shall end.
    pub(crate) stop: bool,
    /// What was removed by the sweep that is over with this.
    pub(crate) removed: Option<(i64, i64)>,
}

/// The numbers of an entry; none when they are not of their form.
pub fn bits(sectors: &EndedSectors) -> Option<BitField> {
    let ranges = parse_ranges(&sectors.numbers).ok()?;
    bitfield::of_ranges(ranges).ok()
}

/// Numbers as `filstar_crds::parse_ranges` reads them: as many whole ranges as fit.
pub fn ranges_text(bits: &BitField, max_chars: usize) -> String {
    let mut text = String::new();
    for range in bits.ranges() {
        let comma = if text.is_empty() { "" } else { "," };
        let last = range.end.saturating_sub(1);
        let part = if last == range.start {
            format!("{comma}{last}")
        } else {
            format!("{comma}{}-{last}", range.start)
        };
        if text.len() + part.len() > max_chars {
            break;
        }
        text.push_str(&part);
    }
    text
}

/// The word that stands for exactly these sectors.
pub fn word(sectors: &[EndedSectors]) -> String {
    let all = sectors
        .iter()
        .map(|s| format!("{}:{};", s.actor, s.numbers));
    hex(fnv1a(all.collect::<String>().as_bytes()))
}

/// What becomes of the garbage of a store, and how to make sure before anything is removed.
pub(crate) fn view(
    world: &World,
    now: Now,
    (reach, ended): (&Reach, &Ended),
    id: &Id,
    store: &SectorStore,
) -> (View, Vec<EndedCheck>) {
    let look = Look {
        world,
        now,
        reach,
        ended,
        id,
        store,
    };
    let view = if store.spec.access == StoreAccess::ReadOnly {
        View::default()
    } else {
        look.view()
    };
    let remove = view.ask.as_ref().filter(|s| s.kind == SweepKind::Remove);
    let checks = remove.map_or_else(Vec::new, |s| ended.checks(&s.sectors));
    (view, checks)
}

/// One look at one store.
struct Look<'a> {
    world: &'a World,
    now: Now,
    reach: &'a Reach,
    ended: &'a Ended,
    id: &'a Id,
    store: &'a SectorStore,
}

impl Look<'_> {
    fn view(&self) -> View {
        let status = self.store.status.as_ref();
        let Some(sweep) = status.and_then(|s| s.sweep.as_ref()) else {
            return self.list_if(true);
        };
        let report = status.and_then(|s| s.sweeper.as_ref());
        let report = report.filter(|r| r.id == sweep.id);
        let ended = report.filter(|r| r.state != TaskState::Running);
        match (sweep.kind, ended) {
            (SweepKind::List, None) => self.list_if(!self.runs(sweep)),
            (SweepKind::List, Some(r)) if r.state == TaskState::Failed => {
                let text = format!("the store could not be looked through: {}", error(r));
                View {
                    says: Some((false, "ListFailed", text)),
                    ..self.list_if(self.is_over(r, RETRY))
                }
            }
            (SweepKind::List, Some(r)) => self.listed(sweep, r),
            (SweepKind::Remove, None) => self.removing(sweep, report),
            (SweepKind::Remove, Some(r)) => self.removed(r),
        }
    }

    /// What the store has.
    fn listed(&self, sweep: &Sweep, r: &SweepReport) -> View {
        let news = self.is_over(r, AGAIN) && self.ended.sectors() != sweep.sectors;
        let aside = r.error.as_ref();
        let aside = aside.map_or_else(String::new, |e| format!(" Left alone: {e}."));
        if r.sectors.is_empty() {
            let text = format!("no file here is of a sector that ended on chain.{aside}");
            return View {
                says: Some((false, "NoGarbage", text)),
                ..self.list_if(news)
            };
        }
        let garbage = garbage(r);
        match self.ended.has(&r.sectors) {
            // The chain cannot be asked: nothing is said anew, and nothing is done.
            None => {
                return View {
                    garbage: Some(garbage),
                    ..View::default()
                };
            }
            Some(false) => return self.list_if(true),
            Some(true) => {}
        }
        let word = word(&r.sectors);
        if self.said().is_some_and(|said| *said == word) {
            let text = format!(
                "files of {} may be removed: the chain is asked once more, then a ready sealer pod that mounts the store is",
                named(r, &garbage)
            );
            let ask = self.ask(SweepKind::Remove, r.sectors.clone());
            return View {
                garbage: Some(garbage),
                says: Some((true, "Approved", text)),
                ask,
                ..View::default()
            };
        }
        let more = if r.more {
            " There are more; they are shown when these are gone."
        } else {
            ""
        };
        let text = format!(
            "files of {} that ended on chain prove nothing any more.{more}{aside} To have exactly these removed: kubectl \
             -n {} annotate --overwrite sectorstore {} {}={word}",
            named(r, &garbage),
            self.id.namespace,
            self.id.name,
            annotations::REMOVE_GARBAGE,
        );
        View {
            says: Some((true, "WaitsForApproval", text)),
            garbage: Some(garbage),
            ..self.list_if(news)
        }
    }

    fn removing(&self, sweep: &Sweep, report: Option<&SweepReport>) -> View {
        let before = self.store.status.as_ref();
        let garbage = before.and_then(|s| s.garbage.clone());
        if self.said().is_none() {
            let text = "the word was taken back: nothing is removed any more, and the store is looked through anew";
            return View {
                says: Some((true, "Stopped", text.into())),
                stop: true,
                ..View::default()
            };
        }
        if !self.runs(sweep) {
            return View {
                ask: match self.ended.has(&sweep.sectors) {
                    Some(true) => self.ask(SweepKind::Remove, sweep.sectors.clone()),
                    Some(false) => self.list_if(true).ask,
                    None => None,
                },
                garbage,
                ..View::default()
            };
        }
        let progress = report.and_then(|r| r.progress.as_ref());
        let how_far = progress.map_or("asked pod", |p| p.detail.as_str());
        let text = format!("{how_far} ({})", sweep.pod_name);
        View {
            garbage,
            says: Some((true, "Removing", text)),
            ..View::default()
        }
    }

    /// A removal is over: what is left is looked for. What failed waits for a while before that.
    fn removed(&self, r: &SweepReport) -> View {
        let failed = r.state == TaskState::Failed;
        let mut next = self.list_if(!failed || self.is_over(r, RETRY));
        if next.ask.is_some() {
            next.removed = Some((r.count, r.bytes));
        }
        if failed {
            let text = format!("not all could be removed: {}", error(r));
            next.says = Some((true, "RemovalFailed", text));
            next.garbage = self.store.status.as_ref().and_then(|s| s.garbage.clone());
        }
        next
    }

    fn said(&self) -> Option<&String> {
        self.store.annotations().get(annotations::REMOVE_GARBAGE)
    }

    fn is_over(&self, r: &SweepReport, pause: SignedDuration) -> bool {
        let finished = r.finished.as_ref();
        finished.is_none_or(|t| self.now.wall.duration_since(t.0) >= pause)
    }

    /// Whether the pod that was asked is still there.
    fn runs(&self, sweep: &Sweep) -> bool {
        let pod = self.world.pods.find(&self.id.namespace, &sweep.pod_name);
        pod.is_some_and(|(_, p)| p.uid().as_deref() == Some(&sweep.pod_uid) && pod::is_live(p))
    }

    /// Looks through the store. Nothing is asked for as long as nothing has ended, or no chain can be asked.
    fn list_if(&self, wanted: bool) -> View {
        let sectors = if wanted {
            self.ended.sectors()
        } else {
            Vec::new()
        };
        let ask = (!sectors.is_empty()).then(|| self.ask(SweepKind::List, sectors));
        View {
            ask: ask.flatten(),
            ..View::default()
        }
    }

    fn ask(&self, kind: SweepKind, sectors: Vec<EndedSectors>) -> Option<Sweep> {
        let pod = self.pod()?;
        let n = self.store.status.as_ref().map_or(0, |s| s.sweeps) + 1;
        let verb = match kind {
            SweepKind::List => "list",
            SweepKind::Remove => "remove",
        };
        Some(Sweep {
            id: format!("{verb}-{n}"),
            kind,
            pod_name: pod.name_any(),
            pod_uid: pod.uid()?,
            sectors,
        })
    }

    /// A sealer that mounts the store, on a node where it is the one that is proven from.
    fn pod(&self) -> Option<&Pod> {
        let volume = pod::store_volume(&self.id.name);
        let namespace = &self.id.namespace;
        let near = |p: &Pod| {
            let mut miners = self.world.miners.in_namespace(namespace);
            pod::node(p).is_some_and(|node| {
                miners.all(|(miner, _)| self.reach.far(self.id, node, miner).is_none())
            })
        };
        let pods = self.world.pods.in_namespace(namespace);
        let mut fit = pods.filter(|(_, p)| {
            p.labels().contains_key(labels::GROUP)
                && pod::is_ready(p)
                && pod::has_volume(p, &volume)
                && near(p)
        });
        fit.next().map(|(_, p)| p)
    }
}

fn error(r: &SweepReport) -> &str {
    r.error.as_deref().unwrap_or("it did not say why")
}

/// `3 sectors, 96.0GiB`.
fn garbage(r: &SweepReport) -> String {
    let sectors = if r.count == 1 { "sector" } else { "sectors" };
    format!("{} {sectors}, {}", r.count, human(r.bytes))
}

/// `3 sectors, 96.0GiB (t01000: 3-5)`.
fn named(r: &SweepReport, garbage: &str) -> String {
    let all = r
        .sectors
        .iter()
        .map(|s| format!("{}: {}", s.actor, s.numbers));
    let all = all.collect::<Vec<_>>().join("; ");
    let short: String = all.chars().take(TEXT_CHARS).collect();
    let rest = if short.len() < all.len() {
        "…; all in status.sweeper"
    } else {
        ""
    };
    format!("{garbage} ({short}{rest})")
}

/// Bytes in the largest unit of which there is one, with one decimal.
pub fn human(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let bytes = i128::from(bytes.max(0));
    let mut unit = None;
    let mut size = 1_i128;
    for name in UNITS {
        if bytes / size < 1024 {
            break;
        }
        size <<= 10;
        unit = Some(name);
    }
    match unit {
        None => format!("{bytes}B"),
        Some(unit) => format!("{}.{}{unit}", bytes / size, bytes % size * 10 / size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people_have_one_decimal() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            (96 << 30, "96.0GiB"),
            ((1 << 40) - 1, "1023.9GiB"),
            (1 << 60, "1.0EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn ranges_are_written_as_they_are_read_and_a_word_is_of_its_sectors_alone() {
        let numbers = bitfield::of([3, 4, 5, 9, 20]).unwrap();
        let entry = |numbers: String| EndedSectors {
            actor: "t01000".into(),
            numbers,
        };
        let text = ranges_text(&numbers, 100);
        assert_eq!(text, "3-5,9,20");
        assert_eq!(bits(&entry(text.clone())), Some(numbers.clone()));
        assert_eq!(ranges_text(&numbers, 5), "3-5,9");
        assert_eq!(bits(&entry("9,3".into())), None);
        let other = entry(ranges_text(&numbers, 5));
        assert_ne!(word(&[entry(text.clone())]), word(&[other]));
        assert_eq!(word(&[entry(text.clone())]), word(&[entry(text)]));
    }
}
