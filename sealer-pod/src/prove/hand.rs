//! What the prover does now: one step at a time, beside the loop that looks at the chain.
//!
//! Effects: calls of the chain node; child processes, killed when the step is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use filstar_chain::{ActorId, Node, TipSetKey, node::MinerReader, types::bitfield};
use filstar_sealing::{Class, Hash32, HexBytes, SealProof, task::Replica};
use tokio::task::JoinSet;

use super::{
    notes::Attempt,
    plan::{Running, Step, Work},
    work::{Job, Prover},
};
use crate::{commitment, wire::Failure};

/// What came of a step.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Whether a proof holds.
    Checked(Result<(), Failure>),
    /// What came of proving.
    Proven(Attempt),
    /// Whether a sector that was left out can be read.
    Looked(bool),
}

impl Outcome {
    /// For the log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Checked(Err(failure))
            | Self::Proven(Attempt {
                proof: Err(failure),
                ..
            }) => failure.to_string(),
            Self::Checked(Ok(())) => "it holds".to_owned(),
            Self::Proven(attempt) => {
                format!(
                    "{} sectors proven, {} left out",
                    attempt.proven,
                    attempt.skipped.len()
                )
            }
            Self::Looked(found) => format!("found: {found}"),
        }
    }
}

/// A step that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) step: Step,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// The step under way, if any; dropping it ends it.
#[derive(Debug, Default)]
pub(super) struct Hand {
    under_way: JoinSet<Outcome>,
    what: Option<(Step, Instant, Duration)>,
}

/// What a step needs.
#[derive(Debug)]
pub(super) struct Needs {
    pub(super) prover: Prover,
    pub(super) actor: ActorId,
    pub(super) node: Node,
    pub(super) head: TipSetKey,
    /// The proof that was reported, base64, for [`Work::Check`].
    pub(super) proof: Option<String>,
}

impl Hand {
    pub(super) fn is_free(&self) -> bool {
        self.what.is_none()
    }

    pub(super) fn running(&self) -> Option<Running> {
        self.what.as_ref().map(|(step, since, patience)| Running {
            step: step.clone(),
            took: since.elapsed(),
            patience: *patience,
        })
    }

    pub(super) fn start(&mut self, step: Step, patience: Duration, needs: Needs) {
        self.stop();
        self.under_way.spawn(carry_out(step.clone(), needs));
        self.what = Some((step, Instant::now(), patience));
    }

    /// Ends what is under way, and says what it was and for how long it ran.
    pub(super) fn stop(&mut self) -> Option<(Step, Duration)> {
        // A new set: nothing of the old one is heard of again.
        self.under_way = JoinSet::new();
        self.what
            .take()
            .map(|(step, since, _)| (step, since.elapsed()))
    }

    /// Waits for the step to end; for ever when there is none. Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> Ended {
        let joined = match self.under_way.join_next().await {
            Some(joined) => joined,
            None => std::future::pending().await,
        };
        let Some((step, since, _)) = self.what.take() else {
            return std::future::pending().await;
        };
        let outcome = joined.unwrap_or_else(|e| {
            // A bug of ours in this step must not end the others.
            let failure = Failure::new(Class::Temporary, format!("the step broke off: {e}"));
            match step.work {
                Work::Check(_) => Outcome::Checked(Err(failure)),
                Work::Prove(_) => Outcome::Proven(Attempt::failed(failure)),
                Work::Look(_) => Outcome::Looked(false),
            }
        });
        Ended {
            took: since.elapsed(),
            step,
            outcome,
        }
    }
}

async fn carry_out(step: Step, needs: Needs) -> Outcome {
    match &step.work {
        Work::Check(numbers) => Outcome::Checked(check(&step, &needs, numbers).await),
        Work::Prove(numbers) => Outcome::Proven(prove(&step, &needs, numbers).await),
        Work::Look(numbers) => Outcome::Looked(look(&step, &needs, numbers).await),
    }
}

async fn prove(step: &Step, needs: &Needs, numbers: &BTreeSet<u64>) -> Attempt {
    match job(needs, numbers, step.randomness).await {
        Ok(job) => {
            let done = needs.prover.prove(&job).await;
            Attempt {
                proof: done.proof,
                post_proof: job.proof_type.window_number(),
                proven: done.proven,
                skipped: done.skipped,
            }
        }
        Err(failure) => Attempt::failed(failure),
    }
}

async fn look(step: &Step, needs: &Needs, numbers: &BTreeSet<u64>) -> bool {
    let Ok(job) = job(needs, numbers, step.randomness).await else {
        return false;
    };
    let results = needs.prover.readable(&job).await;
    results.iter().any(|(_, result)| result.is_ok())
}

/// Verifies the proof of a report: after a restart it is as good as its verification.
async fn check(step: &Step, needs: &Needs, numbers: &BTreeSet<u64>) -> Result<(), Failure> {
    let proof = needs.proof.as_ref().and_then(|p| BASE64.decode(p).ok());
    let proof = proof.ok_or_else(|| Failure::new(Class::Permanent, "the proof is not base64"))?;
    let job = job(needs, numbers, step.randomness).await?;
    let replicas = job.sectors.iter().map(|(n, r)| Replica {
        number: *n,
        comm_r: *r,
    });
    let replicas = replicas.collect();
    needs.prover.verify(&job, replicas, &HexBytes(proof)).await
}

/// What a proof of these sectors is made of, as the chain knows them.
pub(super) async fn job(
    needs: &Needs,
    numbers: &BTreeSet<u64>,
    randomness: Hash32,
) -> Result<Job, Failure> {
    let temporary = |e: &dyn std::fmt::Display| {
        Failure::new(
            Class::Temporary,
            format!("cannot ask the chain for sectors: {e}"),
        )
    };
    let filter = bitfield::of(numbers.iter().copied()).map_err(|e| temporary(&e))?;
    let infos = needs.node.sectors(needs.actor, Some(&filter), &needs.head);
    let infos = infos.await.map_err(|e| temporary(&e))?;
    let mut sectors = BTreeMap::new();
    let mut types = BTreeSet::new();
    for info in infos {
        let hash = commitment::from_cid(commitment::Kind::Replica, &info.sealed_cid)?;
        sectors.insert(info.sector_number.0, hash);
        // However it was sealed: how it is proven depends on its size alone.
        types.insert(info.seal_proof.window_post_proof().0);
    }
    if sectors.len() != numbers.len() {
        let text = format!(
            "the chain knows {} of {} sectors",
            sectors.len(),
            numbers.len()
        );
        return Err(Failure::new(Class::Temporary, text));
    }
    let number = types.first().copied().filter(|_| types.len() == 1);
    let proof_type = number.and_then(SealProof::from_window_number);
    let proof_type = proof_type.ok_or_else(|| {
        let text =
            format!("its sectors are proven as {types:?}: that is not one type that is known here");
        Failure::new(Class::Permanent, text)
    })?;
    Ok(Job {
        actor: needs.actor.0,
        proof_type,
        randomness,
        sectors,
    })
}
