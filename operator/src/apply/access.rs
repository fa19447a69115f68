//! Accounts of sealer and prover pods: made once for each namespace, bound to roles of the chart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use filstar_crds::{labels, managers};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::{Applier, Error};

/// Account, binding and role of each kind of pod have one name.
const ACCOUNTS: [&str; 2] = ["filstar-sealer", "filstar-prover"];

/// Namespaces that have what pods need, as far as we know.
#[derive(Clone, Debug, Default)]
pub(super) struct Granted(Arc<Mutex<BTreeSet<String>>>);

impl Granted {
    fn has(&self, namespace: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(namespace)
    }

    fn add(&self, namespace: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(namespace.to_owned());
    }

    pub(super) fn forget(&self, namespace: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(namespace);
    }
}

impl Applier {
    pub(super) async fn ensure_access(&self, namespace: &str) -> Result<(), Error> {
        if self.access.has(namespace) {
            return Ok(());
        }
        for name in ACCOUNTS {
            self.ensure_account(namespace, name).await?;
            self.ensure_binding(namespace, name).await?;
        }
        self.access.add(namespace);
        Ok(())
    }

    async fn ensure_account(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        if self.read(api.get_opt(name)).await?.is_some() {
            return Ok(());
        }
        let account = ServiceAccount {
            metadata: meta(namespace, name),
            ..ServiceAccount::default()
        };
        let made = self
            .write("serviceaccounts", api.create(&params(), &account))
            .await;
        or_taken(made)
    }

    async fn ensure_binding(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let api: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        if self.read(api.get_opt(name)).await?.is_some() {
            return Ok(());
        }
        let made = self
            .write(
                "rolebindings",
                api.create(&params(), &binding(namespace, name)),
            )
            .await;
        or_taken(made)
    }
}

fn or_taken<T>(made: Result<T, Error>) -> Result<(), Error> {
    match made {
        Ok(_) | Err(Error::Taken) => Ok(()),
        Err(error) => Err(error),
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(managers::OPERATOR.into()),
        ..PostParams::default()
    }
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    let managed = (labels::MANAGED_BY.to_owned(), "filstar".to_owned());
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        labels: Some([managed].into()),
        ..ObjectMeta::default()
    }
}

fn binding(namespace: &str, name: &str) -> RoleBinding {
    RoleBinding {
        metadata: meta(namespace, name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: name.into(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: name.into(),
            namespace: Some(namespace.into()),
            ..Subject::default()
        }]),
    }
}
