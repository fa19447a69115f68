//! Money, addresses, bit fields, proofs and tipset keys as text and JSON.

use filstar_chain::types::bitfield::{self, JsonBits};
use filstar_chain::types::{Error, PostProof};
use filstar_chain::{
    ActorId, AttoFil, Epoch, Network, SealProof, SectorSize, TipSetKey, parse_address,
};
use fvm_shared::sector::{RegisteredPoStProof, RegisteredSealProof};
use proptest::prelude::*;

fn atto(text: &str) -> String {
    text.parse::<AttoFil>()
        .map(|amount| amount.to_atto_string())
        .unwrap_or_default()
}

#[test]
fn money_reads_every_unit() {
    assert_eq!(atto("0.05 FIL"), "50000000000000000");
    assert_eq!(atto("3 nanoFIL"), "3000000000");
    assert_eq!(atto("3nfil"), "3000000000");
    assert_eq!(atto("0.25 nFIL"), "250000000");
    assert_eq!(atto("250 attoFIL"), "250");
    assert_eq!(atto(" 250afil "), "250");
    assert_eq!(atto("1.000000000000000001 fil"), "1000000000000000001");
    assert_eq!(atto("1.50 attofil"), "");
    assert_eq!(atto("0 FIL"), "0");
}

#[test]
fn money_names_the_right_form_when_the_unit_is_missing() {
    let error = "0.05".parse::<AttoFil>().unwrap_err();
    assert_eq!(
        error,
        Error::BareNumber {
            text: "0.05".to_owned()
        }
    );
    assert_eq!(
        error.to_string(),
        "\"0.05\" has no unit: write \"0.05 FIL\", \"0.05 nanoFIL\" or \"0.05 attoFIL\""
    );
}

#[test]
fn money_refuses_what_is_no_amount() {
    for text in [
        "",
        " ",
        "FIL",
        "-1 FIL",
        "1,5 FIL",
        "1.2.3 FIL",
        ".5 FIL",
        "5. FIL",
        "1e3 FIL",
        "1 ETH",
    ] {
        let error = text.parse::<AttoFil>().unwrap_err();
        assert!(
            matches!(error, Error::NotAnAmount { .. }),
            "{text}: {error}"
        );
    }
    let too_fine = "0.0000000001 nanoFIL".parse::<AttoFil>().unwrap_err();
    assert!(matches!(too_fine, Error::TooFine { .. }), "{too_fine}");
}

#[test]
fn money_is_shown_in_the_unit_that_reads_best() {
    let shown = |atto: i64| AttoFil::from_atto(atto).to_string();
    assert_eq!(shown(0), "0 FIL");
    assert_eq!(shown(250), "250 attoFIL");
    assert_eq!(shown(1_000_000), "0.001 nanoFIL");
    assert_eq!(shown(3_000_000_000), "3 nanoFIL");
    assert_eq!(shown(50_000_000_000_000_000), "0.05 FIL");
    assert_eq!(shown(-2_000_000_000_000_000_000), "-2 FIL");
    let long: AttoFil = "1.23456789 FIL".parse().unwrap();
    assert_eq!(format!("{long:.4}"), "1.2345 FIL");
    assert_eq!(format!("{long:.0}"), "1 FIL");
}

#[test]
fn money_is_a_decimal_string_of_atto_in_json() {
    let amount: AttoFil = serde_json::from_str("\"20592036\"").unwrap();
    assert_eq!(amount, AttoFil::from(20_592_036));
    assert_eq!(serde_json::to_string(&amount).unwrap(), "\"20592036\"");
    assert!(serde_json::from_str::<AttoFil>("\"0.05 FIL\"").is_err());
    assert!(serde_json::from_str::<AttoFil>("5").is_err());
}

#[test]
fn epochs_saturate_instead_of_overflowing() {
    assert_eq!(Epoch(i64::MAX) + 1, Epoch(i64::MAX));
    assert_eq!(Epoch(i64::MIN) - 1, Epoch(i64::MIN));
    assert_eq!(Epoch(i64::MAX) - Epoch(i64::MIN), i64::MAX);
    assert_eq!(Epoch(150) - Epoch(100), 50);
}

#[test]
fn addresses_are_read_with_either_prefix_and_written_by_network() {
    let main = "f1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxba";
    let test = "t1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxba";
    assert_eq!(parse_address(main).unwrap(), parse_address(test).unwrap());
    let address = parse_address(main).unwrap();
    assert_eq!(Network::Mainnet.format(&address), main);
    assert_eq!(Network::Calibration.format(&address), test);
    assert_eq!(Network::Devnet.format(&address), test);
}

#[test]
fn addresses_with_a_wrong_checksum_are_refused_with_the_reason() {
    let error = parse_address("f1d2xrzcslx7xlbbylc5c3d5lvandqw4iwl6epxbb").unwrap_err();
    assert!(
        error.to_string().contains("is not a Filecoin address"),
        "{error}"
    );
    for text in [
        "",
        "f",
        "x01000",
        "f01x",
        "1000",
        "f0123456789012345678901",
        "ü01000",
    ] {
        assert!(parse_address(text).is_err(), "{text}");
    }
}

#[test]
fn actor_ids_are_read_in_every_usual_form() {
    for text in ["f01000", "t01000", "1000"] {
        assert_eq!(text.parse::<ActorId>().unwrap(), ActorId(1000));
    }
    for text in ["", "f0", "f11000", "-1", "+1", "99999999999999999999"] {
        assert!(text.parse::<ActorId>().is_err(), "{text}");
    }
    assert_eq!(ActorId(1000).format(Network::Devnet), "t01000");
    assert_eq!(ActorId(1000).address().to_bytes(), [0x00, 0xe8, 0x07]);
}

#[test]
fn networks_know_their_own_name_and_refuse_another() {
    assert!(Network::Mainnet.check_name("mainnet").is_ok());
    assert!(Network::Calibration.check_name("calibrationnet").is_ok());
    assert!(Network::Devnet.check_name("localnet-1").is_ok());
    assert!(Network::Devnet.check_name("mainnet").is_err());
    let error = Network::Mainnet.check_name("calibrationnet").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the node is on network \"calibrationnet\", expected \"mainnet\""
    );
    assert_eq!("devnet".parse::<Network>().unwrap(), Network::Devnet);
    assert!("testnet".parse::<Network>().is_err());
}

#[test]
fn seal_proofs_have_the_numbers_and_sizes_of_the_actors() {
    for proof in SealProof::ALL {
        let actors = RegisteredSealProof::from(proof.number());
        let size = actors.sector_size().unwrap();
        assert_eq!(size as u64, proof.sector_size().bytes(), "{proof}");
        let window = i64::from(actors.registered_window_post_proof().unwrap());
        assert_eq!(PostProof(window), proof.window_post_proof(), "{proof}");
        assert_eq!(proof.to_string().parse::<SealProof>().unwrap(), *proof);
        assert_eq!(SealProof::from_number(proof.number()), Some(*proof));
    }
    assert_eq!(SealProof::ALL.len(), 20);
    assert_eq!(
        i64::from(RegisteredPoStProof::StackedDRGWindow32GiBV1P1),
        13
    );
    assert_eq!(
        "StackedDrg32GiBV1P1".parse::<SealProof>().unwrap().number(),
        8
    );
}

#[test]
fn sector_sizes_are_found_by_their_bytes() {
    assert_eq!(
        SectorSize::from_bytes(34_359_738_368),
        Some(SectorSize::Gib32)
    );
    assert_eq!(SectorSize::from_bytes(2048), Some(SectorSize::Kib2));
    assert_eq!(SectorSize::from_bytes(4096), None);
}

fn runs(json: &str) -> Vec<u64> {
    let bits: JsonBits = serde_json::from_str(json).unwrap();
    bits.0.bounded_iter(1000).unwrap().collect()
}

#[test]
fn bit_fields_are_run_lengths_that_start_with_zeros() {
    assert_eq!(runs("[5,1]"), [5]);
    assert_eq!(runs("[0,2,3,1]"), [0, 1, 5]);
    assert_eq!(runs("[0]"), [] as [u64; 0]);
    assert_eq!(runs("[]"), [] as [u64; 0]);
    assert_eq!(runs("null"), [] as [u64; 0]);
    // Runs of length zero join their neighbours.
    assert_eq!(runs("[0,2,0,3]"), [0, 1, 2, 3, 4]);
    assert_eq!(runs("[3,0,2,1]"), [5]);
    let five = JsonBits(bitfield::of([5]).unwrap());
    assert_eq!(serde_json::to_string(&five).unwrap(), "[5,1]");
    assert_eq!(serde_json::to_string(&JsonBits::default()).unwrap(), "[0]");
}

#[test]
fn bit_fields_beyond_64_bits_are_refused() {
    assert!(serde_json::from_str::<JsonBits>("[18446744073709551615,1]").is_err());
    assert!(serde_json::from_str::<JsonBits>("[1,18446744073709551615]").is_err());
    assert!(serde_json::from_str::<JsonBits>("[-1,1]").is_err());
    assert!(bitfield::of([u64::MAX]).is_err());
    assert!(bitfield::of_ranges([3..=u64::MAX]).is_err());
    assert!(bitfield::of_ranges([5..=6, 1..=2]).is_err());
}

#[test]
fn bit_fields_with_too_many_bits_are_not_spelt_out() {
    let huge: JsonBits = serde_json::from_str("[0,9000000000000000000]").unwrap();
    assert!(bitfield::numbers(&huge.0, 25_000).is_err());
    assert_eq!(
        bitfield::numbers(&bitfield::of([7, 3]).unwrap(), 2).unwrap(),
        [3, 7]
    );
}

#[test]
fn tipset_keys_are_lists_of_links_and_null_is_the_head() {
    let head: TipSetKey = serde_json::from_str("null").unwrap();
    assert!(head.is_heaviest());
    let text = r#"[{"/":"bafy2bzacea3wsdh6y3a36tb3skempjoxqpuyompjbmfeyf34fi3uy6uue42v4"}]"#;
    let key: TipSetKey = serde_json::from_str(text).unwrap();
    assert_eq!(key.0.len(), 1);
    assert_eq!(serde_json::to_string(&key).unwrap(), text);
    assert!(serde_json::from_str::<TipSetKey>(r#"[{"/":"nonsense"}]"#).is_err());
}

proptest! {
    #[test]
    fn prop_money_survives_being_shown_and_read(atto in 0_u128..) {
        let amount = AttoFil::from_atto(atto);
        prop_assert_eq!(amount.to_string().parse::<AttoFil>().unwrap(), amount.clone());
        prop_assert_eq!(AttoFil::from_atto_str(&amount.to_atto_string()).unwrap(), amount);
    }

    #[test]
    fn prop_money_never_panics_on_any_text(text in ".{0,80}") {
        drop(text.parse::<AttoFil>());
        drop(AttoFil::from_atto_str(&text));
        drop(parse_address(&text));
        drop(text.parse::<ActorId>());
    }

    #[test]
    fn prop_bit_fields_survive_json_and_rle(mut bits in prop::collection::vec(0_u64..5000, 0..200)) {
        bits.sort_unstable();
        bits.dedup();
        let field = bitfield::of(bits.iter().copied()).unwrap();
        let json: JsonBits =
            serde_json::from_str(&serde_json::to_string(&JsonBits(field.clone())).unwrap()).unwrap();
        prop_assert_eq!(bitfield::numbers(&json.0, 5000).unwrap(), bits.clone());
        let rle = fvm_ipld_bitfield::BitField::from_bytes(&field.to_bytes()).unwrap();
        prop_assert_eq!(bitfield::numbers(&rle, 5000).unwrap(), bits);
    }
}
