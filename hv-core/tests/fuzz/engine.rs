//! Damages inputs, runs targets on them, watches and reports.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::heap;

/// What a target makes of an input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It makes sense.
    Taken,
    /// It is refused in words.
    Refused,
}

/// Something that reads untrusted bytes.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Good inputs to begin with; all must be taken.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Sets checksums right, so that what lies behind them is read too; not done to all inputs.
    pub seal: fn(&mut [u8]),
    /// Reads one; a panic is a failure.
    pub read: fn(&[u8]) -> Answer,
    /// Most bytes that reading may allocate at once.
    pub bytes: usize,
    /// How much slower than the others: so many fewer inputs within `cargo test`.
    pub slowness: u64,
}

/// How long a job goes on.
pub enum Until {
    /// So many inputs were tried.
    Count(u64),
    /// The time is over.
    Elapsed(Duration),
    /// The input of this number was tried.
    Only(u64),
    /// The input in this file was tried.
    Replayed(String),
}

/// A target to run.
pub struct Job {
    /// Which.
    pub target: &'static Target,
    /// Where its random numbers begin.
    pub seed: u64,
    /// How long.
    pub until: Until,
}

/// How often the watch looks.
const LOOK: Duration = Duration::from_millis(500);
/// How often it may find the same input: 20 seconds, which a debug build on a busy machine fits too. Looks are counted,
/// not time, which passes also while a virtual machine is paused.
const PATIENCE: u32 = 40;

/// What is being read now, and since when: for the watch.
static CURRENT: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// Runs the jobs; the number of inputs that failed.
pub fn run(jobs: &[Job]) -> u32 {
    std::thread::spawn(watch);
    jobs.iter().map(one).sum()
}

fn watch() {
    let mut last = None;
    let mut looks = 0;
    loop {
        std::thread::sleep(LOOK);
        let current = CURRENT.lock().expect("nobody panics with it").clone();
        looks = if current == last { looks + 1 } else { 0 };
        if let Some((_, what)) = &current
            && looks > PATIENCE
        {
            eprintln!("FAILED {what}: not done after {PATIENCE} looks");
            std::process::exit(1);
        }
        last = current;
    }
}

/// Runs a job and returns the number of failures; it ends after the third.
fn one(job: &Job) -> u32 {
    let name = job.target.name;
    let started = Instant::now();
    if let Until::Replayed(file) = &job.until {
        let failed = match std::fs::read(file) {
            Ok(input) => attempt(job, &input, file).err(),
            Err(why) => Some(why.to_string()),
        };
        report(&format!("fuzz {name}: {file}"), failed.as_deref());
        return u32::from(failed.is_some());
    }
    let corpus = (job.target.corpus)();
    let mut failures = 0;
    let (mut tried, mut taken) = (0, 0);
    for (index, good) in corpus.iter().enumerate() {
        let answer = judge(job, good, &format!("good input {index}"));
        if answer == Some(Answer::Refused) {
            println!("FAILED fuzz {name}: good input {index} is refused");
        }
        failures += u32::from(answer != Some(Answer::Taken));
    }
    let numbers = match job.until {
        Until::Only(number) => number..number + 1,
        Until::Count(count) => 0..count,
        _ => 0..u64::MAX,
    };
    for number in numbers {
        if matches!(job.until, Until::Elapsed(span) if started.elapsed() >= span) || failures >= 3 {
            break;
        }
        let input = damaged(job.target, &corpus, job.seed, number);
        let label = format!("--seed {} --number {number}", job.seed);
        let answer = judge(job, &input, &label);
        failures += u32::from(answer.is_none());
        taken += u64::from(answer == Some(Answer::Taken));
        tried += 1;
    }
    let line = format!(
        "fuzz {name}: {tried} inputs of {} good ones, {taken} of them taken, in {:.1} s",
        corpus.len(),
        started.elapsed().as_secs_f64()
    );
    report(&line, (failures != 0).then_some("see above"));
    failures
}

fn report(what: &str, failed: Option<&str>) {
    match failed {
        None => println!("ok {what}"),
        Some(why) => println!("FAILED {what}: {why}"),
    }
}

/// Tries an input; `None` when it failed, after telling and saving it.
fn judge(job: &Job, input: &[u8], label: &str) -> Option<Answer> {
    let why = match attempt(job, input, label) {
        Ok(answer) => return Some(answer),
        Err(why) => why,
    };
    let name = job.target.name;
    let saved = save(name, input);
    println!("FAILED fuzz {name} {label}: {why}");
    println!("  cargo xtask fuzz {name} --replay {}", saved.display());
    None
}

/// Reads an input; or what went wrong.
fn attempt(job: &Job, input: &[u8], label: &str) -> Result<Answer, String> {
    let what = format!("fuzz {} {label}", job.target.name);
    *CURRENT.lock().expect("nobody panics with it") = Some((Instant::now(), what));
    let mut result = Ok(Answer::Refused);
    let peak = heap::peak_of(|| {
        result = catch_unwind(AssertUnwindSafe(|| (job.target.read)(input)));
    });
    *CURRENT.lock().expect("nobody panics with it") = None;
    let answer = result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        format!("panic: {}", text.unwrap_or_default())
    })?;
    if peak > job.target.bytes {
        let allowed = job.target.bytes;
        return Err(format!(
            "{peak} bytes were allocated, {allowed} are allowed"
        ));
    }
    Ok(answer)
}

fn save(name: &str, input: &[u8]) -> PathBuf {
    // FNV-1a: the same input gets the same name.
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    // The tests within the library are not told of the folder.
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tmp");
    let folder = PathBuf::from(option_env!("CARGO_TARGET_TMPDIR").unwrap_or(tests)).join("fuzz");
    let file = folder.join(format!("{name}-{hash:016x}"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input));
    if let Err(why) = written {
        println!("  {} could not be written: {why}", file.display());
    }
    file
}

/// Random numbers: xorshift64*.
pub struct Random(u64);

impl Random {
    fn new(seed: u64, number: u64) -> Self {
        let mixed =
            (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number).wrapping_add(0x632b_e59b_d9b4_e019);
        let mut random = Self(mixed | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// The input of a number: a good one with some damage.
fn damaged(target: &Target, corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(seed, number);
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        damage(&mut input, corpus, &mut random);
    }
    if random.below(4) != 0 {
        (target.seal)(&mut input);
    }
    input
}

fn damage(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    if input.is_empty() {
        input.extend([0; 16]);
    }
    let len = input.len();
    // Headers come first in most formats: they get half of the damage.
    let zone = match random.below(4) {
        0 => len.min(64),
        1 => len.min(1024),
        _ => len,
    };
    let at = random.below(zone);
    match random.below(10) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.next() as u8,
        2..=5 => {
            let size = [1, 2, 4, 8][random.below(4)];
            let at = if random.below(4) == 0 {
                at
            } else {
                at & !(size - 1)
            };
            let old = word(input, at, size);
            let new = interesting(old, len, random).to_le_bytes();
            let end = (at + size).min(len);
            input[at..end].copy_from_slice(&new[..end - at]);
        }
        6 => {
            // A piece from elsewhere over this one.
            let other = &corpus[random.below(corpus.len())];
            let count = 1 + random.below(64);
            let from = random.below(other.len().max(1)).min(other.len());
            let count = count.min(other.len() - from).min(len - at);
            input[at..at + count].copy_from_slice(&other[from..from + count]);
        }
        7 => input.truncate(at),
        8 => {
            let count = (1 + random.below(32)).min(len - at);
            input.drain(at..at + count);
        }
        _ => {
            let count = 1 + random.below(64);
            let byte = [0, 0xff, random.next() as u8][random.below(3)];
            input.splice(at..at, std::iter::repeat_n(byte, count));
        }
    }
}

fn word(input: &[u8], at: usize, size: usize) -> u64 {
    let mut bytes = [0; 8];
    let end = (at + size).min(input.len());
    bytes[..end - at].copy_from_slice(&input[at..end]);
    u64::from_le_bytes(bytes)
}

/// A value that parsers get wrong.
fn interesting(old: u64, len: usize, random: &mut Random) -> u64 {
    let small = random.below(70) as u64;
    match random.below(9) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX.wrapping_sub(small),
        3 => small,
        4 => old.wrapping_add(small + 1),
        5 => old.wrapping_sub(small + 1),
        6 => 1 << random.below(64),
        7 => (len as u64).wrapping_add(small).wrapping_sub(35),
        _ => random.next(),
    }
}
