//! Who may run when: nodes have one CPU each for a sealer pod alone, and some scenarios bear no other beside them.
//!
//! Whoever finds what it needs takes it: so the scenarios that need one node keep both busy, and those that need more come
//! at the end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Names of the nodes of the local cluster.
pub const NODES: [&str; 2] = ["node-a", "node-b"];

/// What a scenario needs for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This many nodes; others may run meanwhile.
    Nodes(usize),
    /// One node, and nobody else.
    Alone,
}

/// Who has what.
#[derive(Debug)]
struct Desk {
    free: Vec<&'static str>,
    /// Scenarios that run.
    running: usize,
    /// One of them must be alone.
    closed: bool,
}

static DESK: Mutex<Desk> = Mutex::new(Desk {
    free: Vec::new(),
    running: 0,
    closed: false,
});
static TURNED: Condvar = Condvar::new();
static BEGUN: std::sync::Once = std::sync::Once::new();

/// What one scenario has for itself; it is given back in the end.
#[derive(Debug)]
pub struct Taken {
    /// Names of nodes.
    pub names: Vec<&'static str>,
    alone: bool,
}

fn desk() -> MutexGuard<'static, Desk> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_for(
    mut desk: MutexGuard<'static, Desk>,
    is: impl Fn(&Desk) -> bool,
) -> MutexGuard<'static, Desk> {
    while !is(&desk) {
        desk = TURNED.wait(desk).unwrap_or_else(PoisonError::into_inner);
    }
    desk
}

/// Waits until what is needed is free, and takes it.
pub fn take(need: Need) -> Taken {
    BEGUN.call_once(|| self::desk().free.extend(NODES));
    let mut desk = desk();
    let (count, alone) = match need {
        Need::Nodes(count) => (count.min(NODES.len()), false),
        Need::Alone => (1, true),
    };
    let fits = |d: &Desk| !d.closed && d.free.len() >= count && (!alone || d.running == 0);
    desk = wait_for(desk, fits);
    desk.running += 1;
    desk.closed = alone;
    let names = desk.free.drain(..count).collect();
    TURNED.notify_all();
    Taken { names, alone }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut desk = desk();
        desk.free.append(&mut self.names);
        desk.free.sort_unstable();
        desk.running -= 1;
        desk.closed = desk.closed && !self.alone;
        TURNED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_never_shared_and_come_back() {
        let one = take(Need::Nodes(1));
        let other = take(Need::Nodes(1));
        let third = take(Need::Nodes(0));
        assert_eq!(
            (one.names.as_slice(), other.names.as_slice()),
            (&["node-a"][..], &["node-b"][..])
        );
        assert!(third.names.is_empty());
        let waits = std::thread::spawn(|| take(Need::Alone));
        drop((one, other, third));
        let alone = waits.join().unwrap();
        assert_eq!(alone.names, ["node-a"]);
        drop(alone);
        assert_eq!(take(Need::Nodes(2)).names.len(), 2);
    }
}
