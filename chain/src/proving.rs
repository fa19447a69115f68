//! When a miner proves: pure helpers over what `StateMinerProvingDeadline` answers.
//!
//! Nothing here is a constant of a network: lengths and counts come from the node, so devnets with short days work.

use serde::{Deserialize, Serialize};

use crate::types::Epoch;

/// `StateMinerProvingDeadline`: the current deadline, and the shape of the proving period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeadlineInfo {
    /// The epoch the node speaks of.
    pub current_epoch: Epoch,
    /// When the current proving period began.
    pub period_start: Epoch,
    /// Which deadline is current.
    pub index: u64,
    /// The first epoch in which its proofs are accepted.
    pub open: Epoch,
    /// The first epoch in which they no longer are.
    pub close: Epoch,
    /// The epoch of its challenge.
    pub challenge: Epoch,
    /// The first epoch in which faults and recoveries for it can no longer be declared.
    pub fault_cutoff: Epoch,
    /// How many deadlines a period has.
    #[serde(rename = "WPoStPeriodDeadlines")]
    pub period_deadlines: u64,
    /// Unit: epochs.
    #[serde(rename = "WPoStProvingPeriod")]
    pub proving_period: i64,
    /// Unit: epochs.
    #[serde(rename = "WPoStChallengeWindow")]
    pub challenge_window: i64,
    /// From the challenge to the opening. Unit: epochs.
    #[serde(rename = "WPoStChallengeLookback")]
    pub challenge_lookback: i64,
    /// From the cutoff to the opening. Unit: epochs.
    pub fault_declaration_cutoff: i64,
}

/// More deadlines than any network has: an answer with more is not believed.
const MAX_DEADLINES: u64 = 1024;

/// One window of one deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it opens; first in the order.
    pub open: Epoch,
    /// Which deadline.
    pub deadline: u64,
    /// The first epoch after it.
    pub close: Epoch,
    /// The epoch of its challenge.
    pub challenge: Epoch,
    /// The first epoch in which faults and recoveries for it can no longer be declared.
    pub fault_cutoff: Epoch,
}

impl Window {
    /// Whether a proof may land in this epoch.
    pub fn is_open(&self, epoch: Epoch) -> bool {
        (self.open..self.close).contains(&epoch)
    }

    /// Whether the challenge is known in this epoch, so that proving may begin.
    pub fn is_challenged(&self, epoch: Epoch) -> bool {
        epoch > self.challenge && epoch < self.close
    }

    /// How much of it is left, from 1 to 0; none while it is not open.
    pub fn left(&self, epoch: Epoch) -> Option<f64> {
        if !self.is_open(epoch) {
            return None;
        }
        let part = |epochs: i64| i32::try_from(epochs).ok().map(f64::from);
        Some(part(self.close.since(epoch))? / part(self.close.since(self.open))?)
    }

    /// Whether it is over.
    pub fn has_elapsed(&self, epoch: Epoch) -> bool {
        epoch >= self.close
    }

    /// Whether faults and recoveries for it can still be declared.
    pub fn can_declare(&self, epoch: Epoch) -> bool {
        epoch < self.fault_cutoff
    }
}

impl DeadlineInfo {
    /// The window of the current deadline.
    pub fn current(&self) -> Window {
        self.window_opening_at(self.index, self.open)
    }

    /// The window of this deadline that is open now or opens next; none when there is no such deadline.
    pub fn next_window(&self, deadline: u64) -> Option<Window> {
        if deadline >= self.period_deadlines {
            return None;
        }
        let offset = i64::try_from(deadline)
            .ok()?
            .checked_mul(self.challenge_window)?;
        let mut window = self.window_opening_at(deadline, self.period_start + offset);
        if window.has_elapsed(self.current_epoch) {
            window = self.window_opening_at(deadline, window.open + self.proving_period);
        }
        Some(window)
    }

    /// The windows of all deadlines, the one that opens first in front.
    pub fn upcoming(&self) -> Vec<Window> {
        let deadlines = 0..self.period_deadlines.min(MAX_DEADLINES);
        let mut windows: Vec<Window> = deadlines
            .filter_map(|deadline| self.next_window(deadline))
            .collect();
        windows.sort_unstable();
        windows
    }

    /// Whether sectors of this deadline can be moved, terminated or snapped now: it is neither open nor about to be.
    pub fn is_mutable(&self, deadline: u64) -> bool {
        // The actor closes a deadline for changes one challenge window before it opens.
        self.next_window(deadline)
            .is_some_and(|window| self.current_epoch < window.open - self.challenge_window)
    }

    fn window_opening_at(&self, deadline: u64, open: Epoch) -> Window {
        Window {
            open,
            deadline,
            close: open + self.challenge_window,
            challenge: open - self.challenge_lookback,
            fault_cutoff: open - self.fault_declaration_cutoff,
        }
    }
}
