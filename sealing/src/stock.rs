//! The stock engine: the network's reference library, `filecoin-proofs-api`.
//!
//! Its settings (where parameters and parents are) are the environment of the process. It panics on
//! some inputs: a panic comes back as an error.

use std::{
    collections::BTreeMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use filecoin_proofs::{
    constants::{
        SectorShape2KiB, SectorShape8MiB, SectorShape32GiB, SectorShape64GiB, SectorShape512MiB,
    },
    types::{Labels, StoreConfig},
};
use filecoin_proofs_api::{
    PieceInfo, PrivateReplicaInfo, PublicReplicaInfo, SectorId as ApiSectorId, UnpaddedByteIndex,
    UnpaddedBytesAmount, post, seal,
};
use storage_proofs_core::{cache_key::CacheKey, settings::SETTINGS};

use crate::{
    durable,
    engine::{Commitments, Data, Engine, Labelled, SealJob, UnsealJob, by_number},
    error::{Error, Result},
    hash::Hash32,
    params,
    proof::SealProof,
    sector::{Place, prover_id},
    task::{Piece, VanillaProof, VerifySeal, VerifyWindowPoSt, WindowPartition},
};

/// The reference library.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stock;

impl Stock {
    /// Reads what the challenges of one sector ask for; [`window_vanilla`](crate::post::window_vanilla) is compared with it.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read.
    pub fn vanilla_proof(self, input: &VanillaProof) -> Result<Vec<u8>> {
        let place = &input.place;
        let proof = place.proof.window();
        let (id, randomness) = (
            ApiSectorId::from(place.sector.number),
            input.randomness.in_field(),
        );
        let replica = PrivateReplicaInfo::new(proof, input.comm_r.0, place.cache(), place.sealed());
        guard("vanilla proof", || {
            let prover = place.sector.prover_id();
            let challenges =
                post::generate_fallback_sector_challenges(proof, &randomness.0, &[id], prover)?;
            post::generate_single_vanilla_proof(proof, id, &replica, &challenges[&id])
        })
    }
}

impl Engine for Stock {
    fn name(&self) -> &'static str {
        "stock"
    }

    fn pc1(&self, job: &SealJob<'_>, data: Data) -> Result<Labelled> {
        let (place, pieces) = (job.place, api_pieces(job.pieces)?);
        require_parents(place.proof)?;
        let (cache, sealed, unsealed) = (place.cache(), place.sealed(), place.unsealed());
        let input = match data {
            Data::Zeros => Path::new("/dev/zero"),
            Data::Unsealed => unsealed.as_path(),
        };
        File::create(&sealed).map_err(Error::io("create", &sealed))?;
        let out = guard("PC1", || {
            seal::seal_pre_commit_phase1(
                place.proof.seal(),
                &cache,
                input,
                &sealed,
                place.sector.prover_id(),
                ApiSectorId::from(place.sector.number),
                job.ticket.0,
                &pieces,
            )
        })?;
        Ok(Labelled {
            comm_d: Hash32(out.comm_d),
            digests: Vec::new(),
        })
    }

    fn pc2(&self, job: &SealJob<'_>, comm_d: Hash32) -> Result<Hash32> {
        let (cache, sealed) = (job.place.cache(), job.place.sealed());
        let phase1 = phase1_output(job.place, comm_d)?;
        let out = guard("PC2", || {
            seal::seal_pre_commit_phase2(phase1, &cache, &sealed)
        })?;
        Ok(Hash32(out.comm_r))
    }

    fn c1(&self, job: &SealJob<'_>, sealed: &Commitments, seed: Hash32) -> Result<Vec<u8>> {
        let (place, pieces) = (job.place, api_pieces(job.pieces)?);
        let commitments = seal::SealPreCommitPhase2Output {
            registered_proof: place.proof.seal(),
            comm_r: sealed.comm_r.0,
            comm_d: sealed.comm_d.0,
        };
        let out = guard("C1", || {
            seal::seal_commit_phase1(
                place.cache(),
                place.sealed(),
                place.sector.prover_id(),
                ApiSectorId::from(place.sector.number),
                job.ticket.0,
                seed.0,
                commitments,
                &pieces,
            )
        })?;
        serde_json::to_vec(&out).map_err(|e| Error::Prover {
            step: "C1",
            text: format!("output as JSON: {e}"),
        })
    }

    /// The library gives data back without the bits that padding adds; they are put in again. It holds the whole
    /// sector in memory.
    fn unseal(&self, job: &UnsealJob<'_>) -> Result<Option<(PathBuf, [u8; 32])>> {
        let (proof, sector) = (job.place.proof, job.place.sector);
        require_parents(proof)?;
        let bytes = UnpaddedBytesAmount(proof.sector_bytes() / 128 * 127);
        let raw = job.layers.join("data");
        let replica = File::open(job.replica).map_err(Error::io("open", job.replica))?;
        let out = File::create(&raw).map_err(Error::io("create", &raw))?;
        guard("Unseal", || {
            seal::unseal_range(
                proof.seal(),
                job.layers,
                replica,
                &out,
                sector.prover_id(),
                ApiSectorId::from(sector.number),
                job.comm_d.0,
                job.ticket.0,
                UnpaddedByteIndex(0),
                bytes,
            )
        })?;
        let source = File::open(&raw).map_err(Error::io("open", &raw))?;
        let mut options = File::options();
        let data = options.read(true).write(true).create(true).truncate(true);
        let data = data.open(job.data).map_err(Error::io("create", job.data))?;
        guard("Unseal", || {
            seal::write_and_preprocess(proof.seal(), source, &data, bytes)
        })?;
        Ok(None)
    }

    fn verify_seal(&self, input: &VerifySeal) -> Result<bool> {
        require_seal_files(input.proof_type, Want::ToVerify)?;
        let verdict = guard("verify seal", || {
            seal::verify_seal(
                input.proof_type.seal(),
                input.comm_r.0,
                input.comm_d.0,
                prover_id(input.actor),
                ApiSectorId::from(input.number),
                input.ticket.0,
                input.seed.0,
                &input.proof.0,
            )
        });
        Ok(holds("seal", verdict))
    }

    fn window_partition(&self, input: &WindowPartition, vanilla: &[Vec<u8>]) -> Result<Vec<u8>> {
        require_window_files(input.proof_type, Want::ToProve)?;
        let proof = input.proof_type.window();
        let randomness = input.randomness.in_field();
        guard("window PoSt", || {
            let part = post::generate_single_window_post_with_vanilla(
                proof,
                &randomness.0,
                prover_id(input.actor),
                vanilla,
                0,
            )?;
            post::merge_window_post_partition_proofs(proof, vec![part])
        })
    }

    fn verify_window_post(&self, input: &VerifyWindowPoSt) -> Result<bool> {
        require_window_files(input.proof_type, Want::ToVerify)?;
        let proof = input.proof_type.window();
        let sectors = by_number(&input.sectors);
        let replicas: BTreeMap<_, _> = sectors
            .iter()
            .map(|s| {
                (
                    ApiSectorId::from(s.number),
                    PublicReplicaInfo::new(proof, s.comm_r.0),
                )
            })
            .collect();
        let verdict = guard("verify window PoSt", || {
            post::verify_window_post(
                &input.randomness.in_field().0,
                &[(proof, &input.proof.0)],
                &replicas,
                prover_id(input.actor),
            )
        });
        Ok(holds("window PoSt", verdict))
    }
}

/// What PC1 gives to PC2, from the files and not from its output: that holds absolute paths, which
/// another pod may not have.
fn phase1_output(place: &Place, comm_d: Hash32) -> Result<seal::SealPreCommitPhase1Output> {
    Ok(seal::SealPreCommitPhase1Output {
        registered_proof: place.proof.seal(),
        labels: labels(place.proof, layer_stores(place)?),
        config: tree_d_store(place)?,
        comm_d: comm_d.0,
    })
}

/// Where the library finds the layers.
pub(crate) fn layer_stores(place: &Place) -> Result<Vec<StoreConfig>> {
    let nodes = nodes(place)?;
    let layers = 1..=place.proof.layers() as usize;
    Ok(layers
        .map(|l| store(place, CacheKey::label_layer(l), nodes))
        .collect())
}

/// Where the library finds the tree over the data.
pub(crate) fn tree_d_store(place: &Place) -> Result<StoreConfig> {
    let size = 2 * nodes(place)? - 1;
    Ok(store(place, CacheKey::CommDTree.to_string(), size))
}

/// A file of so many nodes in the cache folder.
pub(crate) fn store(place: &Place, id: String, nodes: usize) -> StoreConfig {
    StoreConfig {
        path: place.cache(),
        id,
        size: Some(nodes),
        rows_to_discard: 0,
    }
}

fn nodes(place: &Place) -> Result<usize> {
    usize::try_from(place.proof.nodes())
        .map_err(|e| Error::Setup(format!("sectors this large need a 64-bit machine: {e}")))
}

fn labels(proof: SealProof, layers: Vec<StoreConfig>) -> seal::Labels {
    match proof {
        SealProof::StackedDrg2KiBV1P1 => {
            seal::Labels::StackedDrg2KiBV1(Labels::<SectorShape2KiB>::new(layers))
        }
        SealProof::StackedDrg8MiBV1P1 => {
            seal::Labels::StackedDrg8MiBV1(Labels::<SectorShape8MiB>::new(layers))
        }
        SealProof::StackedDrg512MiBV1P1 => {
            seal::Labels::StackedDrg512MiBV1(Labels::<SectorShape512MiB>::new(layers))
        }
        SealProof::StackedDrg32GiBV1P1 => {
            seal::Labels::StackedDrg32GiBV1(Labels::<SectorShape32GiB>::new(layers))
        }
        SealProof::StackedDrg64GiBV1P1 => {
            seal::Labels::StackedDrg64GiBV1(Labels::<SectorShape64GiB>::new(layers))
        }
    }
}

pub(crate) fn api_pieces(pieces: &[Piece]) -> Result<Vec<PieceInfo>> {
    let one = |p: &Piece| {
        let size = UnpaddedBytesAmount(p.padded_bytes / 128 * 127);
        PieceInfo::new(p.commitment.0, size)
            .map_err(|e| Error::Input(format!("piece {}: {e:#}", p.commitment)))
    };
    pieces.iter().map(one).collect()
}

#[derive(Clone, Copy)]
pub(crate) enum Want {
    ToProve,
    ToVerify,
}

/// The library looks for parameters deep inside and says then that a proof is bad; so look first.
pub(crate) fn require_seal_files(proof: SealProof, want: Want) -> Result<()> {
    let path = match want {
        Want::ToProve => proof.seal().cache_params_path(),
        Want::ToVerify => proof.seal().cache_verifying_key_path(),
    };
    require(proof, path.map_err(|e| format!("{e:#}")))
}

fn require_window_files(proof: SealProof, want: Want) -> Result<()> {
    let path = match want {
        Want::ToProve => proof.window().cache_params_path(),
        Want::ToVerify => proof.window().cache_verifying_key_path(),
    };
    require(proof, path.map_err(|e| format!("{e:#}")))
}

/// Without the file the library would make it, in place: a process killed then leaves one of the
/// right size with wrong rows, which the next one takes. A short one kills the process.
fn require_parents(proof: SealProof) -> Result<()> {
    let path = format!("{}{}", SETTINGS.parent_cache, params::parents_name(proof)?);
    let (path, want) = (Path::new(&path), params::parents_bytes(proof));
    match durable::size(path)? {
        Some(n) if n == want => Ok(()),
        found => Err(Error::Parameters(format!(
            "the parents cache of {proof} at {} has {} bytes, not {want}. Make it with `sealer-pod \
             params`, and set FIL_PROOFS_PARENT_CACHE to its folder, with a slash at the end",
            path.display(),
            found.unwrap_or(0),
        ))),
    }
}

fn require(proof: SealProof, path: std::result::Result<PathBuf, String>) -> Result<()> {
    let path = path.map_err(|text| Error::Prover {
        step: "parameter names",
        text,
    })?;
    match File::open(&path) {
        Ok(_) => params::check_size(&path),
        Err(e) => Err(Error::Parameters(format!(
            "parameters of {proof} cannot be read at {}: {e}. Make or check them with \
             `sealer-pod params`, and set FIL_PROOFS_PARAMETER_CACHE to their folder",
            path.display()
        ))),
    }
}

/// An error of the library means that the proof cannot even be parsed: it does not hold.
fn holds(what: &str, verdict: Result<bool>) -> bool {
    verdict.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "{what} proof cannot be read: it does not hold");
        false
    })
}

/// Runs the library; its errors and panics become ours.
pub(crate) fn guard<T, E: std::fmt::Debug>(
    step: &'static str,
    f: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(failed(step, &short(&format!("{e:?}")))),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Error::Prover {
                step,
                text: format!("the proof library panicked: {text}"),
            })
        }
    }
}

/// What the system refused is told as such, so that its remedy is told too.
fn failed(step: &'static str, text: &str) -> Error {
    let code = text.rsplit_once("(os error ").and_then(|(_, rest)| {
        let (code, _) = rest.split_once(')')?;
        code.parse().ok()
    });
    match code {
        Some(code) => Error::Io {
            action: step,
            path: text.into(),
            source: std::io::Error::from_raw_os_error(code),
        },
        None => Error::Prover {
            step,
            text: text.to_owned(),
        },
    }
}

/// The chain of causes without the backtrace, on one line.
fn short(debug: &str) -> String {
    let text = debug.split("Stack backtrace:").next().unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ")
}
