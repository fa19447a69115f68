//! Rules of the miner actor that no RPC tells.
//!
//! Source: builtin-actors v18, `runtime/src/runtime/policy.rs`; lotus `chain/actors/policy`.

/// No reorg is deeper. Unit: epochs.
pub(super) const FINALITY: i64 = 900;

/// A ticket is this old when it is drawn, so that no reorg can change it.
pub const TICKET_LOOKBACK: i64 = FINALITY;

/// A pre-commit must land within this many epochs of its ticket (one day and finality).
pub(super) const MAX_PRE_COMMIT_LOOKBACK: i64 = 2880 + 900;

/// A prove-commit must land within this many epochs of its pre-commit (30 days and the seed delay).
pub(super) const MAX_PROVE_COMMIT_DURATION: i64 = 30 * 2880 + 150;

/// For how long a new sector is committed: 540 days, between the actor's bounds of 210 and 1278.
pub const SECTOR_LIFETIME: i64 = 540 * 2880;

/// Sectors that one declaration may name.
pub(super) const ADDRESSED_SECTORS_MAX: u64 = 25_000;

/// Partitions that one declaration may name.
pub(super) const ADDRESSED_PARTITIONS_MAX: usize = 3000;

/// A pushed message that has not landed is pushed again after this many epochs, in case the node lost it.
pub(super) const REPUSH_EPOCHS: i64 = 5;
