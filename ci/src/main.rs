//! The project's own tool, started as `cargo xtask COMMAND`.

mod cpio;
mod debs;
mod dom0;
mod elf;
mod failure;
mod hypervisor;
mod image;
mod kernel;
mod layout;
mod process;
mod setup;
mod toolchain;

use std::process::ExitCode;

use failure::{Failure, Result};
use layout::Layout;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup                install the Debian packages that the rest needs (as root)
  build [--check]      the hypervisor: target/image/xenolith, .debug, .gz
  image                the dom0 image and the boot ISO, from Debian's packages
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{USAGE}");
        return Ok(ExitCode::FAILURE);
    };
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let layout = Layout::open()?;
    match command.as_str() {
        "setup" => setup::ensure()?,
        "build" => {
            setup::ensure()?;
            match rest[..] {
                ["--check"] => hypervisor::check(&layout)?,
                [] | ["--release"] => drop(hypervisor::build(&layout)?),
                _ => return Err(unknown(&rest)),
            }
        }
        "image" => {
            setup::ensure()?;
            image::build(&layout)?;
            image::reference_xen(&layout)?;
        }
        "help" | "--help" | "-h" => print!("{USAGE}"),
        _ => return Err(Failure::new(format!("no command {command}\n{USAGE}"))),
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(arguments: &[&str]) -> Failure {
    Failure::new(format!("unknown argument: {}", arguments.join(" ")))
}
