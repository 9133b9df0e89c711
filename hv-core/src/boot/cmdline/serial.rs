//! `com1=` and `com2=`: the settings of a serial port.

use super::diagnostic::Findings;
use super::values::unsigned;

/// The speed of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baud {
    /// Leave it as the firmware set it.
    Auto,
    /// So many bits per second.
    Rate(u32),
}

/// The parity bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// Odd.
    Odd,
    /// Even.
    Even,
    /// Always 1.
    Mark,
    /// Always 0.
    Space,
}

/// The settings of one port. What the option leaves out has the port's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialSettings {
    /// Speed of the line.
    pub baud: Baud,
    /// Input clock of the UART in Hz: sixteen times its highest speed.
    pub clock_hz: u32,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// First I/O port.
    pub io_base: u16,
    /// Interrupt line; 0 for polling.
    pub irq: u8,
}

/// The clock of a PC's UART: 115200 bits per second at most.
const PC_CLOCK_HZ: u32 = 16 * 115_200;

impl SerialSettings {
    /// What `port` (`com1` or `com2`) is on a PC.
    fn standard(port: &str) -> Self {
        let (io_base, irq) = if port == "com1" {
            (0x3f8, 4)
        } else {
            (0x2f8, 3)
        };
        Self {
            baud: Baud::Auto,
            clock_hz: PC_CLOCK_HZ,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            io_base,
            irq,
        }
    }

    /// `<baud>[/<base-baud>]`, or `auto`.
    fn set_baud(&mut self, text: &str) -> Option<()> {
        let (baud, base) = match text.split_once('/') {
            Some((baud, base)) => (baud, Some(number::<u32>(base)?)),
            None => (text, None),
        };
        if let Some(base) = base {
            self.clock_hz = base.checked_mul(16).filter(|&clock| clock > 0)?;
        }
        self.baud = match baud {
            "auto" => Baud::Auto,
            _ => Baud::Rate(number(baud).filter(|&rate| rate > 0)?),
        };
        Some(())
    }

    /// Data bits, parity and stop bits: `8n1`.
    fn set_frame(&mut self, text: &str) -> Option<()> {
        let mut chars = text.chars();
        let [data, parity, stop] = [chars.next()?, chars.next()?, chars.next()?];
        self.data_bits = data_bits(data)?;
        self.parity = parse_parity(parity)?;
        self.stop_bits = stop_bits(stop)?;
        chars.next().is_none().then_some(())
    }

    /// Sets by name; `None` for a bad value.
    fn set_named(&mut self, name: &str, value: &str) -> Option<Named> {
        match name {
            "baud" => self.set_baud(value)?,
            "clock-hz" => self.clock_hz = number(value).filter(|&clock| clock > 0)?,
            "data-bits" => self.data_bits = only_char(value).and_then(data_bits)?,
            "parity" => self.parity = only_char(value).and_then(parse_parity)?,
            "stop-bits" => self.stop_bits = only_char(value).and_then(stop_bits)?,
            "io-base" => self.io_base = number(value)?,
            "irq" if value != "msi" => self.irq = number(value)?,
            "irq" | "bridge" | "dev" | "port" | "reg-shift" | "reg-width" => {
                return Some(Named::Missing);
            }
            _ => return None,
        }
        Some(Named::Set)
    }
}

/// What became of a named setting.
enum Named {
    Set,
    /// Xen has it, we do not.
    Missing,
}

/// Parses the value of `port` (`com1` or `com2`). Forms for PCI ports are reported as not
/// implemented; `None` for a value that makes no sense.
pub(super) fn parse(port: &str, value: &str, findings: &mut Findings) -> Option<SerialSettings> {
    let mut settings = SerialSettings::standard(port);
    for (position, item) in value.split(',').enumerate() {
        if let Some((name, value)) = item.split_once('=') {
            match settings.set_named(name, value)? {
                Named::Set => {}
                Named::Missing => findings.missing(port, item),
            }
            continue;
        }
        match (position, item) {
            (_, "") => {}
            (0, _) => settings.set_baud(item)?,
            (1, _) => settings.set_frame(item)?,
            (2, "pci" | "amt") | (3, "msi") | (4 | 5, _) => findings.missing(port, item),
            (2, _) => settings.io_base = number(item)?,
            (3, _) => settings.irq = number(item)?,
            _ => return None,
        }
    }
    Some(settings)
}

fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(unsigned(text)?).ok()
}

fn only_char(text: &str) -> Option<char> {
    let mut chars = text.chars();
    let first = chars.next()?;
    chars.next().is_none().then_some(first)
}

fn data_bits(digit: char) -> Option<u8> {
    ('5'..='8').contains(&digit).then(|| digit as u8 - b'0')
}

fn stop_bits(digit: char) -> Option<u8> {
    ('1'..='2').contains(&digit).then(|| digit as u8 - b'0')
}

fn parse_parity(letter: char) -> Option<Parity> {
    match letter {
        'n' => Some(Parity::None),
        'o' => Some(Parity::Odd),
        'e' => Some(Parity::Even),
        'm' => Some(Parity::Mark),
        's' => Some(Parity::Space),
        _ => None,
    }
}
