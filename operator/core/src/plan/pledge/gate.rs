//! The gates by name, and what one says.

use filstar_crds::GateStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What must be true before a sector is pledged, in the order in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The chain can be decided upon.
    ChainSync,
    /// There is a number to give.
    SectorNumber,
    /// A node takes new sectors.
    NodeMaintenance,
    /// A sealer pod is ready.
    Capacity,
    /// A node has room in scratch.
    ScratchSpace,
    /// A store has room.
    StoreSpace,
    /// Deposit, pledge and fees can be paid.
    Balance,
    /// Gas is cheap enough.
    GasPrice,
    /// Few enough finished sectors wait.
    Landing,
    /// The time between two sectors is over.
    Pace,
}

impl Gate {
    /// Its name, as the API shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChainSync => "ChainSync",
            Self::SectorNumber => "SectorNumber",
            Self::NodeMaintenance => "NodeMaintenance",
            Self::Capacity => "Capacity",
            Self::ScratchSpace => "ScratchSpace",
            Self::StoreSpace => "StoreSpace",
            Self::Balance => "Balance",
            Self::GasPrice => "GasPrice",
            Self::Landing => "Landing",
            Self::Pace => "Pace",
        }
    }

    /// Reason of the condition of a Sector that waits for it.
    pub(in crate::plan) fn closed(self) -> &'static str {
        match self {
            Self::ChainSync => "ChainSyncClosed",
            Self::SectorNumber => "SectorNumberClosed",
            Self::NodeMaintenance => "NodeMaintenanceClosed",
            Self::Capacity => "CapacityClosed",
            Self::ScratchSpace => "ScratchSpaceClosed",
            Self::StoreSpace => "StoreSpaceClosed",
            Self::Balance => "BalanceClosed",
            Self::GasPrice => "GasPriceClosed",
            Self::Landing => "LandingClosed",
            Self::Pace => "PaceClosed",
        }
    }
}

/// What a gate says of one sector more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The gate.
    pub gate: Gate,
    /// Whether it lets the sector pass.
    pub open: bool,
    /// Why, with numbers, and what to do when it is closed.
    pub reason: String,
    /// When time alone may change it.
    pub next_check: Option<Timestamp>,
}

impl Verdict {
    pub(super) fn open(gate: Gate, reason: impl Into<String>) -> Self {
        Self {
            gate,
            open: true,
            reason: reason.into(),
            next_check: None,
        }
    }

    pub(super) fn closed(gate: Gate, reason: impl Into<String>) -> Self {
        Self {
            open: false,
            ..Self::open(gate, reason)
        }
    }

    /// `Balance closed: …`, for conditions.
    pub fn sentence(&self) -> String {
        let state = if self.open { "open" } else { "closed" };
        format!("{} {state}: {}", self.gate.name(), self.reason)
    }

    /// As the status shows it; `before` is what it showed until now.
    pub fn status(&self, before: Option<&GateStatus>, now: Timestamp) -> GateStatus {
        let same = before.filter(|g| g.open == self.open);
        GateStatus {
            name: self.gate.name().into(),
            open: self.open,
            reason: self.reason.clone(),
            since: same.and_then(|g| g.since.clone()).or(Some(Time(now))),
            next_check: self.next_check.map(Time),
        }
    }
}
