//! Backends: how a pod is promised the CPUs, memory, huge pages and GPUs of its place.
//!
//! Each turns a place into a [`Promise`]; the sealer reads back from the kernel whether it was kept. A backend that
//! lets the scheduler do the accounting (resource claims) would add its claims here.

use std::collections::BTreeMap;

use filstar_crds::{Backend, Lane, annotations};
use filstar_placement::{PodPlan, write_cpus};
use serde_json::{Map, Value, json};

use crate::plan::fleet::GPU;

/// What goes into the pod.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) requests: Value,
    pub(super) limits: Value,
    pub(super) env: Vec<Value>,
    pub(super) annotations: BTreeMap<&'static str, String>,
}

/// One way to the same promise.
pub(super) trait PlacementBackend {
    /// The promise of a pod of `lane` at its place.
    fn promise(&self, lane: &Lane, place: &PodPlan) -> Promise;
}

/// The backend of a group.
pub(super) fn of(backend: Backend) -> &'static dyn PlacementBackend {
    match backend {
        Backend::Kubelet => &Kubelet,
        Backend::Agent => &Agent,
    }
}

/// Kubelet's managers: a Guaranteed pod with whole CPUs. Which ones, kubelet decides.
struct Kubelet;

/// We: the pod is told its CPUs and binds itself. It requests them without a limit, so that the scheduler counts them
/// and kubelet's static CPU manager leaves it in the pool that all share.
struct Agent;

impl PlacementBackend for Kubelet {
    fn promise(&self, lane: &Lane, place: &PodPlan) -> Promise {
        let cpus = cpus(lane, place);
        let mut resources = common(lane);
        if cpus > 0 {
            resources.insert("cpu".into(), json!(cpus.to_string()));
        }
        Promise {
            requests: Value::Object(resources.clone()),
            limits: Value::Object(resources),
            env: environment(lane, cpus),
            annotations: annotations_of(place),
        }
    }
}

impl PlacementBackend for Agent {
    fn promise(&self, lane: &Lane, place: &PodPlan) -> Promise {
        let limits = common(lane);
        let mut requests = limits.clone();
        requests.insert("cpu".into(), json!(place.cpus.len().to_string()));
        let set = write_cpus(&place.cpus);
        let mut env = environment(lane, place.cpus.len());
        env.push(json!({"name": "FILSTAR_CPUSET", "value": set}));
        let mut annotations = annotations_of(place);
        annotations.insert(annotations::CPUS, set);
        Promise {
            requests: Value::Object(requests),
            limits: Value::Object(limits),
            env,
            annotations,
        }
    }
}

/// CPUs of a pod whose CPUs kubelet counts.
fn cpus(lane: &Lane, place: &PodPlan) -> usize {
    if lane.core_groups.is_some() {
        place.cpus.len()
    } else {
        lane.cpus as usize
    }
}

fn common(lane: &Lane) -> Map<String, Value> {
    let mut resources = Map::new();
    resources.insert("memory".into(), json!(lane.memory));
    if let Some(huge) = &lane.hugepages {
        let name = format!("hugepages-{}", huge.size.as_str());
        resources.insert(name, json!(huge.amount));
    }
    if lane.gpus > 0 {
        resources.insert(GPU.into(), json!(lane.gpus.to_string()));
    }
    resources
}

/// What the sealer compares with the kernel's word.
fn environment(lane: &Lane, cpus: usize) -> Vec<Value> {
    let mut env = vec![json!({"name": "FILSTAR_CPUS", "value": cpus.to_string()})];
    if lane.gpus > 0 {
        env.push(json!({"name": "FILSTAR_GPU_COUNT", "value": lane.gpus.to_string()}));
    }
    if let Some(huge) = &lane.hugepages {
        let text = format!("{}:{}", huge.size.as_str(), huge.amount);
        env.push(json!({"name": "FILSTAR_HUGEPAGES", "value": text}));
    }
    env
}

fn annotations_of(place: &PodPlan) -> BTreeMap<&'static str, String> {
    BTreeMap::from([(annotations::INDEX, place.index.to_string())])
}
