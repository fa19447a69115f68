//! The program as others see it: over HTTP, with tokens, killed at any moment.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

struct Devnet {
    child: Child,
    address: SocketAddr,
}

impl Drop for Devnet {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Devnet {
    fn start(dir: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port");
        let mut child = Command::new(env!("CARGO_BIN_EXE_filstar-devnet"))
            .args([
                "run",
                "--demo",
                "--seed",
                "process-test",
                "--block-delay-ms",
                "50",
            ])
            .arg("--dir")
            .arg(dir)
            .args(["--listen", &address.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = child.stderr.take().expect("its log");
        let mut log = BufReader::new(log).lines();
        let up = log
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("devnet is up"));
        assert!(up, "the devnet does not come up");
        // Somebody has to read on, or the program would wait for room.
        std::thread::spawn(move || log.map_while(Result::ok).count());
        Self { child, address }
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn http(
        &self,
        verb: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let bearer = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nHost: devnet\r\nConnection: close\r\n{bearer}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    fn rpc(&self, token: Option<&str>, method: &str, params: &Value) -> (u16, Value) {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let (status, body) = self
            .http("POST", "/rpc/v1", token, &request.to_string())
            .expect("the devnet answers");
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn result(&self, token: &str, method: &str, params: &Value) -> Value {
        let (_, answer) = self.rpc(Some(token), method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }
}

fn token(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(format!("token-{name}"))).expect("a token file")
}

#[test]
fn token_decides_what_may_be_called() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(dir.path());
    let (status, answer) = devnet.rpc(None, "Filecoin.ChainHead", &json!([]));
    assert!(
        status == 200 && answer["result"]["Height"].is_number(),
        "{answer}"
    );
    assert_eq!(answer["id"], 7);
    assert_eq!(
        devnet
            .rpc(Some("nonsense"), "Filecoin.ChainHead", &json!([]))
            .0,
        401
    );
    let read = token(dir.path(), "read");
    let (status, answer) = devnet.rpc(Some(&read), "Filecoin.MpoolPush", &json!([{}]));
    assert_eq!(status, 200);
    assert_eq!(answer["error"]["code"], 1);
    assert_eq!(
        answer["error"]["message"],
        "missing permission to invoke 'MpoolPush' (need 'write')"
    );
    let allowed = devnet.result(
        &read,
        "Filecoin.AuthVerify",
        &json!([token(dir.path(), "write")]),
    );
    assert_eq!(allowed, json!(["read", "write"]));
    let (_, answer) = devnet.rpc(Some(&read), "Filecoin.NoSuchThing", &json!([]));
    assert_eq!(answer["error"]["code"], -32601);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Filecoin.NoSuchThing")
    );
    let write = token(dir.path(), "write");
    let (_, answer) = devnet.rpc(Some(&write), "Devnet.Pause", &json!([]));
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("need 'admin'")
    );
}

#[test]
fn wish_with_a_uuid_is_one_message_however_often_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(dir.path());
    let sign = token(dir.path(), "sign");
    let accounts = devnet.result(&sign, "Filecoin.WalletList", &json!([]));
    let wish = json!([
        { "Version": 0, "To": "t01000", "From": accounts[0], "Nonce": 0, "Value": "5", "GasLimit": 0,
          "GasFeeCap": "0", "GasPremium": "0", "Method": 0, "Params": null },
        { "MaxFee": "0", "MsgUuid": "07070707-0707-0707-0707-070707070707", "MaximizeFeeCap": false }
    ]);
    let first = devnet.result(&sign, "Filecoin.MpoolPushMessage", &wish);
    let second = devnet.result(&sign, "Filecoin.MpoolPushMessage", &wish);
    assert_eq!(first, second);
    let found = devnet.result(
        &sign,
        "Filecoin.StateWaitMsg",
        &json!([first["CID"], 1, -1, true]),
    );
    assert_eq!(found["Receipt"]["ExitCode"], 0);
    let (_, history) = devnet.http("GET", "/history", None, "").unwrap();
    assert_eq!(history.lines().count(), 1, "{history}");
}

/// Pushes messages, kills the program wherever it is, starts it again: what had landed is still
/// there at its height, what was accepted lands, each nonce once.
#[test]
fn crash_at_random_points_loses_no_accepted_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut devnet = Devnet::start(dir.path());
    let sign = token(dir.path(), "sign");
    let from = devnet.result(&sign, "Filecoin.WalletList", &json!([]))[0].clone();
    let mut accepted: Vec<Value> = Vec::new();
    for round in 0..8u32 {
        let before = devnet.result(&sign, "Filecoin.ChainHead", &json!([]));
        for i in 0..=round {
            let message = json!([
                { "Version": 0, "To": "t01000", "From": from, "Nonce": 0, "Value": (round * 100 + i).to_string(),
                  "GasLimit": 0, "GasFeeCap": "0", "GasPremium": "0", "Method": 0, "Params": null }, null
            ]);
            accepted
                .push(devnet.result(&sign, "Filecoin.MpoolPushMessage", &message)["CID"].clone());
        }
        let (_, history) = devnet.http("GET", "/history", None, "").unwrap();
        devnet.kill();
        devnet = Devnet::start(dir.path());
        let again = devnet.result(
            &sign,
            "Filecoin.ChainGetTipSetByHeight",
            &json!([before["Height"], null]),
        );
        assert_eq!(
            again["Cids"], before["Cids"],
            "the tipset of before the crash is on the chain"
        );
        let (_, now) = devnet.http("GET", "/history", None, "").unwrap();
        assert!(now.starts_with(&history), "the history only grows");
    }
    for cid in &accepted {
        let found = devnet.result(&sign, "Filecoin.StateWaitMsg", &json!([cid, 0, -1, true]));
        assert_eq!(found["Receipt"]["ExitCode"], 0);
    }
    let (_, history) = devnet.http("GET", "/history", None, "").unwrap();
    let mut nonces: Vec<u64> = history
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["nonce"]
                .as_u64()
                .unwrap()
        })
        .collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (0..accepted.len() as u64).collect::<Vec<_>>());
}

#[test]
fn reorg_over_the_rpc_moves_a_landed_message_and_rewrites_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(dir.path());
    let admin = token(dir.path(), "admin");
    devnet.result(&admin, "Devnet.Pause", &json!([]));
    devnet.result(&admin, "Devnet.Advance", &json!([{ "epochs": 5 }]));
    let from = devnet.result(&admin, "Filecoin.WalletList", &json!([]))[0].clone();
    let message = json!([
        { "Version": 0, "To": "t01000", "From": from, "Nonce": 0, "Value": "1", "GasLimit": 0,
          "GasFeeCap": "0", "GasPremium": "0", "Method": 0, "Params": null }, null
    ]);
    let cid = devnet.result(&admin, "Filecoin.MpoolPushMessage", &message)["CID"].clone();
    devnet.result(&admin, "Devnet.Advance", &json!([{ "epochs": 3 }]));
    let search = json!([null, cid, -1, true]);
    let landed = devnet.result(&admin, "Filecoin.StateSearchMsg", &search);
    assert!(landed["Height"].is_number());
    let reorg = devnet.result(
        &admin,
        "Devnet.Reorg",
        &json!([{ "depth": 4, "dropMessages": [cid], "delayEpochs": 0 }]),
    );
    assert_eq!(reorg["dropped"], json!([cid]));
    assert_eq!(
        devnet.result(&admin, "Filecoin.StateSearchMsg", &search),
        Value::Null
    );
    let (_, history) = devnet.http("GET", "/history", None, "").unwrap();
    assert!(history.is_empty(), "{history}");
}
