//! Writes the CRDs as YAML: `crdgen DIR` makes one file for each kind in DIR.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = std::env::args_os()
        .nth(1)
        .filter(|arg| !arg.to_string_lossy().starts_with('-'));
    let Some(dir) = dir.map(PathBuf::from) else {
        eprintln!("usage: crdgen DIR   (writes one YAML file for each kind into DIR)");
        return ExitCode::from(2);
    };
    match write_all(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: cannot write to {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for crd in filstar_crds::crds() {
        let yaml = serde_yaml_ng::to_string(&crd).map_err(std::io::Error::other)?;
        let head = "# Generated from crds/src by `make crds`. Do not edit.\n";
        std::fs::write(
            dir.join(format!("{}.yaml", crd.spec.names.plural)),
            format!("{head}{yaml}"),
        )?;
    }
    Ok(())
}
