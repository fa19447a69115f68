//! The bodies of our writes, as JSON: exactly the fields that the operator owns.

use filstar_core::action::StatusPatch;
use filstar_core::world::Id;
use filstar_crds::{
    ChainMessageStatus, GROUP, SectorStatus, SectorStoreStatus, VERSION, conditions,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::Error;

/// A status for server-side apply.
pub(super) fn apply(
    kind: &str,
    id: &Id,
    version: Option<&str>,
    status: &impl Serialize,
    foreign: &[&str],
) -> Result<Value, Error> {
    let mut status = serde_json::to_value(status).map_err(|e| Error::Invalid(e.to_string()))?;
    if let Some(fields) = status.as_object_mut() {
        for field in foreign {
            fields.remove(*field);
        }
    }
    let mut metadata = json!({ "name": id.name });
    if !id.namespace.is_empty() {
        metadata["namespace"] = json!(id.namespace);
    }
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    Ok(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": metadata,
        "status": status,
    }))
}

/// A Sector's status: all but what the sealer writes.
pub(super) fn sector(id: &Id, version: &str, status: &SectorStatus) -> Result<Value, Error> {
    apply("Sector", id, Some(version), status, &["sealer"])
}

/// A message's status.
pub(super) fn message(id: &Id, version: &str, status: &ChainMessageStatus) -> Result<Value, Error> {
    apply("ChainMessage", id, Some(version), status, &[])
}

/// A store's status: all but what sealers write.
pub(super) fn store(id: &Id, version: &str, status: &SectorStoreStatus) -> Result<Value, Error> {
    let foreign = ["capacity", "usedPercent", "sweeper"];
    apply("SectorStore", id, Some(version), status, &foreign)
}

/// The status of an object of users: all but what sealers and provers write.
pub(super) fn status(id: &Id, status: &StatusPatch) -> Result<Value, Error> {
    match status {
        StatusPatch::Miner(status) => apply("Miner", id, None, status, &[]),
        StatusPatch::Group(status) => apply("SealingGroup", id, None, status, &[]),
        StatusPatch::Policy(status) => apply("GasPolicy", id, None, status, &[]),
        StatusPatch::Store {
            status,
            resource_version,
        } => store(id, resource_version, status),
        StatusPatch::Batch(status) => apply("PostBatch", id, None, status, &["prover", "faults"]),
        StatusPatch::Node(status) => {
            let mut status = status.clone();
            status
                .conditions
                .retain(|c| !conditions::AGENT.contains(&c.type_.as_str()));
            apply("SealingNode", id, None, &status, &["inventory"])
        }
        StatusPatch::Unreadable { plural, message } => {
            let kind = kind_of(plural)
                .ok_or_else(|| Error::Invalid(format!("{plural} have no conditions of ours")))?;
            let condition = json!({ "conditions": [{
                "type": conditions::READY,
                "status": "False",
                "reason": "Unreadable",
                "message": message,
                "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }]});
            apply(kind, id, None, &condition, &[])
        }
    }
}

/// The kind of a plural of ours.
pub fn kind_of(plural: &str) -> Option<&'static str> {
    Some(match plural {
        "miners" => "Miner",
        "sealinggroups" => "SealingGroup",
        "gaspolicies" => "GasPolicy",
        "sectorstores" => "SectorStore",
        "postbatches" => "PostBatch",
        "sealingnodes" => "SealingNode",
        "sectors" => "Sector",
        "chainmessages" => "ChainMessage",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use filstar_crds::{
        Inventory, PostBatchStatus, SealerReport, SealingNodeStatus, SectorPhase, SweepReport,
        TaskState, set_condition,
    };

    use super::*;

    #[test]
    fn a_sectors_body_lacks_the_sealers_part_and_names_the_version() {
        let report = SealerReport {
            task_id: "PC1-1".into(),
            state: TaskState::Running,
            started: None,
            finished: None,
            progress: None,
            result: None,
            error_class: None,
            error: None,
        };
        let status = SectorStatus {
            phase: Some(SectorPhase::Pc1),
            sealer: Some(report),
            ..SectorStatus::default()
        };
        let body = sector(&Id::new("ns", "t01000-7"), "42", &status).unwrap();
        assert_eq!(
            body,
            json!({
                "apiVersion": "filstar.io/v1alpha1",
                "kind": "Sector",
                "metadata": {"name": "t01000-7", "namespace": "ns", "resourceVersion": "42"},
                "status": {"phase": "PC1", "tasks": 0},
            })
        );
    }

    #[test]
    fn a_stores_body_lacks_what_sealers_say_and_names_the_version() {
        let report: SweepReport =
            serde_json::from_value(json!({"id": "list-1", "state": "Running"})).unwrap();
        let store = SectorStoreStatus {
            sweeper: Some(report),
            sectors: 2,
            capacity: Some("1Ti".into()),
            used_percent: Some(9),
            ..SectorStoreStatus::default()
        };
        let patch = StatusPatch::Store {
            status: Box::new(store),
            resource_version: "42".into(),
        };
        let body = status(&Id::new("ns", "s"), &patch).unwrap();
        assert_eq!(
            body["status"],
            json!({"sectors": 2, "landing": 0, "sweeps": 0})
        );
        assert_eq!(body["metadata"]["resourceVersion"], "42");
    }

    #[test]
    fn a_batchs_body_lacks_the_provers_reports() {
        let batch: PostBatchStatus = serde_json::from_value(json!({
            "accepted": 3,
            "prover": [{"deadline": 0, "partition": 0, "open": 1, "close": 2, "challenge": 0,
                "chainCommitEpoch": 0, "chainCommitRand": "", "postProof": 5, "sectors": 1}],
            "faults": [{"deadline": 0, "partition": 0}],
        }))
        .unwrap();
        let body = status(&Id::new("ns", "b"), &StatusPatch::Batch(batch)).unwrap();
        assert_eq!(
            body["status"],
            json!({"accepted": 3, "faultySectors": 0, "recoveringSectors": 0})
        );
    }

    #[test]
    fn a_nodes_body_lacks_what_its_agent_writes_and_has_no_namespace() {
        let mut node = SealingNodeStatus {
            inventory: Some(Inventory::default()),
            work_lost: Some("nothing".into()),
            ..SealingNodeStatus::default()
        };
        for kind in [conditions::READY, conditions::GPUS_HEALTHY] {
            let list = &mut node.conditions;
            set_condition(list, kind, true, "Well", "", None, Timestamp::UNIX_EPOCH);
        }
        let body = status(&Id::new("", "node-a"), &StatusPatch::Node(node)).unwrap();
        assert_eq!(body["metadata"], json!({"name": "node-a"}));
        assert!(body["status"].get("inventory").is_none());
        assert_eq!(body["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(body["status"]["conditions"][0]["type"], "Ready");
    }

    #[test]
    fn an_unreadable_object_gets_one_condition_and_nothing_else() {
        let patch = StatusPatch::Unreadable {
            plural: "miners".into(),
            message: "m".into(),
        };
        let body = status(&Id::new("ns", "a"), &patch).unwrap();
        assert_eq!(body["kind"], "Miner");
        assert_eq!(body["status"].as_object().unwrap().len(), 1);
        assert_eq!(body["status"]["conditions"][0]["reason"], "Unreadable");
    }
}
