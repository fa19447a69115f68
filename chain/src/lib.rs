//! Talking to Filecoin: JSON-RPC, addresses, messages, gas, keys. No Kubernetes in it.
//!
//! ```text
//!  endpoints        which node is well
//!     │
//!   node            Node, its methods as small traits, errors with a class
//!     │   \
//!  transport  rpc   HTTP; JSON-RPC as data
//!
//!  message  wallet  gas  randomness  proving  types      pure
//! ```
//!
//! # Public API
//! - [`Class`]: what to do about an error; every error has `class()`.
//! - [`types`]: [`Epoch`], [`AttoFil`] (`"0.05 FIL".parse()`), [`Power`], [`SectorNumber`], [`ActorId`], [`Network`],
//!   [`Address`] with [`parse_address`] and [`Network::format`], [`TipSetKey`], [`Cid`], [`BitField`] with
//!   [`types::bitfield`], [`SealProof`], [`SectorSize`].
//! - [`transport`]: [`Endpoint`], [`Token`].
//! - [`node`]: [`Node`], which has all of
//!   [`ChainReader`](node::ChainReader) (`chain_head`, `tipset_by_height`, `genesis`, `network_name`,
//!   `network_version`, `network_params`, `version`, `auth_verify`, `messages_in_tipset`, `base_fees`),
//!   [`MinerReader`](node::MinerReader) (`miner_info`, `miner_power`, `miner_available_balance`, `proving_deadline`,
//!   `deadlines`, `partitions`, `sectors`, `faults`, `recoveries`, `allocated`, `sector_allocated`,
//!   `precommit_deposit`, `initial_pledge`),
//!   [`SectorReader`](node::SectorReader) (`sector_info`, `precommit_info`, `sector_partition`, `sector_expiration`),
//!   [`RandomnessReader`](node::RandomnessReader) (`randomness_from_tickets`, `randomness_from_beacon`),
//!   [`ActorReader`](node::ActorReader) (`actor`, `account_key`, `lookup_id`, `balance`),
//!   [`MessageReader`](node::MessageReader) (`search_message`, `call`, `estimate_message_gas`, `estimate_premium`,
//!   `estimate_fee_cap`, `mpool_nonce`, `mpool_pending`),
//!   [`Pusher`](node::Pusher) (`push`) and [`NodeSigner`](node::NodeSigner) (`wallet_has`, `wallet_sign_message`).
//!   [`Retry`](node::Retry) wraps readers only. [`node::Error`] is what they all return.
//! - [`endpoints`]: [`Endpoints::healthy`](endpoints::Endpoints::healthy) picks the node to use.
//! - [`message`]: [`Message`], [`SignedMessage`] (`cid`, `to_cbor`, `from_cbor`), [`message::params`]: the miner
//!   actor's methods and [`BatchReturn`](message::params::BatchReturn).
//! - [`wallet`]: [`LocalSigner`] (`from_lotus`, `address`, `sign_message`), [`wallet::verify_message`].
//! - [`gas`]: `next_base_fee`, `cost`, `cap_fees`, `min_replacement_premium`, `replacement`, `default_max_fee`.
//! - [`randomness`]: [`Tag`](randomness::Tag), `draw`, `miner_entropy`, `to_field`, `prover_id`.
//! - [`proving`]: [`DeadlineInfo`](proving::DeadlineInfo), [`Window`](proving::Window).

#![forbid(unsafe_code)]

pub mod class;
pub mod endpoints;
pub mod gas;
pub mod message;
pub mod node;
pub mod proving;
pub mod randomness;
pub mod rpc;
pub mod transport;
pub mod types;
pub mod wallet;

pub use self::class::Class;
pub use self::endpoints::Endpoints;
pub use self::message::{Message, SignedMessage};
pub use self::node::Node;
pub use self::transport::{Endpoint, Token};
pub use self::types::{
    ActorId, Address, AttoFil, BitField, Cid, Epoch, Network, Power, SealProof, SectorNumber,
    SectorSize, TipSetKey, parse_address,
};
pub use self::wallet::LocalSigner;
