//! One look at one sector: what it is, what it may become, and what is wished for on the way.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use filstar_chain::node::{PreCommitOnChainInfo, SectorOnChainInfo};
use filstar_crds::{
    Attempts, Failure, Miner, SealingGroup, Sector, SectorPhase, SectorStatus, TaskClass,
    TimelineEntry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::super::bookings::Bookings;
use super::super::pledge::Ledger;
use super::{gone, say};
use crate::action::Action;
use crate::world::{ChainFacts, Id, MinerFacts, Now, World};

/// Entries of the timeline that are kept.
const TIMELINE: usize = 60;

/// Why nothing happens now. The reason is stable, the message is for people and must not change with every epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Wait {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Randomness that must be drawn before the new status can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    Ticket(i64),
    Seed(i64),
}

/// A status to be. It is the sector's own until something is written to it: most sectors of a plan stay as they are.
#[derive(Clone, Debug)]
pub(super) struct Draft<'a>(Cow<'a, SectorStatus>);

impl<'a> Draft<'a> {
    fn of(status: Option<&'a SectorStatus>) -> Self {
        Self(status.map_or_else(Cow::default, Cow::Borrowed))
    }

    /// Whether it says the same as the status that the sector has.
    fn is_same(&self, before: Option<&SectorStatus>) -> bool {
        match (&self.0, before) {
            (Cow::Borrowed(_), _) => true,
            (Cow::Owned(next), Some(before)) => next == before,
            (Cow::Owned(next), None) => *next == SectorStatus::default(),
        }
    }
}

impl Deref for Draft<'_> {
    type Target = SectorStatus;

    fn deref(&self) -> &SectorStatus {
        &self.0
    }
}

impl DerefMut for Draft<'_> {
    fn deref_mut(&mut self) -> &mut SectorStatus {
        self.0.to_mut()
    }
}

/// One look at one sector.
pub(super) struct Turn<'a> {
    pub(super) world: &'a World,
    pub(super) now: Now,
    pub(super) bookings: &'a mut Bookings,
    pub(super) ledger: &'a mut Ledger,
    pub(super) id: &'a Id,
    pub(super) sector: &'a Sector,
    pub(super) miner_id: &'a Id,
    pub(super) miner: &'a Miner,
    pub(super) facts: Arc<MinerFacts>,
    pub(super) group_id: &'a Id,
    pub(super) group: &'a SealingGroup,
    /// The status to be: the operator's part.
    pub(super) next: Draft<'a>,
    pub(super) draw: Option<Draw>,
    /// The node that must be gone for the status to be written.
    pub(super) gone: Option<String>,
    /// Messages to wish for, before the status is written.
    pub(super) wishes: Vec<Action>,
}

impl<'a> Turn<'a> {
    pub(super) fn start(
        world: &'a World,
        now: Now,
        (bookings, ledger): (&'a mut Bookings, &'a mut Ledger),
        id: &'a Id,
        sector: &'a Sector,
    ) -> Result<Self, Wait> {
        let (miner_id, miner, facts) = super::miner(world, bookings, id, sector)?;
        let name = &sector.spec.group_ref.name;
        let (group_id, group) = world.groups.find(&id.namespace, name).ok_or_else(|| {
            Wait::new(
                "NoGroup",
                format!("there is no SealingGroup {name} in this namespace; create it"),
            )
        })?;
        if group.spec.miner_ref != sector.spec.miner_ref {
            return Err(Wait::new(
                "WrongGroup",
                "the SealingGroup seals for another Miner",
            ));
        }
        let next = Draft::of(sector.status.as_ref());
        let mut turn = Self {
            world,
            now,
            bookings,
            ledger,
            id,
            sector,
            miner_id,
            miner,
            facts,
            group_id,
            group,
            next,
            draw: None,
            gone: None,
            wishes: Vec::new(),
        };
        if turn.next.phase.is_none() {
            turn.enter(SectorPhase::Allocated);
        }
        Ok(turn)
    }

    pub(super) fn phase(&self) -> SectorPhase {
        self.sector
            .status
            .as_ref()
            .and_then(|s| s.phase)
            .unwrap_or_default()
    }

    pub(super) fn number(&self) -> u64 {
        self.sector.spec.number.unsigned_abs()
    }

    pub(super) fn chain(&self) -> Result<&'a ChainFacts, Wait> {
        self.world.chain(self.miner_id).ok_or_else(|| {
            let problem = self
                .world
                .chains
                .get(self.miner_id)
                .and_then(|v| v.problem.as_ref());
            match problem {
                Some(problem) => Wait::new(problem.reason(), problem.message()),
                None => Wait::new("ChainUnknown", "the chain has not answered yet"),
            }
        })
    }

    /// The pre-commit on chain; `Err` while the answer is not known.
    pub(super) fn pre_commit(&self) -> Result<Option<&'a PreCommitOnChainInfo>, Wait> {
        let answer = self.chain()?.precommits.get(&self.number());
        answer.map(Option::as_ref).ok_or_else(asking)
    }

    /// The sector on chain; `Err` while the answer is not known.
    pub(super) fn on_chain(&self) -> Result<Option<&'a SectorOnChainInfo>, Wait> {
        let answer = self.chain()?.sectors.get(&self.number());
        answer.map(Option::as_ref).ok_or_else(asking)
    }

    /// Enters a phase: closes the timeline's last entry, opens the next, forgets the task.
    pub(super) fn enter(&mut self, phase: SectorPhase) {
        if let Some(last) = self.next.timeline.last_mut()
            && last.seconds.is_none()
        {
            last.seconds = Some(
                self.now
                    .wall
                    .duration_since(last.started.0)
                    .as_secs()
                    .max(0),
            );
        }
        let entry = TimelineEntry {
            phase,
            started: Time(self.now.wall),
            seconds: None,
        };
        self.next.timeline.push(entry);
        let extra = self.next.timeline.len().saturating_sub(TIMELINE);
        self.next.timeline.drain(..extra);
        self.next.phase = Some(phase);
        self.next.task = None;
    }

    /// The sector cannot go on without a person.
    pub(super) fn fail(&mut self, class: TaskClass, message: impl Into<String>) -> Wait {
        let message = message.into();
        let phase = self.phase();
        self.next.failure = Some(Failure {
            phase,
            class,
            message: message.clone(),
        });
        self.enter(SectorPhase::Failed);
        Wait::new("Failed", format!("{}: {message}", phase.as_str()))
    }

    /// Counts one failure of the current phase. Returns how many there were, this one included.
    pub(super) fn count_failure(&mut self, error: &str, pause_seconds: i64) -> u32 {
        let phase = self.phase();
        let before = self
            .next
            .attempts
            .as_ref()
            .filter(|a| a.phase == phase)
            .map_or(0, |a| a.failed);
        let failed = before.saturating_add(1);
        let pause = jiff::SignedDuration::from_secs(pause_seconds);
        let not_before = self.now.wall.checked_add(pause).ok().map(Time);
        self.next.attempts = Some(Attempts {
            phase,
            failed,
            not_before,
            last_error: Some(error.to_owned()),
        });
        failed
    }

    /// Ends the turn: one write, or none when nothing changed.
    pub(super) fn finish(mut self, wait: &Wait) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.wishes);
        let generation = self.sector.metadata.generation;
        if self.next.observed_generation != generation {
            self.next.observed_generation = generation;
        }
        if !say::is_said(generation, &self.next, wait) {
            say::conditions(self.now, self.sector, &mut self.next, wait);
        }
        say::overdue(&mut self);
        gone::say(&mut self);
        if self.next.is_same(self.sector.status.as_ref()) {
            return actions;
        }
        // The sealer's part is not ours to write.
        self.next.sealer = None;
        let id = self.id.clone();
        let status = Box::new(self.next.0.into_owned());
        let resource_version = self.sector.resource_version().unwrap_or_default();
        let miner = self.miner_id.clone();
        actions.push(match self.draw {
            None => Action::PatchSector {
                id,
                status,
                resource_version,
                gone: self.gone,
            },
            Some(Draw::Ticket(epoch)) => Action::DrawTicket {
                id,
                miner,
                epoch: epoch.into(),
                status,
                resource_version,
            },
            Some(Draw::Seed(epoch)) => Action::DrawSeed {
                id,
                miner,
                epoch: epoch.into(),
                status,
                resource_version,
            },
        });
        actions
    }
}

fn asking() -> Wait {
    Wait::new("AskingChain", "the chain is being asked about this sector")
}
