//! A server on loopback that plays an API server with `ChainMessages` and a chain node, for tests of apply.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use filstar_chain::message::SignedMessage;
use filstar_chain::node::Node;
use filstar_chain::transport::Endpoint;
use filstar_chain::types::Network;
use filstar_chain::wallet::{KeyKind, LocalSigner};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CID: &str = "bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2";

/// The server, and what it saw.
pub(super) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    patches: Vec<Value>,
    calls: Vec<(String, Value)>,
    refusals: BTreeMap<String, (i64, String)>,
    answers: BTreeMap<String, Vec<Value>>,
    lose_answer: bool,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            version: 100,
            ..State::default()
        }));
        let shared = state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, state }
    }

    pub(super) fn client(&self) -> Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    pub(super) fn node(&self) -> Node {
        let url = format!("http://{}/rpc/v1", self.address);
        Node::new(Endpoint::new("test", url, None), Network::Devnet).unwrap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn put(&self, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.state().objects.insert(name, object);
    }

    pub(super) fn get(&self, name: &str) -> Value {
        self.state().objects[name].clone()
    }

    /// Somebody else changes an object.
    pub(super) fn touch(&self, name: &str) {
        let mut state = self.state();
        let version = state.next_version();
        state.objects.get_mut(name).unwrap()["metadata"]["resourceVersion"] = version;
    }

    /// The next patch is made, and its answer is lost.
    pub(super) fn lose_next_answer(&self) {
        self.state().lose_answer = true;
    }

    /// The chain node refuses a method from now on.
    pub(super) fn refuse(&self, method: &str, code: i64, text: &str) {
        self.state()
            .refusals
            .insert(method.into(), (code, text.into()));
    }

    /// What the chain node answers to a method, one after another; the last one stays.
    pub(super) fn answers(&self, method: &str, answers: impl IntoIterator<Item = Value>) {
        let mut answers: Vec<Value> = answers.into_iter().collect();
        answers.reverse();
        self.state().answers.insert(method.into(), answers);
    }

    pub(super) fn allow(&self, method: &str) {
        self.state().refusals.remove(method);
    }

    pub(super) fn patches(&self) -> Vec<Value> {
        self.state().patches.clone()
    }

    /// Parameters of all calls of a method.
    pub(super) fn calls(&self, method: &str) -> Vec<Value> {
        let state = self.state();
        state
            .calls
            .iter()
            .filter(|(m, _)| m == method)
            .map(|(_, p)| p.clone())
            .collect()
    }
}

impl State {
    fn next_version(&mut self) -> Value {
        self.version += 1;
        json!(self.version.to_string())
    }

    fn patch(&mut self, name: &str, body: Value) -> (StatusCode, Value) {
        let Some(object) = self.objects.get(name).cloned() else {
            return status(404, "NotFound");
        };
        if object["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
            return status(409, "Conflict");
        }
        let mut object = object;
        if let Some(status) = body.get("status") {
            object["status"] = status.clone();
        }
        let written = body["metadata"]["annotations"].as_object();
        for (key, value) in written.into_iter().flatten() {
            object["metadata"]["annotations"][key] = value.clone();
        }
        if let Some(all) = object["metadata"]["annotations"].as_object_mut() {
            all.retain(|_, value| !value.is_null());
        }
        object["metadata"]["resourceVersion"] = self.next_version();
        self.patches.push(body);
        self.objects.insert(name.into(), object.clone());
        if std::mem::take(&mut self.lose_answer) {
            return status(500, "InternalError");
        }
        (StatusCode::OK, object)
    }

    fn delete(&mut self, name: &str, body: Value) -> (StatusCode, Value) {
        self.calls.push(("DELETE".into(), body));
        match self.objects.remove(name) {
            Some(_) => (
                StatusCode::OK,
                json!({"kind": "Status", "status": "Success"}),
            ),
            None => status(404, "NotFound"),
        }
    }

    fn create(&mut self, mut object: Value) -> (StatusCode, Value) {
        if let Some((_, message)) = self.refusals.get("create") {
            let (code, mut answer) = status(403, "Forbidden");
            answer["message"] = json!(message);
            return (code, answer);
        }
        object["metadata"]["resourceVersion"] = self.next_version();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.objects.insert(name, object.clone());
        (StatusCode::CREATED, object)
    }

    fn evict(&mut self, path: &str, body: Value) -> (StatusCode, Value) {
        self.calls.push(("eviction".into(), body));
        if let Some((_, message)) = self.refusals.get("eviction") {
            let (code, mut answer) = status(429, "TooManyRequests");
            answer["details"] =
                json!({"causes": [{"reason": "DisruptionBudget", "message": message}]});
            return (code, answer);
        }
        let name = path.rsplit('/').next().unwrap();
        let object = self.objects.get_mut(name).unwrap();
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        (
            StatusCode::CREATED,
            json!({"kind": "Status", "status": "Success"}),
        )
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.calls.push((method.into(), params.clone()));
        if let Some((code, message)) = self.refusals.get(method) {
            return json!({"error": {"code": code, "message": message}});
        }
        if let Some(answers) = self.answers.get_mut(method) {
            let answer = match answers.len() {
                0 | 1 => answers.first().cloned(),
                _ => answers.pop(),
            };
            return json!({ "result": answer });
        }
        let result = match method {
            "ChainHead" | "ChainGetGenesis" | "ChainGetTipSetByHeight" => tipset(),
            "StateGetActor" => json!({"Code": {"/": CID}, "Nonce": 5, "Balance": "1000000"}),
            "MpoolGetNonce" => json!(5),
            "GasEstimateMessageGas" => {
                let mut message = params[0].clone();
                message["GasLimit"] = json!(1_000_000);
                message["GasFeeCap"] = json!("200");
                message["GasPremium"] = json!("10");
                message
            }
            "WalletSignMessage" => sign(&params[1]),
            "MpoolPush" => json!({"/": cid_of(&params[0])}),
            _ => return json!({"error": {"code": -32601, "message": "method not found"}}),
        };
        json!({ "result": result })
    }
}

/// Whether an object is of the kind whose plural is in the path.
fn is_of(path: &str, object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    path.contains(&format!("/{}s/", kind.to_lowercase()))
}

fn status(code: u16, reason: &str) -> (StatusCode, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": reason});
    (StatusCode::from_u16(code).unwrap(), body)
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = state.lock().unwrap();
    let (code, answer) = if path == "/rpc/v1" {
        let call = body["method"]
            .as_str()
            .unwrap()
            .trim_start_matches("Filecoin.")
            .to_owned();
        let mut answer = state.call(&call, &body["params"]);
        answer["id"] = body["id"].clone();
        answer["jsonrpc"] = json!("2.0");
        (StatusCode::OK, answer)
    } else {
        let name = path
            .trim_end_matches("/status")
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        match method {
            Method::PATCH => state.patch(&name, body),
            Method::DELETE => state.delete(&name, body),
            Method::POST => match path.strip_suffix("/eviction") {
                Some(path) => state.evict(path, body),
                None => state.create(body),
            },
            _ => match state.objects.get(&name).filter(|o| is_of(&path, o)) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => status(404, "NotFound"),
            },
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}

fn tipset() -> Value {
    let link = json!({"/": CID});
    json!({"Cids": [link], "Height": 50, "Blocks": [{
        "Miner": "t01000", "Height": 50, "Parents": [link], "ParentStateRoot": link,
        "Timestamp": 1_700_000_000, "ParentBaseFee": "100",
    }]})
}

fn key() -> LocalSigner {
    LocalSigner::from_secret(KeyKind::Secp256k1, &[7; 32]).unwrap()
}

fn sign(message: &Value) -> Value {
    let json: filstar_chain::message::MessageJson =
        serde_json::from_value(message.clone()).unwrap();
    let signed = key().sign_message(json.try_into().unwrap()).unwrap();
    json!({
        "Message": message,
        "Signature": {"Type": 1, "Data": BASE64.encode(&signed.signature.bytes)},
    })
}

fn cid_of(signed: &Value) -> String {
    let json: filstar_chain::message::SignedMessageJson =
        serde_json::from_value(signed.clone()).unwrap();
    SignedMessage::try_from(json).unwrap().cid().to_string()
}

/// The bytes of a stored version, read.
pub(super) fn signed_message(base64: &str) -> SignedMessage {
    SignedMessage::from_cbor(&BASE64.decode(base64).unwrap()).unwrap()
}

/// A wish.
pub(super) fn message(name: &str) -> Value {
    json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "ChainMessage",
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "10", "generation": 1},
        "spec": {
            "minerRef": {"name": "m"}, "kind": "PreCommit", "from": Network::Devnet.format(&key().address()),
            "to": "t01000", "method": 28, "params": BASE64.encode([0x81, 0x80]), "value": "250 attoFIL",
            "maxFee": "1 FIL",
        },
    })
}

/// A Miner whose node signs.
pub(super) fn miner() -> Value {
    let sender = Network::Devnet.format(&key().address());
    json!({
        "apiVersion": "filstar.io/v1alpha1", "kind": "Miner",
        "metadata": {"name": "m", "namespace": "ns", "uid": "m", "resourceVersion": "1"},
        "spec": {
            "actorId": "t01000", "network": "devnet",
            "chain": {"endpoints": [{"name": "test", "url": "http://x/rpc/v1"}]},
            "senders": {"preCommit": sender, "commit": sender, "post": sender},
            "signer": {"type": "Node"}, "sealProof": "StackedDrg2KiBV1P1",
        },
    })
}
