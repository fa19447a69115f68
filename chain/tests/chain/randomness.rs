//! Drawing randomness as the actors do.

use fil_actors_shared::v18::runtime::DomainSeparationTag;
use filstar_chain::randomness::{Tag, digest, draw, miner_entropy, prover_id, to_field};
use filstar_chain::{ActorId, Epoch};
use multihash_codetable::{Code, MultihashDigest as _};
use proptest::prelude::*;

fn blake2b(bytes: &[u8]) -> [u8; 32] {
    Code::Blake2b256.digest(bytes).digest().try_into().unwrap()
}

const TAGS: [(Tag, DomainSeparationTag); 7] = [
    (Tag::TicketProduction, DomainSeparationTag::TicketProduction),
    (
        Tag::ElectionProof,
        DomainSeparationTag::ElectionProofProduction,
    ),
    (
        Tag::WinningPostChallengeSeed,
        DomainSeparationTag::WinningPoStChallengeSeed,
    ),
    (
        Tag::WindowedPostChallengeSeed,
        DomainSeparationTag::WindowedPoStChallengeSeed,
    ),
    (Tag::SealRandomness, DomainSeparationTag::SealRandomness),
    (
        Tag::InteractiveSealChallengeSeed,
        DomainSeparationTag::InteractiveSealChallengeSeed,
    ),
    (Tag::PostChainCommit, DomainSeparationTag::PoStChainCommit),
];

#[test]
fn entropy_of_a_miner_is_the_cbor_of_its_id_address() {
    assert_eq!(miner_entropy(ActorId(1000)), [0x43, 0x00, 0xe8, 0x07]);
}

#[test]
fn digest_is_blake2b_256() {
    assert_eq!(digest(b"ticket"), blake2b(b"ticket"));
}

#[test]
fn prover_ids_are_the_actor_id_in_uleb128() {
    let starts = |id: u64, bytes: &[u8]| {
        let prover = prover_id(ActorId(id));
        assert_eq!(&prover[..bytes.len()], bytes);
        assert!(prover[bytes.len()..].iter().all(|byte| *byte == 0));
    };
    starts(0, &[0]);
    starts(127, &[127]);
    starts(128, &[0x80, 1]);
    starts(1000, &[0xe8, 0x07]);
    starts(
        u64::MAX,
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    );
}

#[test]
fn field_elements_have_their_two_highest_bits_cleared() {
    let cut = to_field([0xff; 32]);
    assert_eq!(cut[31], 0x3f);
    assert_eq!(cut[..31], [0xff; 31]);
}

proptest! {
    #[test]
    fn prop_draws_are_those_of_the_actors(
        base in any::<[u8; 32]>(),
        epoch in any::<i64>(),
        entropy in prop::collection::vec(any::<u8>(), 0..60),
        which in 0_usize..7,
    ) {
        let (ours, theirs) = TAGS[which];
        let mut input = (theirs as i64).to_be_bytes().to_vec();
        input.extend(base);
        input.extend(epoch.to_be_bytes());
        input.extend(&entropy);
        prop_assert_eq!(draw(ours, &base, Epoch(epoch), &entropy), blake2b(&input));
    }
}
