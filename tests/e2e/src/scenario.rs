//! One test's world: a namespace, a chain and folders of its own, made before it and taken away after it.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use filstar_crds::{ChainMessage, SealingGroup, Sector, SectorPhase, SectorStatus, labels};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::json;

use crate::cluster::{kubectl, must_kubectl};
use crate::nodes::Taken;
use crate::setup::{Keys, Signs};
use crate::{Audit, Chain, Cluster, Setup, diagnosis, nodes, operator, wait_until, wait_while};

/// Nothing of ours takes longer.
const LIMIT: Duration = Duration::from_mins(20);
/// From a number to its daily proof, the SNARK on a machine that has more to do.
const SEALING: Duration = Duration::from_mins(10);

/// A test's world.
#[derive(Debug)]
pub struct Scenario {
    /// Its settings.
    pub setup: Setup,
    /// The cluster.
    pub cluster: Cluster,
    /// Its namespace.
    pub namespace: String,
    /// Its folder on this machine.
    pub folder: PathBuf,
    /// The actor's address.
    pub actor: String,
    /// Its chain.
    pub chain: Chain,
    /// Keys and tokens of the chain.
    pub keys: Keys,
    /// What the API server saw since the scenario began.
    pub audit: Audit,
    /// Nodes that it has for itself.
    pub nodes: Vec<&'static str>,
    taken: Rc<RefCell<Taken>>,
    begun: Instant,
}

/// Runs a test in a world of its own; without `FILSTAR_E2E=1` it says so and touches nothing.
///
/// # Panics
/// When the test fails, after printing all there is to know.
pub fn scenario(setup: Setup, body: impl AsyncFnOnce(&Scenario) -> anyhow::Result<()>) {
    if !crate::enabled() {
        println!("{}: skipped, FILSTAR_E2E=1 is not set", setup.name);
        return;
    }
    let (name, taken, begun) = (setup.name, nodes::take(setup.need), Instant::now());
    let taken = Rc::new(RefCell::new(taken));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime needs nothing but a few file descriptors");
    let result = runtime.block_on(run(setup, &taken, body));
    let seconds = begun.elapsed().as_secs();
    println!(
        "[{name}] {} after {seconds}s",
        if result.is_ok() { "holds" } else { "FAILED" }
    );
    if let Err(error) = result {
        panic!("{name}: {error:#}");
    }
}

async fn run(
    setup: Setup,
    taken: &Rc<RefCell<Taken>>,
    body: impl AsyncFnOnce(&Scenario) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let namespace = format!("e2e-{}", setup.name);
    let result = async {
        let scenario = Scenario::make(setup, &namespace, Rc::clone(taken)).await?;
        tokio::time::timeout(LIMIT, body(&scenario))
            .await
            .context("the test takes too long")?
    }
    .await;
    if result.is_err() {
        let text = diagnosis::of(&namespace).await;
        let file = std::env::temp_dir().join(format!("{namespace}.log"));
        eprintln!("{text}\nthe same in {}", file.display());
        fs::write(file, text)?;
        if crate::setting("FILSTAR_E2E_KEEP").is_some() {
            return result;
        }
    }
    let cleared = clear(&Cluster::connect().await?, &namespace).await;
    result.and(cleared)
}

/// Takes away what a scenario of this name left.
async fn clear(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let quick = [
        "-n",
        namespace,
        "delete",
        "pods",
        "--all",
        "--grace-period=1",
        "--wait=false",
    ];
    let objects = [
        "-n",
        namespace,
        "delete",
        "postbatches,sealinggroups,sectors",
        "--all",
        "--wait=false",
    ];
    kubectl(&objects, "").await?;
    kubectl(&quick, "").await?;
    cluster.delete_namespace(namespace).await?;
    match fs::remove_dir_all(folder_of(namespace)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn host_folder() -> PathBuf {
    Path::new("/var/lib/filstar").to_owned()
}

fn folder_of(namespace: &str) -> PathBuf {
    host_folder().join("e2e").join(namespace)
}

impl Scenario {
    async fn make(
        setup: Setup,
        namespace: &str,
        taken: Rc<RefCell<Taken>>,
    ) -> anyhow::Result<Self> {
        let (begun, nodes) = (Instant::now(), taken.borrow().names.clone());
        let cluster = Cluster::connect().await?;
        clear(&cluster, namespace).await?;
        operator::leader(&cluster).await?;
        let folder = folder_of(namespace);
        for name in ["scratch", "store", "devnet"] {
            crate::host::make_folder(&folder.join(name))?;
        }
        let config = folder.join("devnet.json");
        let text = setup.devnet().to_string();
        fs::write(&config, &text)?;
        let keys = Keys::of(&setup, config.to_str().context("a path that is no text")?).await?;
        let audit = Audit::from_now()?;
        cluster.create_namespace(namespace).await?;
        let mut this = Self {
            actor: format!("t0{}", setup.actor),
            chain: Chain::new("127.0.0.1", keys.admin.clone())?,
            namespace: namespace.to_owned(),
            nodes,
            taken,
            setup,
            cluster,
            folder,
            keys,
            audit,
            begun,
        };
        this.apply("devnet.yaml", &[("config", &json!(text).to_string())])
            .await?;
        this.devnet_ready().await?;
        let service: Service = this.cluster.must(namespace, "devnet").await?;
        let address = service
            .spec
            .and_then(|s| s.cluster_ip)
            .context("a Service without address")?;
        this.chain = Chain::new(&address, this.keys.admin.clone())?;
        let what = "the chain answers";
        wait_until(what, Duration::from_mins(1), async || {
            this.chain.head().await.map(Some)
        })
        .await?;
        this.say("a namespace and a chain are there");
        Ok(this)
    }

    /// Prints what happens, with the time since the scenario began.
    pub fn say(&self, text: &str) {
        println!(
            "[{}] {:5.1}s {text}",
            self.setup.name,
            self.begun.elapsed().as_secs_f32()
        );
    }

    /// Uses only this one of its nodes from now on: others may have the rest.
    pub fn keep_only(&self, node: &str) {
        self.taken.borrow_mut().keep_only(node);
    }

    /// Waits until the chain's pod is ready.
    ///
    /// # Errors
    /// When it is not.
    pub async fn devnet_ready(&self) -> anyhow::Result<()> {
        wait_until(
            "the chain's pod is ready",
            Duration::from_mins(2),
            async || {
                let deployment: Deployment = self.cluster.must(&self.namespace, "devnet").await?;
                let ready = deployment.status.and_then(|s| s.ready_replicas);
                Ok((ready == Some(1)).then_some(()))
            },
        )
        .await
    }

    /// A file of `testdata/` with its `${…}` filled in.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn filled(&self, file: &str, more: &[(&str, &str)]) -> anyhow::Result<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(file);
        let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let folder = self.folder.to_str().context("a path that is no text")?;
        let params = host_folder().join("params");
        let selector = match self.nodes.as_slice() {
            [one] => json!({ "kubernetes.io/hostname": one }),
            _ => json!({}),
        };
        let signer = match self.setup.signs {
            Signs::Secret => json!({ "type": "Secret", "secretRef": { "name": "keys" } }),
            Signs::Node => json!({ "type": "Node" }),
        };
        let (selector, signer) = (selector.to_string(), signer.to_string());
        let confidence = self.setup.confidence.to_string();
        let cpus = self.setup.cpus().to_string();
        let together = self.setup.together.to_string();
        let policy = if cpus == "0" { "Preferred" } else { "Required" };
        let known: &[(&str, &str)] = &[
            ("folder", folder),
            ("namespace", self.namespace.as_str()),
            ("params", params.to_str().context("a path that is no text")?),
            ("actor", &self.actor),
            ("seal", &self.keys.seal),
            ("post", &self.keys.post),
            ("sealKey", &self.keys.exported[0]),
            ("postKey", &self.keys.exported[1]),
            ("token", &self.keys.token),
            ("readToken", &self.keys.read),
            ("nodeSelector", &selector),
            ("signer", &signer),
            ("confidence", &confidence),
            ("cpus", &cpus),
            ("together", &together),
            ("policy", policy),
            ("prover", "{}"),
        ];
        for (name, value) in more.iter().chain(known) {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        for more in 1..=self.setup.more_actors {
            let actor = format!("t0{}", self.setup.actor + more);
            text = text.replace(&format!("${{actor+{more}}}"), &actor);
        }
        Ok(text)
    }

    /// Applies a file of `testdata/` as a user would.
    ///
    /// # Errors
    /// What kubectl says.
    pub async fn apply(&self, file: &str, more: &[(&str, &str)]) -> anyhow::Result<()> {
        let text = self.filled(file, more)?;
        must_kubectl(&["-n", &self.namespace, "apply", "-f", "-"], &text)
            .await
            .map(drop)
    }

    /// Applies all that seals this many sectors, with this environment for tasks.
    ///
    /// # Errors
    /// What kubectl says.
    pub async fn seal(&self, sectors: u32, env: &serde_json::Value) -> anyhow::Result<()> {
        let last = sectors.saturating_sub(1).to_string();
        self.apply("miner.yaml", &[("lastNumber", &last)]).await?;
        let mode = if sectors == 0 { "Manual" } else { "Auto" };
        let at_once = sectors.max(1).to_string();
        let env = env.to_string();
        let group = [
            ("mode", mode),
            ("maxInFlight", at_once.as_str()),
            ("env", env.as_str()),
        ];
        self.apply("group.yaml", &group).await
    }

    /// Changes the spec of an object, by a merge patch.
    ///
    /// # Errors
    /// What kubectl says.
    pub async fn patch(
        &self,
        kind: &str,
        name: &str,
        spec: &serde_json::Value,
    ) -> anyhow::Result<()> {
        let patch = json!({ "spec": spec }).to_string();
        let object = ["-n", &self.namespace, "patch", kind, name];
        let how = ["--type=merge", "-p", &patch];
        must_kubectl(&[&object[..], &how].concat(), "")
            .await
            .map(drop)
    }

    /// Name of a Sector.
    pub fn sector_name(&self, number: i64) -> String {
        format!("{}-{number}", self.actor)
    }

    /// What is known of a sector, if there is one.
    ///
    /// # Errors
    /// When the API server is away.
    pub async fn sector(&self, number: i64) -> anyhow::Result<Option<SectorStatus>> {
        let sector: Option<Sector> = self
            .cluster
            .get(&self.namespace, &self.sector_name(number))
            .await?;
        Ok(sector.map(|s| s.status.unwrap_or_default()))
    }

    /// Waits until a sector's status is as asked, and fails at once when the sector does.
    ///
    /// # Errors
    /// When it is not, or the sector fails.
    pub async fn sector_until(
        &self,
        number: i64,
        what: &str,
        is: impl Fn(&SectorStatus) -> bool,
    ) -> anyhow::Result<SectorStatus> {
        let full = format!("sector {number}: {what}");
        let status = wait_while(
            &full,
            SEALING,
            async || Ok(self.sector(number).await?.filter(|s| is(s))),
            async || match self.sector(number).await?.and_then(|s| s.failure) {
                Some(why) => bail!("sector {number} failed in {:?}: {}", why.phase, why.message),
                None => Ok(()),
            },
        )
        .await?;
        self.say(&full);
        Ok(status)
    }

    /// Waits until all these sectors are on chain and in the store.
    ///
    /// # Errors
    /// When one is not.
    pub async fn proving(&self, numbers: &[i64]) -> anyhow::Result<()> {
        for number in numbers {
            let is = |s: &SectorStatus| s.phase == Some(SectorPhase::Proving);
            self.sector_until(*number, "proving", is).await?;
            let landed = self.sector(*number).await?.and_then(|s| s.store);
            ensure!(
                landed.is_some_and(|s| s.landed),
                "sector {number} is in no store"
            );
            let on_chain = self.chain.has_sector(&self.actor, *number).await?;
            ensure!(on_chain, "sector {number} is not on chain");
            self.in_store(*number)?;
        }
        Ok(())
    }

    /// A proven sector's files are in the store and nowhere else.
    fn in_store(&self, number: i64) -> anyhow::Result<()> {
        let name = format!("s-{}-{number}", self.actor);
        let size = |path: &str| {
            let file = self.folder.join("store").join(path.replace("NAME", &name));
            fs::metadata(&file)
                .map(|m| m.len())
                .with_context(|| file.display().to_string())
        };
        crate::wait::same("size of the sealed file", &size("sealed/NAME")?, &2048)?;
        crate::wait::same("size of p_aux", &size("cache/NAME/p_aux")?, &64)?;
        let left = crate::host::files(&self.folder.join("scratch"))?;
        let left: Vec<_> = left
            .iter()
            .filter(|(p, _)| p.components().any(|c| c.as_os_str() == name.as_str()))
            .collect();
        ensure!(
            left.is_empty(),
            "sector {number} is still in scratch: {left:?}"
        );
        Ok(())
    }

    /// The `SealingGroup`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn group(&self) -> anyhow::Result<SealingGroup> {
        self.cluster.must(&self.namespace, "e2e").await
    }

    /// All messages.
    ///
    /// # Errors
    /// When the API server is away.
    pub async fn messages(&self) -> anyhow::Result<Vec<ChainMessage>> {
        self.cluster.list(&self.namespace, "").await
    }

    /// Sealer pods.
    ///
    /// # Errors
    /// When the API server is away.
    pub async fn sealers(&self) -> anyhow::Result<Vec<Pod>> {
        self.cluster
            .list(&self.namespace, &format!("{}=e2e", labels::GROUP))
            .await
    }

    /// Deletes the chain's pod at once, and waits until another one answers, that forgot nothing.
    ///
    /// # Errors
    /// When none does, or it did.
    pub async fn restart_devnet(&self) -> anyhow::Result<()> {
        const LABEL: &str = "app.kubernetes.io/name=filstar-devnet";
        let before = self.chain.history().await?;
        let pods: Vec<Pod> = self.cluster.list(&self.namespace, LABEL).await?;
        let names: Vec<String> = pods.into_iter().filter_map(|p| p.metadata.name).collect();
        for name in &names {
            self.cluster.kill_pod(&self.namespace, name).await?;
        }
        let what = "another pod of the chain is ready";
        wait_until(what, Duration::from_mins(2), async || {
            let pods: Vec<Pod> = self.cluster.list(&self.namespace, LABEL).await?;
            let fresh = |p: &Pod| p.metadata.name.as_ref().is_some_and(|n| !names.contains(n));
            Ok((!pods.is_empty() && pods.iter().all(|p| fresh(p) && is_ready(p))).then_some(()))
        })
        .await?;
        let what = "the chain answers again";
        let after = wait_until(what, Duration::from_mins(1), async || {
            self.chain.history().await.map(Some)
        })
        .await?;
        for one in before {
            ensure!(
                after.iter().any(|l| l.cid == one.cid),
                "the chain forgot {}",
                one.cid
            );
        }
        self.say("the chain was killed and is back");
        Ok(())
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
