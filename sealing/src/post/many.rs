//! Many reads at once, each with a deadline, so that a disk that hangs costs its own sectors only.
//!
//! A read that hangs in the kernel cannot be stopped. Its thread is left behind, its item given up
//! and never tried again; another thread takes its place. A store on which several reads hang is
//! asked last, and once: then all of it shares one deadline.
//!
//! Effects: threads. Never: a wait that is longer than the items of one store need, plus two
//! deadlines; an item that is read twice.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use crate::error::Error;

/// Reads that may hang on a store before the rest of it has to wait.
const PATIENCE: usize = 3;
/// Threads for what had to wait.
const LAST_READERS: usize = 64;

/// One thing to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item<S> {
    /// The sector's number.
    pub(crate) number: u64,
    /// What the reader needs to know.
    pub(crate) source: S,
    /// Which store it is on: reads hang by store.
    pub(crate) store: usize,
}

/// Bounds of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Sectors read at once.
    pub(crate) readers: usize,
    /// Time that one sector may take.
    pub(crate) deadline: Duration,
}

/// Why there is nothing of an item.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The read failed.
    Read(Error),
    /// There was no answer in time.
    Late,
}

type Outcome<T> = Result<T, Failure>;

/// Reads all; the results come in the order of the items' numbers.
pub(crate) fn read<S, T>(
    items: Vec<Item<S>>,
    limits: Limits,
    reader: impl Fn(&Item<S>) -> Result<T, Error> + Send + Sync + 'static,
    mut on_done: impl FnMut(usize),
) -> BTreeMap<u64, Outcome<T>>
where
    S: Send + 'static,
    T: Send + 'static,
{
    let mut run = Run::new(Arc::new(reader));
    let mut queue: VecDeque<_> = items.into();
    let mut waiting = VecDeque::new();
    while !queue.is_empty() || !run.active.is_empty() {
        while run.active.len() < limits.readers.max(1)
            && let Some(item) = queue.pop_front()
        {
            if run.hanging(item.store) >= PATIENCE {
                waiting.push_back(item);
            } else {
                run.start(item, Instant::now() + limits.deadline);
            }
        }
        run.wait();
        on_done(run.results.len());
    }
    let last = Instant::now() + limits.deadline;
    while !waiting.is_empty() || !run.active.is_empty() {
        let expired = Instant::now() >= last;
        while run.active.len() < LAST_READERS
            && let Some(item) = waiting.pop_front()
        {
            if expired {
                run.results.insert(item.number, Err(Failure::Late));
            } else {
                run.start(item, last);
            }
        }
        run.wait();
        on_done(run.results.len());
    }
    run.results
}

struct Active {
    until: Instant,
    store: usize,
}

type Answer<T> = (u64, usize, Result<T, Error>);
type Reader<S, T> = Arc<dyn Fn(&Item<S>) -> Result<T, Error> + Send + Sync>;

struct Run<S, T> {
    reader: Reader<S, T>,
    answers: (Sender<Answer<T>>, Receiver<Answer<T>>),
    active: BTreeMap<u64, Active>,
    /// Given up and not come back, by store.
    hanging: BTreeMap<usize, usize>,
    results: BTreeMap<u64, Outcome<T>>,
}

impl<S: Send + 'static, T: Send + 'static> Run<S, T> {
    fn new(reader: Reader<S, T>) -> Self {
        Self {
            reader,
            answers: mpsc::channel(),
            active: BTreeMap::new(),
            hanging: BTreeMap::new(),
            results: BTreeMap::new(),
        }
    }

    fn hanging(&self, store: usize) -> usize {
        self.hanging.get(&store).copied().unwrap_or_default()
    }

    fn start(&mut self, item: Item<S>, until: Instant) {
        let (number, store) = (item.number, item.store);
        let (reader, answers) = (self.reader.clone(), self.answers.0.clone());
        let started = thread::Builder::new().spawn(move || {
            let result = reader(&item);
            // Nobody listens any more when the item was given up and the run is over.
            drop(answers.send((number, store, result)));
        });
        match started {
            Ok(_) => drop(self.active.insert(number, Active { until, store })),
            Err(e) => {
                let error = Error::io("start a thread for", format!("sector {number}"))(e);
                self.results.insert(number, Err(Failure::Read(error)));
            }
        }
    }

    /// Waits for the next answer or deadline.
    fn wait(&mut self) {
        let Some(until) = self.active.values().map(|a| a.until).min() else {
            return;
        };
        let pause = until.saturating_duration_since(Instant::now());
        match self.answers.1.recv_timeout(pause) {
            Ok((number, store, result)) => {
                if self.active.remove(&number).is_some() {
                    self.results.insert(number, result.map_err(Failure::Read));
                } else if let Some(n) = self.hanging.get_mut(&store) {
                    // Too late for this item, but its store answers again.
                    *n = n.saturating_sub(1);
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        let now = Instant::now();
        let late: Vec<_> = self
            .active
            .iter()
            .filter(|(_, a)| a.until <= now)
            .map(|(number, a)| (*number, a.store))
            .collect();
        for (number, store) in late {
            self.active.remove(&number);
            *self.hanging.entry(store).or_default() += 1;
            self.results.insert(number, Err(Failure::Late));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const SHORT: Limits = Limits {
        readers: 2,
        deadline: Duration::from_millis(40),
    };

    fn items(stores: &[usize]) -> Vec<Item<()>> {
        let item = |(number, store): (u64, &usize)| Item {
            number,
            source: (),
            store: *store,
        };
        (0..).zip(stores).map(item).collect()
    }

    /// Blocks until the test is over.
    #[derive(Clone, Default)]
    struct Hang(Arc<Mutex<()>>);

    impl Hang {
        fn wait(&self) {
            drop(self.0.lock());
        }
    }

    fn good<T>(results: &BTreeMap<u64, Outcome<T>>) -> Vec<u64> {
        let good = results.iter().filter(|(_, r)| r.is_ok());
        good.map(|(n, _)| *n).collect()
    }

    #[test]
    fn reads_that_hang_are_given_up_and_the_others_are_read() {
        let hang = Hang::default();
        let held = hang.0.lock().unwrap();
        let inner = hang.clone();
        let reader = move |item: &Item<()>| {
            if item.number % 3 == 1 {
                inner.wait();
            }
            Ok(item.number)
        };
        let stores: Vec<_> = (0..12).collect();
        let results = read(items(&stores), SHORT, reader, |_| {});
        assert_eq!(good(&results), [0, 2, 3, 5, 6, 8, 9, 11]);
        assert!(matches!(results[&1], Err(Failure::Late)));
        drop(held);
    }

    #[test]
    fn store_that_hangs_costs_its_own_sectors_and_two_deadlines_more() {
        let hang = Hang::default();
        let held = hang.0.lock().unwrap();
        let inner = hang.clone();
        let reader = move |item: &Item<()>| {
            if item.store == 0 {
                inner.wait();
            }
            Ok(item.number)
        };
        // The bad store comes first, and has far more sectors than there are readers.
        let stores: Vec<_> = (0..60).map(|n| usize::from(n >= 50)).collect();
        let begin = Instant::now();
        let results = read(items(&stores), SHORT, reader, |_| {});
        assert_eq!(results.len(), 60);
        assert_eq!(good(&results), (50..60).collect::<Vec<_>>());
        // One after the other the 50 would take 50 / 2 deadlines.
        assert!(
            begin.elapsed() < 12 * SHORT.deadline,
            "{:?}",
            begin.elapsed()
        );
        drop(held);
    }

    #[test]
    fn store_that_answers_again_is_read_to_the_end() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (hang, counter) = (Hang::default(), calls.clone());
        let held = Mutex::new(Some(hang.0.lock().unwrap()));
        let inner = hang.clone();
        let reader = move |item: &Item<()>| {
            counter.fetch_add(1, Ordering::SeqCst);
            if item.number < 4 {
                inner.wait();
            }
            Ok(item.number)
        };
        // Longer than a busy machine keeps a thread waiting: those after the first four must be in time.
        let limits = Limits {
            deadline: Duration::from_secs(1),
            ..SHORT
        };
        let results = read(items(&[0; 20]), limits, reader, |done| {
            if done == 4 {
                drop(held.lock().unwrap().take());
            }
        });
        assert_eq!(good(&results), (4..20).collect::<Vec<_>>());
        assert_eq!(calls.load(Ordering::SeqCst), 20, "nothing is read twice");
    }

    #[test]
    fn failed_read_is_told_at_once_and_not_repeated() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let reader = move |item: &Item<()>| {
            counter.fetch_add(1, Ordering::SeqCst);
            if item.number == 2 {
                return Err(Error::Input("bad".to_owned()));
            }
            Ok(())
        };
        let long = Limits {
            readers: 3,
            deadline: Duration::from_mins(10),
        };
        let results = read(items(&[0; 7]), long, reader, |_| {});
        assert!(matches!(results[&2], Err(Failure::Read(_))));
        assert_eq!(good(&results).len(), 6);
        assert_eq!(calls.load(Ordering::SeqCst), 7);
    }

    #[test]
    fn no_more_than_the_readers_read_at_once() {
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (n, m) = (now.clone(), most.clone());
        let reader = move |_: &Item<()>| {
            m.fetch_max(n.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            n.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let long = Limits {
            readers: 3,
            deadline: Duration::from_mins(10),
        };
        read(items(&[0; 50]), long, reader, |_| {});
        assert!(most.load(Ordering::SeqCst) <= 3);
    }
}
