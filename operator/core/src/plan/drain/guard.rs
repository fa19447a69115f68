//! Disruption budgets that make `kubectl drain` and every other evictor wait.
//!
//! There is one for a group on a node only while a sector there needs its pods: it lets none go. So nothing is there
//! at rest, and a drain goes on by itself once the sectors are done.

use std::collections::{BTreeSet, HashSet};

use filstar_crds::{NotOnChain, SealingGroup, Sector, SectorPhase, labels};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::Closing;
use super::claim::{self, OnChain};
use crate::action::Action;
use crate::plan::names;
use crate::world::{Id, Now, World};

/// Pods that a budget wants at least: more than a group ever has on a node, so that none may go.
const MORE_THAN_THERE_ARE: i32 = 1000;

/// Budgets to make and to take away.
pub(super) fn plan(world: &World, now: Now, closing: &Closing) -> Vec<Action> {
    let wanted = wanted(world, now, closing);
    let there = world.budgets.iter().filter_map(|(id, b)| of(id, b));
    let there: HashSet<Guarded<'_>> = there.collect();
    let mut missing: Vec<Guarded<'_>> = wanted.difference(&there).copied().collect();
    missing.sort_unstable();
    let mut actions = Vec::new();
    for (namespace, group, node) in missing {
        let id = Id::new(namespace, names::sealer_budget(group, node));
        if world.budgets.get(&id).is_none()
            && let Some((_, group)) = world.groups.find(namespace, group)
        {
            actions.push(Action::CreateBudget {
                budget: Box::new(budget(&id, group, node)),
            });
        }
    }
    for (id, budget) in world.budgets.iter() {
        let needed = of(id, budget).is_some_and(|of| wanted.contains(&of));
        if !needed && budget.metadata.deletion_timestamp.is_none() {
            actions.extend(budget.uid().map(|uid| Action::DeleteBudget {
                id: id.clone(),
                uid,
            }));
        }
    }
    actions
}

/// Whether a budget of ours still holds a group's pods on a node.
pub(super) fn stands(world: &World, group: &Id, node: &str) -> bool {
    let id = Id::new(&group.namespace, names::sealer_budget(&group.name, node));
    world.budgets.get(&id).is_some()
}

/// Namespace and name of a group, and a node where a sector needs its pods.
type Guarded<'w> = (&'w str, &'w str, &'w str);

/// What a budget of ours guards.
fn of<'w>(id: &'w Id, budget: &'w PodDisruptionBudget) -> Option<Guarded<'w>> {
    let group = budget.labels().get(labels::GROUP)?;
    Some((
        &id.namespace,
        group,
        budget.annotations().get(labels::NODE)?,
    ))
}

fn wanted<'w>(world: &'w World, now: Now, closing: &Closing) -> HashSet<Guarded<'w>> {
    // Groups that delete want their files removed before their pods go.
    let deleting: BTreeSet<(&str, &str)> = world
        .groups
        .iter()
        .filter(|(_, g)| g.spec.drain.not_on_chain == NotOnChain::Delete)
        .map(|(id, _)| (id.namespace.as_str(), id.name.as_str()))
        .collect();
    let mut wanted = HashSet::new();
    for (id, sector) in world.sectors.iter() {
        if let Some(node) = super::node_of(sector)
            && is_needed(world, now, closing, &deleting, id, sector)
        {
            let group = sector.spec.group_ref.name.as_str();
            wanted.insert((id.namespace.as_str(), group, node));
        }
    }
    wanted
}

fn is_needed(
    world: &World,
    now: Now,
    closing: &Closing,
    deleting: &BTreeSet<(&str, &str)>,
    id: &Id,
    sector: &Sector,
) -> bool {
    if let Some((_, claim)) = super::claim(world, now, closing, id, sector) {
        return claim.is_guarded();
    }
    // A drain begins at any time: what it must not break is guarded before.
    let Some(status) = sector.status.as_ref().filter(|s| claim::has_files(s)) else {
        return false;
    };
    let group = (id.namespace.as_str(), sector.spec.group_ref.name.as_str());
    // Before the pre-commit is wished for there is no trace of one in the status.
    let may_be = status.messages.is_some() || status.commit_deadline.is_some();
    deleting.contains(&group)
        || sector.metadata.deletion_timestamp.is_some()
        || status.phase == Some(SectorPhase::PreCommitting)
        || claim::phase_is_on_chain(status)
        || may_be && claim::on_chain(world, id, sector) != OnChain::No
}

fn budget(id: &Id, group: &SealingGroup, node: &str) -> PodDisruptionBudget {
    // An integer: a percentage, or maxUnavailable, would be counted against the group's scale, which counts sectors.
    let whole = json!({
        "metadata": {
            "name": id.name,
            "namespace": id.namespace,
            "labels": {
                labels::MANAGED_BY: "filstar",
                "app.kubernetes.io/name": "filstar",
                labels::GROUP: group.name_any(),
            },
            "annotations": {labels::NODE: node},
            "ownerReferences": [group.owner_ref(&())],
        },
        "spec": {
            "minAvailable": MORE_THAN_THERE_ARE,
            "selector": {"matchLabels": {
                labels::GROUP: group.name_any(),
                labels::NODE: names::node_label(node),
            }},
        },
    });
    serde_json::from_value(whole).expect("a budget of a fixed shape; a test makes one")
}
