//! Who may run when: nodes have one CPU each for a sealer pod alone and memory for two more pods on their shared CPUs,
//! and some scenarios bear no other beside them.
//!
//! Whoever finds what it needs takes it: so those that need little keep the machine busy, and those that need it for
//! themselves come at the end. Two wait for what others must leave alone: who wants both nodes goes before who wants one,
//! and nobody comes to a node that somebody waits to empty.

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
    /// So many wait to empty one.
    to_empty: usize,
    /// So many wait for the CPUs of more than one node.
    to_span: usize,
}

static DESK: Mutex<Desk> = Mutex::new(Desk {
    free: Vec::new(),
    places: Vec::new(),
    running: 0,
    closed: false,
    emptying: false,
    to_empty: 0,
    to_span: 0,
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

impl Desk {
    fn places(&self, node: &str) -> usize {
        self.places.iter().filter(|place| **place == node).count()
    }

    /// A node that nobody uses.
    fn unused(&self) -> Option<&'static str> {
        let mut free = self.free.iter().copied();
        free.find(|node| self.places(node) == PLACES)
    }

    /// The node of the next place: the one with more of them, since those of a node share its CPU. While somebody waits for a
    /// node to empty, the first is left alone, or none would ever be unused.
    fn place(&self) -> Option<&'static str> {
        let left_alone = usize::from(self.to_empty > 0 && !self.emptying);
        let free = NODES.iter().skip(left_alone);
        let free = free.filter(|node| self.places(node) > 0);
        free.max_by_key(|node| self.places(node)).copied()
    }

    /// What a scenario gets now; none when it has to wait.
    fn give(&mut self, need: Need) -> Option<Vec<&'static str>> {
        let names = match need {
            _ if self.closed => None,
            Need::Place => self.place().map(|node| vec![node]),
            Need::Nodes(count) => {
                let count = count.min(NODES.len());
                let turn = count == 0 || count > 1 || self.to_span == 0;
                (turn && self.free.len() >= count).then(|| self.free[..count].to_vec())
            }
            Need::Whole if self.emptying || self.to_span > 0 => None,
            Need::Whole => self.unused().map(|node| vec![node]),
            Need::Alone => (self.running == 0).then(|| self.free[..1].to_vec()),
        }?;
        self.running += 1;
        self.closed = need == Need::Alone;
        match need {
            Need::Place => {
                let at = self.places.iter().position(|place| *place == names[0]);
                at.map(|at| self.places.remove(at));
            }
            Need::Nodes(_) | Need::Alone => self.free.retain(|free| !names.contains(free)),
            Need::Whole => {
                self.emptying = true;
                self.free.retain(|free| *free != names[0]);
                self.places.retain(|place| *place != names[0]);
            }
        }
        Some(names)
    }

    /// How many wait for what others must leave alone.
    fn waiting(&mut self, need: Need) -> Option<&mut usize> {
        match need {
            Need::Whole => Some(&mut self.to_empty),
            Need::Nodes(2..) => Some(&mut self.to_span),
            Need::Nodes(_) | Need::Place | Need::Alone => None,
        }
    }
}

/// Waits until what is needed is free, and takes it.
pub fn take(need: Need) -> Taken {
    BEGUN.call_once(|| {
        let mut desk = self::desk();
        desk.free.extend(NODES);
        desk.places.extend(NODES.repeat(PLACES));
    });
    let mut desk = desk();
    loop {
        if let Some(names) = desk.give(need) {
            TURNED.notify_all();
            return Taken { names, need };
        }
        if let Some(count) = desk.waiting(need) {
            *count += 1;
        }
        desk = TURNED.wait(desk).unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = desk.waiting(need) {
            *count -= 1;
        }
    }
}

impl Taken {
    /// Gives back all but one node of several, when the others are not used any more.
    pub fn keep_only(&mut self, node: &str) {
        if matches!(self.need, Need::Nodes(_)) {
            let (kept, others) = self.names.drain(..).partition(|name| *name == node);
            self.names = kept;
            let mut desk = desk();
            desk.free.extend::<Vec<_>>(others);
            desk.free.sort_unstable();
            TURNED.notify_all();
        }
    }
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

    /// There is one desk.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn nodes_are_never_shared_and_come_back() {
        let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let one = take(Need::Nodes(1));
        let other = take(Need::Nodes(1));
        let third = take(Need::Nodes(0));
        assert_eq!(
            (one.names.as_slice(), other.names.as_slice()),
            (&["node-a"][..], &["node-b"][..])
        );
        assert!(third.names.is_empty());
        let shared = [Need::Place; 4].map(take);
        assert_eq!(self::desk().place(), None);
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
        let mut both = take(Need::Nodes(2));
        let empties = std::thread::spawn(|| take(Need::Whole));
        while self::desk().to_empty == 0 {
            std::thread::yield_now();
        }
        let shared = [Need::Place; 2].map(take);
        assert_eq!(shared.each_ref().map(|t| t.names[0]), ["node-b"; 2]);
        assert_eq!(self::desk().place(), None, "node-a is left to be emptied");
        both.keep_only("node-b");
        assert_eq!(empties.join().unwrap().names, ["node-a"]);
        drop((both, shared));
    }

    /// Scenarios begin in any order: whoever waits for what others have gets it in the end.
    #[test]
    fn everybody_has_a_turn_in_any_order() {
        let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let needs = [
            [Need::Place; 6].as_slice(),
            &[Need::Nodes(2), Need::Whole, Need::Whole, Need::Nodes(1)],
            &[Need::Alone; 4],
            &[Need::Nodes(0); 4],
        ]
        .concat();
        for first in 0..needs.len() {
            let mut order = needs.clone();
            order.rotate_left(first);
            let threads = order.into_iter().map(|need| {
                std::thread::spawn(move || {
                    let mut taken = take(need);
                    std::thread::yield_now();
                    taken.keep_only("node-b");
                    std::thread::yield_now();
                })
            });
            for thread in threads.collect::<Vec<_>>() {
                thread.join().unwrap();
            }
            let desk = desk();
            assert_eq!(
                (desk.free.len(), desk.places.len(), desk.running),
                (2, 4, 0)
            );
            assert_eq!((desk.to_empty, desk.to_span), (0, 0));
        }
    }
}
