//! How sectors come into being: `SealingGroup.spec.pledge`, and what its gates say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::length_of_time;

/// How sectors come into being.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pledge {
    /// `Manual` (default): people create Sectors. `Auto`: the group keeps `maxInFlight` sectors in work for as
    /// long as the Miner's `sectorNumbers` last and every gate is open.
    #[serde(default)]
    pub mode: PledgeMode,
    /// Sectors in work at once. Default 1.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_in_flight: u32,
    /// Least time between two sectors that the group pledges, such as `6m`. Default `0s`.
    #[serde(default = "no_time")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub delay: String,
    /// Up to this much is added to `delay`, another part of it for each number, such as `2m`. Default `0s`.
    #[serde(default = "no_time")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub jitter: String,
    /// The gates must have been open for this long when `delay` is over, such as `1m`. Default `0s`.
    #[serde(default = "no_time")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = length_of_time())]
    pub recheck: String,
    /// Names of nodes that get no new sectors. What they have goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude_nodes: Vec<String>,
    /// Bounds of the gates. They hold for sectors that people create as well: those wait until they pass.
    #[serde(default)]
    pub gates: PledgeGates,
}

fn default_in_flight() -> u32 {
    1
}

fn no_time() -> String {
    "0s".into()
}

impl Default for Pledge {
    fn default() -> Self {
        Self {
            mode: PledgeMode::Manual,
            max_in_flight: default_in_flight(),
            delay: no_time(),
            jitter: no_time(),
            recheck: no_time(),
            exclude_nodes: Vec::new(),
            gates: PledgeGates::default(),
        }
    }
}

/// Who pledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PledgeMode {
    /// People.
    #[default]
    Manual,
    /// The operator.
    Auto,
}

/// Bounds of the gates. The gates ChainSync and SectorNumber have theirs in the Miner (`chain.maxLagEpochs`,
/// `sectorNumbers`), and NodeMaintenance follows the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PledgeGates {
    /// Room in scratch for all that the sectors in work will write.
    #[serde(default)]
    pub scratch_space: ScratchSpaceGate,
    /// Room in the stores for all sectors in work.
    #[serde(default)]
    pub store_space: StoreSpaceGate,
    /// Money for deposit, pledge and fees of all sectors in work.
    #[serde(default)]
    pub balance: BalanceGate,
    /// The price of gas.
    #[serde(default)]
    pub gas_price: GasPriceGate,
    /// Finished sectors that wait to land.
    #[serde(default)]
    pub landing: LandingGate,
}

/// Bound of the gate ScratchSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScratchSpaceGate {
    /// Most that may be used of a node's scratch file system once all its sectors have written everything, in
    /// percent. Default 90.
    #[serde(default = "default_scratch_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_used_percent: u32,
}

fn default_scratch_percent() -> u32 {
    90
}

impl Default for ScratchSpaceGate {
    fn default() -> Self {
        Self {
            max_used_percent: default_scratch_percent(),
        }
    }
}

/// Bound of the gate StoreSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreSpaceGate {
    /// Most that may be used of a store once all sectors in work have landed, in percent; a store's own
    /// `maxUsedPercent` holds as well. Default 95.
    #[serde(default = "default_store_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub max_used_percent: u32,
}

fn default_store_percent() -> u32 {
    95
}

impl Default for StoreSpaceGate {
    fn default() -> Self {
        Self {
            max_used_percent: default_store_percent(),
        }
    }
}

/// Bound of the gate Balance.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BalanceGate {
    /// What the sender of pre-commits keeps for each sealer pod, beyond deposit, pledge and fees of the sectors in
    /// work, such as `5 FIL` (default).
    #[serde(default = "default_per_pod")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new(r"self.matches('^[0-9]+([.][0-9]+)? ?(FIL|nanoFIL|nfil|attoFIL|afil)$')")
        .message("write money with its unit: `5 FIL`, `3 nanoFIL` or `250 attoFIL`"))]
    pub per_sealer_pod: String,
}

fn default_per_pod() -> String {
    "5 FIL".into()
}

impl Default for BalanceGate {
    fn default() -> Self {
        Self {
            per_sealer_pod: default_per_pod(),
        }
    }
}

/// Bound of the gate GasPrice.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GasPriceGate {
    /// Nothing is pledged while the next base fee is above this, per gas, such as `5 nanoFIL`. Default: any price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new(r"self.matches('^[0-9]+([.][0-9]+)? ?(FIL|nanoFIL|nfil|attoFIL|afil)$')")
        .message("write money with its unit: `5 nanoFIL` or `250 attoFIL`"))]
    pub max_base_fee: Option<String>,
}

/// Bound of the gate Landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LandingGate {
    /// Finished sectors of the group that may wait to land, those that are landing included. Default 10.
    #[serde(default = "default_waiting")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_waiting: u32,
}

fn default_waiting() -> u32 {
    10
}

impl Default for LandingGate {
    fn default() -> Self {
        Self {
            max_waiting: default_waiting(),
        }
    }
}

/// One gate of pledging.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// `ChainSync`, `SectorNumber`, `NodeMaintenance`, `Capacity`, `ScratchSpace`, `StoreSpace`, `Balance`,
    /// `GasPrice`, `Landing` or `Pace` (the delay between two sectors).
    pub name: String,
    /// Whether a sector may be pledged as far as this gate goes.
    pub open: bool,
    /// Why, with numbers, and what to do when it is closed.
    pub reason: String,
    /// Since when it is open, or closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it will be looked at again, where a time decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check: Option<Time>,
}

/// The youngest sector of a group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPledge {
    /// When it was created.
    pub time: Time,
    /// Its number.
    pub number: i64,
}
