//! What must hold over a whole run, by the API server's audit log: data in, violations out.
//!
//! No two live pods of ours on a node, sealers or provers, have a CPU or a GPU in common, by their own reports of what the kernel gave them;
//! a core group that a pod has to itself is all of its CPUs, so it is covered. Nobody is evicted from a node that
//! nobody asked to be empty. No cordon is undone by the operator that the operator did not set.

mod place;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::Timestamp;

use crate::audit::Event;
use state::State;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When.
    pub time: Timestamp,
    /// By whom, and how.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.time, self.rule, self.text)
    }
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Live sealers and provers of a node have no CPU and no GPU in common.
    Placement,
    /// Pods are evicted only from nodes that shall be empty.
    Eviction,
    /// The operator undoes only its own cordons.
    Cordon,
}

/// What was looked at, and what was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Pods with CPUs or GPUs of their own.
    pub placements: usize,
    /// Pods that were evicted, or made room for others.
    pub evictions: usize,
    /// Cordons that somebody took away.
    pub uncordons: usize,
    /// Those of them that the operator took away.
    pub uncordons_by_operator: usize,
    /// What was wrong.
    pub violations: Vec<Violation>,
}

impl Findings {
    /// One line for each rule.
    pub fn lines(&self) -> [String; 3] {
        let of = |rule| {
            let broken = self.violations.iter().filter(|v| v.rule == rule).count();
            match broken {
                0 => "holds".to_owned(),
                n => format!("BROKEN {n} times"),
            }
        };
        [
            format!(
                "{}: no two live sealers or provers of a node share a CPU, a core group or a GPU ({} exclusive pods)",
                of(Rule::Placement),
                self.placements
            ),
            format!(
                "{}: nobody is evicted from a node that nobody asked to be empty ({} evictions)",
                of(Rule::Eviction),
                self.evictions
            ),
            format!(
                "{}: no cordon is undone that was not the operator's ({} cordons undone, {} by the operator)",
                of(Rule::Cordon),
                self.uncordons,
                self.uncordons_by_operator
            ),
        ]
    }
}

/// Goes through a log, oldest event first. What was before `since` is known and not judged.
///
/// # Errors
/// When the log has no bodies of what pods say: then nothing can be told.
pub fn check(events: &[Event], since: Timestamp) -> anyhow::Result<Findings> {
    let told = |e: &Event| !e.request_object.is_null();
    let status = |e: &&Event| {
        e.object_ref.resource == "pods" && e.object_ref.subresource == "status" && e.is_write()
    };
    let mut statuses = events.iter().filter(status).peekable();
    anyhow::ensure!(
        statuses.peek().is_none() || statuses.any(told),
        "the audit log has no bodies of pods: its policy is an older one; tests/cluster/down && tests/cluster/up"
    );
    let mut state = State::default();
    let mut findings = Findings::default();
    for event in events.iter().filter(|e| e.is_write()) {
        let found = if event.stage_timestamp < since {
            &mut Findings::default()
        } else {
            &mut findings
        };
        state.take(event, found);
    }
    Ok(findings)
}
