//! QEMU's monitor, for what only the machine's operator or broken hardware can do: the NMI button, machine checks.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two NMIs.
const INTERVAL: Duration = Duration::from_millis(40);

/// Someone at the monitor: says a line, or presses the NMI button again and again, until dropped.
#[derive(Debug)]
pub struct NmiButton {
    socket: PathBuf,
    done: Arc<AtomicBool>,
    presser: Option<JoinHandle<()>>,
}

impl NmiButton {
    /// Gives the emulator a button that nobody presses yet.
    #[must_use]
    pub fn attach(qemu: &mut Command, name: &str) -> Self {
        // In the system's folder: the path of a socket must be short.
        let file = format!("{name}-{}.monitor", std::process::id());
        let socket = std::env::temp_dir().join(file);
        let option = format!("unix:{},server=on,wait=off", socket.display());
        qemu.args(["-monitor", &option]);
        Self {
            socket,
            done: Arc::default(),
            presser: None,
        }
    }

    /// Where the monitor listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Says one line to the monitor instead. It is heard for as long as the result is kept.
    ///
    /// # Errors
    /// The monitor does not answer.
    pub fn say(&self, line: &str) -> std::io::Result<UnixStream> {
        let mut monitor = UnixStream::connect(&self.socket)?;
        // It greets when it listens.
        let _greeting = monitor.read(&mut [0; 512])?;
        monitor.write_all(format!("{line}\n").as_bytes())?;
        Ok(monitor)
    }

    /// Begins to press it.
    ///
    /// # Errors
    /// The monitor does not answer.
    pub fn press(&mut self) -> std::io::Result<()> {
        let monitor = connect(&self.socket)?;
        let done = self.done.clone();
        self.presser = Some(thread::spawn(move || press_until(&done, monitor)));
        Ok(())
    }
}

impl Drop for NmiButton {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(presser) = self.presser.take() {
            // A thread that panicked has pressed enough.
            let _ = presser.join();
        }
        // QEMU removes it itself when it ends well.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let monitor = UnixStream::connect(socket)?;
    monitor.set_nonblocking(true)?;
    Ok(monitor)
}

/// Ends with the emulator or when told to.
fn press_until(done: &AtomicBool, mut monitor: UnixStream) {
    let mut echo = [0; 4096];
    while !done.load(Ordering::Relaxed) && monitor.write_all(b"nmi\n").is_ok() {
        // What it prints is of no interest, but must be read for it to go on.
        while monitor.read(&mut echo).is_ok_and(|count| count != 0) {}
        thread::sleep(INTERVAL);
    }
}
