//! One poll of one Miner's chain: everything is read at one head.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use filstar_chain::endpoints::Healthy;
use filstar_chain::node::{ChainReader, Error as NodeError, MinerReader, Node};
use filstar_chain::types::{ActorId, AttoFil, TipSetKey};
use filstar_core::world::{ChainFacts, ChainProblem, Id};
use filstar_crds::MinerSpec;
use jiff::Timestamp;

use super::landed::Landed;
use super::partitions::{Fingerprint, Partitions, Proving};
use super::questions::Questions;
use super::spec::{Nodes, nodes};
use super::state::{precommits, sectors, senders};
use super::{Connections, estimate, pause, problem, signer};
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::watch::Change;

/// Between polls while something is wrong.
const PROBLEM_PAUSE: Duration = Duration::from_secs(5);
/// Reading all from one endpoint may take so long: after that, what it began with is too old.
const WHOLE_POLL: Duration = Duration::from_mins(1);
/// Before a failure is tried again that may be over at once.
const HICCUP_PAUSE: Duration = Duration::from_secs(1);
/// Tokens are read and checked anew after so long.
const NODES_AGE: Duration = Duration::from_mins(5);
/// After so many polls in a row that left a message unanswered another endpoint is asked.
const UNANSWERED_POLLS: u32 = 3;
/// A signer that was ready is checked again after so long.
const SIGNER_AGE: Duration = Duration::from_mins(1);

/// The poller's memory.
#[derive(Debug)]
pub(super) struct Poll {
    id: Id,
    connections: Connections,
    secrets: Secrets,
    metrics: Arc<Metrics>,
    spec: MinerSpec,
    nodes: Option<(Instant, Nodes)>,
    /// Endpoints whose token is good for what we do.
    permitted: BTreeSet<String>,
    partitions: Partitions,
    landed: Landed,
    signer: Option<(Instant, Result<(), String>)>,
    last: Option<Last>,
    /// What keeps us from anything but proving, as this poll sees it.
    caution: Option<ChainProblem>,
    /// Polls in a row in which the search for some message failed.
    unanswered: u32,
    /// How long reading all from one endpoint may take.
    allowed: Duration,
}

/// What was told last.
#[derive(Debug, PartialEq)]
enum Last {
    Facts {
        head: TipSetKey,
        questions: Questions,
        signer: Result<(), String>,
        caution: Option<ChainProblem>,
    },
    /// A failure that may be over at once, and is not told yet.
    Hiccup,
    Problem(ChainProblem),
}

/// What one poll found: facts, or that nothing is new.
struct Found {
    block_delay_secs: u64,
    news: Option<(Box<ChainFacts>, Result<(), String>)>,
}

impl Poll {
    pub(super) fn new(
        id: Id,
        spec: MinerSpec,
        connections: Connections,
        secrets: Secrets,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            id,
            connections,
            secrets,
            metrics,
            spec,
            nodes: None,
            permitted: BTreeSet::new(),
            partitions: Partitions::default(),
            landed: Landed::default(),
            signer: None,
            last: None,
            caution: None,
            unanswered: 0,
            allowed: WHOLE_POLL,
        }
    }

    /// Asks the chain. Answers with the change of the world, if there is one, and the pause until the next poll.
    pub(super) async fn poll(
        &mut self,
        spec: &MinerSpec,
        questions: &Questions,
    ) -> (Option<Change>, Duration) {
        if self.spec != *spec {
            self.spec = spec.clone();
            self.nodes = None;
            self.signer = None;
            self.last = None;
        }
        let read = self.read(questions).await;
        match read {
            Ok(found) => (
                found.news.map(|(f, s)| self.tell(f, s)),
                pause(found.block_delay_secs),
            ),
            Err(problem) => self.fail(problem),
        }
    }

    /// New facts take the place of the old, and end every problem but one that leaves proving.
    fn tell(&self, facts: Box<ChainFacts>, signer: Result<(), String>) -> Change {
        let (id, caution) = (self.id.clone(), self.caution.clone());
        Box::new(move |world| {
            let view = world.chains.entry(id).or_default();
            view.problem = caution;
            view.signer = Some(signer);
            view.facts = Some(*facts);
            true
        })
    }

    fn fail(&mut self, problem: ChainProblem) -> (Option<Change>, Duration) {
        let may_pass = matches!(problem, ChainProblem::Unreachable(_));
        if may_pass && matches!(self.last, Some(Last::Facts { .. })) {
            self.last = Some(Last::Hiccup);
            return (None, HICCUP_PAUSE);
        }
        self.connections.set(&self.id, None);
        if !may_pass {
            // Tokens may have been replaced since.
            self.nodes = None;
        }
        let same = self.last.as_ref() == Some(&Last::Problem(problem.clone()));
        self.last = Some(Last::Problem(problem.clone()));
        if same {
            return (None, PROBLEM_PAUSE);
        }
        tracing::warn!(miner = %self.id, reason = problem.reason(), "{}", problem.message());
        let id = self.id.clone();
        let change: Change = Box::new(move |world| {
            world.chains.entry(id).or_default().problem = Some(problem);
            true
        });
        (Some(change), PROBLEM_PAUSE)
    }

    /// Asks the endpoints one after another until one answers all. One that does not is asked after the others for a
    /// while, although its head is fine.
    async fn read(&mut self, questions: &Questions) -> Result<Found, ChainProblem> {
        let actor: ActorId = self
            .spec
            .actor_id
            .parse()
            .map_err(|e| ChainProblem::InvalidSpec(format!("spec.actorId: {e}")))?;
        let mut problems = Vec::new();
        let mut asked = BTreeSet::new();
        self.caution = None;
        loop {
            let healthy = match self.healthy().await {
                Ok(healthy) => healthy,
                Err(problem) => {
                    problems.push(problem);
                    return Err(problem::together(problems));
                }
            };
            if !asked.insert(healthy.node.name().to_owned()) {
                return Err(problem::together(problems));
            }
            let whole = self.allowed;
            let read =
                tokio::time::timeout(whole, self.read_from(&healthy, actor, questions)).await;
            let read = read.unwrap_or_else(|_elapsed| {
                Err(ChainProblem::Unreachable(format!(
                    "endpoint {} takes more than {}s for one poll",
                    healthy.node.name(),
                    whole.as_secs()
                )))
            });
            match read {
                Err(problem) if problem::is_of_endpoint(&problem) => {
                    self.demote(&healthy);
                    problems.extend(self.caution.take());
                    problems.push(problem);
                }
                read => return read,
            }
        }
    }

    fn demote(&mut self, failed: &Healthy) {
        if let Some((_, nodes)) = &mut self.nodes {
            nodes.endpoints.demote(failed);
        }
    }

    async fn read_from(
        &mut self,
        healthy: &Healthy,
        actor: ActorId,
        questions: &Questions,
    ) -> Result<Found, ChainProblem> {
        self.check_permissions(&healthy.node).await?;
        let block_delay_secs = healthy.params.block_delay_secs;
        let head = healthy.head.key.clone();
        let known = matches!(
            &self.last,
            Some(Last::Facts { head: h, questions: q, .. }) if *h == head && q == questions
        );
        if known && self.signer_is_fresh() {
            self.connections.set(&self.id, Some(healthy.node.clone()));
            return Ok(Found {
                block_delay_secs,
                news: None,
            });
        }
        let facts = self.facts(healthy, actor, questions).await?;
        let signer = self.signer(healthy, &facts).await;
        self.count_unanswered(healthy, questions, &facts);
        self.connections.set(&self.id, Some(healthy.node.clone()));
        let last = Last::Facts {
            head,
            questions: questions.clone(),
            signer: signer.clone(),
            caution: self.caution.clone(),
        };
        let same = self.last.as_ref() == Some(&last);
        self.last = Some(last);
        let news = (!same).then(|| (Box::new(facts), signer));
        Ok(Found {
            block_delay_secs,
            news,
        })
    }

    /// A message that one endpoint cannot find out about is looked for at the next; all else goes on meanwhile.
    fn count_unanswered(&mut self, healthy: &Healthy, questions: &Questions, facts: &ChainFacts) {
        let mut asked = questions.messages.keys();
        self.unanswered = if asked.all(|cid| facts.lookups.contains_key(cid)) {
            0
        } else {
            self.unanswered + 1
        };
        if self.unanswered >= UNANSWERED_POLLS {
            self.unanswered = 0;
            self.demote(healthy);
        }
    }

    /// The first endpoint that is of the right network and young enough.
    async fn healthy(&mut self) -> Result<Healthy, ChainProblem> {
        if self
            .nodes
            .as_ref()
            .is_none_or(|(made, _)| made.elapsed() > NODES_AGE)
        {
            let made = nodes(&self.secrets, &self.id.namespace, &self.spec);
            let made = tokio::time::timeout(self.allowed, made).await;
            let mut made = made.unwrap_or_else(|_elapsed| {
                let text = "the API server does not hand out the Secrets with tokens in time";
                Err(ChainProblem::SecretMissing(text.into()))
            })?;
            if let Some((_, before)) = self.nodes.take() {
                made.endpoints = made.endpoints.after(before.endpoints);
            }
            self.permitted.clear();
            self.nodes = Some((Instant::now(), made));
        }
        let Some((_, nodes)) = &mut self.nodes else {
            return Err(ChainProblem::InvalidSpec(
                "spec.chain.endpoints is empty".into(),
            ));
        };
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        nodes.endpoints.healthy(now).await.map_err(|none| {
            let class = none.class().to_string();
            self.metrics
                .rpc_errors
                .with_label_values(&[class.as_str(), "NoneHealthy"])
                .inc();
            problem::of_endpoints(&none, &self.spec)
        })
    }

    /// Asks once what the token of an endpoint is good for.
    async fn check_permissions(&mut self, node: &Node) -> Result<(), ChainProblem> {
        let name = node.name();
        if self.permitted.contains(name) {
            return Ok(());
        }
        let tokens = self
            .nodes
            .as_ref()
            .map(|(_, nodes)| nodes.tokens.as_slice());
        let token = tokens
            .unwrap_or_default()
            .iter()
            .find(|(endpoint, _)| endpoint == name);
        if let Some((_, token)) = token {
            match node.auth_verify(token).await {
                Ok(has) => {
                    if let Some(problem) = problem::permissions(name, &has, &self.spec) {
                        return Err(problem);
                    }
                }
                // A node that keeps no tokens takes any.
                Err(NodeError::NoSuchMethod { .. }) => {}
                Err(NodeError::Refused { message, .. }) => {
                    return Err(ChainProblem::TokenRejected(format!(
                        "endpoint {name} does not accept the token ({message}): put one of that node into the Secret \
                         that tokenSecretRef names"
                    )));
                }
                Err(error) => return Err(self.problem(&error)),
            }
        }
        self.permitted.insert(name.to_owned());
        Ok(())
    }

    fn problem(&self, error: &NodeError) -> ChainProblem {
        let class = error.class().to_string();
        self.metrics
            .rpc_errors
            .with_label_values(&[class.as_str(), error.label()])
            .inc();
        problem::of_node(error, &self.spec)
    }

    async fn facts(
        &mut self,
        healthy: &Healthy,
        actor: ActorId,
        questions: &Questions,
    ) -> Result<ChainFacts, ChainProblem> {
        let (node, head) = (&healthy.node, &healthy.head);
        let key = &head.key;
        let version = node
            .network_version(key)
            .await
            .map_err(|e| self.problem(&e))?;
        self.caution = problem::version(version);
        let known = self.caution.is_none();
        let info = match node.miner_info(actor, key).await {
            Ok(info) => info,
            Err(NodeError::Refused { message, .. }) if message.contains("actor code") => {
                return Err(problem::actor_not_found(&self.spec));
            }
            Err(error) => return Err(self.problem(&error)),
        };
        if let Some(problem) = problem::sector_size(info.sector_size, &self.spec) {
            return Err(problem);
        }
        let all = async {
            let (fees, power, available) = futures::try_join!(
                node.base_fees(head),
                node.miner_power(actor, key),
                node.miner_available_balance(actor, key),
            )?;
            let (deposit, pledge) = match estimate::of(node, actor, head, &self.spec).await {
                // Nothing is sealed under rules that we do not know, and a proof needs no estimate.
                Err(_) if !known => (AttoFil::zero(), AttoFil::zero()),
                estimated => estimated?,
            };
            let proving = Proving::read(node, actor, key).await?;
            let fingerprint = Fingerprint::of(&proving, &power, &available);
            let sums = self
                .partitions
                .sums(node, actor, key, &proving.deadline, fingerprint)
                .await?;
            let senders = senders(node, key, questions).await?;
            let precommits = precommits(node, actor, key, questions).await?;
            let sectors = sectors(node, actor, key, questions).await?;
            let lookups = self.landed.lookups(node, key, questions, &senders).await;
            Ok(ChainFacts {
                endpoint: node.name().to_owned(),
                head: head.height,
                head_key: key.clone(),
                block_delay_secs: healthy.params.block_delay_secs,
                seed_delay: healthy.params.pre_commit_challenge_delay,
                base_fee: fees.current,
                next_base_fee: fees.next,
                info,
                available,
                deposit,
                pledge,
                raw_power: power.miner_power.raw_byte_power.0,
                allocated: proving.allocated,
                deadline: proving.deadline,
                proven: proving.submissions,
                living: sums.living,
                partitions: sums.partitions,
                faulty: proving.faults.len(),
                recovering: proving.recoveries.len(),
                faults: sums.faults,
                senders,
                precommits,
                sectors,
                lookups,
            })
        };
        let read: Result<ChainFacts, NodeError> = all.await;
        read.map_err(|error| self.problem(&error))
    }

    fn signer_is_fresh(&self) -> bool {
        self.signer.as_ref().is_some_and(|(when, result)| {
            let age = if result.is_ok() {
                SIGNER_AGE
            } else {
                PROBLEM_PAUSE
            };
            when.elapsed() < age
        })
    }

    async fn signer(&mut self, healthy: &Healthy, facts: &ChainFacts) -> Result<(), String> {
        if let Some((_, result)) = self.signer.as_ref().filter(|_| self.signer_is_fresh()) {
            return result.clone();
        }
        let namespace = &self.id.namespace;
        let result =
            signer::check(&healthy.node, &self.secrets, namespace, &self.spec, facts).await;
        self.signer = Some((Instant::now(), result.clone()));
        result
    }
}

#[cfg(test)]
mod tests;
