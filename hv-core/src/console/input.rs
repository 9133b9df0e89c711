//! Where the keys typed on the serial line go: to dom0 or to the hypervisor.
//!
//! Three switch keys (`conswitch=`, usually Ctrl-A) in a row move the focus. Switch keys are held
//! back until it is known that they are not three, so one or two of them still reach the reader.
//! (QEMU's own multiplexer uses Ctrl-A too: there each Ctrl-A is typed as Ctrl-A a.)

use arrayvec::ArrayVec;
use core::fmt;

/// Bytes that wait for dom0's `CONSOLEIO_read`; more are dropped.
pub const RING_SIZE: usize = 128;
/// Switch keys in a row that move the focus.
const PRESSES: usize = 3;

/// Who gets the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// The hypervisor: keys are debug keys.
    Xen,
    /// dom0, through `CONSOLEIO_read`.
    Dom0,
}

/// The control key that switches the focus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchKey {
    letter: u8,
}

impl SwitchKey {
    /// Ctrl-A.
    pub const DEFAULT: Self = Self { letter: b'a' };

    /// The key Ctrl-`letter`; `None` unless it is a letter.
    #[must_use]
    pub const fn new(letter: char) -> Option<Self> {
        if letter.is_ascii_alphabetic() {
            let letter = (letter as u8).to_ascii_lowercase();
            Some(Self { letter })
        } else {
            None
        }
    }

    /// The byte that the terminal sends.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.letter - b'a' + 1
    }
}

/// What `conswitch=` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchOption {
    /// The key; `None` when switching is off.
    pub key: Option<SwitchKey>,
    /// Who has the focus once dom0 runs.
    pub at_boot: Focus,
}

impl SwitchOption {
    /// Without the option: Ctrl-A, and dom0 gets the focus when it starts.
    pub const DEFAULT: Self = Self {
        key: Some(SwitchKey::DEFAULT),
        at_boot: Focus::Dom0,
    };

    /// Parses the value: a letter names the key, anything else as first character turns switching
    /// off; a following `x` leaves the focus with the hypervisor at boot.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        let mut chars = value.chars();
        let key = chars.next().and_then(SwitchKey::new);
        let at_boot = match chars.next() {
            Some('x') => Focus::Xen,
            _ => Focus::Dom0,
        };
        Self { key, at_boot }
    }
}

/// What the caller has to do after a byte arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEffect {
    /// Raise `VIRQ_CONSOLE` for dom0.
    RaiseVirqConsole,
    /// Run the handler of this debug key.
    DebugKey(u8),
    /// Print [`SerialInput::banner`]: the focus is now here.
    FocusMoved(Focus),
}

/// Effects of one received byte: itself and the switch keys held before it.
pub type Effects = ArrayVec<InputEffect, PRESSES>;

/// State of the serial line's receiving half.
#[derive(Debug)]
pub struct SerialInput {
    key: Option<SwitchKey>,
    focus: Focus,
    /// Switch keys seen in a row, not yet delivered; less than [`PRESSES`].
    held: usize,
    ring: [u8; RING_SIZE],
    /// Positions count bytes ever written and read, wrapping.
    produced: u32,
    consumed: u32,
}

impl SerialInput {
    /// An empty input whose keys go to the hypervisor: dom0 does not run yet.
    #[must_use]
    pub const fn new(key: Option<SwitchKey>) -> Self {
        Self {
            key,
            focus: Focus::Xen,
            held: 0,
            ring: [0; RING_SIZE],
            produced: 0,
            consumed: 0,
        }
    }

    /// Who gets the keys now.
    #[must_use]
    pub const fn focus(&self) -> Focus {
        self.focus
    }

    /// Gives the focus to `focus` (dom0 starts, or went away). Print [`Self::banner`] after it.
    pub const fn set_focus(&mut self, focus: Focus) {
        self.focus = focus;
    }

    /// The message that tells the operator who has the focus, to be printed as a host line.
    #[must_use]
    pub const fn banner(&self) -> Banner {
        Banner {
            focus: self.focus,
            key: self.key,
        }
    }

    /// Takes a received byte.
    #[must_use]
    pub fn receive(&mut self, byte: u8) -> Effects {
        let mut effects = Effects::new();
        if let Some(key) = self.key {
            if byte == key.code() {
                self.held += 1;
                if self.held == PRESSES {
                    self.held = 0;
                    self.focus = match self.focus {
                        Focus::Xen => Focus::Dom0,
                        Focus::Dom0 => Focus::Xen,
                    };
                    effects.push(InputEffect::FocusMoved(self.focus));
                }
                return effects;
            }
            for _ in 0..core::mem::take(&mut self.held) {
                self.deliver(key.code(), &mut effects);
            }
        }
        self.deliver(byte, &mut effects);
        effects
    }

    /// Moves waiting bytes to dom0's buffer (`CONSOLEIO_read`); returns how many.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let count = self.waiting().min(out.len());
        for slot in &mut out[..count] {
            *slot = self.ring[self.consumed as usize % RING_SIZE];
            self.consumed = self.consumed.wrapping_add(1);
        }
        count
    }

    const fn waiting(&self) -> usize {
        self.produced.wrapping_sub(self.consumed) as usize
    }

    fn deliver(&mut self, byte: u8, effects: &mut Effects) {
        match self.focus {
            Focus::Xen => effects.push(InputEffect::DebugKey(byte)),
            Focus::Dom0 => {
                if self.waiting() < RING_SIZE {
                    self.ring[self.produced as usize % RING_SIZE] = byte;
                    self.produced = self.produced.wrapping_add(1);
                }
                // Also when the ring is full: a reader that missed a notice is woken again.
                if !effects.contains(&InputEffect::RaiseVirqConsole) {
                    effects.push(InputEffect::RaiseVirqConsole);
                }
            }
        }
    }
}

/// See [`SerialInput::banner`].
#[derive(Clone, Copy, Debug)]
pub struct Banner {
    focus: Focus,
    key: Option<SwitchKey>,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.focus {
            Focus::Xen => "Xen",
            Focus::Dom0 => "DOM0",
        };
        write!(f, "*** Serial input to {name}")?;
        match self.key {
            Some(key) => write!(
                f,
                " (type 'CTRL-{}' three times to switch input)",
                key.letter as char
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CTRL_A: u8 = 1;

    fn dom0_input() -> SerialInput {
        let mut input = SerialInput::new(Some(SwitchKey::DEFAULT));
        input.set_focus(Focus::Dom0);
        input
    }

    fn type_in(input: &mut SerialInput, bytes: &[u8]) -> Vec<InputEffect> {
        bytes.iter().flat_map(|b| input.receive(*b)).collect()
    }

    fn read_all(input: &mut SerialInput) -> Vec<u8> {
        let mut out = [0; 256];
        let n = input.read(&mut out);
        out[..n].to_vec()
    }

    #[test]
    fn three_switch_keys_move_the_focus_and_back() {
        let mut input = dom0_input();
        let effects = type_in(&mut input, &[CTRL_A; 3]);
        assert_eq!(effects, [InputEffect::FocusMoved(Focus::Xen)]);
        assert_eq!(
            input.banner().to_string(),
            "*** Serial input to Xen (type 'CTRL-a' three times to switch input)"
        );
        assert_eq!(type_in(&mut input, b"h"), [InputEffect::DebugKey(b'h')]);
        let effects = type_in(&mut input, &[CTRL_A; 3]);
        assert_eq!(effects, [InputEffect::FocusMoved(Focus::Dom0)]);
        assert_eq!(
            input.banner().to_string(),
            "*** Serial input to DOM0 (type 'CTRL-a' three times to switch input)"
        );
        assert!(read_all(&mut input).is_empty());
    }

    #[test]
    fn fewer_switch_keys_reach_dom0() {
        let mut input = dom0_input();
        assert!(input.receive(CTRL_A).is_empty());
        assert!(input.receive(CTRL_A).is_empty());
        let effects = input.receive(b'x');
        assert_eq!(effects.as_slice(), [InputEffect::RaiseVirqConsole]);
        assert_eq!(read_all(&mut input), [CTRL_A, CTRL_A, b'x']);
        type_in(&mut input, &[CTRL_A, b'y', CTRL_A, CTRL_A, b'z']);
        assert_eq!(read_all(&mut input), [1, b'y', 1, 1, b'z']);
        assert_eq!(input.focus(), Focus::Dom0);
    }

    #[test]
    fn held_keys_become_debug_keys_for_xen() {
        let mut input = SerialInput::new(Some(SwitchKey::DEFAULT));
        let effects = type_in(&mut input, &[CTRL_A, CTRL_A, b'q']);
        let keys = [CTRL_A, CTRL_A, b'q'].map(InputEffect::DebugKey);
        assert_eq!(effects, keys);
    }

    #[test]
    fn full_ring_drops_the_newest_but_still_notifies() {
        let mut input = dom0_input();
        let typed: Vec<u8> = (0..RING_SIZE as u8 + 10).map(|i| b'a' + i % 26).collect();
        let effects = type_in(&mut input, &typed);
        assert_eq!(effects.len(), typed.len());
        let mut out = [0; 50];
        assert_eq!(input.read(&mut out), 50);
        assert_eq!(out[..], typed[..50]);
        type_in(&mut input, b"!");
        let rest = read_all(&mut input);
        assert_eq!(rest[..rest.len() - 1], typed[50..RING_SIZE]);
        assert_eq!(rest.last(), Some(&b'!'));
        assert_eq!(input.read(&mut out), 0);
    }

    #[test]
    fn option_names_key_and_boot_focus() {
        assert_eq!(SwitchOption::parse("a"), SwitchOption::DEFAULT);
        let bx = SwitchOption::parse("bx");
        assert_eq!((bx.key.unwrap().code(), bx.at_boot), (2, Focus::Xen));
        assert_eq!(SwitchOption::parse("`").key, None);
        assert_eq!(SwitchOption::parse("").key, None);
    }

    #[test]
    fn without_a_key_everything_is_passed() {
        let mut input = SerialInput::new(None);
        input.set_focus(Focus::Dom0);
        type_in(&mut input, &[CTRL_A; 4]);
        assert_eq!(read_all(&mut input), [CTRL_A; 4]);
        assert_eq!(input.banner().to_string(), "*** Serial input to DOM0");
    }
}
