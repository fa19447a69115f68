//! `Miner`: the storage provider's actor, and how we reach and speak for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{LocalRef, SecretKeyRef, key_address, length_of_time};

/// A storage provider's actor on one network, and how Filstar reaches and speaks for it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "Miner",
    plural = "miners",
    shortname = "miner",
    category = "filstar",
    namespaced,
    status = "MinerStatus",
    derive = "PartialEq",
    doc = "Miner is a storage provider's actor on one network, and how Filstar reaches and speaks for it.",
    printcolumn(name = "Actor", type_ = "string", json_path = ".spec.actorId"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.headEpoch"),
    printcolumn(name = "Power", type_ = "string", json_path = ".status.power"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.availableBalance"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a Miner has at most 63 characters, since it becomes a label"),
    validation = Rule::new("self.spec.network == 'mainnet' ? self.spec.actorId.startsWith('f') : self.spec.actorId.startsWith('t')")
        .message("actorId starts with f on mainnet (f01000) and with t on other networks (t01000)")
)]
#[serde(rename_all = "camelCase")]
pub struct MinerSpec {
    /// The actor's id address: `f01234` on mainnet, `t01234` elsewhere. Immutable.
    #[schemars(length(max = 22))]
    #[x_kube(
        validation = Rule::new("self.matches('^[ft]0[1-9][0-9]*$')")
            .message("write the actor's id address: f01234 on mainnet, t01234 on other networks"),
        validation = Rule::new("self == oldSelf").message("actorId is immutable: make another Miner for another actor")
    )]
    pub actor_id: String,
    /// The network: fixes the address prefix and what a chain node must say it belongs to. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("network is immutable: make another Miner"))]
    pub network: MinerNetwork,
    /// Chain nodes to ask.
    pub chain: ChainSpec,
    /// The key address that pays and signs for each class of messages. Separate keys keep one class from
    /// waiting for another.
    pub senders: Senders,
    /// Who signs messages.
    pub signer: Signer,
    /// Seal proof of new sectors; its sector size must be the actor's.
    pub seal_proof: SealProofName,
    /// Which numbers new sectors get.
    #[serde(default)]
    pub sector_numbers: SectorNumbers,
    /// Take deposit and pledge from the miner actor's available balance, not from the sender. Default false.
    #[serde(default)]
    pub collateral_from_miner_balance: bool,
    /// The GasPolicy of this miner's messages. Without one every message passes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_policy_ref: Option<LocalRef>,
    /// Tipsets that must follow what was read from the chain before it is built upon, in epochs. Default 6.
    #[serde(default = "default_confidence")]
    #[schemars(range(min = 1, max = 900))]
    pub confidence: i64,
    /// How long a Sector object stays after its sector is proven and landed, such as `24h`. Default `24h`.
    #[serde(default = "default_retention")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub retention: String,
}

fn default_confidence() -> i64 {
    6
}

fn default_retention() -> String {
    "24h".into()
}

/// A Filecoin network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MinerNetwork {
    /// Real money.
    Mainnet,
    /// The public test network.
    Calibration,
    /// A chain for demos and tests.
    Devnet,
}

/// Seal proof types by lotus's names; all of version 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum SealProofName {
    /// 2 KiB sectors (devnets).
    StackedDrg2KiBV1P1,
    /// 8 MiB sectors (devnets).
    StackedDrg8MiBV1P1,
    /// 512 MiB sectors (devnets).
    StackedDrg512MiBV1P1,
    /// 32 GiB sectors.
    StackedDrg32GiBV1P1,
    /// 64 GiB sectors.
    StackedDrg64GiBV1P1,
}

impl SealProofName {
    /// Size of a sector, in bytes.
    pub fn sector_size(self) -> u64 {
        match self {
            Self::StackedDrg2KiBV1P1 => 2 << 10,
            Self::StackedDrg8MiBV1P1 => 8 << 20,
            Self::StackedDrg512MiBV1P1 => 512 << 20,
            Self::StackedDrg32GiBV1P1 => 32 << 30,
            Self::StackedDrg64GiBV1P1 => 64 << 30,
        }
    }

    /// The API's name of this proof type, which is lotus's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StackedDrg2KiBV1P1 => "StackedDrg2KiBV1P1",
            Self::StackedDrg8MiBV1P1 => "StackedDrg8MiBV1P1",
            Self::StackedDrg512MiBV1P1 => "StackedDrg512MiBV1P1",
            Self::StackedDrg32GiBV1P1 => "StackedDrg32GiBV1P1",
            Self::StackedDrg64GiBV1P1 => "StackedDrg64GiBV1P1",
        }
    }
}

/// Chain nodes of a Miner.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainSpec {
    /// Nodes in order of preference; the next one is asked when one does not answer.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub endpoints: Vec<Endpoint>,
    /// A head older than this, in epochs, is not decided upon. Default 5.
    #[serde(default = "default_max_lag")]
    #[schemars(range(min = 1, max = 900))]
    pub max_lag_epochs: i64,
}

fn default_max_lag() -> i64 {
    5
}

/// One chain node (lotus or forest).
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name of the endpoint, unique in its Miner.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// URL of its RPC v1, such as `http://lotus:1234/rpc/v1`.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^ ]+$')")
        .message("write the URL of the node's RPC, such as http://lotus:1234/rpc/v1"))]
    pub url: String,
    /// The token. It needs read and write, and sign as well with signer `Node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

/// Key addresses (f1 or f3; t1 or t3 on test networks) that send each class of messages.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Senders {
    /// Sends pre-commits.
    #[schemars(length(max = 128))]
    #[x_kube(validation = key_address())]
    pub pre_commit: String,
    /// Sends prove-commits.
    #[schemars(length(max = 128))]
    #[x_kube(validation = key_address())]
    pub commit: String,
    /// Sends window proofs.
    #[schemars(length(max = 128))]
    #[x_kube(validation = key_address())]
    pub post: String,
    /// Declares faulty sectors recovered; the key of `post` when left out. A key of its own keeps a declaration that waits
    /// for a block from holding up window proofs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = key_address())]
    pub recover: Option<String>,
}

impl Senders {
    /// The key that declares recoveries.
    pub fn recover(&self) -> &str {
        self.recover.as_deref().unwrap_or(&self.post)
    }
}

/// Who signs messages.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'Secret' ? has(self.secretRef) : !has(self.secretRef)")
    .message("signer of type Secret needs secretRef {name}; type Node has none"))]
pub struct Signer {
    /// `Node`: the chain node's wallet signs. `Secret`: Filstar signs with the keys in a Secret.
    #[serde(rename = "type")]
    pub type_: SignerType,
    /// For `Secret`: a Secret whose every value is one key in lotus's export format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// Where keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SignerType {
    /// In the chain node's wallet.
    Node,
    /// In a Secret that only the operator may read.
    Secret,
}

/// Which numbers new sectors get. Numbers that the actor has used are always skipped.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.max) || self.max >= self.start")
    .message("sectorNumbers.max is the last number that may be used: make it start or more"))]
pub struct SectorNumbers {
    /// The first number. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub start: i64,
    /// The last number; no more sectors are pledged after it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max: Option<i64>,
    /// Numbers and ranges that are never used, such as `17` or `100-199`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(max = 40), regex(pattern = r"^[0-9]+(-[0-9]+)?$"))
    )]
    pub reserved: Vec<String>,
}

/// What is known of the actor.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MinerStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `ChainReachable`, `ChainSynced`, `SignerReady`, `SendersFunded`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Owner of the actor (an id address).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Worker of the actor (an id address).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Sector size, such as `32GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<String>,
    /// Balance that is neither locked nor owed, such as `12.5 FIL`. Rounded, so that fees at rest do not show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_balance: Option<String>,
    /// Raw byte power, such as `4KiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Epoch of the head when something else in this status last changed; the live one is a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_epoch: Option<i64>,
    /// Endpoint in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The number that the next sector gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_sector_number: Option<i64>,
    /// Nonces by sender.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["sender".into()]))]
    #[schemars(length(max = 8))]
    pub nonces: Vec<NonceState>,
}

/// Nonces of one sender.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NonceState {
    /// Key address.
    pub sender: String,
    /// The next nonce that has not landed.
    pub next: u64,
    /// Messages signed and not landed.
    pub in_flight: u32,
}
