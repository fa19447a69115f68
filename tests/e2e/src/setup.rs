//! What a scenario wants to be different from the others: its actor, its chain, its sectors.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::cluster::must_run;
use crate::nodes::Need;

/// Who signs the scenario's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signs {
    /// The operator, with keys from a Secret.
    #[default]
    Secret,
    /// The chain node's wallet.
    Node,
}

/// A scenario's settings.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name, and part of its namespace's name.
    pub name: &'static str,
    /// Id of its miner actor; no two scenarios share one.
    pub actor: u64,
    /// What it needs for itself.
    pub need: Need,
    /// Deadlines of a proving period.
    pub deadlines: u64,
    /// Epochs of a deadline.
    pub window: i64,
    /// The Miner's confidence.
    pub confidence: i64,
    /// Who signs.
    pub signs: Signs,
    /// Actors that the chain has besides: the next ids.
    pub more_actors: u64,
    /// Epochs from a pre-commit to its seed.
    pub seed_delay: i64,
    /// Tasks at once in a sealer pod, and PC1 sectors that share a core.
    pub together: u32,
}

impl Setup {
    /// A scenario whose sectors meet no deadline while it lasts.
    pub fn new(name: &'static str, actor: u64) -> Self {
        Self {
            name,
            actor,
            need: Need::Place,
            deadlines: 48,
            window: 60,
            confidence: 2,
            signs: Signs::Secret,
            more_actors: 0,
            seed_delay: 10,
            together: 1,
        }
    }

    /// CPUs that a sealer pod has for itself; none of them when it shares.
    pub fn cpus(&self) -> u32 {
        u32::from(self.need != Need::Place)
    }

    /// Settings of its chain; its keys follow from the seed.
    pub fn devnet(&self) -> Value {
        let lookback = (self.window / 3).clamp(1, 20);
        let actors = self.actor..=self.actor + self.more_actors;
        let miners: Vec<Value> = actors
            .map(|id| json!({ "actorId": id, "sealProof": 5, "controlKeys": 2 }))
            .collect();
        json!({
            "seed": format!("filstar-e2e-{}", self.name),
            "blockDelayMs": 1000,
            "deadlines": self.deadlines,
            "challengeWindow": self.window,
            "challengeLookback": lookback,
            "faultDeclarationCutoff": lookback + 2,
            "maxTicketAge": 3780,
            "preCommitChallengeDelay": self.seed_delay,
            "miners": miners,
        })
    }
}

/// Keys and tokens of a chain, as its own program prints them.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Address that pre-commits and commits.
    pub seal: String,
    /// Address that sends window proofs.
    pub post: String,
    /// The keys of both, as lotus exports them.
    pub exported: [String; 2],
    /// A token for what a Miner needs.
    pub token: String,
    /// A token that may only read.
    pub read: String,
    /// A token for everything.
    pub admin: String,
}

impl Keys {
    /// Asks the devnet's program.
    ///
    /// # Errors
    /// When it is not there, or knows no such keys.
    pub async fn of(setup: &Setup, config: &str) -> anyhow::Result<Self> {
        let program = program("filstar-devnet")?;
        let program = program.to_str().context("a path that is no text")?;
        let key = async |index: u32, address: bool| {
            let name = format!("miner-{}-control-{index}", setup.actor);
            let mut arguments = vec!["print-key", "--config", config, "--name", &name];
            arguments.extend(address.then_some("--address"));
            anyhow::Ok(must_run(program, &arguments, "").await?.trim().to_owned())
        };
        let token = async |perm: &str| {
            let arguments = ["token", "--config", config, "--perm", perm];
            anyhow::Ok(must_run(program, &arguments, "").await?.trim().to_owned())
        };
        let perm = if setup.signs == Signs::Node {
            "sign"
        } else {
            "write"
        };
        Ok(Self {
            seal: key(0, true).await?,
            post: key(1, true).await?,
            exported: [key(0, false).await?, key(1, false).await?],
            token: token(perm).await?,
            read: token("read").await?,
            admin: token("admin").await?,
        })
    }
}

/// A program beside this test, in the folder of programs that one build makes.
///
/// # Errors
/// When it is not there.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(|d| d.parent())
        .context("a test that lies nowhere")?;
    let program = folder.join(name);
    ensure!(
        program.exists(),
        "{}: build it with `make images`",
        program.display()
    );
    Ok(program)
}
