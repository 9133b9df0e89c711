//! A writer for the "newc" cpio format that the Linux kernel unpacks as its initramfs
//! (Documentation/driver-api/early-userspace/buffer-format). The same input gives the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::{Context, Result};

/// What stands at a path of the archive.
#[derive(Debug)]
enum Node {
    Folder,
    File {
        mode: u32,
        content: Vec<u8>,
    },
    Link {
        to: String,
    },
    /// A character device with its major and minor number.
    Device {
        major: u32,
        minor: u32,
    },
}

/// An archive being put together; paths are relative, without a leading slash.
#[derive(Debug, Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;

impl Archive {
    /// Whether something stands at this path already.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// Adds a folder and its parents.
    pub fn folder(&mut self, path: &str) {
        self.parents(path);
        self.nodes.entry(path.to_owned()).or_insert(Node::Folder);
    }

    /// Adds a file with these permission bits.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.parents(path);
        self.nodes
            .insert(path.to_owned(), Node::File { mode, content });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.parents(path);
        self.nodes
            .insert(path.to_owned(), Node::Link { to: to.to_owned() });
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.nodes
            .insert(path.to_owned(), Node::Device { major, minor });
    }

    /// Adds a file from the disk, as an executable or not.
    pub fn copy(&mut self, path: &str, from: &Path, mode: u32) -> Result<()> {
        let content = std::fs::read(from).context(from.display())?;
        self.file(path, mode, content);
        Ok(())
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes
                .entry(path[..at].to_owned())
                .or_insert(Node::Folder);
        }
    }

    /// The archive's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (path, node)) in (1u32..).zip(&self.nodes) {
            let (mode, content, device): (u32, &[u8], _) = match node {
                Node::Folder => (S_IFDIR | 0o755, &[], (0, 0)),
                Node::File { mode, content } => (S_IFREG | mode, content, (0, 0)),
                Node::Link { to } => (S_IFLNK | 0o777, to.as_bytes(), (0, 0)),
                Node::Device { major, minor } => (S_IFCHR | 0o600, &[], (*major, *minor)),
            };
            entry(&mut out, path, inode, mode, content, device);
        }
        entry(&mut out, "TRAILER!!!", 0, 0, &[], (0, 0));
        out
    }
}

fn entry(out: &mut Vec<u8>, path: &str, inode: u32, mode: u32, content: &[u8], device: (u32, u32)) {
    let size = u32::try_from(content.len()).expect("no file of 4 GiB goes into an initramfs");
    let name_size = u32::try_from(path.len() + 1).expect("paths are short");
    let fields = [
        inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn parents_come_before_what_they_hold() {
        let mut archive = Archive::default();
        archive.file("a/b/c", 0o644, b"text".to_vec());
        let bytes = archive.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(name).expect("in the archive");
        assert!(at("a\0") < at("a/b\0"));
        assert!(at("a/b\0") < at("a/b/c\0"));
        assert!(at("text") < at("TRAILER!!!"));
        assert!(bytes.len().is_multiple_of(4));
    }
}
