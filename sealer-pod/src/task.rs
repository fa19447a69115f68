//! Role `task`: runs one task in a process of its own.
//!
//! In: one [`Request`] on standard input. Out: [`Line`]s on standard output. The settings of the
//! proof library are the environment of this process. It dies with its supervisor.

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use filstar_sealing::{Class, Context, Engine, Own, Stock, run};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{
    memory, pause,
    wire::{Failure, Line, Progress, Request},
};

/// The variable that names the engine.
pub(crate) const ENGINE: &str = "FILSTAR_ENGINE";

/// Runs the task on standard input. The exit status is 0 when the last line says what happened.
pub(crate) fn main() -> ExitCode {
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!(error = %e, "this process will outlive a supervisor that is killed");
    }
    memory::apply();
    let line = match read().and_then(|request| execute(&request)) {
        Ok(output) => output,
        Err(failure) => Line::Error(failure),
    };
    if say(&line) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn read() -> Result<Request, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().read_line(&mut text);
    read.map_err(|e| Failure::new(Class::Temporary, format!("cannot read the request: {e}")))?;
    serde_json::from_str(&text)
        .map_err(|e| Failure::new(Class::Fatal, format!("cannot understand the request: {e}")))
}

fn execute(request: &Request) -> Result<Line, Failure> {
    let engine = engine()?;
    let context = Context {
        from_scratch: request.from_scratch,
        progress: &|p| {
            say(&Line::Progress(Progress {
                percent: p.percent,
                detail: p.detail,
            }));
        },
        point: &|point| pause::at(point, &request.task),
        ..Context::quiet(engine.as_ref())
    };
    Ok(Line::Result(run(&request.task, &context)?))
}

/// The engine that `FILSTAR_ENGINE` names; ours when it names none.
fn engine() -> Result<Box<dyn Engine>, Failure> {
    let name = std::env::var(ENGINE).unwrap_or_else(|_| "filstar".to_owned());
    match name.as_str() {
        "filstar" => Ok(Box::new(Own::default())),
        "stock" => Ok(Box::new(Stock)),
        other => {
            let text = format!("{ENGINE} is {other:?}; engines are \"filstar\" and \"stock\"");
            Err(Failure::new(Class::Fatal, text))
        }
    }
}

/// Whether somebody still listens.
fn say(line: &Line) -> bool {
    let mut out = io::stdout().lock();
    let written = serde_json::to_writer(&mut out, line)
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    if let Err(e) = &written {
        tracing::error!(error = %e, "nobody listens to this task any more");
    }
    written.is_ok()
}
