//! The test's view of its chain: lotus's RPC, the devnet's admin calls and its history.

use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cbor;

/// Method number of pre-commits.
pub const PRE_COMMIT: u64 = 28;
/// Method number of prove-commits.
pub const PROVE_COMMIT: u64 = 34;
/// Method number of window proofs.
pub const WINDOW_POST: u64 = 5;

/// Method number of declared recoveries.
pub const DECLARE_RECOVERED: u64 = 11;

/// A chain, asked from outside the cluster.
#[derive(Clone, Debug)]
pub struct Chain {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// One landed message, as the devnet's history has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landed {
    /// Epoch of its tipset.
    pub epoch: i64,
    /// CID of the signed message.
    pub cid: String,
    /// Sender.
    pub from: String,
    /// Receiver.
    pub to: String,
    /// Nonce.
    pub nonce: u64,
    /// Method number.
    pub method: u64,
    /// Parameters, base64.
    pub params: String,
    /// Fee in attoFIL.
    pub fee: String,
    /// Exit code.
    pub exit_code: i64,
}

/// A partition that a window proof was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proven {
    /// Index of the deadline.
    pub deadline: i64,
    /// Index of the partition.
    pub partition: i64,
}

impl Landed {
    /// Numbers of the sectors that a pre-commit or prove-commit is about.
    ///
    /// # Errors
    /// When the parameters are of no such message.
    pub fn sectors(&self) -> anyhow::Result<Vec<i64>> {
        let params = self.decoded()?;
        let list = params.at(0)?.list()?;
        match self.method {
            // [[seal proof, number, …]]
            PRE_COMMIT => list.iter().map(|one| one.at(1)?.int()).collect(),
            // [[number, pieces]]
            PROVE_COMMIT => list.iter().map(|one| one.at(0)?.int()).collect(),
            other => bail!("method {other} is about no sectors"),
        }
    }

    /// Partitions that a window proof was about, all sectors of them.
    ///
    /// # Errors
    /// When the parameters are of no such message, or sectors were left out.
    pub fn proven(&self) -> anyhow::Result<Vec<Proven>> {
        let params = self.decoded()?;
        let deadline = params.at(0)?.int()?;
        let mut all = Vec::new();
        for one in params.at(1)?.list()? {
            if let cbor::Value::Bytes(skipped) = one.at(1)?
                && !skipped.is_empty()
            {
                bail!("{}: sectors were left out of the proof", self.cid);
            }
            all.push(Proven {
                deadline,
                partition: one.at(0)?.int()?,
            });
        }
        Ok(all)
    }

    fn decoded(&self) -> anyhow::Result<cbor::Value> {
        let bytes = STANDARD.decode(&self.params)?;
        cbor::read(&bytes).with_context(|| format!("parameters of {}", self.cid))
    }
}

impl Chain {
    /// A chain at `host` with a token for everything.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn new(host: &str, token: String) -> anyhow::Result<Self> {
        // Each call has a connection of its own: the server is killed in between.
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            http,
            url: format!("http://{host}:1234"),
            token,
        })
    }

    /// Calls a method, such as `Filecoin.ChainHead`.
    ///
    /// # Errors
    /// What the node says, or that it does not answer.
    pub async fn call(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = self
            .http
            .post(format!("{}/rpc/v1", self.url))
            .bearer_auth(&self.token);
        let answer: Value = request.json(&body).send().await?.json().await?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer.get("result").cloned().unwrap_or_default()),
        }
    }

    /// Height of the head.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn head(&self) -> anyhow::Result<i64> {
        let head = self.call("Filecoin.ChainHead", json!([])).await?;
        head["Height"].as_i64().context("ChainHead has no Height")
    }

    /// Every message that landed.
    ///
    /// # Errors
    /// When the node does not answer, or a line is none of ours.
    pub async fn history(&self) -> anyhow::Result<Vec<Landed>> {
        let request = self
            .http
            .get(format!("{}/history", self.url))
            .bearer_auth(&self.token);
        let text = request.send().await?.error_for_status()?.text().await?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Raw byte power of an actor.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn power(&self, actor: &str) -> anyhow::Result<u64> {
        let power = self
            .call("Filecoin.StateMinerPower", json!([actor, null]))
            .await?;
        let raw = power["MinerPower"]["RawBytePower"]
            .as_str()
            .context("no RawBytePower")?;
        Ok(raw.parse()?)
    }

    /// Whether an actor has a sector on chain.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn has_sector(&self, actor: &str, number: i64) -> anyhow::Result<bool> {
        let info = self
            .call("Filecoin.StateSectorGetInfo", json!([actor, number, null]))
            .await?;
        Ok(!info.is_null())
    }

    /// Deadline and partition of a sector.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn partition(&self, actor: &str, number: i64) -> anyhow::Result<Proven> {
        let place = self
            .call(
                "Filecoin.StateSectorPartition",
                json!([actor, number, null]),
            )
            .await?;
        let field = |name: &str| place[name].as_i64().with_context(|| format!("no {name}"));
        Ok(Proven {
            deadline: field("Deadline")?,
            partition: field("Partition")?,
        })
    }

    /// Faulty sectors of an actor.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn faults(&self, actor: &str) -> anyhow::Result<Vec<i64>> {
        let runs = self
            .call("Filecoin.StateMinerFaults", json!([actor, null]))
            .await?;
        let runs: Vec<i64> = serde_json::from_value(runs)?;
        Ok(numbers(&runs))
    }

    /// Takes money out of an actor, to its owner, in attoFIL: what a person does with lotus-miner.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn withdraw(&self, actor: &str, atto: u128) -> anyhow::Result<()> {
        let info = self
            .call("Filecoin.StateMinerInfo", json!([actor, null]))
            .await?;
        let mut amount: Vec<u8> = atto.to_be_bytes().into_iter().collect();
        let zeros = amount.iter().take_while(|b| **b == 0).count();
        amount.drain(..zeros);
        // [amount]: a sign byte, then the magnitude; at most 17 bytes.
        let mut params = vec![0x81, 0x41 + u8::try_from(amount.len())?, 0];
        params.append(&mut amount);
        let message = json!({
            "Version": 0, "To": actor, "From": info["Owner"], "Nonce": 0, "Value": "0", "GasLimit": 0,
            "GasFeeCap": "0", "GasPremium": "0", "Method": 16, "Params": STANDARD.encode(params),
        });
        self.call("Filecoin.MpoolPushMessage", json!([message, null]))
            .await
            .map(drop)
    }

    /// What an actor can spend, in attoFIL.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn available(&self, actor: &str) -> anyhow::Result<u128> {
        let answer = self
            .call("Filecoin.StateMinerAvailableBalance", json!([actor, null]))
            .await?;
        Ok(answer.as_str().context("no amount")?.parse()?)
    }

    /// Takes back the last tipsets and makes them again without these messages; returns what was dropped.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn reorg(&self, depth: i64, drop: &[String]) -> anyhow::Result<Vec<String>> {
        let result = self
            .call(
                "Devnet.Reorg",
                json!([{"depth": depth, "dropMessages": drop}]),
            )
            .await?;
        let dropped = result["dropped"]
            .as_array()
            .context("no list of what was dropped")?;
        let cid = |v: &Value| {
            v["/"]
                .as_str()
                .map(str::to_owned)
                .context("a CID without /")
        };
        dropped.iter().map(cid).collect()
    }
}

/// Numbers of a bit field as nodes write it: lengths of runs, zeros first.
fn numbers(runs: &[i64]) -> Vec<i64> {
    let (mut all, mut at) = (Vec::new(), 0);
    for (index, run) in runs.iter().enumerate() {
        if index % 2 == 1 {
            all.extend(at..at + run);
        }
        at += run;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(method: u64, params: &[u8]) -> Landed {
        let params = STANDARD.encode(params);
        serde_json::from_value(json!({
            "epoch": 3, "cid": "bafy", "from": "t1a", "to": "t01000", "nonce": 0, "method": method,
            "params": params, "value": "0", "fee": "1", "exitCode": 0, "return": "",
        }))
        .unwrap()
    }

    #[test]
    fn sector_numbers_are_read_from_parameters() {
        // [[[5, 7, …]]] and [[[7, []]], …]
        assert_eq!(
            landed(PRE_COMMIT, &[0x81, 0x81, 0x82, 5, 7])
                .sectors()
                .unwrap(),
            [7]
        );
        assert_eq!(
            landed(PROVE_COMMIT, &[0x82, 0x81, 0x82, 7, 0x80, 0xf6])
                .sectors()
                .unwrap(),
            [7]
        );
        assert!(landed(WINDOW_POST, &[0x80]).sectors().is_err());
    }

    #[test]
    fn bit_fields_are_run_lengths_from_zeros() {
        assert_eq!(numbers(&[0]), Vec::<i64>::new());
        assert_eq!(numbers(&[5, 2, 1, 1]), [5, 6, 8]);
    }

    #[test]
    fn window_proof_names_its_partitions_and_skips_nobody() {
        let whole = landed(WINDOW_POST, &[0x82, 3, 0x81, 0x82, 0, 0x40]);
        assert_eq!(
            whole.proven().unwrap(),
            [Proven {
                deadline: 3,
                partition: 0
            }]
        );
        let skipped = landed(WINDOW_POST, &[0x82, 3, 0x81, 0x82, 0, 0x41, 9]);
        assert!(skipped.proven().is_err());
    }
}
