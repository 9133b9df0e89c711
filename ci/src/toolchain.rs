//! Which compiler builds the hypervisor, and with which `core`.
//!
//! The hypervisor needs `core` and `alloc` for x86_64-unknown-none. A rustup toolchain has them
//! after `rustup target add`; Debian's toolchain ships their source only, so they are built from
//! it once and kept under `target/sysroot-<hash>`. Only that step uses unstable flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::layout::Layout;
use crate::process;

/// The bare-metal target.
pub const TARGET: &str = "x86_64-unknown-none";

/// Flags for our own `core`. Bitcode is what fat LTO reads; frame pointers make back-traces.
const CORE_FLAGS: &str = "-Cforce-frame-pointers=yes -Cembed-bitcode=yes";

/// A compiler and the `core` it is to use for the bare-metal target.
#[derive(Debug)]
pub struct Toolchain {
    rustc: PathBuf,
    /// Our own sysroot; `None` where the compiler's own has the target.
    sysroot: Option<PathBuf>,
    /// A linker to use in place of the target's default, rust-lld.
    linker: Option<&'static str>,
}

impl Toolchain {
    /// Picks a toolchain, building `core` once where that is needed.
    pub fn select(layout: &Layout) -> Result<Self> {
        let candidates = candidates();
        for rustc in &candidates {
            if has_core(&target_lib(&sysroot_of(rustc)?)) {
                return Ok(Self {
                    linker: linker_for(rustc)?,
                    rustc: rustc.clone(),
                    sysroot: None,
                });
            }
        }
        for rustc in &candidates {
            let source = sysroot_of(rustc)?.join("lib/rustlib/src/rust/library/core");
            if source.is_dir() {
                return Ok(Self {
                    linker: linker_for(rustc)?,
                    rustc: rustc.clone(),
                    sysroot: Some(own_sysroot(layout, rustc)?),
                });
            }
        }
        Err(Failure::new(format!(
            "no compiler here can build for {TARGET}. Either run\n    rustup target add {TARGET}\nor \
             install Debian's toolchain with its sources:\n    {}",
            crate::setup::install_line()
        )))
    }

    /// `cargo SUBCOMMAND` with this toolchain, for the hypervisor's target and its own target
    /// folder (another compiler's host files are not rebuilt in turn).
    pub fn cargo(&self, layout: &Layout, subcommand: &str) -> Command {
        let mut command = self.bare_cargo(subcommand);
        command
            .current_dir(&layout.root)
            .args(["--target", TARGET, "--target-dir"])
            .arg(layout.target.join("hv"));
        if let Some(sysroot) = &self.sysroot {
            command.env(
                "CARGO_TARGET_X86_64_UNKNOWN_NONE_RUSTFLAGS",
                format!("--sysroot={}", sysroot.display()),
            );
        }
        if let Some(linker) = self.linker {
            command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", linker);
        }
        command
    }

    /// `cargo SUBCOMMAND` with this toolchain and nothing of the outer cargo's environment.
    fn bare_cargo(&self, subcommand: &str) -> Command {
        nested_cargo(&self.rustc, subcommand)
    }

    /// One line for the person watching.
    pub fn describe(&self) -> String {
        match &self.sysroot {
            Some(sysroot) => format!(
                "{} with its own core in {}",
                self.rustc.display(),
                sysroot.display()
            ),
            None => self.rustc.display().to_string(),
        }
    }
}

/// The rustc beside the cargo that started us, then Debian's.
fn candidates() -> Vec<PathBuf> {
    let mut list = Vec::new();
    if let Some(cargo) = std::env::var_os("CARGO") {
        list.push(Path::new(&cargo).with_file_name("rustc"));
    }
    list.push(PathBuf::from("/usr/bin/rustc"));
    list.retain(|rustc| rustc.is_file());
    list.dedup();
    list
}

fn sysroot_of(rustc: &Path) -> Result<PathBuf> {
    let text = process::text(clean(&mut Command::new(rustc)).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(text.trim()))
}

fn target_lib(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn has_core(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// `ld.lld` where the toolchain has no rust-lld of its own (Debian ships none).
fn linker_for(rustc: &Path) -> Result<Option<&'static str>> {
    let rustlib = sysroot_of(rustc)?.join("lib/rustlib");
    let entries = std::fs::read_dir(&rustlib).context(rustlib.display())?;
    let own = entries
        .flatten()
        .any(|entry| entry.path().join("bin/rust-lld").is_file());
    if own {
        return Ok(None);
    }
    if process::on_path("ld.lld") {
        return Ok(Some("ld.lld"));
    }
    Err(Failure::new(format!(
        "no linker: neither rust-lld in {} nor ld.lld; run\n    {}",
        rustlib.display(),
        crate::setup::install_line()
    )))
}

/// Removes from a command what the outer cargo or rustup put into our environment and what would
/// change the meaning of the nested build.
fn clean(command: &mut Command) -> &mut Command {
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "CARGO",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn nested_cargo(rustc: &Path, subcommand: &str) -> Command {
    let folder = rustc.parent().unwrap_or(Path::new("/usr/bin"));
    let mut path = vec![folder.to_owned()];
    let outer = std::env::var_os("PATH").unwrap_or_default();
    path.extend(std::env::split_paths(&outer));
    let mut command = Command::new(folder.join("cargo"));
    clean(&mut command)
        .arg(subcommand)
        .env("RUSTC", rustc)
        .env("PATH", std::env::join_paths(path).unwrap_or(outer));
    command
}

/// The sysroot with our own `core`, built on first use. Its name changes with the compiler and
/// the flags, because crates built against another `core` must not meet it.
fn own_sysroot(layout: &Layout, rustc: &Path) -> Result<PathBuf> {
    let version = process::text(clean(&mut Command::new(rustc)).arg("-vV"))?;
    let hash = fnv1a(format!("{version}{CORE_FLAGS}").as_bytes());
    let sysroot = layout.target.join(format!("sysroot-{hash:016x}"));
    if has_core(&target_lib(&sysroot)) {
        return Ok(sysroot);
    }
    println!("building core and alloc for {TARGET} (once) ...");
    let work = layout.target.join("core-build");
    write_empty_crate(&work)?;
    let out = work.join("target");
    process::run(
        nested_cargo(rustc, "build")
            .current_dir(&work)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", CORE_FLAGS)
            .args([
                "--release",
                "--quiet",
                "-Zbuild-std=core,alloc,compiler_builtins",
            ])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&out),
    )?;
    install_core(&out.join(TARGET).join("release/deps"), &sysroot)?;
    std::fs::remove_dir_all(&work).context(work.display())?;
    Ok(sysroot)
}

/// Copies the libraries into a new folder and renames that into place, so that a sysroot is whole
/// or absent.
fn install_core(deps: &Path, sysroot: &Path) -> Result<()> {
    let part = sysroot.with_extension("part");
    let lib = target_lib(&part);
    std::fs::create_dir_all(&lib).context(lib.display())?;
    for entry in std::fs::read_dir(deps).context(deps.display())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libempty-") {
            std::fs::copy(entry.path(), lib.join(&name)).context(&name)?;
        }
    }
    std::fs::rename(&part, sysroot).context(sysroot.display())
}

fn write_empty_crate(folder: &Path) -> Result<()> {
    let source = folder.join("src");
    std::fs::create_dir_all(&source).context(source.display())?;
    let manifest =
        "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n";
    std::fs::write(folder.join("Cargo.toml"), manifest).context("Cargo.toml")?;
    std::fs::write(source.join("lib.rs"), "#![no_std]\n").context("lib.rs")
}

/// FNV-1a: enough to name a folder.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
