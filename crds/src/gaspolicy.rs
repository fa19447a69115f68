//! `GasPolicy`: how much messages may cost and when they go out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::MessageKind;

/// How much messages may cost and when they go out. Applies to the Miners that name it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "filstar.io",
    version = "v1alpha1",
    kind = "GasPolicy",
    plural = "gaspolicies",
    shortname = "gp",
    category = "filstar",
    namespaced,
    status = "GasPolicyStatus",
    derive = "PartialEq",
    doc = "GasPolicy says how much messages may cost and when they go out. It applies to the Miners that name it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "BaseFee", type_ = "string", json_path = ".status.baseFee"),
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
pub struct GasPolicySpec {
    /// Rules; a kind that none names passes at once, with the default fee bound of its kind.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(r, r.kinds.all(k, self.exists_one(o, k in o.kinds)))")
        .message("each kind of message may stand in one rule only"))]
    pub rules: Vec<GasRule>,
}

/// The rule for some kinds of messages.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GasRule {
    /// Kinds that the rule is for.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub kinds: Vec<MessageKind>,
    /// `PassThrough`: sent at once.
    pub mode: GasMode,
    /// The most that one message may cost in fees, such as `0.05 FIL`. The default is the kind's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new(r"self.matches('^[0-9]+([.][0-9]+)? ?(FIL|nanoFIL|nfil|attoFIL|afil)$')")
        .message("write money with its unit: `0.05 FIL`, `3 nanoFIL` or `250 attoFIL`"))]
    pub max_fee: Option<String>,
}

/// When messages go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum GasMode {
    /// At once.
    PassThrough,
}

/// What the policy does now.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GasPolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Base fee when this status was last written; the live one is a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_fee: Option<String>,
    /// Rules, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rules: Vec<RuleStatus>,
}

/// What one rule does now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// Kinds that the rule is for.
    pub kinds: Vec<MessageKind>,
    /// Whether messages go out.
    pub open: bool,
    /// Messages that wait, signed or not.
    pub waiting: u32,
}
