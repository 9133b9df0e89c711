//! A running emulator and its serial console.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Why waiting for a line ended without it.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed {
    /// The time was up.
    TimeOut,
    /// The emulator ended.
    Ended,
    /// A line that must not appear did (its text).
    Forbidden(String),
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimeOut => f.write_str("time is up"),
            Self::Ended => f.write_str("the emulator ended"),
            Self::Forbidden(line) => write!(f, "the console shows: {line}"),
        }
    }
}

/// How long the console is still read after a forbidden line, for the lines that explain it.
const AFTERMATH: Duration = Duration::from_secs(4);

/// An emulator started by us; ended when dropped.
#[derive(Debug)]
pub struct Console {
    child: Child,
    input: ChildStdin,
    chunks: Receiver<Vec<u8>>,
    log: File,
    text: String,
    /// Bytes of `text` in which waiting has already found its markers.
    seen: usize,
    /// When the line that ends at this offset of `text` was complete.
    arrivals: Vec<(usize, Duration)>,
    started: Instant,
    deadline: Instant,
    forbidden: Vec<String>,
    /// Bytes of `text` in which no line was forbidden.
    judged: usize,
}

impl Console {
    /// Starts the command; everything it prints goes to the file `log` too. After `limit` any
    /// wait fails.
    ///
    /// # Errors
    /// The program cannot be started or the log cannot be written.
    pub fn start(command: &mut Command, log: &Path, limit: Duration) -> io::Result<Self> {
        let log = File::create(log)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, chunks) = mpsc::channel();
        let input = child.stdin.take().ok_or_else(no_pipe)?;
        read_on(child.stdout.take().ok_or_else(no_pipe)?, sender.clone());
        read_on(child.stderr.take().ok_or_else(no_pipe)?, sender);
        let started = Instant::now();
        Ok(Self {
            child,
            input,
            chunks,
            log,
            text: String::new(),
            seen: 0,
            arrivals: Vec::new(),
            started,
            deadline: started + limit,
            forbidden: Vec::new(),
            judged: 0,
        })
    }

    /// From now on a line that contains one of these ends any wait.
    pub fn forbid(&mut self, lines: &[&str]) {
        self.judged = 0;
        self.forbidden
            .extend(lines.iter().map(|line| (*line).to_owned()));
    }

    /// All that was printed so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits until `marker` appears after what earlier waits have found.
    ///
    /// # Errors
    /// See [`Missed`].
    pub fn wait_for(&mut self, marker: &str) -> Result<(), Missed> {
        // Text comes in many small pieces: none is searched twice.
        let mut from = self.seen;
        loop {
            if let Some(at) = self.text[from..].find(marker) {
                self.seen = from + at + marker.len();
                return Ok(());
            }
            from = from.max(
                self.text
                    .floor_char_boundary(self.text.len().saturating_sub(marker.len())),
            );
            if let Some(line) = self.new_forbidden() {
                self.read_until(Instant::now() + AFTERMATH);
                return Err(Missed::Forbidden(line));
            }
            match self.read_chunk(self.deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Missed::TimeOut),
                Err(RecvTimeoutError::Disconnected) => return Err(Missed::Ended),
            }
        }
    }

    /// Waits for the emulator to end by itself, as after a power-off.
    ///
    /// # Errors
    /// [`Missed::TimeOut`] when it does not.
    pub fn wait_end(&mut self) -> Result<ExitStatus, Missed> {
        loop {
            match self.read_chunk(self.deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Missed::TimeOut),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.child.wait().map_err(|_| Missed::Ended);
                }
            }
        }
    }

    /// Whether it still runs `span` from now; reads on meanwhile.
    ///
    /// # Errors
    /// [`Missed::Ended`] when it has ended, [`Missed::Forbidden`] when it says what it must not.
    pub fn stays(&mut self, span: Duration) -> Result<(), Missed> {
        let end = Instant::now() + span;
        loop {
            match self.read_chunk(end) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Missed::Ended),
            }
        }
        self.first_forbidden()
            .map_or(Ok(()), |line| Err(Missed::Forbidden(line)))
    }

    /// Types keys, without a line's end.
    ///
    /// # Errors
    /// The emulator has ended.
    pub fn press(&mut self, keys: &str) -> io::Result<()> {
        self.input.write_all(keys.as_bytes())?;
        self.input.flush()
    }

    /// Types a line.
    ///
    /// # Errors
    /// The emulator has ended.
    pub fn send(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.input, "{line}")?;
        self.input.flush()
    }

    /// Wall time from the start to the end of the first line that contains `marker`.
    #[must_use]
    pub fn arrival(&self, marker: &str) -> Option<Duration> {
        let at = self.text.find(marker)?;
        self.arrivals
            .iter()
            .find(|(end, _)| *end > at)
            .map(|(_, when)| *when)
    }

    /// Wall time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The first forbidden line that was printed.
    #[must_use]
    pub fn first_forbidden(&self) -> Option<String> {
        first_of(&self.text, &self.forbidden)
    }

    /// The first forbidden line since this was last asked; a line is asked for until it ends.
    fn new_forbidden(&mut self) -> Option<String> {
        let fresh = &self.text[self.judged..];
        let found = first_of(fresh, &self.forbidden);
        self.judged += fresh.rfind('\n').map_or(0, |at| at + 1);
        found
    }

    fn read_until(&mut self, when: Instant) {
        while self.read_chunk(when).is_ok() {}
    }

    fn read_chunk(&mut self, until: Instant) -> Result<(), RecvTimeoutError> {
        let left = until.saturating_duration_since(Instant::now());
        let chunk = self.chunks.recv_timeout(left)?;
        // The log is for people; a full disk must not hide the verdict.
        let _ = self.log.write_all(&chunk);
        let text: String = String::from_utf8_lossy(&chunk)
            .chars()
            .filter(|letter| *letter != '\r')
            .collect();
        let has_line_end = text.contains('\n');
        self.text.push_str(&text);
        if has_line_end {
            self.arrivals
                .push((self.text.len(), self.started.elapsed()));
        }
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that contains one of these.
fn first_of(text: &str, forbidden: &[String]) -> Option<String> {
    text.lines()
        .find(|line| forbidden.iter().any(|bad| line.contains(bad.as_str())))
        .map(|line| line.trim().to_owned())
}

fn no_pipe() -> io::Error {
    io::Error::other("the emulator has no pipe")
}

/// Sends on all that `source` gives, from a thread of its own that ends with the source.
fn read_on(mut source: impl Read + Send + 'static, to: Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = source.read(&mut buffer) {
            if count == 0 || to.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Console, Missed};
    use std::process::Command;
    use std::time::Duration;

    fn shell(script: &str, name: &str) -> Console {
        let log = std::env::temp_dir().join(format!("console-{}-{name}", std::process::id()));
        Console::start(
            Command::new("sh").args(["-c", script]),
            &log,
            Duration::from_millis(500),
        )
        .expect("a shell starts")
    }

    #[test]
    fn markers_are_found_in_order() {
        let mut console = shell("echo one; echo two; cat", "order");
        console.wait_for("two").expect("two comes");
        assert_eq!(console.wait_for("one"), Err(Missed::TimeOut));
    }

    #[test]
    fn what_is_typed_arrives() {
        let mut console = shell("read a; echo got $a", "typed");
        console.send("word").expect("it runs");
        console.wait_for("got word").expect("it answers");
        assert!(console.wait_end().expect("it ends").success());
    }

    #[test]
    fn a_forbidden_line_ends_the_wait() {
        let mut console = shell("echo all is lost", "forbidden");
        console.forbid(&["lost"]);
        let missed = console.wait_for("never");
        assert_eq!(missed, Err(Missed::Forbidden("all is lost".to_owned())));
    }

    #[test]
    fn what_stays_is_told_from_what_ends() {
        assert_eq!(
            shell("cat", "stays").stays(Duration::from_millis(50)),
            Ok(())
        );
        let mut console = shell("exit 0", "gone");
        assert_eq!(console.stays(Duration::from_secs(5)), Err(Missed::Ended));
    }

    #[test]
    fn the_end_is_told_from_a_time_out() {
        let mut console = shell("exit 0", "end");
        assert_eq!(console.wait_for("never"), Err(Missed::Ended));
    }
}
