//! Role `folders`: makes the folders of a node that sealers and provers write, once, as root.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// User and group that shall own them: that of our pods.
    #[arg(long, default_value_t = 65532)]
    user: u32,
    /// The folders. What is in them stays as it is.
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<()> {
    for folder in &arguments.folders {
        let before = make(folder, arguments.user).with_context(|| {
            format!(
                "{} cannot be given to user {}: run this as root",
                folder.display(),
                arguments.user
            )
        })?;
        tracing::info!(folder = %folder.display(), before, "writable for our pods");
    }
    Ok(())
}

/// Makes one folder and gives it to the user; returns whose it was.
fn make(folder: &Path, user: u32) -> std::io::Result<u32> {
    fs::create_dir_all(folder)?;
    let owner = fs::metadata(folder)?.uid();
    if owner != user {
        chown(folder, Some(user), Some(user))?;
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        let folder = dir.path().join("scratch/deep");
        assert_eq!(make(&folder, me).unwrap(), me);
        fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(make(&folder, me).unwrap(), me);
        assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "x");
    }

    #[test]
    fn folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let arguments = Arguments {
            user: 65532,
            folders: vec![dir.path().join("file/below")],
        };
        let said = format!("{:#}", main(&arguments).unwrap_err());
        assert!(said.contains("file/below"), "{said}");
    }
}
