//! `cargo xtask run --debian`: a person at the console of the Debian disk.

use std::net::TcpListener;
use std::path::PathBuf;

use tests_linux_guests::case::{Case, PASSWORD};
use tests_linux_guests::emulator::{self, Disk, Hypervisor, Loader, Software, Terminal, Writes};

use super::Wish;
use crate::arguments::Arguments;
use crate::boot;
use crate::failure::{Failure, Result};
use crate::hypervisor::Profile;
use crate::layout::Layout;
use crate::process;

/// Boots the disk on this terminal.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<()> {
    let hypervisor = match arguments.flag("--xen") {
        true => Hypervisor::Xen,
        false => boot::which(&mut arguments)?,
    };
    let mut case = Case::BASE;
    case.machine.loader = Loader::Disk;
    if arguments.flag("--uefi") {
        case.machine.loader = Loader::DiskUefi;
        case.machine.board = "q35";
    }
    if let Some(cpus) = arguments.number("--smp")? {
        case.machine.cpus = cpus;
    }
    if let Some(memory) = arguments.number("--mem")? {
        case.machine.memory_mib = memory;
    }
    let hypervisor_words = arguments.value("--xen-args")?.unwrap_or_default();
    let kernel_words = arguments.value("--linux-args")?.unwrap_or_default();
    let keep = arguments.flag("--keep");
    let extra = arguments.passed_on();
    arguments.finish()?;
    let wish = Wish {
        hypervisor,
        hypervisor_words: &hypervisor_words,
        kernel_words: &kernel_words,
    };
    if keep && !wish.is_default() {
        return Err(Failure::new(
            "--keep boots the disk's own menu: choose the entry and edit its words there",
        ));
    }
    let mut files = boot::prepare(layout, Hypervisor::Xenolith, Profile::Release)?;
    let (image, writes) = if keep {
        (super::kept(layout, &files.compressed)?, Writes::Kept)
    } else {
        let image = super::disk_for(layout, &files.compressed, &wish, "run")?;
        (image, Writes::Dropped)
    };
    let port = free_port();
    files.installed = Disk {
        image,
        writes,
        scripts: PathBuf::new(),
        ssh_port: port,
    };
    let nothing = Software {
        hypervisor_line: "",
        payload: case.payload(),
        kernel_line: "",
    };
    let mut command = emulator::command(&case.machine, &files, nothing, Terminal::Person);
    println!("Log in as root, password {PASSWORD}; `poweroff` ends the machine.");
    if let Some(port) = port {
        println!("From another terminal: ssh -p {port} root@127.0.0.1");
    }
    if !keep {
        println!("What is changed on the disk is lost at the end (--keep keeps it).");
    }
    println!("Leave the emulator with Ctrl-A x; Ctrl-A a sends Ctrl-A.");
    process::run(command.args(extra))
}

/// A port of this host that nobody uses: 2222, or else any.
fn free_port() -> Option<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 2222))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .ok()?;
    Some(listener.local_addr().ok()?.port())
}
