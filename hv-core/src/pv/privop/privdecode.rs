//! Decoder for the instructions that are emulated (Intel SDM vol. 2; AMD APM vol. 3, 1 and appendix A).

use crate::pv::ports::Width;

/// Longest instruction.
pub const MAX_LENGTH: usize = 15;
/// `ud2; "xen"`: what a PV guest puts before CPUID to have it emulated.
pub const FORCED_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];

/// How the code segment is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bitness {
    /// 64-bit code.
    Long,
    /// 32-bit code.
    Compatible,
}

/// Why nothing was decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The bytes end inside the instruction.
    TooShort,
    /// None of the instructions that are emulated.
    NotOurs,
}

/// A general register, 0 (rax) to 15 (r15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(pub u8);

/// Segments that matter in 64-bit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum Segment {
    Flat,
    Fs,
    Gs,
}

/// Size of address calculations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by size")]
pub enum AddressSize {
    Bits32,
    Bits64,
}

/// Which port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortOperand {
    /// In the instruction.
    Immediate(u8),
    /// In DX.
    Dx,
}

/// Whether an IN or OUT of a string is repeated rcx times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Repeat {
    Once,
    Counted,
}

/// An IN or OUT of a string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringIo {
    /// Size of an element.
    pub width: Width,
    /// Repeated?
    pub repeat: Repeat,
    /// Which part of rcx, rsi and rdi counts.
    pub size: AddressSize,
    /// Where the source of OUTS lies.
    pub segment: Segment,
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "one instruction each")]
pub enum Operation {
    Cpuid,
    ReadTsc,
    ReadTscAndAux,
    ReadMsr,
    WriteMsr,
    ReadControl {
        index: u8,
        to: Register,
    },
    WriteControl {
        index: u8,
        from: Register,
    },
    ReadDebug {
        index: u8,
        to: Register,
    },
    WriteDebug {
        index: u8,
        from: Register,
    },
    ClearTaskSwitched,
    /// WBINVD and WBNOINVD.
    WriteBackCaches,
    SetXcr,
    In {
        width: Width,
        port: PortOperand,
    },
    Out {
        width: Width,
        port: PortOperand,
    },
    InString(StringIo),
    OutString(StringIo),
    ClearInterrupts,
    SetInterrupts,
}

/// A decoded instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// What it does.
    pub operation: Operation,
    /// Its bytes.
    pub length: u8,
}

/// Prefixes seen.
struct Prefixes {
    bitness: Bitness,
    operand_size: bool,
    address_size: bool,
    lock: bool,
    repeat: bool,
    segment: Segment,
    rex: u8,
}

const REX_W: u8 = 8;
const REX_R: u8 = 4;
const REX_B: u8 = 1;

/// Goes through the bytes of one instruction.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Failure> {
        if self.at >= MAX_LENGTH {
            return Err(Failure::NotOurs);
        }
        let byte = *self.bytes.get(self.at).ok_or(Failure::TooShort)?;
        self.at += 1;
        Ok(byte)
    }
}

/// Decodes the instruction at the start of `bytes`.
///
/// # Errors
/// See `Failure`.
pub fn decode(bytes: &[u8], bitness: Bitness) -> Result<Decoded, Failure> {
    let mut reader = Reader { bytes, at: 0 };
    let (prefixes, opcode) = prefixes(&mut reader, bitness)?;
    // LOCK is not allowed with any of them; AMD gives MOV CR0 with it another meaning, not ours.
    if prefixes.lock {
        return Err(Failure::NotOurs);
    }
    let operation = match opcode {
        0x0f => two_byte(&mut reader, &prefixes)?,
        _ => one_byte(&mut reader, &prefixes, opcode)?,
    };
    Ok(Decoded {
        operation,
        length: reader.at as u8,
    })
}

/// Reads prefixes up to the first byte of the opcode.
fn prefixes(reader: &mut Reader<'_>, bitness: Bitness) -> Result<(Prefixes, u8), Failure> {
    let mut seen = Prefixes {
        bitness,
        operand_size: false,
        address_size: false,
        lock: false,
        repeat: false,
        segment: Segment::Flat,
        rex: 0,
    };
    loop {
        let byte = reader.byte()?;
        let rex = core::mem::take(&mut seen.rex);
        match byte {
            0x66 => seen.operand_size = true,
            0x67 => seen.address_size = true,
            0xf0 => seen.lock = true,
            0xf2 | 0xf3 => seen.repeat = true,
            0x64 => seen.segment = Segment::Fs,
            0x65 => seen.segment = Segment::Gs,
            // Without meaning in 64-bit code; they do not take FS or GS back there.
            0x26 | 0x2e | 0x36 | 0x3e => {}
            // A REX prefix counts only directly before the opcode.
            0x40..=0x4f if bitness == Bitness::Long => seen.rex = byte,
            _ => {
                seen.rex = rex;
                return Ok((seen, byte));
            }
        }
    }
}

impl Prefixes {
    fn width(&self) -> Width {
        if self.operand_size && self.rex & REX_W == 0 {
            Width::Word
        } else {
            Width::Dword
        }
    }

    fn address(&self) -> AddressSize {
        if self.address_size {
            AddressSize::Bits32
        } else {
            AddressSize::Bits64
        }
    }

    fn string(&self, width: Width) -> Result<StringIo, Failure> {
        // Segments of 32-bit code have bases and limits that are not looked at here.
        if self.bitness == Bitness::Compatible {
            return Err(Failure::NotOurs);
        }
        let repeat = if self.repeat {
            Repeat::Counted
        } else {
            Repeat::Once
        };
        Ok(StringIo {
            width,
            repeat,
            size: self.address(),
            segment: self.segment,
        })
    }
}

fn one_byte(
    reader: &mut Reader<'_>,
    prefixes: &Prefixes,
    opcode: u8,
) -> Result<Operation, Failure> {
    let width = if opcode & 1 == 0 {
        Width::Byte
    } else {
        prefixes.width()
    };
    Ok(match opcode {
        0x6c | 0x6d => Operation::InString(prefixes.string(width)?),
        0x6e | 0x6f => Operation::OutString(prefixes.string(width)?),
        0xe4 | 0xe5 => Operation::In {
            width,
            port: PortOperand::Immediate(reader.byte()?),
        },
        0xe6 | 0xe7 => Operation::Out {
            width,
            port: PortOperand::Immediate(reader.byte()?),
        },
        0xec | 0xed => Operation::In {
            width,
            port: PortOperand::Dx,
        },
        0xee | 0xef => Operation::Out {
            width,
            port: PortOperand::Dx,
        },
        0xfa => Operation::ClearInterrupts,
        0xfb => Operation::SetInterrupts,
        _ => return Err(Failure::NotOurs),
    })
}

fn two_byte(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Operation, Failure> {
    let opcode = reader.byte()?;
    Ok(match opcode {
        0x01 => return group_7(reader, prefixes),
        0x06 => Operation::ClearTaskSwitched,
        0x09 => Operation::WriteBackCaches,
        0x20..=0x23 => {
            // The mod field is ignored: the operand is always a register.
            let modrm = reader.byte()?;
            let index = (modrm >> 3 & 7) | if prefixes.rex & REX_R != 0 { 8 } else { 0 };
            let register = Register((modrm & 7) | if prefixes.rex & REX_B != 0 { 8 } else { 0 });
            match opcode {
                0x20 => Operation::ReadControl {
                    index,
                    to: register,
                },
                0x21 => Operation::ReadDebug {
                    index,
                    to: register,
                },
                0x22 => Operation::WriteControl {
                    index,
                    from: register,
                },
                _ => Operation::WriteDebug {
                    index,
                    from: register,
                },
            }
        }
        0x30 => Operation::WriteMsr,
        0x31 => Operation::ReadTsc,
        0x32 => Operation::ReadMsr,
        0xa2 => Operation::Cpuid,
        _ => return Err(Failure::NotOurs),
    })
}

/// 0f 01: XSETBV, RDTSCP.
fn group_7(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Operation, Failure> {
    let modrm = reader.byte()?;
    match modrm {
        0xd1 if prefixes.operand_size || prefixes.repeat => Err(Failure::NotOurs),
        0xd1 => Ok(Operation::SetXcr),
        0xf9 => Ok(Operation::ReadTscAndAux),
        _ => Err(Failure::NotOurs),
    }
}
