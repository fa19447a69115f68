//! What a supervisor and its task process say to each other: one JSON object per line.

use std::num::NonZeroU32;

use filstar_crds::TaskClass;
use filstar_sealing::{Class, Output, Task, task::Pc1};
use serde::{Deserialize, Serialize};

/// What the supervisor asks; the only line that it writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    /// The task with its input.
    pub(crate) task: Task,
    /// Whether to forget what the phase left behind.
    #[serde(default)]
    pub(crate) from_scratch: bool,
}

/// PC1 of several sectors in one process: the other thing that a supervisor may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pc1Together {
    /// The sectors.
    pub(crate) together: Vec<Pc1>,
    /// Most of them on one core.
    pub(crate) per_core: NonZeroU32,
}

/// What the line of the supervisor holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Asked {
    /// PC1 of several sectors.
    Together(Pc1Together),
    /// One task.
    One(Box<Request>),
}

/// What the task process answers; `Result` or `Error` is the last line, of each sector where there are several.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Line {
    /// How far it is.
    Progress(Progress),
    /// It is done.
    Result(Output),
    /// It failed.
    Error(Failure),
    /// One of these about one of several sectors, by its place in the request.
    Of(usize, Box<Line>),
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Done, in percent.
    pub(crate) percent: u32,
    /// For people.
    pub(crate) detail: String,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{class}: {message}")]
pub(crate) struct Failure {
    /// What to do about it.
    pub(crate) class: Class,
    /// Which file, what happened, what to do.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

impl From<filstar_sealing::Error> for Failure {
    fn from(e: filstar_sealing::Error) -> Self {
        Self::new(e.class(), e.to_string())
    }
}

/// The API's name of a class.
pub(crate) const fn task_class(class: Class) -> TaskClass {
    match class {
        Class::Temporary => TaskClass::Temporary,
        Class::Permanent => TaskClass::Permanent,
        Class::Corrupt => TaskClass::Corrupt,
        Class::Fatal => TaskClass::Fatal,
    }
}
