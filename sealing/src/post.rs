//! Reading sectors for proofs of spacetime, ourselves: what the stock library reads one node at a
//! time and hashes one after the other is read in few pieces and hashed in batches here.
//!
//! ```text
//! randomness ─► challenges ─► plan of reads ─► bytes ─► paths, checked ─► vanilla proof
//! ```
//! The result is byte by byte what the library makes. Every path is checked up to the replica's
//! commitment before it is handed out, so that one bad sector cannot spoil the proof of a partition.
//!
//! | module | what it is |
//! |---|---|
//! | [`shape`] | how the trees over a replica are cut into files and rows |
//! | [`challenge`] | which leaves are asked for |
//! | [`plan`] | which bytes of which files that takes, sorted and merged |
//! | [`paths`] | the Merkle paths, rebuilt and checked |
//! | [`encode`] | the proof as bytes |
//! | [`many`] | many sectors at once, each with a deadline |
//! | [`partition`] | a whole partition, from the stores to a file of proofs |
//! | [`poseidon`] | hashing in batches |

pub(crate) mod challenge;
pub(crate) mod encode;
pub(crate) mod many;
pub mod partition;
pub(crate) mod paths;
pub(crate) mod plan;
pub(crate) mod poseidon;
pub mod shape;

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use self::{
    paths::{Reads, Roots},
    plan::{FileId, Plan, Span},
    shape::Shape,
};
use crate::{
    error::{Error, Result},
    hash::Hash32,
    sector::Place,
    task::VanillaProof,
};

/// Challenges of one sector in a window `PoSt`.
///
/// # Source
/// `WINDOW_POST_CHALLENGE_COUNT` in filecoin-proofs 19.1.
pub const WINDOW_CHALLENGES: u64 = 10;

/// Challenges of the one sector in a winning `PoSt`.
///
/// # Source
/// `WINNING_POST_CHALLENGE_COUNT` in filecoin-proofs 19.1.
pub const WINNING_CHALLENGES: u64 = 66;

/// A node of a tree: an element of the field, little-endian.
pub(crate) type Node = [u8; 32];

/// A sector's files and what they must be.
#[derive(Clone, Debug)]
pub struct SectorFiles {
    /// How its trees are cut.
    pub shape: Shape,
    /// Its number.
    pub number: u64,
    /// The replica.
    pub replica: PathBuf,
    /// The folder of `p_aux` and tree-r-last.
    pub cache: PathBuf,
    /// The commitment on chain.
    pub comm_r: Hash32,
}

impl SectorFiles {
    /// The files of a sector in its place.
    pub fn of(place: &Place, comm_r: Hash32) -> Self {
        Self {
            shape: Shape::of(place.proof),
            number: place.sector.number,
            replica: place.sealed(),
            cache: place.cache(),
            comm_r,
        }
    }
}

/// Reads what the challenges of a window `PoSt` ask of a sector.
///
/// # Errors
/// `Corrupt`, naming the file, when it is missing or not what the commitment on chain says.
pub fn window_vanilla(input: &VanillaProof) -> Result<Vec<u8>> {
    challenged(input, WINDOW_CHALLENGES)
}

/// Reads what the challenges of a winning `PoSt` ask of the sector that was drawn.
///
/// # Errors
/// As [`window_vanilla`].
pub fn winning_vanilla(input: &VanillaProof) -> Result<Vec<u8>> {
    challenged(input, WINNING_CHALLENGES)
}

fn challenged(input: &VanillaProof, count: u64) -> Result<Vec<u8>> {
    let files = SectorFiles::of(&input.place, input.comm_r);
    let nodes = files.shape.nodes();
    let leaves = challenge::leaves(input.randomness, files.number, count, nodes);
    vanilla(&files, &leaves)
}

/// Reads the paths of some leaves of a sector and makes the vanilla proof of them.
///
/// # Errors
/// `Corrupt`, naming the file, when it is missing or not what the commitment on chain says.
pub fn vanilla(files: &SectorFiles, leaves: &[u64]) -> Result<Vec<u8>> {
    let roots = read_roots(files)?;
    let plan = plan::plan(files.shape, leaves);
    let reads = read(files, &plan)?;
    let paths = paths::build(files, &roots, &reads, leaves)?;
    Ok(encode::sector(files, &roots, &paths))
}

/// Reads `p_aux` and compares it with the commitment on chain.
fn read_roots(files: &SectorFiles) -> Result<Roots> {
    let path = files.cache.join("p_aux");
    let mut bytes = [0; 65];
    let file = open(&path)?;
    let read = read_up_to(&file, &mut bytes, &path)?;
    if read != 64 {
        return Err(Error::damaged(&path, "it has not 64 bytes"));
    }
    let (mut comm_c, mut comm_r_last) = ([0; 32], [0; 32]);
    comm_c.copy_from_slice(&bytes[..32]);
    comm_r_last.copy_from_slice(&bytes[32..64]);
    if commitment(comm_c, comm_r_last).ok() != Some(files.comm_r) {
        let why = format!(
            "its commitments are not those of the replica {} on chain",
            files.comm_r
        );
        return Err(Error::damaged(&path, why));
    }
    Ok(Roots {
        comm_c,
        comm_r_last,
    })
}

/// The replica's commitment, of those of its columns and of its tree.
///
/// # Errors
/// When one of them is no element of the field.
pub fn commitment(comm_c: [u8; 32], comm_r_last: [u8; 32]) -> Result<Hash32> {
    poseidon::hash_two(comm_c, comm_r_last).map(Hash32)
}

/// Executes a plan: each file opened once, its pieces in order.
fn read(files: &SectorFiles, plan: &Plan) -> Result<Reads> {
    let mut reads = Reads::default();
    for (id, spans) in plan.files() {
        let path = path_of(files, id);
        let file = open(&path)?;
        let want = files.shape.file_bytes(id);
        let found = file.metadata().map_err(Error::io("look at", &path))?.len();
        if found != want {
            let why = format!("it has {found} bytes instead of {want}");
            return Err(Error::damaged(&path, why));
        }
        for span in spans {
            reads.insert(id, *span, read_span(&file, *span, &path)?);
        }
    }
    Ok(reads)
}

pub(crate) fn path_of(files: &SectorFiles, id: FileId) -> PathBuf {
    match id {
        FileId::Replica => files.replica.clone(),
        FileId::Tree(_) if files.shape.base_trees() == 1 => {
            files.cache.join("sc-02-data-tree-r-last.dat")
        }
        FileId::Tree(i) => files.cache.join(format!("sc-02-data-tree-r-last-{i}.dat")),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            Error::damaged(path, "the file is not there")
        } else {
            Error::io("open", path)(e)
        }
    })
}

fn read_span(file: &File, span: Span, path: &Path) -> Result<Vec<u8>> {
    let len =
        usize::try_from(span.len).map_err(|e| Error::Setup(format!("{}: {e}", path.display())))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, span.offset).map_err(|e| {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            Error::damaged(path, "it became shorter while it was read")
        } else {
            Error::io("read", path)(e)
        }
    })?;
    Ok(bytes)
}

fn read_up_to(file: &File, bytes: &mut [u8], path: &Path) -> Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path)(e)),
        }
    }
    Ok(done)
}
