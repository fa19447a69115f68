//! GPUs asked in a thread of their own: a driver that hangs is said to hang, and holds up nobody.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use super::gpu::{Reading, Source, Unasked};

type Answer = Result<Vec<Reading>, Unasked>;

/// How long is waited for an answer.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the first one: a driver that nobody uses takes seconds to begin.
    first: Duration,
    /// For each later one: our own health is asked for meanwhile.
    look: Duration,
    /// Until what it said before no longer counts.
    silence: Duration,
}

const PATIENCE: Patience = Patience {
    first: Duration::from_secs(20),
    look: Duration::from_secs(1),
    silence: Duration::from_secs(20),
};

/// A source that may hang.
#[derive(Debug)]
pub(crate) struct Patient {
    patience: Patience,
    asks: Sender<()>,
    answers: Receiver<Answer>,
    /// When it was asked what it has not answered yet.
    asked: Option<Instant>,
    /// What it said last; none before it said anything, or was waited for as long as ever.
    last: Option<Answer>,
}

impl Patient {
    /// A source that is made and asked in a thread of its own.
    pub(crate) fn new<S: Source>(make: impl FnOnce() -> S + Send + 'static) -> Self {
        Self::with(PATIENCE, make)
    }

    fn with<S: Source>(patience: Patience, make: impl FnOnce() -> S + Send + 'static) -> Self {
        let (asks, asked) = channel::<()>();
        let (answer, answers) = channel();
        let ask = move || {
            let mut source = make();
            while asked.recv().is_ok() && answer.send(source.look()).is_ok() {}
        };
        // Without a thread the other ends are gone: nobody answers.
        drop(thread::Builder::new().name("gpus".into()).spawn(ask));
        Self {
            patience,
            asks,
            answers,
            asked: None,
            last: None,
        }
    }
}

impl Source for Patient {
    fn look(&mut self) -> Answer {
        // What was asked is asked once: there is never a second call that hangs.
        let since = *self.asked.get_or_insert_with(|| {
            if self.asks.send(()).is_err() {
                tracing::debug!("nobody asks for GPUs any more");
            }
            Instant::now()
        });
        let patience = match self.last {
            None => self.patience.first,
            Some(_) => self.patience.look,
        };
        let hangs = || Err(Unasked::Broken("its driver hangs".into()));
        match self.answers.recv_timeout(patience) {
            Ok(answer) => {
                self.asked = None;
                self.last = Some(answer.clone().map(without_events));
                answer
            }
            Err(RecvTimeoutError::Timeout) if since.elapsed() < self.patience.silence => {
                self.last.get_or_insert_with(hangs).clone()
            }
            Err(RecvTimeoutError::Timeout) => self.last.insert(hangs()).clone(),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Unasked::Broken("its thread has ended".into()))
            }
        }
    }
}

/// What happened since the look before is told once.
fn without_events(mut readings: Vec<Reading>) -> Vec<Reading> {
    for reading in &mut readings {
        reading.xids.clear();
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers when it is let, with an Xid each time.
    struct Gate(Receiver<()>);

    impl Source for Gate {
        fn look(&mut self) -> Answer {
            self.0.recv().unwrap_or_default();
            Ok(vec![Reading {
                uuid: "GPU-1".into(),
                xids: vec![13],
                ..Reading::default()
            }])
        }
    }

    fn gate(silence: Duration) -> (Sender<()>, Patient) {
        let patience = Patience {
            first: Duration::from_mins(1),
            look: Duration::from_millis(5),
            silence,
        };
        let (open, opened) = channel();
        (open, Patient::with(patience, || Gate(opened)))
    }

    fn xids(answer: &Answer) -> Vec<u64> {
        answer.as_ref().unwrap()[0].xids.clone()
    }

    #[test]
    fn driver_that_is_slow_once_keeps_its_gpus_and_tells_each_error_once() {
        let (open, mut gpus) = gate(Duration::from_mins(1));
        open.send(()).unwrap();
        assert_eq!(xids(&gpus.look()), [13]);
        for _ in 0..3 {
            assert!(xids(&gpus.look()).is_empty(), "what it said before");
        }
        open.send(()).unwrap();
        // The answer comes when its thread runs.
        while xids(&gpus.look()).is_empty() {}
    }

    #[test]
    fn driver_that_hangs_is_said_to_and_holds_up_nobody() {
        let (open, mut gpus) = gate(Duration::ZERO);
        open.send(()).unwrap();
        assert!(gpus.look().is_ok());
        for _ in 0..3 {
            let said = gpus.look().unwrap_err().to_string();
            assert_eq!(said, "NVML does not answer (its driver hangs)");
        }
        open.send(()).unwrap();
        while gpus.look().is_err() {}
    }

    #[test]
    fn thread_that_ended_is_said_to_have() {
        struct Panics;
        impl Source for Panics {
            fn look(&mut self) -> Answer {
                std::panic::resume_unwind(Box::new("gone"))
            }
        }
        let mut gpus = Patient::new(|| Panics);
        for _ in 0..2 {
            let said = gpus.look().unwrap_err().to_string();
            assert_eq!(said, "NVML does not answer (its thread has ended)");
        }
    }
}
