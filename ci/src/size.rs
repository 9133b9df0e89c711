//! `cargo xtask size`: what each crate and module costs in the image, and the budget.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use crate::elf::{self, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, Section};
use crate::failure::{Context, Result};
use crate::hypervisor::Hypervisor;

/// The most that `target/image/xenolith` may weigh, in bytes. It was 600 KiB before the hypervisor served dom0's devices: PCI with message
/// interrupts, EFI's services and the screen cost 16 to 24 KiB each, CPUs that come and go, machine checks and microcode 20 together.
/// Pools of CPUs cost 11: a scheduler over schedulers 7, their hypercall 2, CPUs and domains that change their pool 2. Run queues
/// by neighbourhood, average loads and the options of credit2 cost 12, a page of constants among it. Guests in
/// hardware containers cost 104: their hypercalls, memory and records 45, what their exits lead to 27, local APIC, page walk, decoder and
/// emulator 24, the world switch 5. Boot loaders in such guests and memory on demand cost 3 and 8 more. Intel's processors cost 44: fields, exits and entry
/// 24, finding out what there is and saying it 7, telling in words why an entry failed 12, SYSENTER 1; guests' memory in
/// pieces of 1 GiB 4, calls that are inlined so that AMD's processors pay nothing for Intel's 4. XPTI costs 8: its option, the roots, and that
/// the entry code has pages of its own. The image grows by pages.
const BUDGET: u64 = 900 * 1024;

/// What a byte of the image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Text,
    Rodata,
    Data,
    Bss,
}

/// Bytes by kind.
type Sizes = BTreeMap<Kind, u64>;

/// Prints the tables; fails the command when the budget is exceeded.
pub fn run(built: &Hypervisor) -> Result<ExitCode> {
    let image = std::fs::read(&built.debug).context(built.debug.display())?;
    let sections = elf::sections(&image).context("sections")?;
    let mut total = Sizes::new();
    for section in &sections {
        if let Some(kind) = kind_of(section) {
            *total.entry(kind).or_default() += section.size;
        }
    }
    let mut crates: BTreeMap<String, Sizes> = BTreeMap::new();
    let mut modules: BTreeMap<String, Sizes> = BTreeMap::new();
    let mut named = Sizes::new();
    let symbols = elf::symbols(&image).context("symbols")?;
    let names = demangle(symbols.iter().map(|symbol| symbol.name.as_str()))?;
    for (symbol, name) in symbols.iter().zip(&names) {
        let holds = |section: &&Section| {
            (section.address..section.address + section.size).contains(&symbol.address)
        };
        let kind = sections.iter().filter(holds).find_map(kind_of);
        let Some(kind) = kind.filter(|_| symbol.size > 0) else {
            continue;
        };
        let (krate, module) = owner(name);
        *crates.entry(krate).or_default().entry(kind).or_default() += symbol.size;
        if let Some(module) = module {
            *modules.entry(module).or_default().entry(kind).or_default() += symbol.size;
        }
        *named.entry(kind).or_default() += symbol.size;
    }
    let rest: Sizes = total
        .iter()
        .map(|(kind, size)| {
            (
                *kind,
                size.saturating_sub(named.get(kind).copied().unwrap_or(0)),
            )
        })
        .collect();
    crates.insert("(constants and padding)".to_owned(), rest);
    table("crate", &crates);
    table("module", &modules);
    table("all", &BTreeMap::from([("sections".to_owned(), total)]));
    verdict(built)
}

fn verdict(built: &Hypervisor) -> Result<ExitCode> {
    let bytes = |path: &std::path::Path| -> Result<u64> {
        Ok(std::fs::metadata(path).context(path.display())?.len())
    };
    let size = bytes(&built.image)?;
    println!(
        "image {size} bytes, compressed {} bytes, budget {BUDGET} bytes",
        bytes(&built.compressed)?
    );
    if size <= BUDGET {
        return Ok(ExitCode::SUCCESS);
    }
    println!("the image exceeds its budget by {} bytes", size - BUDGET);
    Ok(ExitCode::FAILURE)
}

fn kind_of(section: &Section) -> Option<Kind> {
    if section.flags & SHF_ALLOC == 0 {
        None
    } else if section.flags & SHF_EXECINSTR != 0 {
        Some(Kind::Text)
    } else if section.kind == SHT_NOBITS {
        Some(Kind::Bss)
    } else if section.flags & SHF_WRITE != 0 {
        Some(Kind::Data)
    } else {
        Some(Kind::Rodata)
    }
}

/// The crate that a demangled name belongs to, and for our own crates the module in it.
fn owner(name: &str) -> (String, Option<String>) {
    // An impl for a primitive or a parameter counts for the trait: `<&T as core::fmt::Debug>`.
    let name = match name.split_once(" as ") {
        Some((implementor, rest)) if !implementor.contains("::") => rest,
        _ => name,
    };
    let path: Vec<&str> = name
        .trim_start_matches(['<', '&', '*', '(', '['])
        .trim_start_matches("mut ")
        .trim_start_matches("const ")
        .trim_start_matches("dyn ")
        .split("::")
        .take(3)
        .map(identifier)
        .take_while(|part| !part.is_empty())
        .collect();
    let own = ["hv_core", "xenolith", "pvh_boot", "xen_abi"];
    match path[..] {
        [krate, module, _] if own.contains(&krate) => {
            (krate.to_owned(), Some(format!("{krate}::{module}")))
        }
        [krate, _, ..] => (krate.to_owned(), None),
        _ => ("(assembly and intrinsics)".to_owned(), None),
    }
}

/// The identifier at the start of a path's part, without a v0 name's `[hash]`.
fn identifier(part: &str) -> &str {
    let end = part
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(part.len());
    &part[..end]
}

fn demangle<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
    let input: Vec<&str> = names.collect();
    let mut child = Command::new("c++filt")
        .args(["-s", "rust"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("c++filt")?;
    let mut pipe = child.stdin.take().ok_or("c++filt has no input")?;
    let text = input.join("\n");
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("c++filt")?;
    writer
        .join()
        .map_err(|_| "the thread that feeds c++filt died")?
        .context("c++filt")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

fn table(heading: &str, rows: &BTreeMap<String, Sizes>) {
    let size = |sizes: &Sizes, kind| sizes.get(&kind).copied().unwrap_or(0);
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|(_, sizes)| {
        std::cmp::Reverse(size(sizes, Kind::Text) + size(sizes, Kind::Rodata))
    });
    println!(
        "{heading:36} {:>9} {:>9} {:>9} {:>9}",
        "text", "rodata", "data", "bss"
    );
    for (name, sizes) in sorted {
        print!("{name:36}");
        for kind in [Kind::Text, Kind::Rodata, Kind::Data, Kind::Bss] {
            print!(" {:>9}", size(sizes, kind));
        }
        println!();
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn names_find_their_crate_and_module() {
        let cases = [
            ("hv_core::mm::frames::get", "hv_core", Some("hv_core::mm")),
            (
                "<hv_core[12ab]::pv::Iret as core::fmt::Debug>::fmt",
                "hv_core",
                Some("hv_core::pv"),
            ),
            ("core::fmt::write", "core", None),
            ("<&T as core::fmt::Debug>::fmt", "core", None),
            ("memcpy", "(assembly and intrinsics)", None),
        ];
        for (name, krate, module) in cases {
            assert_eq!(owner(name), (krate.to_owned(), module.map(str::to_owned)));
        }
    }
}
