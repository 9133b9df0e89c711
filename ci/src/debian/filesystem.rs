//! Files inside an ext4 file system that lies in a disk's image, without mounting it: e2fsprogs' debugfs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::recipe;
use crate::failure::{Context, Failure, Result};
use crate::process;

/// A file system in an image.
#[derive(Debug)]
pub struct FileSystem {
    image: PathBuf,
    /// The image with the place of the partition, as e2fsprogs' programs take it.
    device: String,
}

impl FileSystem {
    /// The root file system of a disk that was made by the recipe.
    pub fn of_disk(image: &Path) -> Self {
        let offset = recipe::ROOT.from_mib << 20;
        Self {
            image: image.to_owned(),
            device: format!("{}?offset={offset}", image.display()),
        }
    }

    /// Does what is pending: the journal's transactions, and repairs that need no decision.
    pub fn repair(&self) -> Result<()> {
        let mut check = Command::new("/sbin/e2fsck");
        check.args(["-p", &self.device]);
        let status = check.output().context("e2fsck")?.status;
        // 1: errors were corrected.
        if matches!(status.code(), Some(0 | 1)) {
            return Ok(());
        }
        let line = process::describe(&check);
        Err(Failure::new(format!("{line}: {status}")))
    }

    /// A file's content.
    ///
    /// # Errors
    /// Also when there is no such file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let copy = self.image.with_extension("read");
        // debugfs exits with 0 whatever happens: what it leaves behind is looked at instead.
        let _ = std::fs::remove_file(&copy);
        self.debugfs(&[], &format!("dump {path} {}", copy.display()))?;
        let bytes = std::fs::read(&copy);
        let _ = std::fs::remove_file(&copy);
        bytes.map_err(|_| Failure::new(format!("{}: no file {path}", self.device)))
    }

    /// Replaces a file, which then is root's, mode 0644.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.write_with_mode(path, bytes, "0100644")
    }

    /// Replaces a program, which everybody may run.
    pub fn write_program(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.write_with_mode(path, bytes, "0100755")
    }

    /// Makes a folder in one that exists; nothing happens when it is there.
    pub fn make_folder(&self, path: &str) -> Result<()> {
        self.debugfs(&["-w"], &format!("mkdir {path}"))
    }

    fn write_with_mode(&self, path: &str, bytes: &[u8], mode: &str) -> Result<()> {
        let copy = self.image.with_extension("write");
        std::fs::write(&copy, bytes).context(copy.display())?;
        self.debugfs(&["-w"], &format!("rm {path}"))?;
        self.debugfs(&["-w"], &format!("write {} {path}", copy.display()))?;
        self.debugfs(&["-w"], &format!("set_inode_field {path} mode {mode}"))?;
        std::fs::remove_file(&copy).context(copy.display())?;
        if self.read(path)? == bytes {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{}: {path} could not be written",
            self.device
        )))
    }

    fn debugfs(&self, options: &[&str], request: &str) -> Result<()> {
        let mut debugfs = Command::new("/sbin/debugfs");
        debugfs.args(options).args(["-R", request, &self.device]);
        process::output(&mut debugfs).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{FileSystem, recipe};
    use std::process::Command;

    #[test]
    fn files_are_replaced_in_place() {
        let image = std::env::temp_dir().join(format!("filesystem-{}.img", std::process::id()));
        let offset = recipe::ROOT.from_mib << 20;
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(offset + (8 << 20)).expect("it is sparse");
        let made = Command::new("/sbin/mkfs.ext4")
            .args(["-q", "-F", "-E", &format!("offset={offset}")])
            .arg(&image)
            .arg("8192")
            .status();
        // Without e2fsprogs no disk is made either.
        if made.is_ok_and(|status| status.success()) {
            let files = FileSystem::of_disk(&image);
            assert!(files.read("/a").is_err());
            for text in ["one", "another", ""] {
                files.write("/a", text.as_bytes()).expect("it fits");
                assert_eq!(files.read("/a").expect("it is there"), text.as_bytes());
            }
            files.repair().expect("nothing is wrong");
            assert!(files.write("/no/such/folder", b"x").is_err());
            for _ in 0..2 {
                files.make_folder("/folder").expect("it fits");
            }
            files.write_program("/folder/b", b"x").expect("it fits");
        }
        std::fs::remove_file(image).expect("it was made here");
    }
}
