//! What our pods are made of. See `docs/protocol.md`.

use std::collections::BTreeMap;

use filstar_crds::{
    Lane, PlacementPolicy, PostBatch, SealingGroup, SectorStore, StoreAccess, annotations,
    conditions, labels,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::fit::selects;
use crate::plan::names;
use crate::world::{Id, MinerFacts, World};

/// The user of our containers: nobody.
const USER: i64 = 65_532;

/// The pod of one lane on one node.
pub(super) fn sealer(world: &World, id: &Id, group: &SealingGroup, lane: &Lane, node: &str) -> Pod {
    let spec = &group.spec;
    let required = spec.placement.policy == PlacementPolicy::Required;
    let stores = stores(world, &id.namespace, |store| {
        store.spec.access != StoreAccess::ReadOnly
            && matches_labels(store, &spec.finalize.store_selector)
            && world
                .nodes
                .get(&Id::new("", node))
                .is_some_and(|n| selects(&store.spec.node_selector, n))
    });
    let mut volumes = vec![
        host_path("scratch", &spec.scratch.host_path),
        host_path("params", &spec.scratch.parameters_path),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mut mounts = vec![
        json!({"name": "scratch", "mountPath": "/scratch"}),
        json!({"name": "params", "mountPath": "/params"}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    add_stores(&stores, false, &mut volumes, &mut mounts);
    let mut env = common_env(lane.cpus, spec.placement.policy);
    env.push(json!({"name": "FILSTAR_GROUP", "value": id.name}));
    env.push(json!({"name": "FILSTAR_LANE", "value": lane.name}));
    let gates = if required {
        json!([{"conditionType": conditions::POD_PLACEMENT_VERIFIED}])
    } else {
        json!([])
    };
    let pod_spec = json!({
        "serviceAccountName": "filstar-sealer",
        "readinessGates": gates,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "priorityClassName": spec.priority_class_name,
        "tolerations": spec.tolerations,
        "enableServiceLinks": false,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [node]}
            ]}]
        }}},
        "securityContext": pod_security(),
        "volumes": volumes,
        "containers": [container("seal", image(world, spec.image.as_ref()), &env, &mounts, lane.cpus, &lane.memory)],
    });
    let node_label = names::node_label(node);
    let labels = BTreeMap::from([
        (labels::COMPONENT, "sealer"),
        (labels::GROUP, id.name.as_str()),
        (labels::LANE, lane.name.as_str()),
        (labels::NODE, node_label.as_str()),
        (labels::MINER, spec.miner_ref.name.as_str()),
    ]);
    let name = names::sealer_pod(&id.name, &lane.name, node);
    pod(&id.namespace, &name, group, &labels, pod_spec)
}

/// The prover pod of a batch; none when its miner cannot be read.
pub(super) fn prover(world: &World, id: &Id, batch: &PostBatch) -> Option<Pod> {
    let spec = &batch.spec;
    let (_, miner) = world.miner_of(&id.namespace, &spec.miner_ref.name)?;
    let facts = MinerFacts::parse(miner).ok()?;
    let stores = stores(world, &id.namespace, |s| {
        s.spec.access != StoreAccess::WriteOnly
    });
    let mut volumes = vec![
        host_path("params", &spec.parameters_path),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mut mounts = vec![
        json!({"name": "params", "mountPath": "/params", "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    add_stores(&stores, true, &mut volumes, &mut mounts);
    let urls: Vec<&str> = miner
        .spec
        .chain
        .endpoints
        .iter()
        .map(|e| e.url.as_str())
        .collect();
    let mut env = common_env(spec.lane.cpus, PlacementPolicy::Required);
    for (name, value) in [
        ("FILSTAR_POST_BATCH", id.name.clone()),
        ("FILSTAR_ACTOR", facts.actor_text.clone()),
        ("FILSTAR_NETWORK", facts.network.to_string()),
        ("FILSTAR_CHAIN", urls.join(",")),
        ("FILSTAR_READ_TIMEOUT", spec.read_timeout.clone()),
    ] {
        env.push(json!({"name": name, "value": value}));
    }
    let pod_spec = json!({
        "serviceAccountName": "filstar-prover",
        "readinessGates": [{"conditionType": conditions::POD_PLACEMENT_VERIFIED}],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "tolerations": spec.tolerations,
        "enableServiceLinks": false,
        "nodeSelector": spec.node_selector,
        "securityContext": pod_security(),
        "volumes": volumes,
        "containers": [container("prove", image(world, spec.image.as_ref()), &env, &mounts, spec.lane.cpus, &spec.lane.memory)],
    });
    let labels = BTreeMap::from([
        (labels::COMPONENT, "prover"),
        (labels::POST_BATCH, id.name.as_str()),
        (labels::MINER, spec.miner_ref.name.as_str()),
    ]);
    Some(pod(
        &id.namespace,
        &names::prover_pod(&id.name),
        batch,
        &labels,
        pod_spec,
    ))
}

fn pod(
    namespace: &str,
    name: &str,
    owner: &impl Resource<DynamicType = ()>,
    labels: &BTreeMap<&str, &str>,
    mut spec: Value,
) -> Pod {
    prune(&mut spec);
    let hash = format!("{:016x}", names::fnv1a(spec.to_string().as_bytes()));
    let mut labels = labels.clone();
    labels.insert(labels::MANAGED_BY, "filstar");
    labels.insert("app.kubernetes.io/name", "filstar");
    let whole = json!({
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {annotations::TEMPLATE_HASH: hash},
            "ownerReferences": [owner.controller_owner_ref(&())],
        },
        "spec": spec,
    });
    serde_json::from_value(whole).expect("a pod of a fixed shape; a test makes one of each kind")
}

/// Removes nulls, which typed Kubernetes objects do not have.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, v| !v.is_null());
        map.values_mut().for_each(prune);
    }
}

fn image<'a>(world: &'a World, own: Option<&'a String>) -> &'a str {
    own.unwrap_or(&world.settings.sealer_image)
}

fn container(
    role: &str,
    image: &str,
    env: &[Value],
    mounts: &[Value],
    cpus: u32,
    memory: &str,
) -> Value {
    let mut resources = json!({"memory": memory});
    if cpus > 0 {
        resources["cpu"] = json!(cpus.to_string());
    }
    json!({
        "name": role,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [role],
        "env": env,
        "volumeMounts": mounts,
        "resources": {"requests": resources, "limits": resources},
        "ports": [{"name": "metrics", "containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9090}, "periodSeconds": 2},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 9090}, "periodSeconds": 20, "failureThreshold": 6},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    })
}

fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn common_env(cpus: u32, policy: PlacementPolicy) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let policy = match policy {
        PlacementPolicy::Required => "Required",
        PlacementPolicy::Preferred => "Preferred",
    };
    vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("NODE_NAME", "spec.nodeName"),
        json!({"name": "FILSTAR_CPUS", "value": cpus.to_string()}),
        json!({"name": "FILSTAR_PLACEMENT_POLICY", "value": policy}),
        json!({"name": "FILSTAR_LISTEN", "value": "0.0.0.0:9090"}),
    ]
}

fn host_path(name: &str, path: &str) -> Value {
    json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
}

fn stores<'a>(
    world: &'a World,
    namespace: &'a str,
    wanted: impl Fn(&SectorStore) -> bool,
) -> Vec<(&'a str, &'a SectorStore)> {
    world
        .stores
        .in_namespace(namespace)
        .filter(|(_, store)| store.metadata.deletion_timestamp.is_none() && wanted(store))
        .map(|(id, store)| (id.name.as_str(), store))
        .collect()
}

pub(in crate::plan) fn matches_labels(
    store: &SectorStore,
    selector: &BTreeMap<String, String>,
) -> bool {
    selector
        .iter()
        .all(|(key, value)| store.labels().get(key) == Some(value))
}

fn add_stores(
    stores: &[(&str, &SectorStore)],
    read_only: bool,
    volumes: &mut Vec<Value>,
    mounts: &mut Vec<Value>,
) {
    for (name, store) in stores {
        let volume_name = format!("store-{name}");
        let source = &store.spec.volume;
        let volume = if let Some(path) = &source.host_path {
            host_path(&volume_name, path)
        } else if let Some(nfs) = &source.nfs {
            json!({"name": volume_name, "nfs": {"server": nfs.server, "path": nfs.path}})
        } else if let Some(claim) = &source.pvc {
            json!({"name": volume_name, "persistentVolumeClaim": {"claimName": claim}})
        } else {
            continue;
        };
        volumes.push(volume);
        mounts.push(json!({
            "name": volume_name, "mountPath": format!("/stores/{name}"), "readOnly": read_only,
        }));
    }
}
