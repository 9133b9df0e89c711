//! The project's own tool, started as `cargo xtask COMMAND`.

mod arguments;
mod bench;
mod boot;
mod boots;
mod cpio;
mod debian;
mod debs;
mod dom0;
mod elf;
mod failure;
mod fuzz;
mod grub_menu;
mod guests;
mod hypervisor;
mod image;
mod install;
mod kernel;
mod layout;
mod lint;
mod matrix;
mod modules;
mod process;
mod sched_sim;
mod setup;
mod size;
mod symbolize;
mod tally;
mod test;
mod toolchain;
mod uefi;

use std::process::ExitCode;

use arguments::Arguments;
use failure::{Failure, Result};
use hypervisor::Profile;
use layout::Layout;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup    install the Debian packages that the rest needs (as root)
  build    the hypervisor: target/image/xenolith, .debug and .gz
             --check          only type-check it
  image    build, and the dom0 image from Debian's packages: target/image/dom0.cpio.gz,
           and an ISO with GRUB that boots both: target/image/xenolith.iso
  run      boot to an interactive dom0 prompt in QEMU
             --smp N, --mem MIB, --grub, --uefi, --qemu10, --hypervisor xenolith|xen
             --xen-args TEXT, --linux-args TEXT     added to the command lines
             -- ARGUMENTS     passed on to QEMU
  run --debian
           a whole Debian 12 from its own disk (made the first time, as root) and its own GRUB menu
             --uefi, --xen    by UEFI; the entry of Debian's Xen
             --keep           what is changed on the disk stays, on a copy of its own
             --smp N, --mem MIB, --xen-args TEXT, --linux-args TEXT, -- ARGUMENTS
  lint     format, clippy for both targets, the project's own rules
  test     format, lints, host tests, boots
             --quick | --long, --boots (only those), --hypervisor xenolith|xen
             --checked        boot a build with debug assertions (order of locks)
             --bochs          only the boots in Bochs (installed if it is not there yet), which has a CPU of Intel's
             FILTER           only boots whose name contains it
  test --matrix
           the kernels of Debian 12, Debian 13 and unstable as dom0 and as guests, as a table; what fails is tried on
           Debian's Xen too. Takes ten minutes
             --checked
  bench    the same work on Xenolith and on Debian's Xen
             --hypervisor xenolith|xen     only on this one
             --devices        disks and networks in dom0
             --guests         guests: creating them, their disks and networks, what goes between them
             --guests --only PART          of that: creation, crowd, micros, wakeups, loops, disks or networks;
                              of PVH guests: pvh-micros, pvh-loops, pvh-creation, pvh-disks, pvh-networks or pvh-migration
             --debian         only the boot of the Debian disk to its login
  fuzz     random damage to what the boot parses (ACPI tables, what loaders say, kernel files) and to hypercalls
             TARGET           acpi, loader, command-line, microcode, elf or bzimage;
                              domctl, sysctl, grants, events or records; all of them
             --seconds N (60, for each of the two kinds), --seed N, --number N (one input of a seed), --replay FILE
  sched-sim
           the scheduler on simulated machines of up to 512 CPUs: fairness, waits, costs, pictures
             --load NAME, --cpus N, --vcpus N, --seconds S, --seed N, --ratelimit US, --svg FILE; --help tells more
  install --root DIR
           the hypervisor into DIR/boot, as Debian's default Xen entry (as root; DIR / is this machine)
             --uninstall      takes it out
             --image FILE     this one (xenolith.gz) in place of a build
  size     bytes of the image by crate and module; fails above the budget
  symbolize [--checked] [LOG]
           names for the hypervisor's addresses in a log or in standard input
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Takes `--checked`.
fn profile(arguments: &mut Arguments) -> Profile {
    if arguments.flag("--checked") {
        Profile::Checked
    } else {
        Profile::Release
    }
}

fn dispatch(words: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = words.split_first() else {
        print!("{USAGE}");
        return Ok(ExitCode::FAILURE);
    };
    let mut arguments = Arguments::new(rest);
    if command == "install" {
        // May run on a machine without this work tree.
        install::run(arguments)?;
        return Ok(ExitCode::SUCCESS);
    }
    let layout = Layout::open()?;
    if matches!(command.as_str(), "help" | "--help" | "-h") {
        print!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure()?;
    match command.as_str() {
        "setup" => arguments.finish()?,
        "build" => {
            let only_check = arguments.flag("--check");
            arguments.flag("--release");
            arguments.finish()?;
            if only_check {
                hypervisor::check(&layout)?;
            } else {
                hypervisor::build(&layout, Profile::Release)?;
            }
        }
        "image" => {
            arguments.finish()?;
            boot::iso(&layout)?;
        }
        "run" => boot::run(&layout, arguments)?,
        "lint" => {
            arguments.finish()?;
            lint::run(&layout)?;
        }
        "symbolize" => {
            let profile = profile(&mut arguments);
            let log = arguments.word().unwrap_or_else(|| "-".to_owned());
            arguments.finish()?;
            symbolize::run(&hypervisor::Hypervisor::at(&layout, profile).debug, &log)?;
        }
        "size" => {
            arguments.finish()?;
            return size::run(&hypervisor::build(&layout, Profile::Release)?);
        }
        "fuzz" => fuzz::run(&layout, rest)?,
        "bench" => bench::run(&layout, arguments)?,
        "sched-sim" => sched_sim::run(&layout, rest)?,
        "test" => return test::run(&layout, arguments),
        _ => return Err(Failure::new(format!("no command {command}\n{USAGE}"))),
    }
    Ok(ExitCode::SUCCESS)
}
