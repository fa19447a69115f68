//! Role `task`: runs one task in a process of its own.
//!
//! In: what is [`Asked`], one line on standard input. Out: [`Line`]s on standard output. The settings of the
//! proof library are the environment of this process. It dies with its supervisor.

use std::{
    io::{self, BufRead, Write},
    num::NonZeroUsize,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use filstar_sealing::{
    Class, Context, Engine, Output, Own, SectorId, Stock,
    own::Pool,
    run,
    steps::{self, Together, pc1_together},
    task::Pc1,
};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{
    memory, pause,
    pool::VARIABLE as POOL,
    wire::{Asked, Failure, Line, Pc1Together, Progress, Request},
};

/// The variable that names the engine.
pub(crate) const ENGINE: &str = "FILSTAR_ENGINE";

/// Runs the task on standard input. The exit status is 0 when the last line says what happened.
pub(crate) fn main() -> ExitCode {
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!(error = %e, "this process will outlive a supervisor that is killed");
    }
    memory::apply();
    let told = match read() {
        Ok(Asked::One(request)) => say(&execute(&request).unwrap_or_else(Line::Error)),
        Ok(Asked::Together(asked)) => match engine() {
            Ok(engine) => together(engine.as_ref(), &asked),
            Err(failure) => say(&Line::Error(failure)),
        },
        Err(failure) => say(&Line::Error(failure)),
    };
    if told {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn read() -> Result<Asked, Failure> {
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
            say(&Line::Progress(progress(p)));
        },
        point: &|point| pause::at(point, &request.task),
        ..Context::quiet(engine.as_ref())
    };
    Ok(Line::Result(run(&request.task, &context)?))
}

/// PC1 of several sectors; each is told of on its own. Whether somebody listened to the end.
fn together(engine: &dyn Engine, asked: &Pc1Together) -> bool {
    let place = |sector: SectorId| {
        let is = |pc1: &Pc1| pc1.place.sector == sector;
        asked.together.iter().position(is).unwrap_or_default()
    };
    let heard = AtomicBool::new(true);
    let tell = |sector, line| {
        if !say(&Line::Of(place(sector), Box::new(line))) {
            heard.store(false, Ordering::Relaxed);
        }
    };
    let per_core = NonZeroUsize::try_from(asked.per_core).unwrap_or(NonZeroUsize::MIN);
    let context = Together {
        engine,
        per_core,
        progress: &|sector, p| tell(sector, Line::Progress(progress(p))),
        ended: &|sector, end| {
            let line = match end {
                Ok(output) => Line::Result(Output::Pc1(output)),
                Err(e) => Line::Error(e.into()),
            };
            tell(sector, line);
        },
    };
    pc1_together(&asked.together, &context);
    heard.into_inner()
}

fn progress(p: steps::Progress) -> Progress {
    Progress {
        percent: p.percent,
        detail: p.detail,
    }
}

/// The engine that `FILSTAR_ENGINE` names; ours when it names none.
fn engine() -> Result<Box<dyn Engine>, Failure> {
    let name = std::env::var(ENGINE).unwrap_or_else(|_| "filstar".to_owned());
    match name.as_str() {
        "filstar" => Ok(Box::new(Own {
            pool: pool()?,
            ..Own::default()
        })),
        "stock" => Ok(Box::new(Stock)),
        other => {
            let text = format!("{ENGINE} is {other:?}; engines are \"filstar\" and \"stock\"");
            Err(Failure::new(Class::Fatal, text))
        }
    }
}

fn pool() -> Result<Option<Pool>, Failure> {
    let text = std::env::var(POOL).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let (folder, bytes) = folder_and_bytes(&text).ok_or_else(|| {
        let text = format!("{POOL} is {text:?}: it wants a folder, a colon and a number of bytes");
        Failure::new(Class::Fatal, text)
    })?;
    let pool = Pool::open(folder, bytes);
    let pool = pool.map_err(|e| Failure::new(Class::Temporary, e.to_string()))?;
    Ok(Some(pool))
}

fn folder_and_bytes(text: &str) -> Option<(&Path, u64)> {
    let (folder, bytes) = text.rsplit_once(':')?;
    let folder = Path::new(folder);
    Some((folder, bytes.parse().ok()?)).filter(|_| folder.is_absolute())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_is_an_absolute_folder_and_bytes() {
        let want = Some((Path::new("/scratch/a:b"), 56 << 30));
        assert_eq!(folder_and_bytes("/scratch/a:b:60129542144"), want);
        for bad in [
            "",
            "/scratch",
            "/scratch:",
            "scratch:5",
            "/scratch:-5",
            "/scratch:5Gi",
        ] {
            assert_eq!(folder_and_bytes(bad), None, "{bad}");
        }
    }
}
