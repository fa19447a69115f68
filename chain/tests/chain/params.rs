//! The actors' own types read what we write, and we read what they write.

use fil_actor_miner_state::v18 as actors;
use fil_actors_shared::v18::{BatchReturn as ActorsBatchReturn, FailCode};
use filstar_chain::message::params::{
    AllocationKey, BatchReturn, DeclareFaults, DeclareFaultsRecovered, MinerParams, Notification,
    PartitionSectors, PieceActivation, PostPartition, PostProofBytes, PreCommitSectorBatch2,
    ProveCommitSectors3, SectorActivation, SectorPreCommit, SubmitWindowedPost, method_name,
};
use filstar_chain::types::{PostProof, bitfield};
use filstar_chain::{ActorId, Cid, Epoch, SealProof, SectorNumber};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::error::ExitCode;
use multihash_codetable::{Code, MultihashDigest as _};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Our bytes are read by the actors' type, which writes the same bytes; and we read those again.
fn actors_agree<Actors: Serialize + DeserializeOwned, Ours: MinerParams>(ours: &Ours) -> Actors {
    let bytes = ours.to_cbor().unwrap();
    let theirs: Actors = fvm_ipld_encoding::from_slice(&bytes).unwrap();
    assert_eq!(fvm_ipld_encoding::to_vec(&theirs).unwrap(), bytes);
    assert_eq!(Ours::from_cbor(&bytes).unwrap().to_cbor().unwrap(), bytes);
    theirs
}

fn commitment(seed: u8) -> Cid {
    Cid::new_v1(0xf101, Code::Blake2b256.digest(&[seed]))
}

fn proof() -> impl Strategy<Value = SealProof> {
    prop::sample::select(SealProof::ALL)
}

prop_compose! {
    fn pre_commit()(
        seal_proof in proof(),
        number in 0_u64..1 << 40,
        seed in any::<u8>(),
        seal_rand_epoch in -1_i64..10_000_000,
        expiration in 0_i64..10_000_000,
        data in any::<Option<u8>>(),
    ) -> SectorPreCommit {
        SectorPreCommit {
            seal_proof,
            sector_number: SectorNumber(number),
            sealed_cid: commitment(seed),
            seal_rand_epoch: Epoch(seal_rand_epoch),
            deal_ids: vec![],
            expiration: Epoch(expiration),
            unsealed_cid: data.map(commitment),
        }
    }
}

prop_compose! {
    fn piece()(
        seed in any::<u8>(),
        power in 7_u32..36,
        allocation in any::<Option<(u64, u64)>>(),
        notify in prop::collection::vec((0_u64..1 << 40, prop::collection::vec(any::<u8>(), 0..40)), 0..3),
    ) -> PieceActivation {
        PieceActivation {
            cid: commitment(seed),
            padded_size: 1 << power,
            verified_allocation: allocation.map(|(client, id)| AllocationKey { client, id }),
            notify: notify
                .into_iter()
                .map(|(id, payload)| Notification {
                    address: ActorId(id).address(),
                    payload: RawBytes::new(payload),
                })
                .collect(),
        }
    }
}

prop_compose! {
    fn partition_sectors()(
        deadline in 0_u64..48,
        partition in 0_u64..3000,
        sectors in prop::collection::vec(0_u64..1 << 30, 0..50),
    ) -> PartitionSectors {
        PartitionSectors { deadline, partition, sectors: bitfield::of(sectors).unwrap() }
    }
}

proptest! {
    #[test]
    fn prop_pre_commits_are_read_by_the_actor(sectors in prop::collection::vec(pre_commit(), 0..20)) {
        let ours = PreCommitSectorBatch2 { sectors };
        let theirs: actors::PreCommitSectorBatchParams2 = actors_agree(&ours);
        prop_assert_eq!(theirs.sectors.len(), ours.sectors.len());
        for (their, our) in theirs.sectors.iter().zip(&ours.sectors) {
            prop_assert_eq!(i64::from(their.seal_proof), our.seal_proof.number());
            prop_assert_eq!(their.sector_number, our.sector_number.0);
            prop_assert_eq!(their.sealed_cid, our.sealed_cid);
            prop_assert_eq!(their.seal_rand_epoch, our.seal_rand_epoch.0);
            prop_assert_eq!(their.expiration, our.expiration.0);
            prop_assert_eq!(their.unsealed_cid.0, our.unsealed_cid);
        }
    }

    #[test]
    fn prop_prove_commits_are_read_by_the_actor(
        activations in prop::collection::vec((0_u64..1 << 40, prop::collection::vec(piece(), 0..3)), 0..6),
        proofs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        aggregate in any::<bool>(),
        strict in any::<(bool, bool)>(),
    ) {
        let ours = ProveCommitSectors3 {
            sector_activations: activations
                .into_iter()
                .map(|(number, pieces)| SectorActivation { sector_number: SectorNumber(number), pieces })
                .collect(),
            sector_proofs: proofs.into_iter().map(RawBytes::new).collect(),
            aggregate_proof: RawBytes::new(if aggregate { vec![7; 9] } else { vec![] }),
            aggregate_proof_type: aggregate.then_some(1),
            require_activation_success: strict.0,
            require_notification_success: strict.1,
        };
        let theirs: actors::ProveCommitSectors3Params = actors_agree(&ours);
        prop_assert_eq!(theirs.sector_activations.len(), ours.sector_activations.len());
        prop_assert_eq!(theirs.sector_proofs, ours.sector_proofs);
        prop_assert_eq!(theirs.require_activation_success, strict.0);
        prop_assert_eq!(theirs.require_notification_success, strict.1);
    }

    #[test]
    fn prop_window_proofs_are_read_by_the_actor(
        deadline in 0_u64..48,
        partitions in prop::collection::vec((0_u64..3000, prop::collection::vec(0_u64..1 << 30, 0..20)), 0..3),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        epoch in 0_i64..10_000_000,
        rand in any::<[u8; 32]>(),
    ) {
        let ours = SubmitWindowedPost {
            deadline,
            partitions: partitions
                .into_iter()
                .map(|(index, skipped)| PostPartition { index, skipped: bitfield::of(skipped).unwrap() })
                .collect(),
            proofs: vec![PostProofBytes { proof: PostProof(10), bytes }],
            chain_commit_epoch: Epoch(epoch),
            chain_commit_rand: rand.to_vec(),
        };
        let theirs: actors::SubmitWindowedPoStParams = actors_agree(&ours);
        prop_assert_eq!(theirs.deadline, deadline);
        prop_assert_eq!(theirs.chain_commit_epoch, epoch);
        prop_assert_eq!(&theirs.chain_commit_rand.0, &rand.to_vec());
        prop_assert_eq!(i64::from(theirs.proofs[0].post_proof), 10);
    }

    #[test]
    fn prop_fault_declarations_are_read_by_the_actor(
        declared in prop::collection::vec(partition_sectors(), 0..5),
    ) {
        let faults = DeclareFaults { faults: declared.clone() };
        let theirs: actors::DeclareFaultsParams = actors_agree(&faults);
        prop_assert_eq!(theirs.faults.len(), declared.len());
        let recoveries = DeclareFaultsRecovered { recoveries: declared };
        let theirs: actors::DeclareFaultsRecoveredParams = actors_agree(&recoveries);
        for (their, our) in theirs.recoveries.iter().zip(&recoveries.recoveries) {
            prop_assert_eq!((their.deadline, their.partition), (our.deadline, our.partition));
            prop_assert_eq!(&their.sectors, &our.sectors);
        }
    }

    #[test]
    fn prop_parameters_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(PreCommitSectorBatch2::from_cbor(&bytes));
        drop(ProveCommitSectors3::from_cbor(&bytes));
        drop(SubmitWindowedPost::from_cbor(&bytes));
        drop(BatchReturn::from_cbor(&bytes));
    }
}

#[test]
fn methods_have_the_numbers_of_the_actor() {
    assert_eq!(
        PreCommitSectorBatch2::METHOD,
        actors::Method::PreCommitSectorBatch2 as u64
    );
    assert_eq!(
        ProveCommitSectors3::METHOD,
        actors::Method::ProveCommitSectors3 as u64
    );
    assert_eq!(
        SubmitWindowedPost::METHOD,
        actors::Method::SubmitWindowedPoSt as u64
    );
    assert_eq!(DeclareFaults::METHOD, actors::Method::DeclareFaults as u64);
    assert_eq!(
        DeclareFaultsRecovered::METHOD,
        actors::Method::DeclareFaultsRecovered as u64
    );
    assert_eq!(method_name(28), Some("PreCommitSectorBatch2"));
    assert_eq!(method_name(6), None);
}

#[test]
fn single_proofs_leave_the_aggregate_empty() {
    let params = ProveCommitSectors3::single_proofs([(SectorNumber(4), vec![1; 192])]);
    let theirs: actors::ProveCommitSectors3Params = actors_agree(&params);
    assert_eq!(theirs.sector_activations[0].sector_number, 4);
    assert!(theirs.sector_activations[0].pieces.is_empty());
    assert!(theirs.aggregate_proof.is_empty());
    assert!(theirs.aggregate_proof_type.is_none());
}

#[test]
fn batch_returns_of_the_actor_tell_how_each_sector_fared() {
    let theirs = ActorsBatchReturn {
        success_count: 2,
        fail_codes: vec![FailCode {
            idx: 1,
            code: ExitCode::USR_ILLEGAL_ARGUMENT,
        }],
    };
    let ours = BatchReturn::from_cbor(&fvm_ipld_encoding::to_vec(&theirs).unwrap()).unwrap();
    assert_eq!(ours.len(), 3);
    assert_eq!(
        (0..4)
            .map(|index| ours.exit_code(index))
            .collect::<Vec<_>>(),
        [Some(0), Some(16), Some(0), None]
    );
}
