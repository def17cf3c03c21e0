//! A folder for the demo's queue: new, readable by nobody else, and gone at the end unless it is to be kept.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A temporary folder.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes a folder that was not there.
    pub(super) fn new(keep: bool) -> anyhow::Result<Self> {
        let process = std::process::id();
        // A folder of an earlier process with the same id may have been kept.
        for number in 0..1000 {
            let path = std::env::temp_dir().join(format!("ringback-demo-{process}-{number}"));
            match make(&path) {
                Ok(()) => return Ok(Scratch { path, keep }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
        bail!("{} is full of demos that were kept", std::env::temp_dir().display())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it will be afterwards; `None` if it is removed.
    pub(super) fn kept(&self) -> Option<String> {
        self.keep.then(|| self.path.display().to_string())
    }
}

/// The queue holds secrets and payloads, so it is its owner's alone.
fn make(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("ringback: cannot remove {}: {error}", self.path.display());
        }
    }
}
