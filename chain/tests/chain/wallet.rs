//! Keys, addresses and signatures, with published vectors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use filstar_chain::message::{Signature, SignatureKind};
use filstar_chain::wallet::{Error, KeyKind, verify, verify_message};
use filstar_chain::{AttoFil, Class, LocalSigner, Message, parse_address};
use proptest::prelude::*;

/// filecoin-signing-tools, `test_vectors`.
const SECP_KEY: &str = "8VcW07ADswS4BV2cxi5rnIadVsyTDDhY1NfDH19T8Uo=";
const SECP_ADDRESS: &str = "t1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxba";

fn key_json(kind: &str, key: &str) -> String {
    format!(r#"{{"Type":"{kind}","PrivateKey":"{key}"}}"#)
}

fn secp() -> LocalSigner {
    LocalSigner::from_lotus(&key_json("secp256k1", SECP_KEY)).unwrap()
}

fn bls() -> LocalSigner {
    LocalSigner::from_lotus(&key_json(
        "bls",
        "P8zKGOLIElfX/nEReFZK30fSNIdOeQenO8qG9j3E/mA=",
    ))
    .unwrap()
}

#[test]
fn vector_secp_key_has_its_published_address_and_signature() {
    assert_eq!(secp().address(), parse_address(SECP_ADDRESS).unwrap());
    let message = Message {
        nonce: 1,
        value: AttoFil::from(100_000),
        gas_limit: 25_000,
        gas_fee_cap: AttoFil::from(1),
        gas_premium: AttoFil::from(1),
        ..Message::new(
            secp().address(),
            parse_address("t17uoq6tp427uzv7fztkbsnn64iwotfrristwpryy").unwrap(),
            0,
            vec![],
        )
    };
    let signed = secp().sign_message(message).unwrap();
    assert_eq!(
        STANDARD.encode(&signed.signature.bytes),
        "nFuTI7MxEXqTQ0QmmQTmqbUsNZfHFXlNjz+susVDkAk1SrRCdJKxlVZZrM4vUtVBSYgtMIeigNfpqdKGIFhoWQA="
    );
    verify_message(&signed).unwrap();
}

/// filecoin-project/serialization-vectors, `message_signing.json`. (Its signatures are of a suite that Filecoin left.)
#[test]
fn vector_bls_keys_have_their_published_addresses() {
    let vectors = [
        (
            "P8zKGOLIElfX/nEReFZK30fSNIdOeQenO8qG9j3E/mA=",
            "t3r4mni4ncwaa5bnr5jz3hvrbuiupy2oqf5u65zg5nkrldgg7ubskkvaa554v7kdzl5ughslh7gct7s4fjhpya",
        ),
        (
            "6UEWLG7I8oz2YnreMbE5A3iMyHOZjqEIEspLrMuBPDI=",
            "t3v5sb37hecmsm6ybo4g2pdkwj6omvo7rvspcxeghm7wxp5mj3nn3a7zxitdgtlgham47ifotobljjdulurogq",
        ),
    ];
    for (key, address) in vectors {
        let signer = LocalSigner::from_lotus(&key_json("bls", key)).unwrap();
        assert_eq!(signer.address(), parse_address(address).unwrap());
    }
}

/// The reference vectors of the suite `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_` (keys turned to little-endian).
#[test]
fn vector_bls_signatures_are_those_of_the_reference() {
    let vectors = [
        (
            "DvcXEGcanxz8S9RBwBfJtttoSRkp+sxoqwcqlnbp4jw=",
            "",
            "b2be11dc8e54ee74dbc07569fd74fe03b5f52ad71cd49a8579b6c6387891f5a20ad980ec2747618c1b9ad35846\
             a68a3e",
            "tTz9+LSIoobfHtIEMuK7xOY2EAN1ff2jpP1s2Y3pXlUT98RI1wsmgeFFR6bO1H58EOKEMuiryzTeHcKPOTKP0qE9\
             sSpMajC9F7DkKIGkKQA+TCRYO6DymkD9g2zwXhpA",
        ),
        (
            "X/7T1VJYzn8bzypNjVElxV9kX+SnBeABBSHogJWY4m0=",
            "1234",
            "981de2d88a80a2d7752ecda66443340a789ea62dd68dca6a3a8caf3b6c1e94248a8819a4f6ba554f50f5ccb8bc\
             40e67c",
            "hKpZytB4o0w8H4dukk7hmc2M90hXzrytMDdWGWTP2lDc5fTQcJqmkNrnETsBqcjDFVf1WJw463IOhoZP8MREb7oh\
             iZ1M0LKGLsOV3h39tza/OMpW0XAZslfF1N1WO/W3",
        ),
    ];
    for (key, text, public_key, signature) in vectors {
        let signer = LocalSigner::from_lotus(&key_json("bls", key)).unwrap();
        assert_eq!(hex::encode(signer.address().payload_bytes()), public_key);
        let signed = signer.sign(text.as_bytes());
        assert_eq!(STANDARD.encode(&signed.bytes), signature);
        verify(&signed, text.as_bytes(), &signer.address()).unwrap();
    }
}

#[test]
fn keys_are_read_from_the_hex_of_lotus_export_and_written_back() {
    for signer in [secp(), bls()] {
        let exported = signer.to_lotus_export();
        let again = LocalSigner::from_lotus(&format!("{}\n", exported.as_str())).unwrap();
        assert_eq!(again.address(), signer.address());
        assert_eq!(again.kind(), signer.kind());
    }
}

#[test]
fn keys_that_cannot_be_read_are_refused_without_showing_them() {
    let cases = [
        ("not hex", Error::Form),
        ("{\"Type\":\"bls\"}", Error::Form),
        (&key_json("bls", "@@secret@@"), Error::Form),
        (&key_json("delegated", SECP_KEY), Error::Kind),
        (&key_json("bls", "c2hvcnQ="), Error::Invalid(KeyKind::Bls)),
        (
            &key_json("secp256k1", &STANDARD.encode([0; 32])),
            Error::Invalid(KeyKind::Secp256k1),
        ),
        (
            &key_json("bls", &STANDARD.encode([0; 32])),
            Error::Invalid(KeyKind::Bls),
        ),
        (
            &key_json("bls", &STANDARD.encode([0xff; 32])),
            Error::Invalid(KeyKind::Bls),
        ),
    ];
    for (text, expected) in cases {
        let error = LocalSigner::from_lotus(text).unwrap_err();
        assert_eq!(error, expected);
        assert_eq!(error.class(), Class::Fatal);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn signers_do_not_show_their_key() {
    let shown = format!("{:?}", secp());
    assert!(shown.contains("address"), "{shown}");
    assert!(
        !shown.contains("secret") && !shown.contains("241, 87"),
        "{shown}"
    );
}

#[test]
fn signers_refuse_the_messages_of_others() {
    let message = Message::new(bls().address(), secp().address(), 0, vec![]);
    let error = secp().sign_message(message).unwrap_err();
    assert!(matches!(error, Error::WrongSender { .. }), "{error}");
}

#[test]
fn signatures_fit_only_their_own_bytes_kind_and_address() {
    for signer in [secp(), bls()] {
        let signature = signer.sign(b"bytes");
        let other = if signer.kind() == KeyKind::Bls {
            secp()
        } else {
            bls()
        };
        assert!(verify(&signature, b"bytes", &signer.address()).is_ok());
        assert!(verify(&signature, b"other", &signer.address()).is_err());
        assert!(verify(&signature, b"bytes", &other.address()).is_err());
        let kind = other.sign(b"").kind;
        let relabelled = Signature {
            kind,
            bytes: signature.bytes.clone(),
        };
        assert!(verify(&relabelled, b"bytes", &signer.address()).is_err());
        let short = Signature {
            kind: signature.kind,
            bytes: signature.bytes[1..].to_vec(),
        };
        assert!(verify(&short, b"bytes", &signer.address()).is_err());
    }
    let empty = Signature {
        kind: SignatureKind::Bls,
        bytes: vec![],
    };
    assert!(verify(&empty, b"", &bls().address()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn prop_what_is_signed_verifies_until_a_bit_flips(
        secret in prop::array::uniform32(1_u8..0x70),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
    ) {
        for kind in [KeyKind::Secp256k1, KeyKind::Bls] {
            let signer = LocalSigner::from_secret(kind, &secret).unwrap();
            let mut signature = signer.sign(&bytes);
            prop_assert!(verify(&signature, &bytes, &signer.address()).is_ok());
            let at = at.index(signature.bytes.len());
            signature.bytes[at] ^= 1;
            prop_assert!(verify(&signature, &bytes, &signer.address()).is_err());
        }
    }
}
