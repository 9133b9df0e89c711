//! An input as steps of three domains: calls, and what they write into memory that the hypervisor reads.
//!
//! A step is eight bytes (who, what, two parameters of 16 bits, how many words follow; how often there is other
//! work, and in the two highest bits whether the heap is used up), then the words.

use std::sync::Arc;

use xen_abi::errno::Errno;

use super::engine::Answer;
use super::heap::limited;
use crate::base::Mfn;
use crate::domain::{Domain, Hypervisor, Machine};
use crate::hypercall::Outcome;
use crate::hypercall::testing::{FakeConsole, FakeMachine, Fixture, GUEST};

/// Where the structure of a call lies.
pub const LIST: u64 = GUEST + 0x1000;
/// Where lists and buffers are that structures point to.
pub const BUFFER: u64 = GUEST + 0x4000;
/// Domains that make calls: dom0 and those of these numbers.
pub const GUESTS: [u16; 2] = [1, 2];
/// Pages that each of them has.
pub const PAGES: usize = 6;
/// Steps of an input; more are left out.
const MOST_STEPS: usize = 60;
/// Times that one call is made again before it is left.
const MOST_RESTARTS: u32 = 200;

/// One step.
pub struct Step {
    /// Index of the domain that makes it.
    pub who: usize,
    /// What it does.
    pub what: u8,
    pub a: u16,
    pub b: u16,
    pub words: Vec<u64>,
    patience: u8,
    /// Blocks of memory that the call gets, if that is limited.
    blocks: Option<usize>,
}

/// A step as bytes.
pub fn step(who: u8, what: u8, (a, b): (u16, u16), words: &[u64]) -> Vec<u8> {
    let mut bytes = vec![who, what];
    bytes.extend(a.to_le_bytes());
    bytes.extend(b.to_le_bytes());
    bytes.extend([words.len() as u8, 0]);
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// The same steps, whose calls get no more than `blocks` blocks of memory, up to two.
pub fn limited_to(blocks: u8, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 8) {
        header[7] = header[7] & 0x3f | (blocks + 1) << 6;
        at += 8 + 8 * usize::from(header[6] % 33);
    }
    bytes
}

fn parse(input: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = input;
    while let Some((header, behind)) = rest.split_at_checked(8)
        && steps.len() < MOST_STEPS
    {
        let count = usize::from(header[6] % 33).min(behind.len() / 8);
        let (words, behind) = behind.split_at(count * 8);
        let two = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        steps.push(Step {
            who: usize::from(header[0]) % (1 + GUESTS.len()),
            what: header[1],
            a: two(2),
            b: two(4),
            words: words
                .chunks_exact(8)
                .map(|w| u64::from_le_bytes(w.try_into().unwrap()))
                .collect(),
            patience: header[7] & 0x3f,
            blocks: usize::from(header[7] >> 6).checked_sub(1),
        });
        rest = behind;
    }
    steps
}

/// The machine with the domains that make calls. What comes later is dropped later.
pub struct World {
    pub domains: Vec<Arc<Domain>>,
    pub f: Fixture,
    _parts: Parts,
    /// Pages of each domain.
    pub pages: Vec<Vec<Mfn>>,
    /// What the calls answered.
    pub answers: Vec<Result<u64, Errno>>,
    /// Blocks of memory that a call gets, if that is limited.
    blocks: Option<usize>,
}

/// What fixtures leave behind for good. Of an input it ends with that: a few hundred kilobytes, a thousand times a second.
struct Parts {
    hv: &'static Hypervisor,
    machine: &'static FakeMachine,
    console: &'static FakeConsole,
}

impl Drop for Parts {
    fn drop(&mut self) {
        fn end<T>(part: &'static T) {
            // SAFETY: the fixture has leaked a box with it. Of what refers to it, the world's other fields are gone, and the
            // parts go in an order in which none looks at one that went before.
            drop(unsafe { Box::from_raw(std::ptr::from_ref(part).cast_mut()) });
        }
        let (pools, irqs) = (self.hv.backing.pools, self.hv.irqs);
        end(self.hv);
        end(irqs);
        end(pools);
        end(self.console);
        // Another thread may take its memory at once.
        self.machine.recycle();
        end(self.machine);
    }
}

impl World {
    pub fn new() -> Self {
        let f = Fixture::with_containers();
        let mut domains = vec![f.caller.clone()];
        domains.extend(GUESTS.map(|id| f.add(id)));
        let pages = domains
            .iter()
            .map(|d| (0..PAGES).map(|_| f.machine.page_of(d.id)).collect())
            .collect();
        let parts = Parts {
            hv: f.hv,
            machine: f.machine,
            console: f.console,
        };
        Self {
            domains,
            f,
            _parts: parts,
            pages,
            answers: Vec::new(),
            blocks: None,
        }
    }

    /// The steps of an input, each done by `act`.
    pub fn run(&mut self, input: &[u8], act: fn(&mut Self, &Step)) -> Answer {
        for step in parse(input) {
            self.f.caller = self.domains[step.who].clone();
            self.f.host.preempt_every(match step.patience {
                0 => u32::MAX,
                patience => patience.into(),
            });
            self.blocks = step.blocks;
            act(self, &step);
            self.blocks = None;
        }
        if self.answers.iter().any(Result::is_ok) {
            Answer::Taken
        } else {
            Answer::Refused
        }
    }

    /// A call of the domain whose turn it is.
    pub fn call(&mut self, number: u32, args: [u64; 6]) -> Result<u64, Errno> {
        let answer = self.answer(number, args);
        self.answers.push(answer);
        answer
    }

    fn answer(&mut self, number: u32, args: [u64; 6]) -> Result<u64, Errno> {
        let mut now = args;
        for _ in 0..MOST_RESTARTS {
            let f = &mut self.f;
            let outcome = match self.blocks {
                Some(blocks) => limited(blocks, || f.call_once(number, now)),
                None => f.call_once(number, now),
            };
            match outcome? {
                Outcome::Restart(again) => now = again,
                Outcome::Return(value) => return Ok(value),
                _ => return Ok(0),
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Writes words into a page of the machine, as its owner does at any time.
    pub fn poke(&self, page: Mfn, from: u16, words: &[u64]) {
        let all = self.f.machine.words(page);
        for (at, word) in (usize::from(from)..).zip(words) {
            all[at % all.len()].store(*word, std::sync::atomic::Ordering::SeqCst);
        }
    }
}
