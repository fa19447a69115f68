//! Winning `PoSt` with our reader, against the library's own.

use std::{collections::BTreeMap, path::Path};

use crate::support::{Sector, isolated};
use filecoin_proofs::{constants::SectorShape2KiB, parameters::winning_post_public_params};
use filecoin_proofs_api::{
    PrivateReplicaInfo, PublicReplicaInfo, RegisteredPoStProof, SectorId as ApiSectorId, post,
};
use filstar_sealing::{Hash32, post::winning_vanilla, task::VanillaProof};
use rand::rngs::OsRng;
use storage_proofs_core::compound_proof::CompoundProof;
use storage_proofs_post::fallback::{FallbackPoSt, FallbackPoStCircuit, FallbackPoStCompound};

const WINNING: RegisteredPoStProof = RegisteredPoStProof::StackedDrgWinning2KiBV1;
type Compound = FallbackPoStCompound<SectorShape2KiB>;

/// A sealed sector, and what is asked of it.
fn drawn(dir: &Path, seed: u8) -> VanillaProof {
    let s = Sector::new(dir, 7);
    let comm_r = s.sealed().comm_r;
    VanillaProof {
        place: s.place,
        comm_r,
        randomness: Hash32([seed; 32]),
    }
}

fn prover(input: &VanillaProof) -> [u8; 32] {
    input.place.sector.prover_id()
}

fn by_the_library(input: &VanillaProof) -> Vec<u8> {
    let id = ApiSectorId::from(input.place.sector.number);
    let randomness = input.randomness.in_field().0;
    let challenges =
        post::generate_fallback_sector_challenges(WINNING, &randomness, &[id], prover(input));
    let (cache, sealed) = (input.place.cache(), input.place.sealed());
    let replica = PrivateReplicaInfo::new(WINNING, input.comm_r.0, cache, sealed);
    post::generate_single_vanilla_proof(WINNING, id, &replica, &challenges.unwrap()[&id]).unwrap()
}

#[test]
fn sealed_sector_gives_the_library_s_winning_proof() {
    let name = "sealed_sector_gives_the_library_s_winning_proof";
    isolated(name, Path::new("/nonexistent"), |dir| {
        for seed in [0, 1, 0xff] {
            let input = drawn(dir, seed);
            assert!(winning_vanilla(&input).unwrap() == by_the_library(&input));
        }
    });
}

/// The library makes them where `FIL_PROOFS_PARAMETER_CACHE` says.
fn make_parameters() {
    type Circuit = FallbackPoStCircuit<SectorShape2KiB>;
    type Post<'a> = FallbackPoSt<'a, SectorShape2KiB>;
    let public = winning_post_public_params::<SectorShape2KiB>(&WINNING.as_v1_config()).unwrap();
    <Compound as CompoundProof<Post<'_>, Circuit>>::groth_params(Some(&mut OsRng), &public)
        .unwrap();
    <Compound as CompoundProof<Post<'_>, Circuit>>::verifying_key(Some(&mut OsRng), &public)
        .unwrap();
}

/// `cargo test … --test engine winning -- --ignored`
#[test]
#[ignore = "makes 47 MB of parameters: half a minute on two cores"]
fn winning_post_of_what_our_reader_read_holds_for_its_sector_and_no_other() {
    let name = "winning_post_of_what_our_reader_read_holds_for_its_sector_and_no_other";
    let parameters = tempfile::tempdir().unwrap();
    let own = std::env::var_os("FIL_PROOFS_PARAMETER_CACHE");
    let path = own.map_or_else(|| parameters.path().to_owned(), Into::into);
    isolated(name, &path, |dir| {
        make_parameters();
        let input = drawn(dir, 3);
        let randomness = input.randomness.in_field().0;
        let vanilla = [winning_vanilla(&input).unwrap()];
        let made = post::generate_winning_post_with_vanilla(
            WINNING,
            &randomness,
            prover(&input),
            &vanilla,
        );
        let proof = &made.unwrap()[0].1;
        assert_eq!(proof.len(), 192);
        let holds = |number: u64, randomness: [u8; 32]| {
            let info = PublicReplicaInfo::new(WINNING, input.comm_r.0);
            let replicas = BTreeMap::from([(ApiSectorId::from(number), info)]);
            post::verify_winning_post(&randomness, proof, &replicas, prover(&input)).unwrap()
        };
        assert!(holds(7, randomness));
        assert!(!holds(8, randomness));
        assert!(!holds(7, [1; 32]));
    });
}
