//! What can be wrong with a value that is read as text.

use crate::class::Class;

/// A text is not the value it should be. The message says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An amount without a unit.
    #[error(
        "\"{text}\" has no unit: write \"{text} FIL\", \"{text} nanoFIL\" or \"{text} attoFIL\""
    )]
    BareNumber {
        /// What was written.
        text: String,
    },
    /// Not a number and a unit.
    #[error(
        "\"{text}\" is not an amount: write a number and a unit, such as \"0.05 FIL\", \
         \"3 nanoFIL\" or \"250 attoFIL\""
    )]
    NotAnAmount {
        /// What was written.
        text: String,
    },
    /// More decimals than there are.
    #[error(
        "\"{text}\" is finer than 1 attoFIL, the smallest amount there is (1 FIL = 10^18 attoFIL)"
    )]
    TooFine {
        /// What was written.
        text: String,
    },
    /// Not a whole number of attoFIL, as nodes write amounts.
    #[error("\"{text}\" is not a whole number of attoFIL")]
    NotAtto {
        /// What was written.
        text: String,
    },
    /// Not an address.
    #[error(
        "\"{text}\" is not a Filecoin address ({reason}): write one such as \"f01000\", \"f1…\", \
         \"f3…\" (or \"t…\" on test networks)"
    )]
    Address {
        /// What was written.
        text: String,
        /// What the parser says.
        reason: String,
    },
    /// Not an actor id.
    #[error("\"{text}\" is not an actor id: write one such as \"f01000\", \"t01000\" or 1000")]
    ActorId {
        /// What was written.
        text: String,
    },
    /// Not a network we know.
    #[error("\"{text}\" is not a network: write \"mainnet\", \"calibration\" or \"devnet\"")]
    Network {
        /// What was written.
        text: String,
    },
    /// The chain node is on another network.
    #[error("the node is on network \"{found}\", expected {expected}")]
    WrongNetwork {
        /// What the node says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Not a seal proof.
    #[error(
        "\"{text}\" is not a seal proof: write one such as \"StackedDrg32GiBV1P1\" or \
         \"StackedDrg2KiBV1P1\""
    )]
    SealProof {
        /// What was written.
        text: String,
    },
    /// Not a CID.
    #[error("\"{text}\" is not a CID: {reason}")]
    Cid {
        /// What was written.
        text: String,
        /// What the parser says.
        reason: String,
    },
    /// A signature of a kind that we do not use.
    #[error("signatures of kind {number} are not supported: 1 is secp256k1, 2 is BLS")]
    SignatureKind {
        /// The number.
        number: u8,
    },
    /// Not a bit field.
    #[error("not a bit field: {reason}")]
    BitField {
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What to do about it: a wrong text stays wrong.
    pub fn class(&self) -> Class {
        Class::Permanent
    }
}
