//! One real sector on a chain that really verifies: sealed, pre-committed, proven, and once more
//! proven in its window. Test only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek as _;
use std::path::Path;

use fil_actor_miner_state::v18::{
    CompactCommD, PreCommitSectorBatchParams2, ProveCommitSectors3Params, SectorActivationManifest,
    SectorPreCommitInfo,
};
use filecoin_proofs_api::{
    PieceInfo, PrivateReplicaInfo, RegisteredPoStProof, RegisteredSealProof, SectorId,
    UnpaddedBytesAmount, post, seal,
};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::commcid::replica_commitment_v1_to_cid;

use crate::actor::{TAG_INTERACTIVE_SEAL, TAG_SEAL, TAG_WINDOW_POST};
use crate::codec::{cbor, draw_randomness};
use crate::testing::{MINER, TestChain};

const PROOF: RegisteredSealProof = RegisteredSealProof::StackedDrg2KiBV1_1;
const NUMBER: u64 = 3;

fn prover() -> [u8; 32] {
    let mut id = [0u8; 32];
    let payload = Address::new_id(MINER).payload_bytes();
    id[..payload.len()].copy_from_slice(&payload);
    id
}

struct Sealing {
    dir: tempfile::TempDir,
    pieces: Vec<PieceInfo>,
    phase2: seal::SealPreCommitPhase2Output,
    ticket: [u8; 32],
}

impl Sealing {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn pre_commit(ticket: [u8; 32]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (unsealed, sealed, cache) = (
            dir.path().join("unsealed"),
            dir.path().join("sealed"),
            dir.path().join("cache"),
        );
        std::fs::create_dir(&cache).unwrap();
        File::create(&sealed).unwrap();
        let mut target = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&unsealed)
            .unwrap();
        let size = UnpaddedBytesAmount(2_032);
        let zeros = vec![0u8; 2_032];
        let (piece, _) = seal::add_piece(PROOF, zeros.as_slice(), &mut target, size, &[]).unwrap();
        target.rewind().unwrap();
        let pieces = vec![piece];
        let number = SectorId::from(NUMBER);
        let phase1 = seal::seal_pre_commit_phase1(
            PROOF,
            &cache,
            &unsealed,
            &sealed,
            prover(),
            number,
            ticket,
            &pieces,
        )
        .unwrap();
        let phase2 = seal::seal_pre_commit_phase2(phase1, &cache, &sealed).unwrap();
        Self {
            dir,
            pieces,
            phase2,
            ticket,
        }
    }

    fn prove(&self, seed: [u8; 32]) -> Vec<u8> {
        let number = SectorId::from(NUMBER);
        let phase1 = seal::seal_commit_phase1(
            self.path("cache"),
            self.path("sealed"),
            prover(),
            number,
            self.ticket,
            seed,
            self.phase2.clone(),
            &self.pieces,
        )
        .unwrap();
        seal::seal_commit_phase2(phase1, prover(), number)
            .unwrap()
            .proof
    }

    fn prove_window(&self, mut randomness: [u8; 32]) -> Vec<u8> {
        randomness[31] &= 0x3f;
        let replica = PrivateReplicaInfo::new(
            RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
            self.phase2.comm_r,
            self.path("cache"),
            self.path("sealed"),
        );
        let replicas = BTreeMap::from([(SectorId::from(NUMBER), replica)]);
        post::generate_window_post(&randomness, &replicas, prover())
            .unwrap()
            .remove(0)
            .1
    }
}

fn parameters_are_there() -> bool {
    std::env::var_os("FIL_PROOFS_PARAMETER_CACHE")
        .and_then(|dir| std::fs::read_dir(Path::new(&dir)).ok())
        .is_some_and(|entries| {
            let names: Vec<String> = entries
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect();
            [
                "v28-stacked-proof-of-replication",
                "v28-proof-of-spacetime-fallback",
            ]
            .iter()
            .all(|kind| {
                names
                    .iter()
                    .any(|n| n.starts_with(kind) && n.ends_with(".params"))
            })
        })
}

fn prove_commit(proof: Vec<u8>) -> ProveCommitSectors3Params {
    ProveCommitSectors3Params {
        sector_activations: vec![SectorActivationManifest {
            sector_number: NUMBER,
            pieces: vec![],
        }],
        sector_proofs: vec![RawBytes::new(proof)],
        aggregate_proof: RawBytes::default(),
        aggregate_proof_type: None,
        require_activation_success: true,
        require_notification_success: false,
    }
}

#[test]
#[ignore = "seals a real sector: needs FIL_PROOFS_PARAMETER_CACHE and about 110 CPU seconds"]
fn real_sector_lands_and_a_damaged_proof_does_not() {
    if !parameters_are_there() {
        eprintln!("skipped: no 2 KiB parameters in FIL_PROOFS_PARAMETER_CACHE");
        return;
    }
    let mut chain = TestChain::real();
    chain.advance(5);
    let entropy = cbor(&Address::new_id(MINER));
    let ticket_epoch = 4;
    let digest = chain
        .chain
        .ticket_digest(chain.chain.head(), ticket_epoch)
        .unwrap();
    let sealing = Sealing::pre_commit(draw_randomness(TAG_SEAL, &digest, ticket_epoch, &entropy));
    let info = SectorPreCommitInfo {
        sealed_cid: replica_commitment_v1_to_cid(&sealing.phase2.comm_r).unwrap(),
        seal_rand_epoch: ticket_epoch,
        unsealed_cid: CompactCommD::empty(),
        ..chain.pre_commit_info(NUMBER)
    };
    let receipt = chain.call(
        28,
        &PreCommitSectorBatchParams2 {
            sectors: vec![info],
        },
    );
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);

    let seed_epoch = chain.epoch() + 10;
    chain.advance(11);
    let digest = chain
        .chain
        .beacon_digest(chain.chain.head(), seed_epoch)
        .unwrap();
    let proof = sealing.prove(draw_randomness(
        TAG_INTERACTIVE_SEAL,
        &digest,
        seed_epoch,
        &entropy,
    ));
    for byte in [0, 60, 191] {
        let mut damaged = proof.clone();
        damaged[byte] ^= 1;
        assert_eq!(chain.call(34, &prove_commit(damaged)).exit_code, 16);
    }
    let receipt = chain.call(34, &prove_commit(proof));
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);

    prove_in_window(&mut chain, &sealing);
}

fn prove_in_window(chain: &mut TestChain, sealing: &Sealing) {
    let entropy = cbor(&Address::new_id(MINER));
    let (deadline, partition) = chain.location(NUMBER);
    chain.advance_to_deadline(deadline);
    let challenge = chain
        .state()
        .deadline_info(&chain.chain.rules.policy, chain.epoch() + 1)
        .challenge;
    let digest = chain
        .chain
        .beacon_digest(chain.chain.head(), challenge)
        .unwrap();
    let proof = sealing.prove_window(draw_randomness(
        TAG_WINDOW_POST,
        &digest,
        challenge,
        &entropy,
    ));
    let mut params = chain.post_params(deadline, partition, &[], true);
    params.proofs[0].proof_bytes = proof.clone();
    params.proofs[0].proof_bytes[7] ^= 1;
    let receipt = chain.call(5, &params);
    assert!(
        receipt.exit_code == 16 && receipt.error.contains("invalid post"),
        "{}",
        receipt.error
    );
    let mut params = chain.post_params(deadline, partition, &[], true);
    params.proofs[0].proof_bytes = proof;
    let receipt = chain.call(5, &params);
    assert_eq!(receipt.exit_code, 0, "{}", receipt.error);
    assert_eq!(chain.raw_power(), 2_048);
}
