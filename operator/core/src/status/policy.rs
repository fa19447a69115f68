//! What to say about a `GasPolicy`.

use filstar_crds::{GasPolicy, GasPolicyStatus, GasRule, MessageState, RuleStatus, conditions};

use super::Say;
use crate::world::{Id, Now, World, facts};

/// The new status, or none when nothing changed.
pub(super) fn status(
    world: &World,
    now: Now,
    id: &Id,
    policy: &GasPolicy,
) -> Option<GasPolicyStatus> {
    let old = policy.status.clone().unwrap_or_default();
    let mut next = GasPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: old.conditions.clone(),
        base_fee: base_fee(world, id),
        rules: policy
            .spec
            .rules
            .iter()
            .map(|rule| rule_status(world, id, rule))
            .collect(),
    };
    let mut say = Say {
        conditions: &mut next.conditions,
        generation: policy.metadata.generation,
        now,
    };
    let mut kinds = policy.spec.rules.iter().flat_map(|r| &r.kinds);
    let invalid = kinds.find_map(|kind| facts::max_fee(policy, *kind).err());
    if let Some(invalid) = invalid {
        let text = invalid.to_string();
        say.set(conditions::READY, false, "InvalidSpec", &text);
        say.set(conditions::STALLED, true, "InvalidSpec", &text);
    } else {
        let users = world
            .miners
            .in_namespace(&id.namespace)
            .filter(|(_, m)| {
                m.spec
                    .gas_policy_ref
                    .as_ref()
                    .is_some_and(|r| r.name == id.name)
            })
            .count();
        let text = format!("{users} Miners use it");
        say.set(conditions::READY, true, "Ready", &text);
        say.set(conditions::STALLED, false, "Ready", &text);
    }
    let calm = GasPolicyStatus {
        base_fee: old.base_fee.clone(),
        ..next.clone()
    };
    (calm != old).then_some(next)
}

fn base_fee(world: &World, id: &Id) -> Option<String> {
    let mut users = world.miners.in_namespace(&id.namespace).filter(|(_, m)| {
        m.spec
            .gas_policy_ref
            .as_ref()
            .is_some_and(|r| r.name == id.name)
    });
    users.find_map(|(miner, _)| Some(world.chain(miner)?.base_fee.to_string()))
}

fn rule_status(world: &World, id: &Id, rule: &GasRule) -> RuleStatus {
    let waiting = world
        .messages
        .in_namespace(&id.namespace)
        .filter(|(_, m)| rule.kinds.contains(&m.spec.kind))
        .filter(|(_, m)| {
            let miner = world.miner_of(&id.namespace, &m.spec.miner_ref.name);
            let policy = miner.and_then(|(_, m)| m.spec.gas_policy_ref.as_ref());
            policy.is_some_and(|r| r.name == id.name)
        })
        .filter(|(_, m)| {
            let state = m.status.as_ref().and_then(|s| s.state).unwrap_or_default();
            matches!(state, MessageState::Wish | MessageState::Signed)
        })
        .count();
    RuleStatus {
        kinds: rule.kinds.clone(),
        open: true,
        waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
    }
}
