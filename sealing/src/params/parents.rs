//! The parents cache: for each node of the graph its 14 parents. Every sector of a proof type uses
//! the same file.
//!
//! # Shape
//! Rows of 14 `u32`, little-endian: 6 parents of the same layer, 8 of the layer before.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use filecoin_proofs::{parameters::public_params, types::PoRepConfig, with_shape};
use filecoin_proofs_api::Hasher;
use filstar_kernels::{
    graph::{Graph, porep_id},
    parents as rows,
};
use sha2::{Digest, Sha256};
use storage_proofs_core::{
    drgraph::Graph as _,
    merkle::MerkleTreeTrait,
    parameter_cache::{ParameterSetMetadata, VERSION},
};
use storage_proofs_porep::stacked::StackedBucketGraph;

use crate::{
    error::{Error, Result},
    proof::SealProof,
};

/// Folder of parents caches inside a folder of parameters.
pub(super) const FOLDER: &str = "parents";
/// Bytes of a node's row.
pub(super) const ROW_BYTES: u64 = rows::ROW_BYTES as u64;

/// Name relative to the folder of parameters.
pub(super) fn file_name(proof: SealProof) -> Result<String> {
    Ok(format!("{FOLDER}/{}", file_stem(proof)?))
}

/// Name inside the folder of parents caches.
///
/// # Source
/// `cache_path` in storage-proofs-porep 19.1, `stacked/vanilla/cache.rs`.
pub(super) fn file_stem(proof: SealProof) -> Result<String> {
    let config = proof.seal().as_v1_config();
    with_shape!(proof.sector_bytes(), name, &config)
}

/// Computes the file on all cores.
pub(super) fn make(proof: SealProof, path: &Path) -> Result<()> {
    let graph = porep_graph(proof)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::new(file);
    rows::write(&graph, threads, &mut out).map_err(Error::io("write", path))?;
    out.flush().map_err(Error::io("write", path))
}

/// The graph of a proof type.
pub(crate) fn porep_graph(proof: SealProof) -> Result<Graph> {
    Graph::new(proof.nodes(), &porep_id(proof.number().unsigned_abs()))
        .map_err(|e| Error::Setup(e.to_string()))
}

fn name<Tree: 'static + MerkleTreeTrait>(config: &PoRepConfig) -> Result<String> {
    let graph = graph::<Tree>(config)?;
    let entries = u32::try_from(graph.size()).map_err(|e| failed(&e.to_string()))?;
    let mut hash = Sha256::new();
    hash.update(<Tree::Hasher as Hasher>::name());
    hash.update(graph.identifier());
    // The keys of the Feistel network are this seed, read as numbers and hashed as its bytes again.
    let seed = Sha256::new()
        .chain_update("Filecoin_Feistel")
        .chain_update(config.porep_id);
    hash.update(seed.finalize());
    hash.update(entries.to_le_bytes());
    Ok(format!(
        "v{VERSION}-sdr-parent-{}.cache",
        hex::encode(hash.finalize())
    ))
}

fn graph<Tree: 'static + MerkleTreeTrait>(
    config: &PoRepConfig,
) -> Result<StackedBucketGraph<Tree::Hasher>> {
    Ok(public_params::<Tree>(config)
        .map_err(|e| failed(&format!("{e:#}")))?
        .graph)
}

fn failed(text: &str) -> Error {
    Error::Prover {
        step: "parents cache",
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME_2K: &str = "494d91dc80f2df5272c4b9e129bc7ade9405225993af9fe34e6542a39a47554b";
    const DIGEST_2K: &str = "840057702eea7652cf97e04306c30fe57174714d90de156a25eddd6075c25b97";
    const NAME_8M: &str = "5eed212119fd91aa6220a27f31a8966444a9381842bceb3a1ea61525bd47a5b5";
    const DIGEST_8M: &str = "03cd13565ded97c240a5f52e54295ad127bd0461b57904cb3a4d79b097bbecab";

    /// Names and digests as published with storage-proofs-porep 19.1, `parent_cache.json`.
    #[test]
    fn vector_parents_of_2_kib_and_8_mib() {
        let dir = tempfile::tempdir().unwrap();
        for (proof, name, digest) in [
            (SealProof::StackedDrg2KiBV1P1, NAME_2K, DIGEST_2K),
            (SealProof::StackedDrg8MiBV1P1, NAME_8M, DIGEST_8M),
        ] {
            assert_eq!(
                file_stem(proof).unwrap(),
                format!("v28-sdr-parent-{name}.cache")
            );
            let path = dir.path().join(name);
            make(proof, &path).unwrap();
            assert_eq!(
                std::fs::metadata(&path).unwrap().len(),
                proof.nodes() * ROW_BYTES
            );
            assert_eq!(crate::durable::sha256(&path).unwrap(), digest);
        }
    }
}
