//! What of the hypervisor is mapped while a guest runs, as the emulator sees it: what XPTI is to keep small.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often the machine is stopped to find it in a guest, and how long it runs in between.
const TRIES: u32 = 400;
const PAUSE: Duration = Duration::from_millis(15);
/// How long the monitor may think.
const PATIENCE: Duration = Duration::from_secs(60);
const PROMPT: &str = "(qemu) ";

/// Where the hypervisor is: its slots but that of the M2P, which is for guests to read.
const FIRST: u64 = 0xffff_8080_0000_0000;
const END: u64 = 0xffff_8800_0000_0000;
/// The slots with the way in and out: the areas of CPUs and the image.
const WAY: std::ops::Range<u64> = 0xffff_8200_0000_0000..0xffff_8300_0000_0000;
/// What that takes at most: 13 pages of stacks, 31 of descriptors, TSS, stub, IDT and three of code.
const WAY_BYTES: u64 = 50 << 12;

/// Stops the machine while its first CPU runs a guest's code, and lists what is mapped then.
///
/// # Errors
/// The monitor does not answer, or the CPU was never found at CPL 3.
pub fn at_cpl3(socket: &Path) -> io::Result<String> {
    let mut monitor = UnixStream::connect(socket)?;
    monitor.set_read_timeout(Some(PATIENCE))?;
    answer(&mut monitor)?;
    for _ in 0..TRIES {
        ask(&mut monitor, "stop")?;
        let registers = ask(&mut monitor, "info registers")?;
        let found = registers.contains("CPL=3");
        let mapped = if found {
            ask(&mut monitor, "info mem")?
        } else {
            String::new()
        };
        ask(&mut monitor, "cont")?;
        if found {
            return Ok(mapped);
        }
        thread::sleep(PAUSE);
    }
    Err(io::Error::new(ErrorKind::TimedOut, "no guest runs"))
}

fn ask(monitor: &mut UnixStream, line: &str) -> io::Result<String> {
    writeln!(monitor, "{line}")?;
    answer(monitor)
}

/// Reads to the next prompt.
fn answer(monitor: &mut UnixStream) -> io::Result<String> {
    let (mut text, mut chunk) = (Vec::new(), [0; 1 << 16]);
    while !text.ends_with(PROMPT.as_bytes()) {
        match monitor.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => text.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What is wrong with the mappings that `info mem` lists.
///
/// # Errors
/// In words.
pub fn judge(listed: &str) -> Result<(), String> {
    let ranges = listed.lines().filter_map(range);
    let (mut way, mut guest) = (0, 0);
    for (start, end) in ranges {
        if start >= END || end <= FIRST {
            guest += end - start;
        } else if WAY.contains(&start) && end <= WAY.end {
            way += end - start;
        } else {
            return Err(format!("{start:#x} to {end:#x} is mapped"));
        }
    }
    if guest == 0 || way == 0 {
        return Err("the list has nothing of a guest, or no way out".to_owned());
    }
    if way > WAY_BYTES {
        return Err(format!("{} KiB of the hypervisor are mapped", way >> 10));
    }
    Ok(())
}

/// Begin and end of a row.
fn range(row: &str) -> Option<(u64, u64)> {
    let (start, end) = row.split_whitespace().next()?.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some((number(start)?, number(end)?)).filter(|(start, end)| start < end)
}

#[cfg(test)]
mod tests {
    use super::judge;

    const GOOD: &str = "info mem\r\n\
        0000000000400000-0000000000500000 0000000000100000 u-r-\r\n\
        ffff800000000000-ffff800000200000 0000000000200000 ur-\r\n\
        ffff82000001f000-ffff820000020000 0000000000001000 -rw\r\n\
        ffff82d040201000-ffff82d040203000 0000000000002000 -r-\r\n\
        ffff888000000000-ffff888040000000 0000000040000000 ur-\r\n(qemu) ";

    #[test]
    fn the_way_in_and_out_may_be_mapped_and_no_more() {
        assert_eq!(judge(GOOD), Ok(()));
        for row in [
            // The direct map, the frame table, and more of an area than is needed.
            "ffff840000000000-ffff840080000000 0000000080000000 -rw",
            "ffff830000000000-ffff830000200000 0000000000200000 -rw",
            "ffff820000018000-ffff82000007f000 0000000000067000 -rw",
            // From the M2P on into ours.
            "ffff807fffe00000-ffff808000200000 0000000000400000 -rw",
        ] {
            assert!(judge(&format!("{GOOD}\r\n{row}")).is_err(), "{row}");
        }
        assert!(judge("").is_err());
    }
}
