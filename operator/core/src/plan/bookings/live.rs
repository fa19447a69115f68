//! Pods that live, by uid: each plan asks this for the task of every sector.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::world::{Id, pod};

/// Pods that live.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    ids: HashMap<String, Id>,
    /// To find what to take out.
    uids: HashMap<Id, String>,
}

impl Live {
    /// Takes a pod in as it is now, or out.
    pub(super) fn note(&mut self, id: &Id, pod: Option<&Pod>) {
        if let Some(uid) = self.uids.remove(id) {
            self.ids.remove(&uid);
        }
        if let Some(uid) = pod.filter(|p| pod::is_live(p)).and_then(Pod::uid) {
            self.uids.insert(id.clone(), uid.clone());
            self.ids.insert(uid, id.clone());
        }
    }

    /// Whether the pod with this uid lives and has this name.
    pub(super) fn has(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let found = self.ids.get(uid);
        found.is_some_and(|id| id.name == name && id.namespace == namespace)
    }
}
