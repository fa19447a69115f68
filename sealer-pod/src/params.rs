//! Role `params`: makes or checks Groth16 parameters and parents caches, once per machine.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use filstar_sealing::{
    SealProof,
    params::{self, Depth, Progress, Purpose, Report, Wanted},
};

/// Flags of the role.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder of parameters; the user's cache folder when left out.
    #[arg(long, env = "FILSTAR_PARAMS")]
    dir: Option<PathBuf>,
    /// Seal proof that they are for, such as `StackedDrg2KiBV1P1`.
    #[arg(long)]
    proof: SealProof,
    /// Only check: change nothing, fail when a file is missing or wrong.
    #[arg(long)]
    check: bool,
    /// Take the digest of every file, not only of those whose size or time changed.
    #[arg(long)]
    full: bool,
    /// Only these files; all when left out.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Only>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    /// The parents cache, for PC1.
    Parents,
    /// Window PoSt.
    Window,
    /// PoRep, for C2: takes long.
    Porep,
}

impl From<Only> for Purpose {
    fn from(only: Only) -> Self {
        match only {
            Only::Parents => Self::Parents,
            Only::Window => Self::WindowPoSt,
            Only::Porep => Self::PoRep,
        }
    }
}

/// Makes or checks.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = arguments.dir.clone().unwrap_or_else(params::default_dir);
    let mut wanted = Wanted::all(arguments.proof);
    if arguments.full {
        wanted.depth = Depth::Full;
    }
    if !arguments.only.is_empty() {
        wanted.purposes = arguments.only.iter().map(|o| (*o).into()).collect();
    }
    let report = if arguments.check {
        params::check(&dir, &wanted)?
    } else {
        params::ensure(&dir, &wanted, &|p| tell(&p))?
    };
    tell_report(&report);
    if !report.is_good() {
        bail!("{} in {}", report.complaints().join("; "), dir.display());
    }
    tracing::info!(dir = %dir.display(), proof = %arguments.proof, "parameters are good");
    Ok(())
}

fn tell(progress: &Progress) {
    tracing::info!(
        elapsed_seconds = progress.elapsed.as_secs(),
        "{}",
        progress.text
    );
}

fn tell_report(report: &Report) {
    for (name, finding) in &report.files {
        tracing::info!(file = name, ?finding, "checked");
    }
}
