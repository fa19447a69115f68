//! Who may run when: nodes have one CPU each for a sealer pod alone and memory for two more pods on their shared CPUs,
//! and some scenarios bear no other beside them.
//!
//! Whoever finds what it needs takes it: so those that need little keep the machine busy, and those that need it for
//! themselves come at the end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Names of the nodes of the local cluster.
pub const NODES: [&str; 2] = ["node-a", "node-b"];

/// Sealer pods of different scenarios that share the CPUs of a node.
const PLACES: usize = 2;

/// What a scenario needs for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Room for one sealer pod on the shared CPUs of a node.
    Place,
    /// The CPUs for a pod alone of this many nodes; others may run meanwhile.
    Nodes(usize),
    /// One node that nobody else uses, to be emptied; one at a time, since the other must take what leaves.
    Whole,
    /// One node, and nobody else.
    Alone,
}

/// Who has what.
#[derive(Debug)]
struct Desk {
    /// Nodes whose CPU for a pod alone nobody has.
    free: Vec<&'static str>,
    /// A node's name for each free place on it; the next is the last.
    places: Vec<&'static str>,
    /// Scenarios that run.
    running: usize,
    /// One of them must be alone.
    closed: bool,
    /// One of them empties a node.
    emptying: bool,
}

static DESK: Mutex<Desk> = Mutex::new(Desk {
    free: Vec::new(),
    places: Vec::new(),
    running: 0,
    closed: false,
    emptying: false,
});
static TURNED: Condvar = Condvar::new();
static BEGUN: std::sync::Once = std::sync::Once::new();

/// What one scenario has for itself; it is given back in the end.
#[derive(Debug)]
pub struct Taken {
    /// Names of nodes.
    pub names: Vec<&'static str>,
    need: Need,
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

/// A node that nobody uses.
fn unused(desk: &Desk) -> Option<&'static str> {
    let places = |node: &&str| desk.places.iter().filter(|place| place == &node).count();
    let mut free = desk.free.iter();
    free.find(|node| places(node) == PLACES).copied()
}

/// Waits until what is needed is free, and takes it.
pub fn take(need: Need) -> Taken {
    BEGUN.call_once(|| {
        let mut desk = self::desk();
        desk.free.extend(NODES);
        desk.places.extend(NODES.repeat(PLACES));
    });
    let (nodes, places) = match need {
        Need::Place => (0, 1),
        Need::Nodes(count) => (count.min(NODES.len()), 0),
        Need::Whole => (0, 0),
        Need::Alone => (1, 0),
    };
    let alone = need == Need::Alone;
    let whole = need == Need::Whole;
    let fits = |d: &Desk| {
        (!whole || !d.emptying && unused(d).is_some())
            && !d.closed
            && d.free.len() >= nodes
            && d.places.len() >= places
            && (!alone || d.running == 0)
    };
    let mut desk = wait_for(desk(), fits);
    desk.running += 1;
    desk.closed = alone;
    let mut names: Vec<_> = desk.free.drain(..nodes).collect();
    let rest = desk.places.len() - places;
    names.extend(desk.places.drain(rest..));
    if whole && let Some(node) = unused(&desk) {
        desk.emptying = true;
        desk.free.retain(|free| *free != node);
        desk.places.retain(|place| *place != node);
        names.push(node);
    }
    TURNED.notify_all();
    Taken { names, need }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut desk = desk();
        match self.need {
            Need::Place => desk.places.append(&mut self.names),
            Need::Whole => {
                desk.emptying = false;
                for node in self.names.drain(..) {
                    desk.places.extend([node; PLACES]);
                    desk.free.push(node);
                }
            }
            Need::Nodes(_) | Need::Alone => desk.free.append(&mut self.names),
        }
        desk.free.sort_unstable();
        desk.running -= 1;
        desk.closed = desk.closed && self.need != Need::Alone;
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
        let shared = [Need::Place; 4].map(take);
        let on_a = shared.iter().filter(|t| t.names == ["node-a"]).count();
        assert_eq!((on_a, self::desk().places.len()), (2, 0));
        let waits = std::thread::spawn(|| take(Need::Alone));
        drop((one, other, third, shared));
        let alone = waits.join().unwrap();
        assert_eq!(alone.names, ["node-a"]);
        drop(alone);
        let beside = take(Need::Place);
        let whole = take(Need::Whole);
        assert_ne!(whole.names, beside.names);
        assert_eq!(
            self::desk().places.len(),
            1,
            "nobody comes to a node that is emptied"
        );
        drop((beside, whole));
        assert_eq!(take(Need::Nodes(2)).names.len(), 2);
    }
}
