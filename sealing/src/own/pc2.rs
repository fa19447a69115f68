//! PC2 with our kernels: tree-c, the replica, tree-r-last, `p_aux` and `t_aux`.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use filecoin_proofs::{
    constants::{DefaultPieceHasher, SectorShape2KiB},
    types::StoreConfig,
};
use filstar_kernels::trees::{self, Data, Shape, TreeError};
use storage_proofs_core::cache_key::CacheKey;
use storage_proofs_porep::stacked::TemporaryAux;

use super::{Own, pc1::duration};
use crate::{
    durable,
    engine::SealJob,
    error::{Error, Result},
    hash::{Hash32, zero_commitment},
    sector::Place,
    steps::Progress,
    stock::{layer_stores, store, tree_d_store},
};

/// Builds everything from layers and data. The replica that is there is written over, so nothing
/// needs to be restored before it runs again.
pub(super) fn run(own: &Own, job: &SealJob<'_>, comm_d: Hash32) -> Result<Hash32> {
    let place = job.place;
    check_tree_d(place, comm_d)?;
    let shape = shape(place)?;
    let (cache, unsealed) = (place.cache(), place.unsealed());
    let data = if comm_d == zero_commitment(place.proof) {
        Data::Zeros
    } else {
        Data::File(&unsealed)
    };
    let (told, begin) = (AtomicU32::new(0), Instant::now());
    let progress = |done: u64, whole: u64| {
        let percent = u32::try_from(done * 100 / whole.max(1)).unwrap_or(100);
        if told.fetch_max(percent, Ordering::Relaxed) < percent {
            let detail = in_words(done, whole, place.proof.nodes(), begin.elapsed());
            (job.progress)(Progress { percent, detail });
        }
    };
    let kernel_job = trees::Job {
        shape,
        cache: &cache,
        layers: place.proof.layers(),
        sums: job.sums,
        kernel: own.poseidon,
        threads: own.threads.get(),
        progress: &progress,
    };
    let commitments = trees::build(&kernel_job, data, &place.sealed()).map_err(Error::from)?;
    write_t_aux(place, shape)?;
    Ok(Hash32(commitments.comm_r))
}

/// `done` and `whole` count as the kernel does, which spends most of the whole on tree-c; `nodes` is those of a
/// layer.
#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn in_words(done: u64, whole: u64, nodes: u64, taken: Duration) -> String {
    let share = done as f64 / whole.max(1) as f64;
    let seconds = taken.as_secs_f64().max(1e-9);
    let part = if done < whole.saturating_sub(nodes) {
        "tree-c"
    } else {
        "replica and tree-r-last"
    };
    format!(
        "PC2: {part}, {:.0} %, {:.2} million nodes/s, {} left",
        (share * 100.0).floor(),
        share * nodes as f64 / seconds / 1e6,
        duration(seconds * (1.0 - share) / share.max(1e-9)),
    )
}

/// How the trees of a sector are cut.
pub(crate) fn shape(place: &Place) -> Result<Shape> {
    let bytes = place.proof.sector_bytes();
    let error = || {
        Error::Setup(format!(
            "nobody knows the trees of sectors of {bytes} bytes"
        ))
    };
    Shape::of_sector(bytes).ok_or_else(error)
}

/// The tree over the data must end with the commitment that PC1 gave.
fn check_tree_d(place: &Place, comm_d: Hash32) -> Result<()> {
    let path = place.cache().join("sc-02-data-tree-d.dat");
    let want = (2 * place.proof.nodes() - 1) * 32;
    match durable::size(&path)? {
        Some(n) if n == want => {}
        Some(n) => {
            return Err(Error::damaged(
                &path,
                format!("it has {n} bytes, not {want}"),
            ));
        }
        None => return Err(Error::damaged(&path, "the file is gone")),
    }
    let mut root = [0; 32];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut root, want - 32))
        .map_err(Error::io("read", &path))?;
    if Hash32(root) == comm_d {
        return Ok(());
    }
    let why = format!("its root is {}, not CommD {comm_d}", Hash32(root));
    Err(Error::damaged(&path, why))
}

/// What C1 of the reference library looks up: where the trees are and how many rows they leave out.
/// It puts in its own folder for the paths when it reads them.
fn write_t_aux(place: &Place, shape: Shape) -> Result<()> {
    let nodes = shape.nodes() / shape.trees();
    let tree = |id: CacheKey, rows_to_discard: u32| -> Result<StoreConfig> {
        // All nodes of a base tree: 1 + 8 + 64 + … + its leaves.
        let size = usize::try_from((8 * nodes - 1) / 7).map_err(too_large)?;
        let mut store = store(place, id.to_string(), size);
        store.rows_to_discard = usize::try_from(rows_to_discard).map_err(too_large)?;
        Ok(store)
    };
    // The shape is in the type only, not in what is written.
    let aux = TemporaryAux::<SectorShape2KiB, DefaultPieceHasher> {
        labels: filecoin_proofs::types::Labels::new(layer_stores(place)?),
        tree_d_config: tree_d_store(place)?,
        tree_r_last_config: tree(CacheKey::CommRLastTree, shape.rows_to_discard())?,
        tree_c_config: tree(CacheKey::CommCTree, 0)?,
        _g: std::marker::PhantomData,
    };
    let path = place.cache().join("t_aux");
    let text = bincode::serialize(&aux)
        .map_err(|e| Error::Setup(format!("{} cannot be made: {e}", path.display())))?;
    fs::write(&path, text).map_err(Error::io("write", &path))
}

fn too_large(e: std::num::TryFromIntError) -> Error {
    Error::Setup(format!("sectors this large need a 64-bit machine: {e}"))
}

impl From<TreeError> for Error {
    fn from(e: TreeError) -> Self {
        match e {
            // A file that ends early was cut after its size was looked at.
            TreeError::Io { path, source, .. } if is_short(&source) => {
                Self::damaged(&path, "it became shorter while it was read")
            }
            TreeError::Io {
                action,
                path,
                source,
            } if is_missing(action, &source) => Self::damaged(&path, "the file is gone"),
            TreeError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            TreeError::Size { ref path, .. }
            | TreeError::NotInField { ref path, .. }
            | TreeError::Changed { ref path, .. } => Self::damaged(path, without(path, &e)),
            TreeError::Input(text) => Self::Prover { step: "PC2", text },
        }
    }
}

fn is_short(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::UnexpectedEof
}

fn is_missing(action: &str, e: &io::Error) -> bool {
    action == "open" && e.kind() == io::ErrorKind::NotFound
}

/// The text of an error without the path that it begins with.
fn without(path: &Path, e: &TreeError) -> String {
    let text = e.to_string();
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_part_rate_and_time_left() {
        let (nodes, taken) = (1 << 30, Duration::from_mins(6));
        let whole = 13 * nodes;
        let said = in_words(whole / 4, whole, nodes, taken);
        assert_eq!(said, "PC2: tree-c, 25 %, 0.75 million nodes/s, 18 min left");
        let said = in_words(whole - nodes, whole, nodes, taken);
        assert!(
            said.starts_with("PC2: replica and tree-r-last, 92 %"),
            "{said}"
        );
        assert!(in_words(0, whole, nodes, Duration::ZERO).contains("tree-c, 0 %"));
    }
}
