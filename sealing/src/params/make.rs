//! Makes Groth16 parameters. Whoever makes them can forge proofs: for test sizes only.

use std::{fs::File, io::BufWriter, path::Path};

use bellperson::groth16::{Parameters, generate_random_parameters};
use blstrs::Bls12;
use filecoin_proofs::{
    constants::DefaultPieceHasher,
    parameters::{public_params, window_post_public_params},
    types::{PoRepConfig, PoStConfig},
    with_shape,
};
use rand::rngs::OsRng;
use storage_proofs_core::{compound_proof::CompoundProof, merkle::MerkleTreeTrait};
use storage_proofs_porep::stacked::{StackedCompound, StackedDrg};
use storage_proofs_post::fallback::{FallbackPoSt, FallbackPoStCircuit, FallbackPoStCompound};

use super::Purpose;
use crate::{
    error::{Error, Result},
    proof::SealProof,
};

/// Makes one pair of files: parameters and their verifying key.
pub(super) fn pair(purpose: Purpose, proof: SealProof, params: &Path, key: &Path) -> Result<()> {
    let size = proof.sector_bytes();
    let made = match purpose {
        Purpose::Parents => Err("a parents cache is no pair of parameters".to_owned()),
        Purpose::PoRep => with_shape!(size, porep, &proof.seal().as_v1_config()),
        Purpose::WindowPoSt => with_shape!(size, window, &proof.window().as_v1_config()),
    };
    let made = made.map_err(|text| Error::Prover {
        step: "making parameters",
        text,
    })?;
    write(params, |w| made.write(w))?;
    write(key, |w| made.vk.write(w))
}

fn porep<Tree: 'static + MerkleTreeTrait>(
    config: &PoRepConfig,
) -> std::result::Result<Parameters<Bls12>, String> {
    let public = public_params::<Tree>(config).map_err(|e| format!("{e:#}"))?;
    let circuit = <StackedCompound<Tree, DefaultPieceHasher> as CompoundProof<
        StackedDrg<'_, Tree, DefaultPieceHasher>,
        _,
    >>::blank_circuit(&public);
    generate_random_parameters(circuit, &mut OsRng).map_err(|e| e.to_string())
}

fn window<Tree: 'static + MerkleTreeTrait>(
    config: &PoStConfig,
) -> std::result::Result<Parameters<Bls12>, String> {
    let public = window_post_public_params::<Tree>(config).map_err(|e| format!("{e:#}"))?;
    let circuit = <FallbackPoStCompound<Tree> as CompoundProof<
        FallbackPoSt<'_, Tree>,
        FallbackPoStCircuit<Tree>,
    >>::blank_circuit(&public);
    generate_random_parameters(circuit, &mut OsRng).map_err(|e| e.to_string())
}

fn write(path: &Path, f: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    f(&mut out).map_err(Error::io("write", path))?;
    out.into_inner()
        .map_err(|e| Error::io("write", path)(e.into_error()))?;
    Ok(())
}
