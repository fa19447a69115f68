//! Which of a miner's chain nodes to use: the first one that is well.
//!
//! In: nodes in order of preference, and the time. Out: one node with its head, or the reason for each that is not
//! well. A node is well when it is on the right network with the right genesis, and its head is young enough.
//! Never: an answer of a node that was not found well just before, so nothing is decided on an old head; but for who asks
//! for one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::class::Class;
use crate::node::{self, ChainReader, NetworkParams, Node, TipSet};
use crate::types::{self, Cid, Epoch, Network};

/// What a node must show before it is used.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which network it must be on.
    pub network: Network,
    /// How old its head may be. Unit: epochs.
    pub max_lag_epochs: u64,
    /// The CID of the genesis block, for a private network; public ones are known.
    pub genesis: Option<Cid>,
}

/// A node that is well.
#[derive(Debug, Clone)]
pub struct Healthy {
    /// The node.
    pub node: Node,
    /// Its head, when it was asked.
    pub head: TipSet,
    /// Its network's parameters.
    pub params: NetworkParams,
    /// How far the head is behind the time.
    pub lag_epochs: u64,
}

/// Why a node is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    /// It cannot be asked.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// It takes too long to show that it is well.
    #[error(
        "endpoint {endpoint} did not show within {}s that it is well: check that the node runs and is not overloaded, or \
         set another endpoint",
        allowed.as_secs_f32()
    )]
    Slow {
        /// The endpoint's name.
        endpoint: String,
        /// What is allowed.
        allowed: Duration,
    },
    /// It is on another network.
    #[error("endpoint {endpoint}: {source}: set spec.network, or another endpoint")]
    Network {
        /// The endpoint's name.
        endpoint: String,
        /// What was found.
        source: types::Error,
    },
    /// Its chain began elsewhere.
    #[error(
        "endpoint {endpoint}: its chain begins with {found}, not with {expected}: it is on another network of the same name"
    )]
    Genesis {
        /// The endpoint's name.
        endpoint: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Its head is too old.
    #[error(
        "endpoint {endpoint} is {lag_epochs} epochs behind (head {head}, at most {max_lag_epochs} allowed): wait for it to sync, or set another endpoint"
    )]
    Behind {
        /// The endpoint's name.
        endpoint: String,
        /// Its head.
        head: Epoch,
        /// How far it is behind.
        lag_epochs: u64,
        /// What is allowed.
        max_lag_epochs: u64,
    },
    /// Its head is from the future: a clock is wrong.
    #[error(
        "endpoint {endpoint}: its head is {ahead_secs}s ahead of this machine's clock: set the clock"
    )]
    Ahead {
        /// The endpoint's name.
        endpoint: String,
        /// How far.
        ahead_secs: u64,
    },
}

impl Unwell {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Node(error) => error.class(),
            Self::Network { .. } | Self::Genesis { .. } => Class::Fatal,
            Self::Slow { .. } | Self::Behind { .. } | Self::Ahead { .. } => Class::Temporary,
        }
    }
}

/// No node can be used.
#[derive(Debug, thiserror::Error)]
pub struct NoneHealthy {
    /// For each endpoint, in order, why not.
    pub reasons: Vec<Unwell>,
}

impl NoneHealthy {
    /// What to do about it: Temporary when any of the nodes may recover on its own.
    pub fn class(&self) -> Class {
        if self
            .reasons
            .iter()
            .any(|reason| reason.class().is_temporary())
        {
            Class::Temporary
        } else {
            Class::Fatal
        }
    }

    /// Whether every node could be asked, and at least one only has an old head.
    pub fn is_behind(&self) -> bool {
        self.reasons
            .iter()
            .any(|reason| matches!(reason, Unwell::Behind { .. }))
    }
}

impl fmt::Display for NoneHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("no chain endpoint is set");
        }
        let reasons: Vec<String> = self.reasons.iter().map(Unwell::to_string).collect();
        f.write_str(&reasons.join("; "))
    }
}

/// How far a head may be in the future before a clock must be wrong. Unit: epochs.
const MAX_AHEAD_EPOCHS: u64 = 2;

/// The same for networks with short epochs: clocks are never closer than this. Unit: seconds.
const MIN_AHEAD_SECS: u64 = 30;

/// How long a node may take to show that it is well, unless it is set otherwise. A node that hangs must leave time to
/// ask the next ones.
const HEALTH_WITHIN: Duration = Duration::from_secs(15);

/// For how long a node that was demoted is asked after the others.
const DEMOTED_FOR: Duration = Duration::from_mins(10);

/// A time that was read a while ago.
#[derive(Debug, Clone, Copy)]
struct Now {
    unix: u64,
    read: Instant,
}

impl Now {
    /// The time now. Unit: seconds since 1970.
    fn unix(self) -> u64 {
        self.unix.saturating_add(self.read.elapsed().as_secs())
    }
}

/// A node that answers and is of the right network.
struct Found {
    healthy: Healthy,
    /// Whether its head is as young as it must be.
    is_young: bool,
}

/// The nodes of one miner, in order of preference.
#[derive(Debug)]
pub struct Endpoints {
    nodes: Vec<Node>,
    policy: Policy,
    /// The one that was well last; asked first, so that a flapping one does not move us to and fro.
    last_good: Option<usize>,
    /// When nodes were demoted, by name.
    demoted: BTreeMap<String, Instant>,
    health_within: Duration,
}

impl Endpoints {
    /// These nodes, most wanted first.
    pub fn new(nodes: Vec<Node>, policy: Policy) -> Self {
        Self {
            nodes,
            policy,
            last_good: None,
            demoted: BTreeMap::new(),
            health_within: HEALTH_WITHIN,
        }
    }

    /// How long a node may take to show that it is well.
    #[must_use]
    pub fn within(mut self, health: Duration) -> Self {
        self.health_within = health;
        self
    }

    /// Takes over which nodes were demoted, from endpoints of the same miner that were made before.
    #[must_use]
    pub fn after(mut self, before: Self) -> Self {
        self.demoted = before.demoted;
        self
    }

    /// A node that was found well failed at what it was asked next, or hangs: for ten minutes all others are asked first.
    /// Of several such the one that failed longest ago comes first, so none is left out for ever.
    pub fn demote(&mut self, failed: &Healthy) {
        let name = failed.node.name();
        tracing::warn!(
            endpoint = name,
            "chain endpoint asked after the others for a while"
        );
        self.demoted.insert(name.to_owned(), Instant::now());
        self.last_good = None;
    }

    /// Finds a node that is well: the one that was well last, else the first in order. Those that were demoted come last.
    ///
    /// `now_unix` is the time of this machine when this is called. Unit: seconds since 1970. What asking takes is
    /// added to it: a head that was made meanwhile is not ahead, one that grew old is not young.
    ///
    /// # Errors
    /// [`NoneHealthy`], with the reason for each.
    pub async fn healthy(&mut self, now_unix: u64) -> Result<Healthy, NoneHealthy> {
        let (found, reasons) = self.search(now_unix).await;
        match found {
            Some(found) if found.is_young => Ok(found.healthy),
            Some(_) | None => Err(NoneHealthy { reasons }),
        }
    }

    /// The same for who rather looks at an old head than at none: where no node is well, the one with the highest head of those
    /// that are only behind or ahead of this machine's clock, and why no node is well.
    ///
    /// # Errors
    /// [`NoneHealthy`], when none of them can be asked or is on the right network.
    pub async fn healthy_or_highest(
        &mut self,
        now_unix: u64,
    ) -> Result<(Healthy, Option<NoneHealthy>), NoneHealthy> {
        let (found, reasons) = self.search(now_unix).await;
        match found {
            Some(found) if found.is_young => Ok((found.healthy, None)),
            Some(found) => Ok((found.healthy, Some(NoneHealthy { reasons }))),
            None => Err(NoneHealthy { reasons }),
        }
    }

    /// The first node that is well, else the one with the highest head of those that answer; and why others are not well.
    async fn search(&mut self, now_unix: u64) -> (Option<Found>, Vec<Unwell>) {
        let now = Now {
            unix: now_unix,
            read: Instant::now(),
        };
        let mut highest: Option<Found> = None;
        let mut reasons = Vec::new();
        for index in self.order() {
            let Some(node) = self.nodes.get(index) else {
                continue;
            };
            let check = tokio::time::timeout(self.health_within, self.check(node, now));
            let checked = check.await.unwrap_or_else(|_elapsed| {
                Err(Unwell::Slow {
                    endpoint: node.name().to_owned(),
                    allowed: self.health_within,
                })
            });
            let reason = match checked {
                Ok((healthy, genesis, None)) => {
                    self.last_good = Some(index);
                    // A private network has the genesis that its first good node has, and keeps it.
                    self.policy.genesis.get_or_insert(genesis);
                    let is_young = true;
                    return (Some(Found { healthy, is_young }), reasons);
                }
                Ok((healthy, _, Some(reason))) => {
                    let height = |found: &Found| found.healthy.head.height;
                    if highest
                        .as_ref()
                        .is_none_or(|h| height(h) < healthy.head.height)
                    {
                        let is_young = false;
                        highest = Some(Found { healthy, is_young });
                    }
                    reason
                }
                Err(reason) => reason,
            };
            tracing::warn!(endpoint = node.name(), %reason, "chain endpoint not well");
            reasons.push(reason);
        }
        self.last_good = None;
        (highest, reasons)
    }

    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        let demoted = |index: usize| {
            let when = self.demoted.get(self.nodes.get(index)?.name())?;
            (when.elapsed() < DEMOTED_FOR).then_some(*when)
        };
        order.sort_by_key(|index| (demoted(*index), Some(*index) != self.last_good));
        order
    }

    /// Whether a node is of the right network, with its head; and why that is too old or too young.
    async fn check(&self, node: &Node, now: Now) -> Result<(Healthy, Cid, Option<Unwell>), Unwell> {
        let endpoint = || node.name().to_owned();
        let name = node.network_name().await?;
        self.policy
            .network
            .check_name(&name)
            .map_err(|source| Unwell::Network {
                endpoint: endpoint(),
                source,
            })?;
        let genesis = self.check_genesis(node).await?;
        let params = node.network_params().await?;
        let head = node.chain_head().await?;
        let now_unix = now.unix();
        let epoch_secs = params.block_delay_secs.max(1);
        let ahead_secs = head.timestamp().saturating_sub(now_unix);
        let most_ahead = epoch_secs
            .saturating_mul(MAX_AHEAD_EPOCHS)
            .max(MIN_AHEAD_SECS);
        let lag_epochs = lag_epochs(head.timestamp(), now_unix, epoch_secs);
        let age = if ahead_secs > most_ahead {
            Some(Unwell::Ahead {
                endpoint: endpoint(),
                ahead_secs,
            })
        } else if lag_epochs > self.policy.max_lag_epochs {
            Some(Unwell::Behind {
                endpoint: endpoint(),
                head: head.height,
                lag_epochs,
                max_lag_epochs: self.policy.max_lag_epochs,
            })
        } else {
            None
        };
        let healthy = Healthy {
            node: node.clone(),
            head,
            params,
            lag_epochs,
        };
        Ok((healthy, genesis, age))
    }

    async fn check_genesis(&self, node: &Node) -> Result<Cid, Unwell> {
        let genesis = node.genesis().await?;
        let found = genesis.key.0.first().copied().unwrap_or_default();
        let expected = match (self.policy.network.genesis(), self.policy.genesis) {
            (Some(public), _) => Some(public.to_owned()),
            (None, private) => private.map(|cid| cid.to_string()),
        };
        match expected {
            Some(expected) if expected != found.to_string() => Err(Unwell::Genesis {
                endpoint: node.name().to_owned(),
                found: found.to_string(),
                expected,
            }),
            Some(_) | None => Ok(found),
        }
    }
}

/// How many epochs a head is behind: 0 while the next block is not due yet.
pub fn lag_epochs(head_timestamp: u64, now_unix: u64, epoch_secs: u64) -> u64 {
    (now_unix.saturating_sub(head_timestamp) / epoch_secs.max(1)).saturating_sub(1)
}
