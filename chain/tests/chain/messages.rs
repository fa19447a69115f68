//! Bytes and CIDs of messages.

use filstar_chain::message::{MessageJson, Signature, SignatureKind, SignedMessageJson};
use filstar_chain::{AttoFil, Message, Network, SignedMessage, parse_address};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::econ::TokenAmount;
use proptest::prelude::*;

use crate::answers::example;

/// A transfer whose bytes are published (filecoin-signing-tools, `test_vectors`).
fn transfer() -> Message {
    Message {
        nonce: 1,
        value: AttoFil::from(100_000),
        gas_limit: 25_000,
        gas_fee_cap: AttoFil::from(1),
        gas_premium: AttoFil::from(1),
        ..Message::new(
            parse_address("t1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxba").unwrap(),
            parse_address("t17uoq6tp427uzv7fztkbsnn64iwotfrristwpryy").unwrap(),
            0,
            vec![],
        )
    }
}

#[test]
fn vector_message_bytes_are_those_of_the_signing_tools() {
    let published = "8a005501fd1d0f4dfcd7e99afcb99a8326b7dc459d32c62855011eaf1c8a4bbfeeb0870b1745b1f575\
        03470b71160144000186a01961a84200014200010040";
    assert_eq!(hex::encode(transfer().to_cbor()), published);
    assert_eq!(
        Message::from_cbor(&hex::decode(published).unwrap()).unwrap(),
        transfer()
    );
}

#[test]
fn vector_message_cid_is_the_one_that_lotus_prints() {
    let json = example("StateCall")["params"][0].clone();
    let printed = json["CID"]["/"].as_str().unwrap().to_owned();
    let message: Message = serde_json::from_value::<MessageJson>(json)
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(message.unsigned_cid().to_string(), printed);
}

#[test]
fn vector_signed_message_cid_is_the_one_that_lotus_prints() {
    let json = example("MpoolPush")["params"][0].clone();
    let printed = json["CID"]["/"].as_str().unwrap().to_owned();
    let signed: SignedMessage = serde_json::from_value::<SignedMessageJson>(json)
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(signed.signature.kind, SignatureKind::Bls);
    assert_eq!(signed.cid().to_string(), printed);
}

/// filecoin-signing-tools, `test_vectors/get_cid.json`.
#[test]
fn vector_cid_of_a_secp_message_is_the_published_one() {
    let signature =
        "0wRrFJZFIVh8m0JD+f5C55YrxD6YAWtCXWYihrPTKdMfgMhYAy86MVhs43hSLXnV+47UReRIe8qFdHRJqFlreAE=";
    let json = serde_json::json!({
        "Message": MessageJson::new(&Message { gas_limit: 2_500_000, ..transfer() }, Network::Devnet),
        "Signature": { "Type": 1, "Data": signature },
    });
    let signed: SignedMessage = serde_json::from_value::<SignedMessageJson>(json)
        .unwrap()
        .try_into()
        .unwrap();
    let published = "bafy2bzacebaiinljwwctblf7czp4zxwhz4747z6tpricgn5cumd4xhebftcvu";
    assert_eq!(signed.cid().to_string(), published);
}

#[test]
fn cid_of_a_secp_message_covers_the_signature() {
    let sign = |last: u8| SignedMessage {
        message: transfer(),
        signature: Signature {
            kind: SignatureKind::Secp256k1,
            bytes: vec![last; 65],
        },
    };
    assert_ne!(sign(0).cid(), sign(1).cid());
    assert_ne!(sign(0).cid(), transfer().unsigned_cid());
    assert!(sign(0).cid().to_string().starts_with("bafy2bzace"));
}

#[test]
fn messages_are_written_with_the_prefix_of_their_network() {
    let json = serde_json::to_value(MessageJson::new(&transfer(), Network::Mainnet)).unwrap();
    assert_eq!(json["From"], "f1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxba");
    assert_eq!(json["Value"], "100000");
    assert_eq!(json["Params"], "");
    let back: Message = serde_json::from_value::<MessageJson>(json)
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(back, transfer());
}

#[test]
fn signed_messages_with_a_delegated_signature_are_not_ours() {
    let mut json = example("MpoolPush")["params"][0].clone();
    json["Signature"]["Type"] = 3.into();
    let parsed: SignedMessageJson = serde_json::from_value(json).unwrap();
    let error = SignedMessage::try_from(parsed).unwrap_err();
    assert!(error.to_string().contains("kind 3"), "{error}");
}

#[test]
fn bytes_of_something_else_are_refused_as_corrupt() {
    for bytes in [&[][..], &[0x80], &[0xff; 40], &transfer().to_cbor()[..20]] {
        let error = Message::from_cbor(bytes).unwrap_err();
        assert_eq!(error.class(), filstar_chain::Class::Corrupt);
    }
    assert!(SignedMessage::from_cbor(&transfer().to_cbor()).is_err());
}

prop_compose! {
    pub(crate) fn message()(
        ids in any::<(u64, u64)>(),
        nonce in any::<u64>(),
        amounts in any::<(u64, u64, u64)>(),
        gas_limit in any::<u64>(),
        method in any::<u64>(),
        params in prop::collection::vec(any::<u8>(), 0..100),
    ) -> Message {
        Message {
            nonce,
            value: AttoFil::from(amounts.0),
            gas_limit,
            gas_fee_cap: AttoFil::from(amounts.1),
            gas_premium: AttoFil::from(amounts.2),
            ..Message::new(
                filstar_chain::ActorId(ids.0 >> 1).address(),
                filstar_chain::ActorId(ids.1 >> 1).address(),
                method,
                params,
            )
        }
    }
}

proptest! {
    #[test]
    fn prop_message_bytes_are_those_of_the_virtual_machine(message in message()) {
        let tokens = |amount: &AttoFil| TokenAmount::from_atto(amount.atto().clone());
        let theirs = fvm_shared::message::Message {
            version: message.version,
            from: message.from,
            to: message.to,
            sequence: message.nonce,
            value: tokens(&message.value),
            method_num: message.method,
            params: RawBytes::new(message.params.clone()),
            gas_limit: message.gas_limit,
            gas_fee_cap: tokens(&message.gas_fee_cap),
            gas_premium: tokens(&message.gas_premium),
        };
        let bytes = message.to_cbor();
        prop_assert_eq!(&fvm_ipld_encoding::to_vec(&theirs).unwrap(), &bytes);
        prop_assert_eq!(Message::from_cbor(&bytes).unwrap(), message);
    }

    #[test]
    fn prop_signed_messages_survive_bytes_and_json(
        message in message(),
        secp in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let kind = if secp { SignatureKind::Secp256k1 } else { SignatureKind::Bls };
        let signed = SignedMessage { message, signature: Signature { kind, bytes } };
        prop_assert_eq!(&SignedMessage::from_cbor(&signed.to_cbor()).unwrap(), &signed);
        let json = serde_json::to_string(&SignedMessageJson::new(&signed, Network::Devnet)).unwrap();
        let back: SignedMessage =
            serde_json::from_str::<SignedMessageJson>(&json).unwrap().try_into().unwrap();
        prop_assert_eq!(back, signed);
    }
}
