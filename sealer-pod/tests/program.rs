//! The program as others start it: roles `params` and `task`.

#![expect(clippy::unwrap_used, reason = "what a test cannot get fails it")]

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sealer-pod"))
}

/// Runs one task and returns the lines that it wrote.
fn task(env: &[(&str, &str)], request: &str) -> Vec<Value> {
    let mut child = program()
        .arg("task")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{request}\n").as_bytes())
        .unwrap();
    let Output { status, stdout, .. } = child.wait_with_output().unwrap();
    assert!(status.success(), "{status}");
    let text = String::from_utf8(stdout).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn request(root: &Path, task: &str, more: &Value) -> String {
    let mut input = json!({"place": {
        "sector": {"actor": 1000, "number": 7}, "proof": "StackedDrg2KiBV1P1", "root": root,
    }});
    input
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"task": {"task": task, "input": input}, "fromScratch": false}).to_string()
}

fn params(dir: &Path, more: &[&str]) -> Output {
    program()
        .args([
            "params",
            "--proof",
            "StackedDrg2KiBV1P1",
            "--only",
            "parents",
            "--dir",
        ])
        .arg(dir)
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn version_is_told() {
    let out = program().arg("--version").output().unwrap();
    assert!(
        String::from_utf8(out.stdout)
            .unwrap()
            .starts_with("sealer-pod ")
    );
}

/// Makes parameters; the folder of the parents caches, as the library wants it.
fn parents(dir: &Path) -> String {
    assert!(params(dir, &[]).status.success());
    format!("{}/parents/", dir.display())
}

#[test]
fn params_are_checked_made_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let out = params(dir.path(), &["--check"]);
    assert!(!out.status.success());
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("is not there")
    );
    assert!(params(dir.path(), &[]).status.success());
    assert!(params(dir.path(), &["--check", "--full"]).status.success());
}

#[test]
fn tasks_run_over_a_pipe_with_progress_and_result() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let parents = parents(made.path());
    let env = [("FIL_PROOFS_PARENT_CACHE", parents.as_str())];
    let lines = task(&env, &request(dir.path(), "addPiece", &json!({})));
    assert_eq!(lines.last().unwrap()["result"]["task"], "addPiece");
    let ticket = json!({"ticket": "09".repeat(32)});
    let lines = task(&env, &request(dir.path(), "pc1", &ticket));
    assert!(
        lines[0]["progress"]["detail"]
            .as_str()
            .unwrap()
            .contains("PC1"),
        "{lines:?}"
    );
    let lines = task(&env, &request(dir.path(), "pc2", &ticket));
    let output = &lines.last().unwrap()["result"]["output"];
    assert_eq!(output["commR"].as_str().unwrap().len(), 64, "{lines:?}");
}

#[test]
fn unsealing_runs_over_a_pipe_and_says_what_is_wrong() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let parents = parents(made.path());
    let env = [("FIL_PROOFS_PARENT_CACHE", parents.as_str())];
    let ticket = json!({"ticket": "09".repeat(32)});
    task(&env, &request(dir.path(), "addPiece", &json!({})));
    task(&env, &request(dir.path(), "pc1", &ticket));
    let lines = task(&env, &request(dir.path(), "pc2", &ticket));
    let comm_d = &lines.last().unwrap()["result"]["output"]["commD"];
    task(&env, &request(dir.path(), "finalize", &json!({})));
    let data = dir.path().join("unsealed/s-t01000-7");
    assert!(!data.exists());
    for engine in ["stock", "filstar"] {
        let env = [env[0], ("FILSTAR_ENGINE", engine)];
        let wrong = json!({"ticket": "08".repeat(32), "commD": comm_d});
        let lines = task(&env, &request(dir.path(), "unseal", &wrong));
        let error = &lines.last().unwrap()["error"];
        assert_eq!(error["class"], "Corrupt", "{lines:?}");
        assert!(error["message"].as_str().unwrap().contains("ticket"));
        assert!(!data.exists());
        let right = json!({"ticket": "09".repeat(32), "commD": comm_d});
        let lines = task(&env, &request(dir.path(), "unseal", &right));
        let told = lines
            .iter()
            .filter_map(|l| l["progress"]["detail"].as_str());
        assert!(told.clone().any(|d| d.contains("Unseal")), "{lines:?}");
        let result = &lines.last().unwrap()["result"];
        assert_eq!(result["task"], "unseal", "{lines:?}");
        assert_eq!(&result["output"]["commD"], comm_d);
        assert_eq!(std::fs::read(&data).unwrap(), [0; 2048]);
        std::fs::remove_file(&data).unwrap();
    }
}

/// Both on one core; the second has no data.
#[test]
fn pc1_of_two_sectors_in_one_process_tells_of_each() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let parents = parents(made.path());
    let env = [("FIL_PROOFS_PARENT_CACHE", parents.as_str())];
    task(&env, &request(dir.path(), "addPiece", &json!({})));
    let pc1 = |number: u64| {
        json!({"place": {"sector": {"actor": 1000, "number": number}, "proof": "StackedDrg2KiBV1P1",
                         "root": dir.path()},
               "ticket": "09".repeat(32)})
    };
    let asked = json!({"together": [pc1(7), pc1(8)], "perCore": 2}).to_string();
    let lines = task(&env, &asked);
    let of = |at: u64, what: &str| {
        let found = lines.iter().filter(|l| l["of"][0] == at);
        found.filter(|l| !l["of"][1][what].is_null()).count()
    };
    assert!(of(0, "progress") > 0, "{lines:?}");
    assert_eq!([of(0, "result"), of(0, "error")], [1, 0], "{lines:?}");
    assert_eq!([of(1, "result"), of(1, "error")], [0, 1], "{lines:?}");
}

#[test]
fn task_that_cannot_run_says_why_with_a_class() {
    let dir = tempfile::tempdir().unwrap();
    let lines = task(&[], "nonsense");
    assert_eq!(lines.last().unwrap()["error"]["class"], "Fatal");
    let lines = task(
        &[],
        &request(dir.path(), "pc1", &json!({"ticket": "09".repeat(32)})),
    );
    let error = &lines.last().unwrap()["error"];
    assert_eq!(error["class"], "Corrupt");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("AddPiece has to run"),
        "{error}"
    );
}

/// Only in test builds: `cargo test --features filstar-sealer-pod/test-points`.
#[cfg(feature = "test-points")]
#[test]
fn task_held_at_a_point_and_killed_goes_on_as_if_nothing_had_happened() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let parents = parents(made.path());
    let env = [("FIL_PROOFS_PARENT_CACHE", parents.as_str())];
    let ticket = json!({"ticket": "09".repeat(32)});
    task(&env, &request(dir.path(), "addPiece", &json!({})));
    task(&env, &request(dir.path(), "pc1", &ticket));
    let mut child = program()
        .arg("task")
        .envs(env)
        .env("FILSTAR_PAUSE_AT", "pc2")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let text = format!("{}\n", request(dir.path(), "pc2", &ticket));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let here = dir.path().join("paused-pc2-s-t01000-7");
    while !here.exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without pausing");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = task(&env, &request(dir.path(), "pc2", &ticket));
    assert!(
        lines.last().unwrap()["result"]["output"]["commR"].is_string(),
        "{lines:?}"
    );
}

#[test]
fn sweep_over_a_pipe_lists_and_then_removes_what_was_named_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [0; 10]).unwrap();
    };
    for number in [7, 8] {
        put(&format!("sealed/s-t01000-{number}"));
        put(&format!("sealed/s-t01000-{number}.json"));
        put(&format!("cache/s-t01000-{number}/p_aux"));
    }
    let request = |remove: bool| {
        let input = json!({"store": dir.path(), "remove": remove, "most": 9,
                           "sectors": [{"actor": 1000, "ranges": [[3, 7]]}]});
        json!({"task": {"task": "sweep", "input": input}, "fromScratch": false}).to_string()
    };
    let found = json!([{"sector": {"actor": 1000, "number": 7}, "bytes": 30}]);
    for remove in [false, true] {
        let lines = task(&[], &request(remove));
        let result = &lines.last().unwrap()["result"];
        assert_eq!(result["task"], "sweep", "{lines:?}");
        assert_eq!(result["output"]["sectors"], found, "{lines:?}");
        let there = dir.path().join("sealed/s-t01000-7").exists();
        assert_eq!(there, !remove);
    }
    assert!(!dir.path().join("cache/s-t01000-7").exists());
    for left in [
        "sealed/s-t01000-8",
        "sealed/s-t01000-8.json",
        "cache/s-t01000-8/p_aux",
    ] {
        assert!(dir.path().join(left).exists(), "{left}");
    }
    let lines = task(&[], &request(true));
    let left = &lines.last().unwrap()["result"]["output"]["sectors"];
    assert_eq!(*left, json!([]));
}

/// Machines as `lstopo` writes them, and what the text beside each says of them.
#[test]
fn machine_is_printed_as_agent_and_planner_see_it() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for (machine, gpus, wanted) in [
        ("offline-cores", None, "offline-cores"),
        ("part-of-an-l3", None, "part-of-an-l3"),
        ("unequal-l3", None, "unequal-l3"),
        ("gpus-on-the-far-socket", None, "gpus-on-the-far-socket"),
        // Recorded ones in place of those of the export, whose slots it does not show.
        (
            "gpus-on-the-far-socket",
            Some("workstation"),
            "recorded-gpus",
        ),
    ] {
        let file = |folder: &str, name: &str| data.join(folder).join(name);
        let mut agent = program();
        agent.args(["agent", "--print", "--topology"]);
        agent.arg(file("nodes", &format!("{machine}.xml")));
        if let Some(gpus) = gpus {
            agent
                .arg("--gpus")
                .arg(file("gpus", &format!("{gpus}.json")));
        }
        let out = agent.output().unwrap();
        assert!(out.status.success(), "{wanted}: {out:?}");
        let said = String::from_utf8(out.stdout).unwrap();
        let text = std::fs::read_to_string(file("nodes", &format!("{wanted}.txt"))).unwrap();
        assert_eq!(said, text, "{wanted}:\n{said}");
        // Every core group but the first has a pod, on each of these machines.
        let groups = said.matches("\n  group ").count();
        assert_eq!(said.matches("\n  pod ").count(), groups - 1, "{said}");
        assert_eq!(said.matches("left to the system").count(), 1, "{said}");
    }
}

#[test]
fn topology_that_is_not_one_is_refused_with_what_to_do() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/nodes/README.md");
    let said = |arguments: &[&str]| {
        let out = program().arg("agent").args(arguments).output().unwrap();
        assert!(!out.status.success() && out.stdout.is_empty(), "{out:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    let text = said(&["--print", "--topology", readme]);
    assert!(text.contains("lstopo machine.xml"), "{text}");
    let text = said(&["--topology", readme]);
    assert!(text.contains("--print"), "{text}");
}
