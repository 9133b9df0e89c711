//! Where things are in the work tree.

use std::path::{Path, PathBuf};

use crate::failure::{Context, Result};

/// The folders this program reads and writes.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Root of the workspace.
    pub root: PathBuf,
    /// Cargo's target folder of the workspace; everything made lies below it.
    pub target: PathBuf,
    /// Downloads and what is unpacked from them; safe to delete, slow to refill.
    pub cache: PathBuf,
    /// Finished files: hypervisor, dom0 image, ISO.
    pub image: PathBuf,
    /// Console logs of the boots.
    pub logs: PathBuf,
}

impl Layout {
    /// The layout of the workspace this program was compiled in; makes the folders.
    pub fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the manifest lies in a folder of the workspace")
            .to_owned();
        let target = root.join("target");
        let layout = Self {
            cache: target.join("cache"),
            image: target.join("image"),
            logs: target.join("logs"),
            root,
            target,
        };
        for folder in [&layout.cache, &layout.image, &layout.logs] {
            std::fs::create_dir_all(folder).context(folder.display())?;
        }
        Ok(layout)
    }
}
