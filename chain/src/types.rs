//! The values of Filecoin as types: epochs, money, addresses, sectors, proofs, tipset keys.
//!
//! Never: I/O, clocks, global state. (The address type of `fvm_shared` has a global network for its
//! `Display`; we do not use that, see [`Network::format`].)

pub mod bitfield;
pub mod epoch;
pub mod error;
pub mod json;
pub mod money;
pub mod network;
pub mod proofs;
pub mod tipset_key;

pub use cid::Cid;
pub use fvm_ipld_bitfield::BitField;
pub use fvm_shared::address::{Address, Protocol};

pub use self::epoch::Epoch;
pub use self::error::Error;
pub use self::money::{AttoFil, Power};
pub use self::network::{ActorId, Network, SectorNumber, parse_address};
pub use self::proofs::{PostProof, SealProof, SectorSize};
pub use self::tipset_key::TipSetKey;
