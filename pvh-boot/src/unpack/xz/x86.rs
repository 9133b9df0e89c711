//! The x86 branch filter: before packing, the relative addresses of CALL and JMP were made absolute, so that
//! calls of one function look the same; here they are made relative again.
//!
//! An address is converted where its highest byte is 0 or 0xff. Opcode bytes may also stand inside the four
//! bytes behind another one: what was seen within the last three bytes decides whether an opcode counts and
//! which byte of the result must again be 0 or 0xff.

/// Opcode and address.
const LEN: usize = 5;

const fn is_opcode(byte: u8) -> bool {
    byte & 0xfe == 0xe8
}

const fn is_sign(byte: u8) -> bool {
    byte == 0 || byte == 0xff
}

/// Whether one of the eight bytes is an opcode (which is the lowest one that shows).
const fn opcodes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero = word & (ONES * 0xfe) ^ (ONES * 0xe8);
    zero.wrapping_sub(ONES) & !zero & (ONES * 0x80)
}

/// The next opcode at or after `at` that is followed by a whole address.
fn next_opcode(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
            break;
        };
        let found = opcodes(u64::from_le_bytes(*eight));
        if found != 0 {
            at += found.trailing_zeros() as usize / 8;
            return (at + LEN <= bytes.len()).then_some(at);
        }
        at += 8;
    }
    let last = bytes.len().checked_sub(LEN)?;
    (at..=last).find(|&at| is_opcode(bytes[at]))
}

/// Undoes the filter on a whole block that began at `offset` of the unpacked data.
pub(super) fn undo(bytes: &mut [u8], offset: u32) {
    // The opcodes seen in the last three bytes that did not count, nearest in bit 0.
    let mut seen = 0u32;
    let mut last = None;
    let mut at = 0;
    while let Some(found) = next_opcode(bytes, at) {
        let distance = last.map_or(u32::MAX, |last| (found - last) as u32);
        seen = if distance > 3 {
            0
        } else {
            seen << (distance - 1) & 7
        };
        last = Some(found);
        at = found + 1;
        let Some(&mut [_, a, b, c, d]) = bytes.get_mut(found..found + LEN) else {
            return;
        };
        let near = nearest(seen);
        let counts =
            matches!(seen, 0 | 1 | 2 | 4) && (seen == 0 || !is_sign([d, c, b, a][near as usize]));
        if !counts || !is_sign(d) {
            seen = seen << 1 | 1;
            continue;
        }
        let after = offset.wrapping_add((found + LEN) as u32);
        let address = relative(u32::from_le_bytes([a, b, c, d]), after, seen, near);
        // The highest byte again is nothing but the sign of the 25 bits below.
        let top = if address & 1 << 24 == 0 { 0 } else { 0xff };
        let [a, b, c, _] = address.to_le_bytes();
        if let Some(to) = bytes.get_mut(found + 1..found + LEN) {
            to.copy_from_slice(&[a, b, c, top]);
        }
        at = found + LEN;
        last = Some(found);
    }
}

/// Which byte of an address, counted from the highest, an opcode seen before reaches into.
const fn nearest(seen: u32) -> u32 {
    match seen {
        0 => 0,
        1 => 1,
        2 | 3 => 2,
        _ => 3,
    }
}

fn relative(absolute: u32, after: u32, seen: u32, near: u32) -> u32 {
    let mut from = absolute;
    loop {
        let to = from.wrapping_sub(after);
        if seen == 0 || !is_sign((to >> (24 - 8 * near)) as u8) {
            return to;
        }
        from = to ^ ((1 << (32 - 8 * near)) - 1);
    }
}
