//! Backends: how a pod is promised the CPUs, memory, huge pages and GPUs of its place.
//!
//! Each turns a place into a [`Promise`]; the sealer reads back from the kernel whether it was kept. A backend that
//! lets the scheduler do the accounting (resource claims) would add its claims here.

use std::collections::BTreeMap;

use filstar_crds::{Backend, Lane, LaneHugePages, ProverLane, annotations};
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

/// What a lane asks for in each of its pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants<'a> {
    /// CPUs, where they are only counted.
    pub(super) cpus: u32,
    /// Whole core groups instead.
    pub(super) whole: bool,
    pub(super) memory: &'a str,
    pub(super) huge: Option<&'a LaneHugePages>,
    pub(super) gpus: u32,
}

impl<'a> Wants<'a> {
    pub(super) fn of(lane: &'a Lane) -> Self {
        Self {
            cpus: lane.cpus,
            whole: lane.core_groups.is_some(),
            memory: &lane.memory,
            huge: lane.hugepages.as_ref(),
            gpus: lane.gpus,
        }
    }

    pub(super) fn of_prover(lane: &'a ProverLane) -> Self {
        Self {
            cpus: lane.cpus,
            whole: lane.core_groups.is_some(),
            memory: &lane.memory,
            huge: None,
            gpus: 0,
        }
    }

    /// The promise of a pod without a place: so many CPUs of whatever node the scheduler finds.
    pub(super) fn anywhere(&self, cpus: usize) -> Promise {
        let mut resources = self.common();
        if cpus > 0 {
            resources.insert("cpu".into(), json!(cpus.to_string()));
        }
        Promise {
            requests: Value::Object(resources.clone()),
            limits: Value::Object(resources),
            env: self.environment(cpus),
            annotations: BTreeMap::new(),
        }
    }

    fn common(&self) -> Map<String, Value> {
        let mut resources = Map::new();
        resources.insert("memory".into(), json!(self.memory));
        if let Some(huge) = self.huge {
            let name = format!("hugepages-{}", huge.size.as_str());
            resources.insert(name, json!(huge.amount));
        }
        if self.gpus > 0 {
            resources.insert(GPU.into(), json!(self.gpus.to_string()));
        }
        resources
    }

    /// What the pod compares with the kernel's word.
    fn environment(&self, cpus: usize) -> Vec<Value> {
        let mut env = vec![json!({"name": "FILSTAR_CPUS", "value": cpus.to_string()})];
        if self.gpus > 0 {
            env.push(json!({"name": "FILSTAR_GPU_COUNT", "value": self.gpus.to_string()}));
        }
        if let Some(huge) = self.huge {
            let text = format!("{}:{}", huge.size.as_str(), huge.amount);
            env.push(json!({"name": "FILSTAR_HUGEPAGES", "value": text}));
        }
        env
    }
}

/// One way to the same promise.
pub(super) trait PlacementBackend {
    /// The promise of a pod at its place.
    fn promise(&self, wants: &Wants<'_>, place: &PodPlan) -> Promise;
}

/// The backend of a group or prover.
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
    fn promise(&self, wants: &Wants<'_>, place: &PodPlan) -> Promise {
        let cpus = if wants.whole {
            place.cpus.len()
        } else {
            wants.cpus as usize
        };
        Promise {
            annotations: annotations_of(place),
            ..wants.anywhere(cpus)
        }
    }
}

impl PlacementBackend for Agent {
    fn promise(&self, wants: &Wants<'_>, place: &PodPlan) -> Promise {
        let limits = wants.common();
        let mut requests = limits.clone();
        requests.insert("cpu".into(), json!(place.cpus.len().to_string()));
        let set = write_cpus(&place.cpus);
        let mut env = wants.environment(place.cpus.len());
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

fn annotations_of(place: &PodPlan) -> BTreeMap<&'static str, String> {
    BTreeMap::from([(annotations::INDEX, place.index.to_string())])
}
