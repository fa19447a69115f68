//! Whatever the order of words, of what the operator knows, and of what the chain undoes: files of a sector that the chain has
//! are never removed.

use crate::support::*;
use crate::sweep::{HOUR, action, change, lives, of, reports, says};
use filstar_chain::types::bitfield;
use filstar_core::action::{Action, StatusPatch};
use filstar_core::plan::sweep::{bits, word};
use filstar_core::world::World;
use filstar_crds::{SectorPhase, SweepKind, TaskState};
use proptest::prelude::*;

/// A sector's number, by what the chain has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Unused,
    PreCommitted,
    Living,
    Ended,
}

const SECTORS: usize = 5;
const CONFIDENCE: usize = 2;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The chain goes on: a sector's life does, or ends.
    Epoch(usize, bool),
    /// The newest epochs are undone.
    Reorg(usize),
    /// The operator hears of the chain.
    Observe,
    /// Somebody writes the word that is asked for, another one, or none.
    Word(u8),
    /// A Sector object comes or goes.
    Object(bool),
    /// A sector's files land in the store.
    Land(usize),
    /// The operator plans.
    Round,
    /// The pod does what it is asked.
    Pod,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..SECTORS, any::<bool>()).prop_map(|(n, ends)| Step::Epoch(n, ends)),
        1 => (1..=CONFIDENCE).prop_map(Step::Reorg),
        3 => Just(Step::Observe),
        2 => (0..4_u8).prop_map(Step::Word),
        1 => any::<bool>().prop_map(Step::Object),
        2 => (0..SECTORS).prop_map(Step::Land),
        4 => Just(Step::Round),
        3 => Just(Step::Pod),
    ]
}

struct Model {
    world: World,
    chain: Vec<[Life; SECTORS]>,
    files: [bool; SECTORS],
    words: Vec<String>,
    removed: usize,
    second: i64,
}

impl Model {
    fn new() -> Self {
        let mut world = world();
        lives(&mut world, &[]);
        Self {
            world,
            chain: vec![[Life::Unused; SECTORS]],
            files: [false; SECTORS],
            words: Vec::new(),
            removed: 0,
            second: 0,
        }
    }

    fn head(&self) -> [Life; SECTORS] {
        *self.chain.last().unwrap()
    }

    fn epoch(&mut self, number: usize, ends: bool) {
        let mut next = self.head();
        next[number] = match (next[number], ends) {
            (Life::Unused, false) => Life::PreCommitted,
            (Life::PreCommitted, false) => Life::Living,
            (Life::PreCommitted | Life::Living, true) => Life::Ended,
            (same, _) => same,
        };
        self.chain.push(next);
    }

    fn observe(&mut self) {
        let head = self.head();
        let all = |wanted: &dyn Fn(Life) -> bool| {
            let numbers = (0_u64..).zip(head).filter(|(_, life)| wanted(*life));
            bitfield::of(numbers.map(|(n, _)| n)).unwrap()
        };
        let facts = chain_mut(&mut self.world);
        facts.allocated = all(&|life| life != Life::Unused);
        // Of a pre-commit the operator may not know: nobody asks about it without a Sector object.
        facts.living = all(&|life| life == Life::Living);
    }

    fn word(&mut self, which: u8) {
        let status = of(&self.world);
        let message = status.conditions.iter().find(|c| c.type_ == "GarbageFound");
        let asked = message.and_then(|c| c.message.rsplit_once('='));
        let right = asked.map(|(_, word)| word.to_owned());
        let given = match which {
            0 => None,
            1 => Some("yes".to_owned()),
            2 => self.words.last().cloned(),
            _ => right,
        };
        self.words.extend(given.clone());
        says(&mut self.world, given.as_deref());
    }

    fn round(&mut self) -> Result<(), TestCaseError> {
        let next = match action(&self.world, self.second) {
            Some(Action::RemoveGarbage { mut status, .. }) => {
                let sweep = status.sweep.as_mut().unwrap();
                prop_assert_eq!(sweep.kind, SweepKind::Remove);
                prop_assert!(self.words.contains(&word(&sweep.sectors)), "{:?}", sweep);
                // What apply does with the chain's own word.
                let Some(past) = self.chain.len().checked_sub(1 + CONFIDENCE) else {
                    return Ok(());
                };
                let numbers = bits(&sweep.sectors[0]).unwrap();
                let has_ended = |lives: [Life; SECTORS], n: u64| {
                    lives[usize::try_from(n).unwrap()] == Life::Ended
                };
                let left: Vec<u64> = numbers
                    .iter()
                    .filter(|n| has_ended(self.head(), *n))
                    .collect();
                if left.is_empty() || !left.iter().all(|n| has_ended(self.chain[past], *n)) {
                    return Ok(());
                }
                sweep.sectors[0].numbers =
                    filstar_crds::format_ranges(&left.into_iter().collect(), 99);
                status
            }
            Some(Action::PatchStatus { status, .. }) => match *status {
                StatusPatch::Store { status, .. } => {
                    let before = of(&self.world).sweep;
                    let asked = status
                        .sweep
                        .as_ref()
                        .filter(|s| Some(*s) != before.as_ref());
                    prop_assert!(asked.is_none_or(|s| s.kind == SweepKind::List));
                    status
                }
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        change(&mut self.world, |store| store.status = Some(*next));
        Ok(())
    }

    fn pod(&mut self) -> Result<(), TestCaseError> {
        let Some(sweep) = of(&self.world).sweep else {
            return Ok(());
        };
        let done = of(&self.world).sweeper.is_some_and(|r| r.id == sweep.id);
        if done {
            return Ok(());
        }
        let asked = bits(&sweep.sectors[0]).unwrap();
        let mut found = std::collections::BTreeSet::new();
        for number in asked.iter() {
            let at = usize::try_from(number).unwrap();
            if !self.files[at] {
                continue;
            }
            found.insert(number);
            if sweep.kind == SweepKind::Remove {
                prop_assert_eq!(self.head()[at], Life::Ended, "sector {} was removed", at);
                self.files[at] = false;
                self.removed += 1;
            }
        }
        let text = filstar_crds::format_ranges(&found, 99);
        reports(&mut self.world, TaskState::Succeeded, &text, self.second);
        Ok(())
    }

    fn go(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.second += HOUR;
        match step {
            Step::Epoch(number, ends) => self.epoch(number, ends),
            Step::Reorg(depth) => {
                let left = self.chain.len().saturating_sub(depth).max(1);
                self.chain.truncate(left);
            }
            Step::Observe => self.observe(),
            Step::Word(which) => self.word(which),
            Step::Object(true) => {
                let mut object = sector(SectorPhase::Failed);
                object.metadata.uid = Some(format!("uid-{}", self.second));
                self.world.sectors.apply(object);
            }
            Step::Object(false) => {
                if let Some(object) = self.world.sectors.get(&id("t01000-0")).cloned() {
                    self.world.sectors.delete(&object);
                }
            }
            Step::Land(number) => {
                self.files[number] |= self.head()[number] == Life::Living;
            }
            Step::Round => self.round()?,
            Step::Pod => self.pod()?,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the order of words, of what the operator knows, and of what the chain undoes.
    #[test]
    fn files_of_a_sector_that_the_chain_has_are_never_removed(steps in proptest::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in steps {
            model.go(step)?;
        }
    }
}

/// The property above is not empty: by this way files are removed.
#[test]
fn sector_that_lived_and_ended_is_removed_in_the_model() {
    let mut model = Model::new();
    let mut steps = vec![Step::Epoch(1, false), Step::Epoch(1, false), Step::Land(1)];
    steps.extend([
        Step::Epoch(1, true),
        Step::Epoch(2, false),
        Step::Epoch(3, false),
    ]);
    steps.extend([
        Step::Observe,
        Step::Round,
        Step::Pod,
        Step::Round,
        Step::Word(3),
    ]);
    steps.extend([Step::Round, Step::Round, Step::Pod]);
    for step in steps {
        model.go(step).unwrap();
    }
    assert_eq!(model.removed, 1);
}
