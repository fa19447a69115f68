//! Several candidates, one record, lost answers, slow calls and pauses: never do two of them lead at once.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::decide::{Holding, Record, Seen, Step, decide};
use super::{CALL_TIMEOUT, LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD, Role};

/// What chance decides in one step of one candidate: it reads and decides, or the write that it decided on is made.
#[derive(Clone, Copy, Debug)]
struct Luck {
    /// Whose step.
    who: usize,
    /// From the last step to this one, in milliseconds.
    gap: u64,
    /// The answer of the write is lost.
    lost: bool,
    /// It ends well after this step, and gives the Lease back.
    ends: bool,
}

fn luck() -> impl Strategy<Value = Luck> {
    let gap = prop_oneof![9 => 0..2_500_u64, 1 => 0..40_000_u64];
    (
        0..3_usize,
        gap,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(who, gap, lost, ends)| Luck {
            who,
            gap,
            lost,
            ends,
        })
}

/// A write on its way.
struct Pending {
    asked: Instant,
    version: Option<String>,
}

#[derive(Default)]
struct Candidate {
    lives: u32,
    seen: Option<Seen>,
    held: Option<Instant>,
    pending: Option<Pending>,
}

struct Sim {
    now: Instant,
    record: Option<Record>,
    writes: u64,
    candidates: [Candidate; 3],
}

impl Sim {
    fn name(&self, who: usize) -> String {
        format!("pod-{who}-{}_x", self.candidates[who].lives)
    }

    fn write(&mut self, holder: String) {
        self.writes += 1;
        let version = self.writes.to_string();
        self.record = Some(Record {
            holder,
            duration: LEASE_DURATION,
            version,
        });
    }

    fn leaders(&self, now: Instant) -> usize {
        let leads = |c: &&Candidate| {
            c.held
                .is_some_and(|renewed| Role::Leader { renewed }.may_write(now))
        };
        self.candidates.iter().filter(leads).count()
    }

    fn turn(&mut self, luck: Luck) {
        self.now += Duration::from_millis(luck.gap);
        match self.candidates[luck.who].pending.take() {
            Some(pending) => self.make(luck, &pending),
            None => self.decide(luck.who),
        }
        if luck.ends {
            self.release(luck.who);
        }
    }

    fn decide(&mut self, who: usize) {
        let (asked, me) = (self.now, self.name(who));
        let candidate = &mut self.candidates[who];
        candidate.seen = Some(Seen::update(
            candidate.seen.take(),
            self.record.as_ref(),
            asked,
        ));
        let holding = candidate.held.map(|renewed| Holding {
            renewed,
            deadline: RENEW_DEADLINE,
        });
        let seen = candidate.seen.as_ref();
        match decide(&me, None, self.record.as_ref(), seen, holding, asked) {
            Step::Wait => {}
            Step::Lost => self.restart(who),
            Step::Create | Step::Take | Step::Renew => {
                let version = self.record.as_ref().map(|r| r.version.clone());
                self.candidates[who].pending = Some(Pending { asked, version });
            }
        }
    }

    /// The write is made if nothing else was written since; the candidate knows if the answer comes in time.
    fn make(&mut self, luck: Luck, pending: &Pending) {
        if self.record.as_ref().map(|r| r.version.clone()) != pending.version {
            return;
        }
        self.write(self.name(luck.who));
        if !luck.lost && self.now - pending.asked <= 2 * CALL_TIMEOUT {
            self.candidates[luck.who].held = Some(pending.asked);
        }
    }

    fn restart(&mut self, who: usize) {
        let lives = self.candidates[who].lives + 1;
        self.candidates[who] = Candidate {
            lives,
            ..Candidate::default()
        };
    }

    fn release(&mut self, who: usize) {
        let (held, me) = (self.candidates[who].held, self.name(who));
        self.restart(who);
        if held.is_some() && self.record.as_ref().is_some_and(|r| r.holder == me) {
            self.write(String::new());
        }
    }
}

proptest! {
    #[test]
    fn sim_two_candidates_never_lead_at_once(turns in prop::collection::vec(luck(), 1..300)) {
        let candidates = Default::default();
        let mut sim = Sim { now: Instant::now(), record: None, writes: 0, candidates };
        for luck in turns {
            sim.turn(luck);
            prop_assert!(sim.leaders(sim.now) <= 1, "at write {}", sim.writes);
        }
    }
}

#[test]
fn sim_a_lease_whose_holder_dies_is_taken_within_its_duration_and_two_turns() {
    let candidates = Default::default();
    let mut sim = Sim {
        now: Instant::now(),
        record: None,
        writes: 0,
        candidates,
    };
    let step = u64::try_from(RETRY_PERIOD.as_millis()).unwrap();
    let luck = |who| Luck {
        who,
        gap: step / 2,
        lost: false,
        ends: false,
    };
    sim.turn(luck(0));
    sim.turn(luck(0));
    assert_eq!(sim.leaders(sim.now), 1);
    let died = sim.now;
    while sim.candidates[1].held.is_none() {
        sim.turn(luck(1));
    }
    assert!(sim.now - died <= LEASE_DURATION + 2 * RETRY_PERIOD + Duration::from_millis(step));
}
