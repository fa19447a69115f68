//! What our pods are made of. See `docs/protocol.md`.

use std::collections::BTreeMap;

use filstar_crds::{
    Backend, Lane, Miner, PlacementPolicy, PostBatch, SealingGroup, SectorStore, StoreAccess,
    annotations, conditions, labels,
};
use filstar_placement::{POOL_BYTES, PodPlan};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use serde_json::{Value, json};

use super::backend::{self, Wants};
use super::mounts::{mounts, stores};
use crate::plan::fleet::{Planned, Seat};
use crate::plan::names;
use crate::world::pod;
use crate::world::{Id, MinerFacts, Settings, World, selects};

/// The user of our containers: nobody.
const USER: i64 = 65_532;

/// What is mounted on the node below a host path while the pod runs is seen in it: a disk that is mounted late, or again
/// after a repair, would otherwise stay an empty folder until the pod is made anew.
const FROM_HOST: &str = "HostToContainer";

/// Hashes of pods without making them: of all that pods of a lane share once, and of what differs for each.
#[derive(Debug, Default)]
pub(super) struct Hashes<'w> {
    groups: BTreeMap<&'w Id, GroupHashes<'w>>,
}

/// What is the same for all pods of a group.
#[derive(Debug, Default)]
struct GroupHashes<'w> {
    lanes: BTreeMap<usize, u64>,
    /// Stores that the group selects, each with the hash of its volume.
    stores: Vec<(&'w SectorStore, u64)>,
}

impl<'w> Hashes<'w> {
    /// The hash of one pod's template.
    pub(super) fn of(&mut self, world: &'w World, planned: &Planned) -> Option<String> {
        let id = &planned.group;
        let (id, group) = world.groups.find(&id.namespace, &id.name)?;
        let lane = group.spec.lanes.get(planned.lane)?;
        let of_group = self.groups.entry(id).or_insert_with(|| GroupHashes {
            lanes: BTreeMap::new(),
            stores: group_stores(world, id, group)
                .map(|(name, store)| {
                    let volume = format!("{name} {:?}", store.spec.volume);
                    (store, names::fnv1a(volume.as_bytes()))
                })
                .collect(),
        });
        let shared = *of_group.lanes.entry(planned.lane).or_insert_with(|| {
            let none = PodPlan {
                cpus: Vec::new(),
                groups: Vec::new(),
                numa: Vec::new(),
                gpus: Vec::new(),
                ..planned.plan.clone()
            };
            let pod = sealer_spec(world, &planned.group, group, lane, "", &none, &[]);
            names::fnv1a(pod.to_string().as_bytes())
        });
        let place = &planned.plan;
        let mut hash = names::fnv1a(&shared.to_le_bytes());
        hash = names::fnv1a_more(hash, planned.node.as_bytes());
        hash = names::fnv1a_more(hash, &(place.cpus.len() as u64).to_le_bytes());
        if group.spec.placement.backend != Backend::Kubelet {
            // Where we choose the CPUs, others make another pod.
            for cpu in &place.cpus {
                hash = names::fnv1a_more(hash, &cpu.to_le_bytes());
            }
        }
        // Nodes are many: one is looked up only where a store chooses among them.
        let chosen = |s: &(&SectorStore, u64)| !s.0.spec.node_selector.is_empty();
        let choosy = of_group.stores.iter().any(chosen);
        let node = choosy
            .then(|| world.nodes.find("", &planned.node))
            .flatten();
        for (store, volume) in &of_group.stores {
            let selector = &store.spec.node_selector;
            if selector.is_empty() || node.is_some_and(|(_, n)| selects(selector, n)) {
                hash = names::fnv1a_more(hash, &volume.to_le_bytes());
            }
        }
        Some(names::hex(hash))
    }
}

/// The stores that a group's pods mount where the node can.
fn group_stores<'a>(
    world: &'a World,
    id: &'a Id,
    group: &'a SealingGroup,
) -> impl Iterator<Item = (&'a str, &'a SectorStore)> {
    let selector = &group.spec.finalize.store_selector;
    stores(world, &id.namespace)
        .filter(|(_, s)| s.spec.access != StoreAccess::ReadOnly && selects(selector, *s))
}

/// The stores that a group's pods mount on a node.
fn sealer_stores<'a>(
    world: &'a World,
    id: &'a Id,
    group: &'a SealingGroup,
    node: &str,
) -> Vec<(&'a str, &'a SectorStore)> {
    let Some((_, node)) = world.nodes.find("", node) else {
        return Vec::new();
    };
    group_stores(world, id, group)
        .filter(|(_, store)| selects(&store.spec.node_selector, node))
        .collect()
}

/// A pod of one lane at its place.
pub(super) fn sealer(world: &World, planned: &Planned, hash: &str) -> Option<Pod> {
    let id = &planned.group;
    let group = world.groups.get(id)?;
    let lane = group.spec.lanes.get(planned.lane)?;
    let stores = sealer_stores(world, id, group, &planned.node);
    let spec = sealer_spec(
        world,
        id,
        group,
        lane,
        &planned.node,
        &planned.plan,
        &stores,
    );
    let node_label = names::node_label(&planned.node);
    let labels = BTreeMap::from([
        (labels::COMPONENT, "sealer"),
        (labels::GROUP, id.name.as_str()),
        (labels::LANE, lane.name.as_str()),
        (labels::NODE, node_label.as_str()),
        (labels::MINER, group.spec.miner_ref.name.as_str()),
    ]);
    let name = names::sealer_pod(&id.name, &lane.name, &planned.node, planned.plan.index);
    let mut notes = backend::of(group.spec.placement.backend)
        .promise(&Wants::of(lane), &planned.plan)
        .annotations;
    notes.insert(annotations::TEMPLATE_HASH, hash.to_owned());
    Some(whole(&id.namespace, &name, group, &labels, &notes, spec))
}

fn sealer_spec(
    world: &World,
    id: &Id,
    group: &SealingGroup,
    lane: &Lane,
    node: &str,
    place: &PodPlan,
    stores: &[(&str, &SectorStore)],
) -> Value {
    let spec = &group.spec;
    let required = spec.placement.policy == PlacementPolicy::Required;
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
    add_stores(stores, false, &mut volumes, &mut mounts);
    let promise = backend::of(spec.placement.backend).promise(&Wants::of(lane), place);
    let mut env = common_env(spec.placement.policy);
    env.extend(promise.env);
    env.push(json!({"name": "FILSTAR_GROUP", "value": id.name}));
    env.push(json!({"name": "FILSTAR_LANE", "value": lane.name}));
    if place.limits.pool > 0 {
        env.push(json!({"name": POOL_BYTES, "value": place.limits.pool.to_string()}));
    }
    let gates = if required {
        json!([{"conditionType": conditions::POD_PLACEMENT_VERIFIED}])
    } else {
        json!([])
    };
    json!({
        "serviceAccountName": "filstar-sealer",
        "readinessGates": gates,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "priorityClassName": spec.priority_class_name,
        "tolerations": spec.tolerations,
        "enableServiceLinks": false,
        "affinity": on_node(node),
        "securityContext": pod_security(),
        "volumes": volumes,
        "imagePullSecrets": pull_secrets(&world.settings),
        "containers": [container("seal", &world.settings, spec.image.as_ref(), &env, &mounts, &promise.requests, &promise.limits)],
    })
}

/// For this node and no other.
fn on_node(name: &str) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": [name]}
        ]}]
    }}})
}

/// The prover pod of a batch; none when its miner cannot be read. `seat`: its place, where the batch asks for one.
pub(super) fn prover(
    world: &World,
    id: &Id,
    batch: &PostBatch,
    seat: Option<&Seat>,
) -> Option<Pod> {
    let spec = &batch.spec;
    let (_, miner) = world.miner_of(&id.namespace, &spec.miner_ref.name)?;
    let facts = MinerFacts::parse(miner).ok()?;
    let mounts = mounts(world, id, batch);
    let (stores, node_selector) = (mounts.stores, mounts.node_selector);
    let mut volumes = vec![
        host_path("params", &spec.parameters_path),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mut volume_mounts = vec![
        json!({"name": "params", "mountPath": "/params", "readOnly": true, "mountPropagation": FROM_HOST}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    add_stores(&stores, true, &mut volumes, &mut volume_mounts);
    let wants = Wants::of_prover(&spec.lane);
    let place = seat.and_then(|seat| seat.as_ref().ok());
    let promise = match (seat, place) {
        (_, Some(place)) => backend::of(spec.lane.backend).promise(&wants, &place.plan),
        // Without a place it shares CPUs, and asks for none that a node may not have.
        (Some(_), None) => wants.anywhere(0),
        (None, None) => wants.anywhere(spec.lane.cpus as usize),
    };
    let mut env = common_env(PlacementPolicy::Required);
    env.extend(promise.env);
    env.extend(prover_env(id, batch, miner, &facts));
    let mut pod_spec = json!({
        "serviceAccountName": "filstar-prover",
        "readinessGates": [{"conditionType": conditions::POD_PLACEMENT_VERIFIED}],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "tolerations": spec.tolerations,
        "enableServiceLinks": false,
        "nodeSelector": node_selector,
        "securityContext": pod_security(),
        "volumes": volumes,
        "imagePullSecrets": pull_secrets(&world.settings),
        "containers": [container("prove", &world.settings, spec.image.as_ref(), &env, &volume_mounts, &promise.requests, &promise.limits)],
    });
    // The hash is of the nulls too: a key that is there for everyone would make every prover anew.
    if let Some(place) = place {
        pod_spec["affinity"] = on_node(&place.node);
    }
    let labels = BTreeMap::from([
        (labels::COMPONENT, "prover"),
        (labels::POST_BATCH, id.name.as_str()),
        (labels::MINER, spec.miner_ref.name.as_str()),
    ]);
    let hash = names::hex(names::fnv1a(pod_spec.to_string().as_bytes()));
    let mut notes = promise.annotations;
    notes.insert(annotations::TEMPLATE_HASH, hash);
    Some(whole(
        &id.namespace,
        &names::prover_pod(&id.name),
        batch,
        &labels,
        &notes,
        pod_spec,
    ))
}

/// What a prover is told of its batch and Miner.
fn prover_env(id: &Id, batch: &PostBatch, miner: &Miner, facts: &MinerFacts) -> Vec<Value> {
    let chain = &miner.spec.chain;
    let urls: Vec<&str> = chain.endpoints.iter().map(|e| e.url.as_str()).collect();
    let all = [
        ("FILSTAR_POST_BATCH", id.name.clone()),
        ("FILSTAR_ACTOR", facts.actor_text.clone()),
        ("FILSTAR_NETWORK", facts.network.to_string()),
        ("FILSTAR_CHAIN", urls.join(",")),
        ("FILSTAR_MAX_LAG_EPOCHS", chain.max_lag_epochs.to_string()),
        ("FILSTAR_READ_TIMEOUT", batch.spec.read_timeout.clone()),
    ];
    let variable = |(name, value): (&str, String)| json!({"name": name, "value": value});
    all.into_iter().map(variable).collect()
}

fn whole(
    namespace: &str,
    name: &str,
    owner: &impl Resource<DynamicType = ()>,
    labels: &BTreeMap<&str, &str>,
    notes: &BTreeMap<&'static str, String>,
    mut spec: Value,
) -> Pod {
    prune(&mut spec);
    let mut labels = labels.clone();
    labels.insert(labels::MANAGED_BY, "filstar");
    labels.insert("app.kubernetes.io/name", "filstar");
    let whole = json!({
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": notes,
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

fn pull_secrets(settings: &Settings) -> Option<Vec<Value>> {
    let names = settings.pull_secrets.iter();
    let all: Vec<_> = names.map(|name| json!({ "name": name })).collect();
    (!all.is_empty()).then_some(all)
}

fn container(
    role: &str,
    settings: &Settings,
    own_image: Option<&String>,
    env: &[Value],
    mounts: &[Value],
    requests: &Value,
    limits: &Value,
) -> Value {
    json!({
        "name": role,
        "image": own_image.unwrap_or(&settings.sealer_image),
        "imagePullPolicy": settings.pull_policy,
        "args": [role],
        "env": env,
        "volumeMounts": mounts,
        "resources": {"requests": requests, "limits": limits},
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

fn common_env(policy: PlacementPolicy) -> Vec<Value> {
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
        json!({"name": "FILSTAR_PLACEMENT_POLICY", "value": policy}),
        json!({"name": "FILSTAR_LISTEN", "value": "0.0.0.0:9090"}),
    ]
}

fn host_path(name: &str, path: &str) -> Value {
    json!({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
}

fn add_stores(
    stores: &[(&str, &SectorStore)],
    read_only: bool,
    volumes: &mut Vec<Value>,
    mounts: &mut Vec<Value>,
) {
    for (name, store) in stores {
        let volume_name = pod::store_volume(name);
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
        let mut mount = json!({
            "name": volume_name, "mountPath": format!("/stores/{name}"), "readOnly": read_only,
        });
        if source.host_path.is_some() {
            mount["mountPropagation"] = json!(FROM_HOST);
        }
        mounts.push(mount);
    }
}
