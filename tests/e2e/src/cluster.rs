//! The cluster: kubectl as people use it, and typed reads.

use std::fmt::Debug;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::wait_until;

/// How long the API server may be away.
const AWAY: Duration = Duration::from_mins(2);

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether it ended well.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard output and standard error.
    pub text: String,
}

impl Said {
    /// Whether a client failed since the API server was away or had just started, as others make it do.
    #[must_use]
    pub fn found_nobody(&self) -> bool {
        let text = self.text.to_lowercase();
        !self.ok && AWAY_WORDS.iter().any(|w| text.contains(w))
    }
}

/// A connection.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

/// Objects of one kind in one namespace.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
}
impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
{
}

impl Cluster {
    /// Connects as `KUBECONFIG` says; without it nothing is touched.
    ///
    /// # Errors
    /// When it is not set, or leads nowhere.
    pub async fn connect() -> anyhow::Result<Self> {
        crate::setting("KUBECONFIG").context(
            "KUBECONFIG is not set: start a cluster and run eval \"$(tests/cluster/env)\"",
        )?;
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self {
            client: Client::try_default().await?,
        })
    }

    /// Objects of a kind.
    pub fn api<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// An object, or none.
    ///
    /// # Errors
    /// What the API server says, or that it is away for too long.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> anyhow::Result<Option<K>> {
        let api = self.api::<K>(namespace);
        patiently(name, async || api.get_opt(name).await).await
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// As [`Self::get`], or when there is none.
    pub async fn must<K: Kind>(&self, namespace: &str, name: &str) -> anyhow::Result<K> {
        let kind = K::kind(&());
        self.get(namespace, name)
            .await?
            .with_context(|| format!("there is no {kind} {namespace}/{name}"))
    }

    /// All objects of a kind, or those with a label.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list<K: Kind>(&self, namespace: &str, labels: &str) -> anyhow::Result<Vec<K>> {
        let api = self.api::<K>(namespace);
        let params = ListParams::default().labels(labels);
        Ok(patiently(labels, async || api.list(&params).await)
            .await?
            .items)
    }

    /// Deletes an object; there may be none.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete<K: Kind>(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let api = self.api::<K>(namespace);
        patiently(name, async || {
            gone(api.delete(name, &DeleteParams::default()).await)
        })
        .await
    }

    /// Deletes a pod as a dying node would: at once.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn kill_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let api = self.api::<Pod>(namespace);
        let at_once = DeleteParams::default().grace_period(0);
        patiently(name, async || gone(api.delete(name, &at_once).await)).await
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        api.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// Deletes a namespace and waits until it is gone.
    ///
    /// # Errors
    /// As [`Self::get`], or when it does not go.
    pub async fn delete_namespace(&self, name: &str) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        patiently(name, async || {
            gone(api.delete(name, &DeleteParams::default()).await)
        })
        .await?;
        let what = format!("namespace {name} is gone");
        wait_until(&what, AWAY, async || {
            // Nothing that holds an object back may outlive its test.
            let sectors = self.list::<filstar_crds::Sector>(name, "").await?;
            for sector in sectors {
                let name_of = sector.metadata.name.unwrap_or_default();
                let patch = r#"{"metadata":{"finalizers":null}}"#;
                kubectl(
                    &[
                        "-n",
                        name,
                        "patch",
                        "sector",
                        &name_of,
                        "--type=merge",
                        "-p",
                        patch,
                    ],
                    "",
                )
                .await?;
            }
            Ok(api.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }
}

fn gone<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Asks again while the API server is away; what it says counts.
async fn patiently<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> kube::Result<T>,
) -> anyhow::Result<T> {
    let what = format!("the API server answers about {what}");
    let answer = wait_until(&what, AWAY, async || match ask().await {
        // An API server that has just started does not know yet who may do what.
        Err(kube::Error::Api(status))
            if ![401, 403, 429].contains(&status.code) && status.code < 500 =>
        {
            Ok(Some(Err(kube::Error::Api(status))))
        }
        Ok(answer) => Ok(Some(Ok(answer))),
        Err(error) => Err(error.into()),
    });
    Ok(answer.await??)
}

/// Runs a program with text on its standard input.
///
/// # Errors
/// When it cannot be started.
pub async fn run(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that reads nothing may be gone already.
        drop(pipe.write_all(input.as_bytes()).await);
    }
    let output = child.wait_with_output().await?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
    Ok(Said {
        ok: output.status.success(),
        out,
        text,
    })
}

/// What clients say while the API server is away or has just started, in small letters.
const AWAY_WORDS: [&str; 9] = [
    "connection refused",
    "connection reset",
    "client connection lost",
    "eof",
    "tls handshake timeout",
    "i/o timeout",
    "serviceunavailable",
    "user \"kubernetes-admin\" cannot",
    "failed to download openapi",
];

/// Runs a client of the API server, again while that is away.
///
/// # Errors
/// When it cannot be started, or the API server is away for too long.
pub async fn client(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<Said> {
    wait_until("the API server is found", AWAY, async || {
        let said = run(program, arguments, input).await?;
        Ok((!said.found_nobody()).then_some(said))
    })
    .await
}

/// Runs kubectl, again while the API server is away.
///
/// # Errors
/// When it cannot be started, or the API server is away for too long.
pub async fn kubectl(arguments: &[&str], input: &str) -> anyhow::Result<Said> {
    client("kubectl", arguments, input).await
}

/// Runs kubectl, which must end well; returns its standard output.
///
/// # Errors
/// What it says.
pub async fn must_kubectl(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let said = kubectl(arguments, input).await?;
    if said.ok {
        return Ok(said.out);
    }
    bail!("kubectl {}: {}", arguments.join(" "), said.text.trim())
}

/// Runs a program that must end well; returns its standard output.
///
/// # Errors
/// When it does not.
pub async fn must_run(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let said = run(program, arguments, input).await?;
    if said.ok {
        return Ok(said.out);
    }
    bail!("{program} {}: {}", arguments.join(" "), said.text.trim())
}

#[cfg(test)]
mod tests {
    use super::Said;

    fn failed(text: &str) -> Said {
        Said {
            ok: false,
            out: String::new(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn an_api_server_that_just_started_is_asked_again_and_a_refusal_is_taken_as_it_is() {
        for away in [
            "Unable to connect to the server: net/http: TLS handshake timeout",
            "The connection to the server 127.0.0.1:6443 was refused: connection refused",
            "error: error validating \"STDIN\": error validating data: failed to download openapi: unknown",
        ] {
            assert!(failed(away).found_nobody(), "{away}");
        }
        let refused = "The PostBatch \"p\" is invalid: spec: Invalid value: minerRef is immutable";
        assert!(!failed(refused).found_nobody());
    }
}
