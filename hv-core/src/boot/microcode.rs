//! CPU microcode in a file: which patch of it is for this CPU, and why none is (AMD: container of patches, described in
//! "Processor Microcode" of coreboot and Linux documentation; Intel SDM vol. 3, 10.11). What cannot be checked here is the
//! patch itself, which the CPU does by its signature.

use core::fmt;

use xen_abi::errno::Errno;

use super::phys::Fields;

/// Where microcode is looked for at boot (`ucode=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// The module, 0 being dom0's kernel; negative numbers count from the end.
    pub module: Option<i32>,
    /// Whether an archive at the start of the initrd is looked into.
    pub scan: bool,
}

impl Wanted {
    /// Parses the option. `nmi` is taken and means nothing: each CPU loads the patch before it does anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut wanted = Self::default();
        for word in value.split(',') {
            match word {
                "scan" | "scan=1" | "scan=on" | "scan=yes" | "scan=true" => wanted.scan = true,
                "scan=0" | "scan=off" | "scan=no" | "scan=false" | "no-scan" => wanted.scan = false,
                _ if word == "nmi" || word == "no-nmi" || word.starts_with("nmi=") => {}
                number => wanted.module = Some(number.parse().ok()?),
            }
        }
        Some(wanted)
    }

    /// Which of so many modules.
    #[must_use]
    pub fn index(self, modules: usize) -> Option<usize> {
        let number = self.module? as isize;
        let from_end = modules.checked_add_signed(number);
        let index = if number < 0 {
            from_end
        } else {
            usize::try_from(number).ok()
        };
        index.filter(|index| *index < modules)
    }
}

/// Who made the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maker {
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl Maker {
    /// By the vendor of CPUID leaf 0.
    #[must_use]
    pub fn of(vendor: &[u8; 12]) -> Option<Self> {
        match vendor {
            b"AuthenticAMD" => Some(Self::Amd),
            b"GenuineIntel" => Some(Self::Intel),
            _ => None,
        }
    }

    /// Name of the file in an initrd (Linux, "The Linux Microcode Loader").
    const fn file(self) -> &'static [u8] {
        match self {
            Self::Amd => b"kernel/x86/microcode/AuthenticAMD.bin",
            Self::Intel => b"kernel/x86/microcode/GenuineIntel.bin",
        }
    }
}

/// The CPU that a patch is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Who made it.
    pub maker: Maker,
    /// CPUID leaf 1, eax.
    pub signature: u32,
    /// Intel: one bit, by the platform id; 0 elsewhere.
    pub platform: u32,
    /// Revision of the microcode that it runs.
    pub revision: u32,
}

/// A patch for the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patch<'a> {
    /// Its revision.
    pub revision: u32,
    /// It with its header.
    pub bytes: &'a [u8],
    /// Where in `bytes` the address is that the CPU takes.
    pub entry: usize,
}

/// Why there is nothing to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It does not begin like a file of this maker's.
    OtherFormat,
    /// It ends, or a length in it is wrong, at this offset.
    Damaged(usize),
    /// The sum over the patch at this offset is not zero.
    Checksum(usize),
    /// None of its patches is for this CPU.
    NoMatch,
    /// The newest for this CPU is of this revision.
    NotNewer(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFormat => f.write_str("not a file of this CPU's maker"),
            Self::Damaged(at) => write!(f, "damaged at byte {at:#x}"),
            Self::Checksum(at) => write!(f, "wrong checksum of the patch at byte {at:#x}"),
            Self::NoMatch => f.write_str("no patch in it is for this CPU"),
            Self::NotNewer(revision) => write!(f, "its patch {revision:#x} is not newer"),
        }
    }
}

impl From<Refusal> for Errno {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::OtherFormat | Refusal::Damaged(_) | Refusal::Checksum(_) => Self::EINVAL,
            Refusal::NoMatch => Self::ENOENT,
            Refusal::NotNewer(_) => Self::EEXIST,
        }
    }
}

/// The newest patch for the CPU that is newer than what it runs.
///
/// # Errors
/// Why there is none.
pub fn select(file: &[u8], target: Target) -> Result<Patch<'_>, Refusal> {
    let found = match target.maker {
        Maker::Amd => amd(file, target.signature)?,
        Maker::Intel => intel(file, target)?,
    };
    let best = found.ok_or(Refusal::NoMatch)?;
    if best.revision <= target.revision {
        return Err(Refusal::NotNewer(best.revision));
    }
    Ok(best)
}

const AMD_MAGIC: u32 = 0x0041_4d44;
const AMD_EQUIVALENCE: u32 = 0;
const AMD_PATCH: u32 = 1;
const AMD_HEADER: usize = 64;
/// More than the patch of any family has.
const AMD_LARGEST: usize = 16 << 10;

/// Containers, one behind the other, each a table of CPUs and patches for them.
fn amd(file: &[u8], signature: u32) -> Result<Option<Patch<'_>>, Refusal> {
    let words = Fields(file);
    if words.u32(0) != Some(AMD_MAGIC) {
        return Err(Refusal::OtherFormat);
    }
    let (mut at, mut name, mut best) = (0, None, None::<Patch<'_>>);
    while let Some(kind) = words.u32(at) {
        if kind == AMD_MAGIC {
            (at, name) = (at + 4, None);
            continue;
        }
        let len = words.u32(at + 4).ok_or(Refusal::Damaged(at))? as usize;
        let body = file.get(at + 8..).and_then(|rest| rest.get(..len));
        let body = body.ok_or(Refusal::Damaged(at))?;
        match kind {
            AMD_EQUIVALENCE => {
                let rows = body.chunks_exact(16).map(Fields);
                let row = rows.take_while(|r| r.u32(0) != Some(0));
                name = row
                    .filter(|r| r.u32(0) == Some(signature))
                    .find_map(|r| r.u16(12));
            }
            AMD_PATCH => {
                if !(AMD_HEADER..=AMD_LARGEST).contains(&len) {
                    return Err(Refusal::Damaged(at));
                }
                let header = Fields(body);
                // Patches that are bound to a chipset are of no use here.
                let general = header.u32(16) == Some(0) && header.u32(20) == Some(0);
                let revision = header.u32(4).unwrap_or(0);
                if general && name.is_some() && header.u16(24) == name {
                    best = newer(best, revision, body, 0);
                }
            }
            _ => return Err(Refusal::Damaged(at)),
        }
        at += 8 + len;
    }
    Ok(best)
}

fn newer<'a>(
    best: Option<Patch<'a>>,
    revision: u32,
    bytes: &'a [u8],
    entry: usize,
) -> Option<Patch<'a>> {
    match best {
        Some(best) if best.revision >= revision => Some(best),
        _ => Some(Patch {
            revision,
            bytes,
            entry,
        }),
    }
}

const INTEL_HEADER: usize = 48;

/// Patches, one behind the other.
fn intel(file: &[u8], target: Target) -> Result<Option<Patch<'_>>, Refusal> {
    let (mut at, mut best) = (0, None);
    while at < file.len() {
        let rest = &file[at..];
        let header = Fields(rest);
        let damaged = Refusal::Damaged(at);
        let word = |offset| header.u32(offset).ok_or(damaged);
        if (word(0)?, word(20)?) != (1, 1) {
            return Err(if at == 0 {
                Refusal::OtherFormat
            } else {
                damaged
            });
        }
        let (data, total) = match word(28)? as usize {
            0 => (2000, 2048),
            data => (data, word(32)? as usize),
        };
        let fits = INTEL_HEADER
            .checked_add(data)
            .is_some_and(|end| end <= total);
        if !fits || data % 4 != 0 || total % 4 != 0 {
            return Err(damaged);
        }
        let patch = rest.get(..total).ok_or(damaged)?;
        if sum(patch) != 0 {
            return Err(Refusal::Checksum(at));
        }
        let is_for = |signature, platforms: u32| {
            signature == target.signature && (platforms == 0 || platforms & target.platform != 0)
        };
        // Further CPUs behind the data: a count in a header of 20 bytes, then rows of three words.
        let more = Fields(&patch[INTEL_HEADER + data..]);
        let count = more.u32(0).unwrap_or(0) as usize;
        let rows = patch[INTEL_HEADER + data..].get(20..).unwrap_or_default();
        let mut rows = rows.chunks_exact(12).take(count).map(Fields);
        if is_for(word(12)?, word(24)?)
            || rows.any(|r| is_for(r.u32(0).unwrap_or(0), r.u32(4).unwrap_or(0)))
        {
            best = newer(best, word(4)?, patch, INTEL_HEADER);
        }
        at += total;
    }
    Ok(best)
}

fn sum(patch: &[u8]) -> u32 {
    let words = patch.chunks_exact(4).map(Fields);
    words.fold(0, |sum, w| sum.wrapping_add(w.u32(0).unwrap_or(0)))
}

/// The file with microcode in an uncompressed archive at the start of an initrd (cpio, "new ASCII format").
#[must_use]
pub fn in_initrd(initrd: &[u8], maker: Maker) -> Option<&[u8]> {
    const HEADER: usize = 110;
    let mut at = 0usize;
    loop {
        let header = initrd.get(at..)?.get(..HEADER)?;
        if &header[..6] != b"070701" {
            return None;
        }
        let number = |field: usize| {
            let digits = &header[6 + 8 * field..14 + 8 * field];
            let digits = core::str::from_utf8(digits).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (size, name_len) = (number(6)?, number(11)?);
        let name_at = at + HEADER;
        let name = initrd.get(name_at..)?.get(..name_len)?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let data_at = (name_at + name_len).next_multiple_of(4);
        let data = initrd.get(data_at..)?.get(..size)?;
        if name == maker.file() {
            return Some(data);
        }
        if name == b"TRAILER!!!" {
            return None;
        }
        at = (data_at + size).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMD: Target = Target {
        maker: Maker::Amd,
        signature: 0x00a2_0f12,
        platform: 0,
        revision: 0x0a20_1200,
    };
    const INTEL: Target = Target {
        maker: Maker::Intel,
        signature: 0x0009_06ea,
        platform: 1 << 5,
        revision: 0x80,
    };

    fn amd_patch(name: u16, revision: u32, len: usize) -> Vec<u8> {
        let mut patch = vec![0; len];
        patch[4..8].copy_from_slice(&revision.to_le_bytes());
        patch[24..26].copy_from_slice(&name.to_le_bytes());
        patch
    }

    fn section(kind: u32, body: &[u8]) -> Vec<u8> {
        let head = [kind, body.len() as u32];
        let mut section: Vec<u8> = head.iter().flat_map(|w| w.to_le_bytes()).collect();
        section.extend(body);
        section
    }

    fn container(cpus: &[(u32, u16)], patches: &[Vec<u8>]) -> Vec<u8> {
        let mut table = Vec::new();
        for (signature, name) in cpus.iter().chain(&[(0, 0)]) {
            table.extend(signature.to_le_bytes());
            table.extend([0; 8]);
            table.extend(u32::from(*name).to_le_bytes());
        }
        let mut file = AMD_MAGIC.to_le_bytes().to_vec();
        file.extend(section(AMD_EQUIVALENCE, &table));
        patches
            .iter()
            .for_each(|p| file.extend(section(AMD_PATCH, p)));
        file
    }

    fn intel_patch(signature: u32, platforms: u32, revision: u32, more: &[(u32, u32)]) -> Vec<u8> {
        let data = 64u32;
        let table = if more.is_empty() {
            0
        } else {
            20 + 12 * more.len() as u32
        };
        let total = INTEL_HEADER as u32 + data + table;
        let mut words = vec![
            1,
            revision,
            0x0101_2024,
            signature,
            0,
            1,
            platforms,
            data,
            total,
            0,
            0,
            0,
        ];
        words.extend((0..data / 4).map(|i| i * 0x0101_0101));
        if !more.is_empty() {
            words.extend([more.len() as u32, 0, 0, 0, 0]);
            more.iter().for_each(|(s, p)| words.extend([*s, *p, 0]));
        }
        let sum = words.iter().fold(0u32, |sum, w| sum.wrapping_add(*w));
        words[4] = sum.wrapping_neg();
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn amd_takes_the_newest_patch_of_its_name() {
        let patches = [
            amd_patch(0xa212, 0x0a20_1205, 320),
            amd_patch(0xa212, 0x0a20_1210, 448),
            amd_patch(0xa213, 0x0a20_1399, 320),
            amd_patch(0xa212, 0x0a20_1207, 320),
        ];
        let mut file = container(&[(0x0080_0f11, 0x8011)], &[amd_patch(0x8011, 1, 100)]);
        file.extend(container(&[(1, 7), (AMD.signature, 0xa212)], &patches));
        let patch = select(&file, AMD).unwrap();
        assert_eq!((patch.revision, patch.bytes.len()), (0x0a20_1210, 448));
        let newest = Target {
            revision: 0x0a20_1210,
            ..AMD
        };
        assert_eq!(select(&file, newest), Err(Refusal::NotNewer(0x0a20_1210)));
        let other = Target {
            signature: 5,
            ..AMD
        };
        assert_eq!(select(&file, other), Err(Refusal::NoMatch));
        assert_eq!(select(&file, INTEL), Err(Refusal::OtherFormat));
    }

    #[test]
    fn amd_patches_of_a_chipset_and_of_another_container_are_passed_over() {
        let mut bound = amd_patch(0xa212, 0x0a20_1299, 320);
        bound[16] = 1;
        let mut file = container(&[(AMD.signature, 0xa212)], &[bound]);
        file.extend(container(
            &[(1, 0xa212)],
            &[amd_patch(0xa212, 0x0a20_1298, 64)],
        ));
        assert_eq!(select(&file, AMD), Err(Refusal::NoMatch));
    }

    #[test]
    fn a_cut_amd_file_is_damaged() {
        let file = container(&[(AMD.signature, 1)], &[amd_patch(1, u32::MAX, 320)]);
        assert!(select(&file, AMD).is_ok());
        for len in 0..file.len() {
            assert!(select(&file[..len], AMD).is_err(), "{len}");
        }
        let short = container(&[(AMD.signature, 1)], &[amd_patch(1, 9, 63)]);
        assert!(matches!(select(&short, AMD), Err(Refusal::Damaged(_))));
        let mut long = file;
        let at = long.len() - 320 - 4;
        long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(select(&long, AMD), Err(Refusal::Damaged(_))));
    }

    #[test]
    fn intel_matches_by_signature_and_platform() {
        let mut file = intel_patch(INTEL.signature, 1 << 1, 0x99, &[]);
        file.extend(intel_patch(INTEL.signature, 1 << 5 | 1, 0x90, &[]));
        file.extend(intel_patch(
            1,
            1,
            0x95,
            &[(2, 2), (INTEL.signature, 1 << 5)],
        ));
        let patch = select(&file, INTEL).unwrap();
        assert_eq!((patch.revision, patch.entry), (0x95, 48));
        let newest = Target {
            revision: 0x95,
            ..INTEL
        };
        assert_eq!(select(&file, newest), Err(Refusal::NotNewer(0x95)));
        assert_eq!(select(&file, AMD), Err(Refusal::OtherFormat));
        assert_eq!(select(&[], INTEL), Err(Refusal::NoMatch));
    }

    #[test]
    fn a_wrong_byte_of_intels_is_found() {
        let file = intel_patch(INTEL.signature, 0, 0x99, &[(3, 3)]);
        assert!(select(&file, INTEL).is_ok());
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            assert!(select(&bad, INTEL).is_err(), "{at}");
            assert!(select(&file[..at], INTEL).is_err(), "{at}");
        }
    }

    fn cpio(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, data) in files.iter().chain(&[("TRAILER!!!", &[][..])]) {
            let mut fields = [0; 13];
            (fields[6], fields[11]) = (data.len(), name.len() + 1);
            out.extend(b"070701");
            fields
                .iter()
                .for_each(|n| out.extend(format!("{n:08x}").bytes()));
            out.extend(name.bytes().chain([0]));
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(*data);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn words_of_the_option() {
        let wanted = |module, scan| Some(Wanted { module, scan });
        assert_eq!(Wanted::parse("scan"), wanted(None, true));
        assert_eq!(Wanted::parse("scan=no,nmi=0"), wanted(None, false));
        assert_eq!(Wanted::parse("-1,scan"), wanted(Some(-1), true));
        assert_eq!(Wanted::parse("2"), wanted(Some(2), false));
        for bad in ["", "x", "2,", "99999999999"] {
            assert_eq!(Wanted::parse(bad), None, "{bad}");
        }
        let index = |number, modules| wanted(Some(number), false).unwrap().index(modules);
        assert_eq!(index(2, 3), Some(2));
        assert_eq!(index(3, 3), None);
        assert_eq!(index(-1, 3), Some(2));
        assert_eq!(index(-4, 3), None);
        assert_eq!(Wanted::default().index(3), None);
    }

    #[test]
    fn the_file_in_an_initrd() {
        let archive = cpio(&[
            ("kernel/x86/microcode/GenuineIntel.bin", b"intel"),
            ("kernel/x86/microcode/AuthenticAMD.bin", b"for amd"),
        ]);
        assert_eq!(in_initrd(&archive, Maker::Amd), Some(&b"for amd"[..]));
        assert_eq!(in_initrd(&archive, Maker::Intel), Some(&b"intel"[..]));
        assert_eq!(in_initrd(&cpio(&[("init", b"x")]), Maker::Amd), None);
        assert_eq!(in_initrd(b"\x1f\x8b compressed", Maker::Amd), None);
        for len in 0..archive.len() {
            let _either = in_initrd(&archive[..len], Maker::Amd);
        }
        let mut long = archive;
        long[54..62].copy_from_slice(b"ffffffff");
        assert_eq!(in_initrd(&long, Maker::Amd), None);
    }
}
