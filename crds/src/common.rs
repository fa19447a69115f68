//! Small types that several kinds share.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an object of a fixed kind in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl LocalRef {
    /// A reference to `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key inside the Secret. Default: `token`.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_secret_key() -> String {
    "token".into()
}

// Forms that strings must have. They are rules and not patterns, since what the API server says of a pattern is the
// pattern.

/// What kubelet wants of a directory on a node.
pub(crate) fn node_path() -> Rule {
    Rule::new(
        "self.startsWith('/') && !self.contains(':') && !self.split('/').exists(part, part == '..')",
    )
    .message("write an absolute path of the node, such as /var/lib/filstar/scratch, without `..` and `:`")
}

/// A length of time.
pub(crate) fn length_of_time() -> Rule {
    Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$')")
        .message("write a time with its unit, such as `90s`, `15m` or `6h30m`")
}

/// An amount of memory. Without a unit it would be bytes, which nobody means.
pub(crate) fn memory() -> Rule {
    Rule::new("self.matches('^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)$')")
        .message("write memory with its unit, such as `64Gi` or `512Mi`")
}

/// The address of a key that can sign.
pub(crate) fn key_address() -> Rule {
    Rule::new("self.matches('^[ft][13][a-z2-7]+$')").message(
        "write the address of a key, f1… or f3… (t1… or t3… on test networks), as `lotus wallet list` shows it; an id such as \
         f01234 cannot sign",
    )
}

/// A toleration of a node's taint, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint. Empty with operator `Exists` tolerates all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// `Equal` (default) or `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint, for `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration compares a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are the same.
    Equal,
    /// The key is the same.
    Exists,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaintEffect {
    /// None is placed on the node.
    NoSchedule,
    /// None is placed there while there is another node.
    PreferNoSchedule,
    /// None is placed there, and those that are there go.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// What becomes of sectors that are not on chain when their node is drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum NotOnChain {
    /// They are removed with their files; a group that pledges by itself pledges others elsewhere.
    Delete,
    /// Their tasks are stopped; what is done stays on the node's scratch, and they go on when the node is back.
    #[default]
    Checkpoint,
}

/// What happens to sectors when their node is drained, by `spec.maintenance` of its SealingNode or by a cordon, and when
/// it has left the cluster.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// Sectors that are not on chain. `Checkpoint` (default): they wait on the node's scratch and go on when the
    /// node is back; are sealed anew on another one when it does not come back. `Delete`: they are removed with their files.
    /// Sectors on chain are always finished first.
    #[serde(default)]
    pub not_on_chain: NotOnChain,
    /// How long sectors that are not on chain wait for a Node that was deleted, such as `90m`. Default `6h`.
    #[serde(default = "default_gone_after")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub node_gone_after: String,
}

fn default_gone_after() -> String {
    "6h".into()
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self {
            not_on_chain: NotOnChain::default(),
            node_gone_after: default_gone_after(),
        }
    }
}

/// What an error means for what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TaskClass {
    /// Try again, with growing pauses.
    Temporary,
    /// The inputs of this attempt are no good: go back one phase.
    Permanent,
    /// A file is not what its digest says: it is removed and computed again from the last good one.
    Corrupt,
    /// A person must look.
    Fatal,
}
