//! What a drain waits for, as data: for the node's status, for events, for figures and for tests.

use filstar_crds::{Sector, SectorPhase, conditions};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::claim::{self, Claim, OnChain, on_chain};
use super::provers::{self, Stays};
use super::{Request, guard, request, sealers_on, sectors_on};
use crate::world::pod::is_live;
use crate::world::{Id, Now, World};

/// How long a pod may stay after the time by which it should be gone.
const STOPPING: SignedDuration = SignedDuration::from_mins(2);
/// Sectors and pods that one message names.
const NAMED: usize = 3;
/// Reasons of a sector's `Ready` condition that do not go away by themselves.
const STUCK: [&str; 7] = [
    "Failed",
    "Paused",
    "GroupPaused",
    "FinalizeDisabled",
    "NoStore",
    "StoreOutOfReach",
    "RemoveFailed",
];

/// A sector on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: Id,
    /// Its phase.
    pub phase: SectorPhase,
    /// What it asks of the node.
    pub claim: Claim,
    /// Why it is still there.
    pub why: String,
    /// It needs a person.
    pub stuck: bool,
}

/// Why a drain does not go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Stable reason.
    pub reason: &'static str,
    /// What it is, and what a person can do.
    pub message: String,
}

/// How far a node is from being empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who asks for it.
    pub request: Request,
    /// Sectors with files on the node.
    pub sectors: Vec<Held>,
    /// Our pods on the node, each with what it waits for.
    pub pods: Vec<(Id, String)>,
    /// The deadline is over, and the node is not empty.
    pub overdue: bool,
    /// What stands in the way.
    pub blocked: Option<Blocked>,
}

impl View {
    /// Whether sectors still need the node.
    pub fn is_quiescing(&self) -> bool {
        self.sectors.iter().any(|s| s.claim.needs_pods())
    }

    /// Whether pods are only kept by somebody else's word.
    pub fn is_evicting(&self) -> bool {
        !self.pods.is_empty() && !self.is_quiescing()
    }

    /// Whether the node is empty of our work. Sectors that wait there with their files do not count.
    pub fn is_drained(&self) -> bool {
        self.pods.is_empty() && !self.is_quiescing()
    }
}

/// How far a node is from being empty; none when nobody asks for that.
pub fn view(world: &World, now: Now, node: &str) -> Option<View> {
    let request = request(world, node)?;
    let sectors: Vec<Held> = sectors_on(world, node)
        .filter_map(|(id, sector)| held(world, now, node, &request, id, sector))
        .collect();
    let pods = pods(world, node, &sectors);
    let mut view = View {
        overdue: false,
        blocked: None,
        request,
        sectors,
        pods,
    };
    view.overdue = view.request.is_overdue(now) && !view.is_drained();
    view.blocked = blocked(world, now, node, &view);
    Some(view)
}

fn held(
    world: &World,
    now: Now,
    node: &str,
    request: &Request,
    id: &Id,
    sector: &Sector,
) -> Option<Held> {
    let claim = claim::claim(world, now, request, id, sector);
    let status = sector.status.as_ref()?;
    if claim == Claim::None {
        return None;
    }
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == conditions::READY);
    let (reason, said) = ready.map_or(("", ""), |c| (c.reason.as_str(), c.message.as_str()));
    let needs_pods = claim.needs_pods();
    let alone = needs_pods
        && needs_a_pod_now(status.phase, claim)
        && !has_live_sealer(world, id, sector, node);
    let why = match claim {
        Claim::Finishes if alone => {
            format!("it is on chain and no sealer pod is here to finish it: {HELP}")
        }
        Claim::Leaves if alone => {
            format!("it is being removed and no sealer pod is here to remove its files: {HELP}")
        }
        Claim::Finishes => on_chain_text(world, now, request, id, sector, said),
        Claim::Leaves => format!("it is being removed: {said}"),
        Claim::MayEnd => {
            let until = request
                .deadline
                .map_or_else(String::new, |d| format!(" until {d:.0}"));
            format!("not on chain; its task may end by itself{until}, then it waits here")
        }
        Claim::Stops => "not on chain; its task is being stopped".into(),
        Claim::Waits => waits_text(status.pre_commit_deadline),
        Claim::Goes => "not on chain; it is being deleted, since notOnChain is Delete".into(),
        Claim::None => String::new(),
    };
    Some(Held {
        id: id.clone(),
        phase: status.phase.unwrap_or_default(),
        claim,
        stuck: needs_pods && (alone || STUCK.contains(&reason)),
        why,
    })
}

const HELP: &str = "uncordon the node, or end its maintenance, until it is done";

fn waits_text(ticket_ends: Option<i64>) -> String {
    let text = "not on chain; it waits here with its files and goes on when the node is back";
    match ticket_ends {
        Some(epoch) => {
            format!("{text}; after epoch {epoch} its ticket is too old, and PC1 begins anew")
        }
        None => text.into(),
    }
}

fn on_chain_text(
    world: &World,
    now: Now,
    request: &Request,
    id: &Id,
    sector: &Sector,
    said: &str,
) -> String {
    let mut text = match on_chain(world, id, sector) {
        OnChain::Unknown => format!("the chain has not said whether it has its pre-commit: {said}"),
        OnChain::Yes | OnChain::No => format!("on chain, it is finished here: {said}"),
    };
    if let Some(late) = too_late(world, now, request, id, sector) {
        text.push_str("; ");
        text.push_str(&late);
    }
    text
}

/// What the chain does not allow before the deadline.
fn too_late(
    world: &World,
    now: Now,
    request: &Request,
    id: &Id,
    sector: &Sector,
) -> Option<String> {
    let deadline = request.deadline?;
    let status = sector.status.as_ref()?;
    let miner_id = Id::new(&id.namespace, &sector.spec.miner_ref.name);
    let chain = world.chain(&miner_id)?;
    let pre_commit = chain
        .precommits
        .get(&sector.spec.number.unsigned_abs())?
        .as_ref()?;
    if status.phase != Some(SectorPhase::WaitSeed) {
        return None;
    }
    let confidence = world.miners.get(&miner_id)?.spec.confidence;
    let known = pre_commit.pre_commit_epoch.0 + chain.seed_delay + confidence;
    let seconds = (known - chain.head.0)
        .max(0)
        .checked_mul(i64::try_from(chain.block_delay_secs).ok()?)?;
    let at = now
        .wall
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .ok()?;
    (at > deadline).then(|| {
        format!("it cannot be finished before the deadline, since its seed is known only at epoch {known}")
    })
}

/// Whether a pod must do something for the sector before anything else can happen.
fn needs_a_pod_now(phase: Option<SectorPhase>, claim: Claim) -> bool {
    claim == Claim::Leaves
        || matches!(
            phase,
            Some(
                SectorPhase::C1
                    | SectorPhase::C2
                    | SectorPhase::Finalizing
                    | SectorPhase::Landing
                    | SectorPhase::Packing
                    | SectorPhase::Pc1
                    | SectorPhase::Pc2
            )
        ) && claim == Claim::Finishes
}

fn has_live_sealer(world: &World, id: &Id, sector: &Sector, node: &str) -> bool {
    sealers_on(world, node).any(|(pod_id, pod, group)| {
        pod_id.namespace == id.namespace && group.name == sector.spec.group_ref.name && is_live(pod)
    })
}

fn pods(world: &World, node: &str, sectors: &[Held]) -> Vec<(Id, String)> {
    let waiting = |group: &Id| {
        let of = |held: &&Held| {
            held.claim.needs_pods()
                && world.sectors.get(&held.id).is_some_and(|s| {
                    held.id.namespace == group.namespace && s.spec.group_ref.name == group.name
                })
        };
        sectors.iter().filter(of).count()
    };
    let sealers = sealers_on(world, node).map(|(id, pod, group)| {
        let why = if let Some(why) = leaving(world, id, pod) {
            why
        } else {
            match waiting(&group) {
                0 if guard::stands(world, &group, node) => {
                    "its disruption budget is being taken away".into()
                }
                0 => "it is being evicted".into(),
                1 => "it waits for 1 sector".into(),
                n => format!("it waits for {n} sectors"),
            }
        };
        (id.clone(), why)
    });
    let provers = provers::on(world, node).map(|(id, pod)| {
        let why =
            leaving(world, id, pod).unwrap_or_else(|| match provers::stays(world, id, pod, node) {
                Some(Stays::Proves(index)) => format!("it proves deadline {index}"),
                Some(Stays::NoOtherNode(batch)) => {
                    format!("no other node takes the prover of PostBatch {batch}")
                }
                None => "it is being evicted".into(),
            });
        (id.clone(), why)
    });
    sealers.chain(provers).collect()
}

fn leaving(world: &World, id: &Id, pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is leaving".into());
    }
    refused(world, id, pod).map(|refused| refused.message.clone())
}

/// What the API server said to our last eviction of this very pod.
fn refused<'a>(world: &'a World, id: &Id, pod: &Pod) -> Option<&'a crate::world::Refused> {
    world
        .refused
        .get(id)
        .filter(|r| pod.uid().as_ref() == Some(&r.uid))
}

/// What stands in the way, the most pressing first.
fn blocked(world: &World, now: Now, node: &str, view: &View) -> Option<Blocked> {
    let stuck: Vec<String> = view
        .sectors
        .iter()
        .filter(|s| s.stuck)
        .map(name_and_why)
        .collect();
    if view.overdue {
        let left = view
            .sectors
            .iter()
            .filter(|s| s.claim.needs_pods())
            .map(name_and_why);
        let pods = view.pods.iter().map(|(id, why)| format!("pod {id}: {why}"));
        let message = format!(
            "the deadline is over; nothing on chain is given up for it. Still here: {}",
            some(&left.chain(pods).collect::<Vec<_>>())
        );
        return Some(Blocked {
            reason: "DeadlineReached",
            message,
        });
    }
    if !stuck.is_empty() {
        return Some(Blocked {
            reason: "SectorCannotFinish",
            message: some(&stuck),
        });
    }
    let refusals = view.pods.iter().filter_map(|(id, _)| {
        let refused = refused(world, id, world.pods.get(id)?)?;
        Some((id, refused))
    });
    if let Some((id, refused)) = refusals.into_iter().next() {
        return Some(match &refused.budget {
            Some(budget) => Blocked {
                reason: "DisruptionBudget",
                message: format!(
                    "PodDisruptionBudget {}/{budget} does not let pod {id} go: {}",
                    id.namespace, refused.message
                ),
            },
            None => Blocked {
                reason: "EvictionRefused",
                message: format!("pod {id} is not evicted: {}", refused.message),
            },
        });
    }
    if let Some(blocked) = view
        .pods
        .iter()
        .find_map(|(id, _)| does_not_stop(world, now, id))
    {
        return Some(blocked);
    }
    let alone = provers::on(world, node).find_map(|(id, pod)| {
        match provers::stays(world, id, pod, node)? {
            Stays::NoOtherNode(batch) if pod.metadata.deletion_timestamp.is_none() => {
                Some((id, batch))
            }
            Stays::NoOtherNode(_) | Stays::Proves(_) => None,
        }
    });
    alone.map(|(id, batch)| Blocked {
        reason: "ProverHasNoOtherNode",
        message: format!(
            "no other node that is ready and not closing, has the room and sees the same stores takes the prover of PostBatch \
             {batch}, and without it window proofs are missed: add a node to its nodeSelector, make room on one, or \
             delete pod {id} between two deadlines"
        ),
    })
}

/// A pod that should have been gone for a while: nobody stops it, since kubelet does not answer or a volume hangs.
fn does_not_stop(world: &World, now: Now, id: &Id) -> Option<Blocked> {
    // When it is to be gone at the latest, its grace period included.
    let gone_by = world.pods.get(id)?.metadata.deletion_timestamp.as_ref()?.0;
    (now.wall.duration_since(gone_by) > STOPPING).then(|| Blocked {
        reason: "PodDoesNotStop",
        message: format!(
            "pod {id} should have been gone by {gone_by:.0}: see whether kubelet on its node answers and its volumes do not \
             hang. When the machine is off for certain, kubectl delete pod {} -n {} --force",
            id.name, id.namespace
        ),
    })
}

fn name_and_why(held: &Held) -> String {
    format!("{} in {}: {}", held.id, held.phase.as_str(), held.why)
}

fn some(all: &[String]) -> String {
    let named = all
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}
