//! Every kind of seal of 2 KiB that the network knows: interactive, synthetic, non-interactive. Our kernels
//! make the library's files, and the library's C1 takes them.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use crate::support::isolated;
use filecoin_proofs_api::{
    ApiFeature, PieceInfo, RegisteredSealProof, SectorId as ApiSectorId, UnpaddedByteIndex,
    UnpaddedBytesAmount, seal,
};
use filstar_kernels::{
    graph::{Graph, porep_id},
    poseidon::Kernel,
    sdr,
    trees::{self, Shape},
};
use filstar_sealing::{SectorId, durable, own};
use sha2::{Digest, Sha256};

const BYTES: u64 = 2048;
const LAYERS: u32 = 2;
const NUMBER: u64 = 7;
const TICKET: [u8; 32] = [9; 32];
const SEED: [u8; 32] = [5; 32];

/// A sector's files.
struct Files {
    cache: PathBuf,
    sealed: PathBuf,
    data: PathBuf,
}

impl Files {
    fn new(dir: &Path) -> Self {
        let files = Self {
            cache: dir.join("cache"),
            sealed: dir.join("sealed"),
            data: dir.join("data"),
        };
        fs::create_dir_all(&files.cache).unwrap();
        fs::write(&files.sealed, []).unwrap();
        files
    }

    /// SHA-256 by name.
    fn digests(&self) -> BTreeMap<String, String> {
        let names = durable::list(&self.cache).unwrap().into_iter();
        let kept =
            names.filter(|n| n == "p_aux" || Path::new(n).extension().is_some_and(|e| e == "dat"));
        let mut out: BTreeMap<_, _> = kept
            .map(|n| (n.clone(), durable::sha256(&self.cache.join(n)).unwrap()))
            .collect();
        out.insert("sealed".into(), durable::sha256(&self.sealed).unwrap());
        out
    }
}

fn prover() -> [u8; 32] {
    let (actor, number) = (1000, NUMBER);
    SectorId { actor, number }.prover_id()
}

/// Data that is not zeros: 2032 bytes as they come, 2048 with padding.
fn add_piece(proof: RegisteredSealProof, data: &Path) -> PieceInfo {
    let source = io::repeat(0xa5).take(2032);
    let mut file = fs::File::create(data).unwrap();
    let all = UnpaddedBytesAmount(2032);
    seal::add_piece(proof, source, &mut file, all, &[])
        .unwrap()
        .0
}

fn by_the_library(
    proof: RegisteredSealProof,
    files: &Files,
    pieces: &[PieceInfo],
) -> seal::SealPreCommitPhase2Output {
    let (cache, number) = (&files.cache, ApiSectorId::from(NUMBER));
    let pc1 = seal::seal_pre_commit_phase1(
        proof,
        cache,
        &files.data,
        &files.sealed,
        prover(),
        number,
        TICKET,
        pieces,
    );
    seal::seal_pre_commit_phase2(pc1.unwrap(), cache, &files.sealed).unwrap()
}

/// The number of the proof is what makes its graph and its replica id another.
fn replica_id(number: u64, comm_d: [u8; 32]) -> [u8; 32] {
    let hash = Sha256::new()
        .chain_update(prover())
        .chain_update(NUMBER.to_be_bytes())
        .chain_update(TICKET)
        .chain_update(comm_d)
        .chain_update(porep_id(number));
    let mut id: [u8; 32] = hash.finalize().into();
    id[31] &= 0x3f;
    id
}

/// Returns `CommD` and `CommR`.
fn by_our_kernels(number: u64, files: &Files) -> ([u8; 32], [u8; 32]) {
    let cache = &files.cache;
    let tree_d = cache.join("sc-02-data-tree-d.dat");
    let comm_d = own::tree_d(&tree_d, Some(&files.data), BYTES / 32)
        .unwrap()
        .0;
    let lane = sdr::Lane {
        replica_id: replica_id(number, comm_d),
        folder: cache.clone(),
    };
    let labels = sdr::Job {
        layers: LAYERS,
        lanes: &[lane],
        rows: &Graph::new(BYTES / 32, &porep_id(number)).unwrap(),
        options: sdr::Options::default(),
    };
    sdr::label(&labels).unwrap();
    let job = trees::Job {
        shape: Shape::of_sector(BYTES).unwrap(),
        cache,
        layers: LAYERS,
        sums: &[],
        kernel: Kernel::best(),
        threads: 2,
        progress: &|_, _| {},
    };
    let data = trees::Data::File(&files.data);
    let made = trees::build(&job, data, &files.sealed).unwrap();
    (comm_d, made.comm_r)
}

/// From our replica: by us with the last layer, by the library from nothing, without padding.
fn unsealed_as_the_library_does(
    dir: &Path,
    proof: RegisteredSealProof,
    ours: &Files,
    comm_d: [u8; 32],
) {
    let (data, key) = (dir.join("back"), ours.cache.join(sdr::layer_name(LAYERS)));
    let job = trees::Decode {
        nodes: BYTES / 32,
        key: &key,
        replica: &ours.sealed,
        threads: 2,
        progress: &|_| {},
    };
    trees::decode(&job, &data).unwrap();
    assert_eq!(fs::read(&data).unwrap(), fs::read(&ours.data).unwrap());
    assert_eq!(trees::comm_d(&data, BYTES / 32, 2).unwrap(), comm_d);
    let scratch = dir.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let made = seal::get_unsealed_range(
        proof,
        &scratch,
        &ours.sealed,
        &data,
        prover(),
        ApiSectorId::from(NUMBER),
        comm_d,
        TICKET,
        UnpaddedByteIndex(0),
        UnpaddedBytesAmount(2032),
    );
    assert_eq!(made.unwrap(), UnpaddedBytesAmount(2032));
    assert_eq!(fs::read(data).unwrap(), [0xa5; 2032]);
}

/// `number` is that of the proof on chain.
fn sealed_as_the_library_does(dir: &Path, proof: RegisteredSealProof, number: u64) {
    let (theirs, ours) = (Files::new(&dir.join("a")), Files::new(&dir.join("b")));
    let pieces = [theirs.data.as_path(), &ours.data].map(|d| add_piece(proof, d));
    let pieces = &pieces[..1];
    let want = by_the_library(proof, &theirs, pieces);
    assert_eq!(by_our_kernels(number, &ours), (want.comm_d, want.comm_r));
    assert_eq!(ours.digests(), theirs.digests());
    unsealed_as_the_library_does(dir, proof, &ours, want.comm_d);
    // It says where the trees are; the library puts in the folder that it is read from.
    fs::copy(theirs.cache.join("t_aux"), ours.cache.join("t_aux")).unwrap();
    fs::remove_dir_all(theirs.cache).unwrap();
    let (cache, sealed, id) = (&ours.cache, &ours.sealed, ApiSectorId::from(NUMBER));
    if proof.feature_enabled(ApiFeature::SyntheticPoRep) {
        let made = want.clone();
        seal::generate_synth_proofs(cache, sealed, prover(), id, TICKET, made, pieces).unwrap();
        seal::clear_cache(cache).unwrap();
        assert!(!cache.join(trees::layer_name(1)).exists());
    }
    let c1 = seal::seal_commit_phase1(cache, sealed, prover(), id, TICKET, SEED, want, pieces);
    assert_eq!(c1.unwrap().registered_proof, proof);
}

fn seal_of(name: &str, proof: RegisteredSealProof, number: u64) {
    isolated(name, Path::new("/nonexistent"), |dir| {
        sealed_as_the_library_does(dir, proof, number);
    });
}

#[test]
fn interactive_seal_is_that_of_the_library() {
    let name = "interactive_seal_is_that_of_the_library";
    seal_of(name, RegisteredSealProof::StackedDrg2KiBV1_1, 5);
}

#[test]
fn synthetic_seal_is_that_of_the_library() {
    let name = "synthetic_seal_is_that_of_the_library";
    let proof = RegisteredSealProof::StackedDrg2KiBV1_1_Feat_SyntheticPoRep;
    seal_of(name, proof, 10);
}

#[test]
fn non_interactive_seal_is_that_of_the_library() {
    let name = "non_interactive_seal_is_that_of_the_library";
    let proof = RegisteredSealProof::StackedDrg2KiBV1_2_Feat_NonInteractivePoRep;
    seal_of(name, proof, 15);
}
