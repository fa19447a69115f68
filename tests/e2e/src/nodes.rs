//! Nodes have one CPU each for a sealer pod alone: a scenario takes the nodes that it needs and gives them back.

use std::sync::{Condvar, Mutex, PoisonError};

/// Names of the nodes of the local cluster.
pub const NODES: [&str; 2] = ["node-a", "node-b"];

static FREE: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static TURNED: Condvar = Condvar::new();
static BEGUN: std::sync::Once = std::sync::Once::new();

/// Nodes that one scenario has for itself.
#[derive(Debug)]
pub struct Taken {
    /// Their names.
    pub names: Vec<&'static str>,
}

/// Waits until so many nodes are free, and takes them.
pub fn take(count: usize) -> Taken {
    let count = count.min(NODES.len());
    let lock = || FREE.lock().unwrap_or_else(PoisonError::into_inner);
    BEGUN.call_once(|| lock().extend(NODES));
    let mut free = lock();
    while free.len() < count {
        free = TURNED.wait(free).unwrap_or_else(PoisonError::into_inner);
    }
    let names = free.drain(..count).collect();
    Taken { names }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.append(&mut self.names);
        TURNED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_never_shared_and_come_back() {
        let one = take(1);
        let other = take(1);
        assert_ne!(one.names, other.names);
        drop((one, other));
        assert_eq!(take(2).names.len(), 2);
        assert!(take(0).names.is_empty());
    }
}
