//! Starts a task process, speaks with it, and kills it when nobody waits for it any more.
//!
//! Effects: processes; a folder for temporary files for each, removed with it. Never: a child that
//! outlives the future that waits for it; a setting of the proof library in our own environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use filstar_sealing::{Class, Output, Task, params::parents_dir};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use crate::{
    memory,
    pool::{self, Shared},
    wire::{Failure, Line, Pc1Together, Progress, Request},
};

/// What a process tells of one of several sectors.
#[derive(Debug)]
pub(crate) enum Told {
    /// How far it is.
    Progress(Progress),
    /// How it ended.
    End(Result<Output, Failure>),
}

/// Begin of the names of folders for temporary files.
const TMP_PREFIX: &str = "task-";

/// Variables of ours that a task process inherits.
const INHERITED: [&str; 6] = [
    "PATH",
    "HOME",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "FILSTAR_PAUSE_AT",
    crate::task::ENGINE,
];

/// What task processes are started with.
#[derive(Clone, Debug)]
pub(crate) struct Starter {
    program: PathBuf,
    env: BTreeMap<OsString, OsString>,
    tmp: PathBuf,
    /// Memory that PC1 processes share.
    pool: Option<Shared>,
}

impl Starter {
    /// Processes of our own program, with parameters in `params`.
    ///
    /// # Errors
    /// When the system does not say which program we are.
    pub(crate) fn new(params: &Path, tmp: &Path, threads: usize) -> io::Result<Self> {
        let mut env = BTreeMap::new();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                env.insert(name.into(), value);
            }
        }
        let mut parents = parents_dir(params).into_os_string();
        // The library puts this before a file name as it is.
        parents.push("/");
        let mut set = |name: &str, value: OsString| env.insert(name.into(), value);
        set("FIL_PROOFS_PARAMETER_CACHE", params.into());
        set("FIL_PROOFS_PARENT_CACHE", parents);
        set("RAYON_NUM_THREADS", threads.to_string().into());
        remove_left_behind(tmp);
        Ok(Self {
            program: std::env::current_exe()?,
            env,
            tmp: tmp.to_owned(),
            pool: None,
        })
    }

    /// Processes of a script in `dir`, which says what a test wants.
    ///
    /// Another process writes the script: a process that another thread starts while the file is open here
    /// would inherit it, and what is open for writing cannot be executed.
    #[cfg(test)]
    pub(crate) fn of_script(dir: &Path, script: &str) -> Self {
        let program = dir.join("program");
        let mut install = std::process::Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = install.stdin.take().unwrap();
        io::Write::write_all(&mut input, script.as_bytes()).unwrap();
        drop(input);
        assert!(install.wait().unwrap().success());
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            program,
            env: BTreeMap::from([("PATH".into(), path)]),
            tmp: dir.to_owned(),
            pool: None,
        }
    }

    /// The same with further variables; they win.
    #[must_use]
    pub(crate) fn with(&self, more: &BTreeMap<String, String>) -> Self {
        let mut other = self.clone();
        other
            .env
            .extend(more.iter().map(|(k, v)| (k.into(), v.into())));
        other
    }

    /// The same, with PC1 processes that share memory.
    #[must_use]
    pub(crate) fn sharing(self, pool: Option<Shared>) -> Self {
        Self { pool, ..self }
    }

    /// Runs a task; dropping the future kills it.
    ///
    /// # Errors
    /// What the task said, or `Temporary` when it died without a word.
    pub(crate) async fn run(
        &self,
        request: &Request,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Output, Failure> {
        let mut end = None;
        let heard = |line| match line {
            Line::Progress(p) => {
                on_progress(p);
                true
            }
            Line::Result(output) => {
                end = Some(Ok(output));
                false
            }
            Line::Error(failure) => {
                end = Some(Err(failure));
                false
            }
            Line::Of(..) => true,
        };
        let pc1 = matches!(request.task, Task::Pc1(_));
        let died = self.converse(request, pc1, heard).await;
        end.unwrap_or_else(|| Err(died.map_or_else(|failure| failure, silent)))
    }

    /// Runs PC1 of several sectors in one process; dropping the future kills it. Tells of each sector, by its
    /// place in the request, how far it is and at last, once, how it ended. For no sector it starts no process.
    pub(crate) async fn run_together(
        &self,
        request: &Pc1Together,
        mut on: impl FnMut(usize, Told),
    ) {
        let mut open: BTreeSet<usize> = (0..request.together.len()).collect();
        if open.is_empty() {
            return;
        }
        let mut all = None;
        let heard = |line| {
            match line {
                Line::Of(at, line) if open.contains(&at) => match *line {
                    Line::Progress(p) => on(at, Told::Progress(p)),
                    Line::Result(output) => {
                        open.remove(&at);
                        on(at, Told::End(Ok(output)));
                    }
                    Line::Error(failure) => {
                        open.remove(&at);
                        on(at, Told::End(Err(failure)));
                    }
                    Line::Of(..) => {}
                },
                Line::Error(failure) => all = Some(failure),
                Line::Of(..) | Line::Progress(_) | Line::Result(_) => {}
            }
            !open.is_empty() && all.is_none()
        };
        let died = self.converse(request, true, heard).await;
        let failure = all.unwrap_or_else(|| died.map_or_else(|failure| failure, silent));
        for at in open {
            on(at, Told::End(Err(failure.clone())));
        }
    }

    /// Starts a process and hands on its lines for as long as `heard` wants more. Its status when it ended
    /// before that; when nothing more was wanted that is 0.
    async fn converse(
        &self,
        request: &impl Serialize,
        pc1: bool,
        mut heard: impl FnMut(Line) -> bool,
    ) -> Result<ExitStatus, Failure> {
        let lost = |e: io::Error| {
            Failure::new(
                Class::Temporary,
                format!("cannot speak with the task process: {e}"),
            )
        };
        // Declared before the child: dropped after it.
        let tmp = TaskDir::create(&self.tmp).map_err(lost)?;
        let mut child = self.start(request, pc1, &tmp.0).await.map_err(lost)?;
        let Some(out) = child.stdout.take() else {
            return Err(Failure::new(
                Class::Temporary,
                "the task process has no output",
            ));
        };
        let mut lines = BufReader::new(out).lines();
        while let Some(text) = lines.next_line().await.map_err(lost)? {
            match serde_json::from_str(&text) {
                Ok(line) => {
                    if !heard(line) {
                        return Ok(ExitStatus::default());
                    }
                }
                Err(e) => tracing::warn!(error = %e, line = text, "not a line of ours"),
            }
        }
        child.wait().await.map_err(lost)
    }

    async fn start(&self, request: &impl Serialize, pc1: bool, tmp: &Path) -> io::Result<Child> {
        let pool = self.pool.as_ref().filter(|_| pc1);
        let pool = pool.map(Shared::for_process).transpose()?;
        let mut child = Command::new(&self.program)
            .arg("task")
            .env_clear()
            .envs(&self.env)
            .env("TMPDIR", tmp)
            .envs(pool.map(|value| (pool::VARIABLE, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        if let Some(mut input) = child.stdin.take() {
            input.write_all(&text).await?;
        }
        Ok(child)
    }
}

/// A folder for the temporary files of one task, removed when the task is over.
struct TaskDir(PathBuf);

impl TaskDir {
    fn create(parent: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{TMP_PREFIX}{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TaskDir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), error = %e, "temporary files stay");
        }
    }
}

/// Folders of a supervisor that was killed: the volume outlives the container.
fn remove_left_behind(tmp: &Path) {
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TMP_PREFIX) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// A process that ended without a result.
fn silent(status: ExitStatus) -> Failure {
    let text = match (status.signal(), status.code()) {
        (Some(9), _) => {
            "the task process was killed by signal 9; if nobody did that, it took more memory than \
             the pod may have"
                .to_owned()
        }
        (Some(6), _) => format!(
            "the task process aborted (signal 6): most likely it wanted more memory than its limit; \
             the pod's log says how much. Give the lane more memory, or set {}",
            memory::VARIABLE
        ),
        (Some(signal), _) => format!("the task process died by signal {signal}"),
        (None, Some(code)) => format!("the task process ended with status {code} and no result"),
        (None, None) => "the task process ended without a result".to_owned(),
    };
    Failure::new(Class::Temporary, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn death_by_signal_is_temporary_and_says_which() {
        let failure = silent(ExitStatus::from_raw(7));
        assert_eq!(failure.class, Class::Temporary);
        assert!(failure.message.contains("signal 7"), "{failure}");
        for signal in [6, 9] {
            assert!(
                silent(ExitStatus::from_raw(signal))
                    .message
                    .contains("memory")
            );
        }
        assert!(
            silent(ExitStatus::from_raw(101 << 8))
                .message
                .contains("status 101")
        );
    }

    const PC1: &str = r#"{"place": {"sector": {"actor": 1000, "number": 7}, "proof": "StackedDrg2KiBV1P1",
        "root": "/"}, "ticket": "0000000000000000000000000000000000000000000000000000000000000000"}"#;

    /// Longest that a script takes on a machine that does much else.
    const LONG: Duration = Duration::from_mins(1);

    fn to_its_end<T>(run: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(LONG, run).await.unwrap() })
    }

    #[test]
    fn pc1_alone_is_told_the_pool_of_the_pod_whatever_the_group_sets() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"#!/bin/sh
            read -r request
            echo '{"error": {"class": "Fatal", "message": "pool '$FILSTAR_PC1_POOL'"}}'"#;
        let of_group = BTreeMap::from([(pool::VARIABLE.to_owned(), "/elsewhere:1".to_owned())]);
        let starter = Starter::of_script(dir.path(), script);
        let starter = starter.sharing(Shared::new(dir.path(), 8192));
        let input: filstar_sealing::task::Pc1 = serde_json::from_str(PC1).unwrap();
        let (place, ticket) = (input.place.clone(), input.ticket);
        let pc2 = filstar_sealing::task::Pc2 { place, ticket };
        let says = |starter: &Starter, task: &Task| {
            let request = Request {
                task: task.clone(),
                from_scratch: false,
            };
            let ended = to_its_end(starter.run(&request, |_| {}));
            ended.unwrap_err().message
        };
        let ours = format!("pool {}/pc1-pool:8192", dir.path().display());
        let pc1 = Task::Pc1(input);
        assert_eq!(says(&starter, &pc1), ours);
        assert_eq!(says(&starter.with(&of_group), &pc1), ours);
        assert_eq!(says(&starter, &Task::Pc2(pc2)), "pool ");
        // What is in the folder's place does not stop it.
        fs::remove_dir(dir.path().join("pc1-pool")).unwrap();
        fs::write(dir.path().join("pc1-pool"), "").unwrap();
        assert_eq!(says(&starter, &pc1), ours);
        let none = starter.sharing(None);
        assert_eq!(says(&none, &pc1), "pool ");
    }

    #[test]
    fn each_of_several_sectors_ends_once_whatever_the_process_does() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"#!/bin/sh
            read -r request
            echo '{"of": [0, {"progress": {"percent": 3, "detail": "x"}}]}'
            echo '{"of": [1, {"error": {"class": "Corrupt", "message": "y"}}]}'
            echo '{"of": [1, {"error": {"class": "Fatal", "message": "again"}}]}'
            echo 'not a line of ours'
            exit 3"#;
        let starter = Starter::of_script(dir.path(), script);
        let request = format!(r#"{{"together": [{PC1}, {PC1}], "perCore": 2}}"#);
        let request: Pc1Together = serde_json::from_str(&request).unwrap();
        let mut told = Vec::new();
        let run = starter.run_together(&request, |at, what| {
            told.push(match what {
                Told::Progress(p) => format!("{at}: {}", p.percent),
                Told::End(end) => format!("{at}: {}", end.unwrap_err()),
            });
        });
        to_its_end(run);
        assert_eq!(
            told,
            [
                "0: 3",
                "1: Corrupt: y",
                "0: Temporary: the task process ended with status 3 and no result",
            ]
        );
    }

    #[test]
    fn process_for_no_sector_is_never_started() {
        let dir = tempfile::tempdir().unwrap();
        let started = dir.path().join("started");
        let script = format!("#!/bin/sh\n: >{}", started.display());
        let starter = Starter {
            tmp: dir.path().join("tmp"),
            ..Starter::of_script(dir.path(), &script)
        };
        let request = r#"{"together": [], "perCore": 2}"#;
        let request: Pc1Together = serde_json::from_str(request).unwrap();
        let run = starter.run_together(&request, |at, what| panic!("{at}: {what:?}"));
        to_its_end(run);
        assert!(!started.exists() && !dir.path().join("tmp").exists());
    }

    /// Runs a task and returns what it said.
    fn said(starter: &Starter) -> impl Future<Output = String> {
        let input: filstar_sealing::task::Pc1 = serde_json::from_str(PC1).unwrap();
        let request = Request {
            task: Task::Pc1(input),
            from_scratch: false,
        };
        async move { starter.run(&request, |_| {}).await.unwrap_err().message }
    }

    #[test]
    fn tasks_that_run_at_once_have_folders_of_their_own_for_locks_and_temporary_files() {
        let dir = tempfile::tempdir().unwrap();
        // Each goes on only when both have begun, so that they are there at the same time.
        let script = r#"#!/bin/sh
            read -r request
            : >"$TMPDIR/lock"
            until [ "$(ls -d "$TMPDIR"/../task-*/lock | wc -l)" = 2 ] || [ -e "$TMPDIR/../both" ]; do :; done
            : >"$TMPDIR/../both"
            echo '{"error": {"class": "Fatal", "message": "'"$TMPDIR"'"}}'"#;
        let starter = Starter::of_script(dir.path(), script);
        let elsewhere = BTreeMap::from([("TMPDIR".to_owned(), "/shared".to_owned())]);
        let of_group = starter.with(&elsewhere);
        let (a, b) = to_its_end(async { tokio::join!(said(&starter), said(&of_group)) });
        assert_ne!(a, b, "the proof library keeps its GPU locks in TMPDIR");
        let parent = |text: &str| Path::new(text).parent().map(Path::to_path_buf);
        assert_eq!(
            (parent(&a), parent(&b)),
            (parent(&b), Some(dir.path().to_path_buf()))
        );
    }

    #[test]
    fn a_task_process_has_the_cpus_of_its_supervisor() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let dir = tempfile::tempdir().unwrap();
        let script = r#"#!/bin/sh
            read -r request
            cpus=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
            echo '{"error": {"class": "Fatal", "message": "'"$cpus"'"}}'"#;
        let starter = Starter::of_script(dir.path(), script);
        // This thread alone is bound: the other tests keep their CPUs.
        let all = sched_getaffinity(None).unwrap();
        let last = (0..CpuSet::MAX_CPU).rfind(|cpu| all.is_set(*cpu)).unwrap();
        let mut one = CpuSet::new();
        one.set(last);
        sched_setaffinity(None, &one).unwrap();
        assert_eq!(to_its_end(said(&starter)), last.to_string());
    }

    #[test]
    fn temporary_files_go_with_their_task_and_those_left_behind_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (TaskDir::create(dir.path()), TaskDir::create(dir.path()));
        let (a, b) = (a.unwrap(), b.unwrap());
        fs::write(a.0.join("x"), b"x").unwrap();
        assert_ne!(a.0, b.0);
        let (gone, stays) = (a.0.clone(), b.0.clone());
        drop(a);
        assert!(!gone.exists() && stays.exists());
        std::mem::forget(b);
        fs::write(dir.path().join("other"), b"x").unwrap();
        remove_left_behind(dir.path());
        assert!(!stays.exists() && dir.path().join("other").exists());
    }
}
