//! PC1 with our kernels: one, two or four sectors in lock step.

use std::{
    cell::Cell,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use filecoin_proofs_api::seal::compute_comm_d;
use filstar_kernels::{
    Error as KernelError,
    parents::ParentsFile,
    pool::Pool,
    sdr::{self, Lane, Options},
};

use super::{Own, tree_d};
use crate::{
    durable,
    engine::{Data, Labelled, SealJob},
    error::{Error, Result},
    hash::{Hash32, replica_id},
    params,
    proof::SealProof,
    steps::Progress,
    stock::api_pieces,
};

/// Rows of a parents file that are computed and compared before it is used.
const SAMPLES: u64 = 256;
/// How often progress is told.
const EVERY: Duration = Duration::from_secs(1);

/// Labels all sectors; they must have the same proof type. All are told the same progress.
pub(super) fn run(own: &Own, jobs: &[SealJob<'_>], data: Data) -> Result<Vec<Labelled>> {
    let Some(first) = jobs.first() else {
        return Ok(Vec::new());
    };
    let proof = first.place.proof;
    if jobs.iter().any(|j| j.place.proof != proof) {
        let text = "sectors that are labelled together have one proof type";
        return Err(Error::Input(text.to_owned()));
    }
    let mut commitments = Vec::new();
    let mut lanes = Vec::new();
    for job in jobs {
        let (place, sector) = (job.place, job.place.sector);
        let comm_d = prepare(job, data)?;
        let id = replica_id(
            proof,
            &sector.prover_id(),
            sector.number,
            job.ticket,
            comm_d,
        );
        commitments.push(comm_d);
        lanes.push(Lane {
            replica_id: id.0,
            folder: place.cache(),
        });
    }
    let report = label(own, proof, &lanes, &|p| {
        for job in jobs {
            (job.progress)(in_words("PC1", p, lanes.len()));
        }
    })?;
    let done = commitments.into_iter().zip(report.layers);
    Ok(done
        .map(|(comm_d, digests)| Labelled { comm_d, digests })
        .collect())
}

/// Labels what is missing of the layers in the lanes' folders; tells how far it is each second at most.
pub(super) fn label(
    own: &Own,
    proof: SealProof,
    lanes: &[Lane],
    tell: &dyn Fn(&sdr::Progress),
) -> Result<sdr::Report> {
    let first = lanes.first().map_or([0; 32], |lane| lane.replica_id);
    let parents = parents(own, proof, &first)?;
    let last = Cell::new(None::<Instant>);
    let report = sdr::label(&sdr::Job {
        layers: proof.layers(),
        lanes,
        rows: &parents,
        options: Options {
            kernel: own.labels,
            pages: own.pages,
            pool: own.pool.as_ref(),
            progress: &|p| {
                let now = Instant::now();
                if last.get().is_none_or(|t| now - t >= EVERY) {
                    last.set(Some(now));
                    tell(&p);
                }
            },
            ..Options::default()
        },
    })?;
    tracing::info!(
        kernel = own.labels.name(),
        pages = report.pages.name(),
        sectors = lanes.len(),
        pool = own.pool.as_ref().map_or(0, Pool::bytes),
        nodes = report.labelled,
        seconds = report.labelling.as_secs(),
        "layers are labelled"
    );
    Ok(report)
}

/// Makes the replica's file and tree-d; returns its root.
fn prepare(job: &SealJob<'_>, data: Data) -> Result<Hash32> {
    let place = job.place;
    let (sealed, unsealed) = (place.sealed(), place.unsealed());
    let data = match data {
        Data::Zeros => {
            let file = File::create(&sealed).map_err(Error::io("create", &sealed))?;
            file.set_len(place.proof.sector_bytes())
                .map_err(Error::io("extend", &sealed))?;
            None
        }
        Data::Unsealed => {
            durable::copy(&unsealed, &sealed)?;
            Some(unsealed.as_path())
        }
    };
    let want = compute_comm_d(place.proof.seal(), &api_pieces(job.pieces)?);
    let want = want.map_err(|e| Error::Input(format!("the pieces make no sector: {e:#}")))?;
    let path = place.cache().join("sc-02-data-tree-d.dat");
    let root = tree_d::ensure(&path, data, place.proof.nodes())?;
    if root != Hash32(want) {
        durable::remove(&path)?;
        return Err(Error::damaged(
            data.unwrap_or(path.as_path()),
            format!(
                "the data has CommD {root}, its pieces have {}",
                Hash32(want)
            ),
        ));
    }
    Ok(root)
}

/// The parents file, as its manifest says it is. One that is missing or wrong is made where the
/// folder can be written.
fn parents(own: &Own, proof: SealProof, replica_id: &[u8; 32]) -> Result<ParentsFile> {
    let path = own.parents.join(params::parents_name(proof)?);
    let graph = params::graph(proof)?;
    let [a, b, c, d, ..] = *replica_id;
    let shift = u64::from(u32::from_le_bytes([a, b, c, d]));
    let open = || {
        let file = ParentsFile::open(&path, proof.nodes())?;
        file.compare(&graph, SAMPLES, shift)?;
        Ok::<_, KernelError>(file)
    };
    recorded(&own.parents, proof, &path, params::Depth::Quick)?;
    let file = open();
    if let Err(KernelError::Damaged { why, .. }) = &file {
        tracing::warn!(path = %path.display(), why, "the parents are checked again, whole");
        recorded(&own.parents, proof, &path, params::Depth::Full)?;
        return Ok(open()?);
    }
    Ok(file?)
}

/// Sees to it that the file is the one that the manifest of its folder knows.
fn recorded(parents: &Path, proof: SealProof, path: &Path, depth: params::Depth) -> Result<()> {
    let dir = durable::parent(parents);
    let wanted = params::Wanted {
        purposes: vec![params::Purpose::Parents],
        depth,
        ..params::Wanted::all(proof)
    };
    let in_place = params::parents_dir(dir) == parents;
    let made = if in_place {
        let report = params::check(dir, &wanted)?;
        if report.is_good() {
            return Ok(());
        }
        let complaints = report.complaints().join("; ");
        tracing::warn!(complaints, "the parents are made again");
        params::ensure(dir, &wanted, &|_| {}).map_err(|e| format!("{complaints}; {e}"))
    } else {
        Err(format!(
            "it is not in a folder {}",
            params::parents_dir(Path::new("")).display()
        ))
    };
    made.map(drop).map_err(|why| {
        Error::Parameters(format!(
            "the parents cache of {proof} at {} cannot be used: {why}. Make it with `sealer-pod \
             params`, and set FIL_PROOFS_PARENT_CACHE to its folder, with a slash at the end",
            path.display(),
        ))
    })
}

/// `what` is the step that labels.
pub(super) fn in_words(what: &str, p: &sdr::Progress, sectors: usize) -> Progress {
    let done = u64::from(p.layer - 1) * p.nodes + p.node;
    let all = u64::from(p.layers) * p.nodes;
    #[expect(clippy::cast_precision_loss, reason = "a time to look at")]
    let left = (all - done) as f64 * sectors as f64 / p.rate.max(1.0);
    Progress {
        percent: u32::try_from(done * 100 / all.max(1)).unwrap_or(100),
        detail: format!(
            "{what}: layer {} of {}, node {} of {}, {:.2} million nodes/s, {} left",
            p.layer,
            p.layers,
            p.node,
            p.nodes,
            p.rate / 1e6,
            duration(left),
        ),
    }
}

pub(super) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil();
    if minutes < 60.0 {
        format!("{minutes} min")
    } else {
        format!("{} h {} min", (minutes / 60.0).floor(), minutes % 60.0)
    }
}

impl From<KernelError> for Error {
    fn from(e: KernelError) -> Self {
        match e {
            KernelError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            KernelError::Damaged { path, why } => Self::Damaged { path, why },
            KernelError::Input(text) => Self::Input(text),
            KernelError::Memory(_) | KernelError::Stopped => Self::Prover {
                step: "PC1",
                text: e.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_layer_node_rate_and_time_left() {
        let p = sdr::Progress {
            layer: 3,
            layers: 11,
            node: 1 << 29,
            nodes: 1 << 30,
            rate: 1.25e6,
        };
        let said = in_words("PC1", &p, 1);
        assert_eq!(said.percent, 22);
        let want = "PC1: layer 3 of 11, node 536870912 of 1073741824, 1.25 million nodes/s, 2 h 2 min left";
        assert_eq!(said.detail, want);
        assert!(in_words("PC1", &p, 4).detail.contains("8 h 7 min"));
    }
}
