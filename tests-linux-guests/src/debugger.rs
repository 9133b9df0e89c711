//! QEMU's stub for debuggers, to damage the machine's memory from outside (the remote protocol of GDB).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to the emulator's debugger.
#[derive(Debug)]
pub struct Debugger {
    socket: PathBuf,
}

impl Debugger {
    /// Gives the emulator a debugger that does nothing yet.
    #[must_use]
    pub fn attach(qemu: &mut Command, name: &str) -> Self {
        // In the system's folder: the path of a socket must be short.
        let file = format!("{name}-{}.gdb", std::process::id());
        let socket = std::env::temp_dir().join(file);
        let option = format!("unix:{},server=on,wait=off", socket.display());
        qemu.args(["-gdb", &option]);
        Self { socket }
    }

    /// Writes to physical memory; the machine stands still meanwhile.
    ///
    /// # Errors
    /// The emulator does not answer, or not with OK.
    pub fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut stub = UnixStream::connect(&self.socket)?;
        stub.set_read_timeout(Some(PATIENCE))?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let len = bytes.len();
        for line in [
            "Qqemu.PhyMemMode:1",
            &format!("M{at:x},{len:x}:{digits}"),
            "Qqemu.PhyMemMode:0",
            // Detach: the machine goes on.
            "D",
        ] {
            stub.write_all(packet(line).as_bytes())?;
            loop {
                let answer = next_packet(&mut stub)?;
                if answer == "OK" {
                    break;
                }
                // That the machine has stopped is no answer.
                if !answer.starts_with('T') {
                    return Err(io::Error::other(format!("{line}: {answer}")));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        // QEMU removes it itself when it ends well.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A line as it is sent: with its sum.
fn packet(line: &str) -> String {
    let sum = line.bytes().fold(0_u8, |sum, byte| sum.wrapping_add(byte));
    format!("${line}#{sum:02x}")
}

/// The next line from the other side, which is told that it has come.
fn next_packet(stub: &mut UnixStream) -> io::Result<String> {
    let mut line = String::new();
    let mut byte = [0];
    let mut inside = false;
    loop {
        stub.read_exact(&mut byte)?;
        match byte[0] {
            b'$' => inside = true,
            b'#' if inside => break,
            other if inside => line.push(char::from(other)),
            // Acknowledgements.
            _ => {}
        }
    }
    stub.read_exact(&mut [0; 2])?;
    stub.write_all(b"+")?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    #[test]
    fn packets_have_a_sum() {
        assert_eq!(super::packet("OK"), "$OK#9a");
    }
}
