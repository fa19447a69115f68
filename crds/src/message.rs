//! `ChainMessage`: the life of one message on the chain. The audit trail of money.
//!
//! A message is wished for (spec), signed, its signed bytes stored in this object's status, and only then
//! pushed. After a crash the same bytes are pushed again, so a message exists once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::LocalRef;

/// The life of one message on the chain.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "ChainMessage",
    plural = "chainmessages",
    shortname = "msg",
    category = "filstar",
    namespaced,
    status = "ChainMessageStatus",
    derive = "PartialEq",
    doc = "ChainMessage is the life of one message on the chain: wish, signed, pushed, landed, final. The audit trail of money.",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Nonce", type_ = "integer", json_path = ".status.nonce"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.landedEpoch"),
    printcolumn(name = "Exit", type_ = "integer", json_path = ".status.exitCode"),
    printcolumn(name = "Fee", type_ = "string", json_path = ".status.fee"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a ChainMessage is immutable: it is money"))]
pub struct ChainMessageSpec {
    /// The Miner that it is for.
    pub miner_ref: LocalRef,
    /// What it does.
    pub kind: MessageKind,
    /// Key address of the sender.
    #[schemars(length(max = 128))]
    pub from: String,
    /// Address of the receiver: the miner actor.
    #[schemars(length(max = 128))]
    pub to: String,
    /// Method number.
    pub method: u64,
    /// Parameters, CBOR in base64.
    #[schemars(length(max = 131_072))]
    pub params: String,
    /// Value that goes with it, in attoFIL, such as `250 attoFIL`.
    #[schemars(length(max = 64))]
    pub value: String,
    /// Sectors that it is about; for a window proof, or with more than fit, none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub sectors: Vec<i64>,
    /// Epoch by which it must land to be of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_epoch: Option<i64>,
    /// The most it may cost in fees, such as `0.05 FIL`.
    #[schemars(length(max = 64))]
    pub max_fee: String,
}

/// What a message does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum MessageKind {
    /// Method 28.
    PreCommit,
    /// Method 34.
    ProveCommit,
    /// Method 5.
    WindowPost,
    /// Method 11.
    DeclareRecovered,
}

impl MessageKind {
    /// The API's name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreCommit => "PreCommit",
            Self::ProveCommit => "ProveCommit",
            Self::WindowPost => "WindowPost",
            Self::DeclareRecovered => "DeclareRecovered",
        }
    }
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum MessageState {
    /// Wished for; nothing signed.
    #[default]
    Wish,
    /// Signed, its bytes stored here; perhaps pushed.
    Signed,
    /// A node has it.
    Pushed,
    /// In a tipset that may still be undone.
    Landed,
    /// In a tipset that `confidence` others follow.
    Final,
    /// It will never do what it was for; the condition says why.
    Failed,
}

/// What became of the message. Written by the operator only.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainMessageStatus {
    /// `Ready`: true when it landed with exit code 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<MessageState>,
    /// Nonce; never changes once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Every version that was ever signed, oldest first; all have the same nonce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cid".into()]))]
    #[schemars(length(max = 32))]
    pub versions: Vec<SignedVersion>,
    /// How often a node took a version from us.
    #[serde(default)]
    pub pushes: u32,
    /// Epoch of the head when it was last pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_epoch: Option<i64>,
    /// Epoch of the head when it was first seen that another message has used its nonce up; none while none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce_used_epoch: Option<i64>,
    /// Epoch of the tipset that includes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed_epoch: Option<i64>,
    /// CID of the version that landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub landed_cid: Option<String>,
    /// Exit code; 0 is success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Gas used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<i64>,
    /// Fee paid, computed from the base fee, gas used and premium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub fee: Option<String>,
    /// Return value, CBOR in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub return_value: Option<String>,
    /// When the state last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Time>,
}

/// A signed version of a message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedVersion {
    /// CID by which it is found on the chain.
    #[schemars(length(max = 128))]
    pub cid: String,
    /// Fee cap in attoFIL per gas, a bare number as on chain.
    #[schemars(length(max = 64))]
    pub gas_fee_cap: String,
    /// Premium in attoFIL per gas, a bare number as on chain.
    #[schemars(length(max = 64))]
    pub gas_premium: String,
    /// Gas limit.
    pub gas_limit: i64,
    /// The signed message, CBOR in base64: exactly what is pushed.
    #[schemars(length(max = 131_072))]
    pub bytes: String,
}
