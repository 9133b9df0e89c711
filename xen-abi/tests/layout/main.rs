//! Compares every structure and every numeric constant of the crate with Xen's own C headers.
//!
//! A C program is generated from the two tables beside this file, compiled against
//! `/usr/include/xen` and run; what it prints is compared with what Rust says. Needs `cc` and the
//! headers (Debian package libxen-dev, Xen 4.17); without them the test fails, it does not skip.

mod constants;
mod program;
mod source;
mod structs;

use program::CView;
use xen_abi::errno::Errno;

/// A structure as Rust lays it out.
pub struct Struct {
    /// C type: `struct x`, a typedef, or `struct x:member.path` for a type without a name.
    c: &'static str,
    module: &'static str,
    name: &'static str,
    size: usize,
    align: usize,
    fields: Vec<Field>,
    /// Byte ranges that are padding.
    padding: Vec<(usize, usize)>,
}

/// A field as Rust lays it out.
pub struct Field {
    name: &'static str,
    offset: usize,
    size: usize,
}

/// A constant as Rust has it.
pub struct Constant {
    /// C expression, usually the name itself.
    c: String,
    module: &'static str,
    name: &'static str,
    value: i128,
}

/// Fails with the whole list, one mismatch a line.
fn report(what: &str, mismatches: &[String]) {
    assert!(
        mismatches.is_empty(),
        "{} {what} differ:\n{}",
        mismatches.len(),
        mismatches.join("\n")
    );
}

/// Where the two views of the same structures differ.
fn differences(rows: &[Struct], view: &CView) -> Vec<String> {
    assert_eq!(rows.len(), view.structs.len());
    let mut wrong = Vec::new();
    for (row, c) in rows.iter().zip(&view.structs) {
        let name = row.name;
        assert_eq!(row.fields.len(), c.fields.len());
        if (row.size, row.align) != (c.size, c.align) {
            wrong.push(format!(
                "{name}: size {} align {}, in C {} and {}",
                row.size, row.align, c.size, c.align
            ));
        }
        for (field, &(offset, size)) in row.fields.iter().zip(&c.fields) {
            if (field.offset, field.size) != (offset, size) {
                wrong.push(format!(
                    "{name}.{}: offset {} size {}, in C {offset} and {size}",
                    field.name, field.offset, field.size
                ));
            }
        }
    }
    wrong
}

#[test]
fn structures_are_laid_out_as_in_c() {
    let rows = structs::rows();
    let view = CView::of_structs(&rows);
    let mut wrong = differences(&rows, &view);
    for (row, c) in rows.iter().zip(&view.structs) {
        for &(from, to) in &row.padding {
            for byte in from..to {
                if !c.padding.contains(&byte) {
                    wrong.push(format!(
                        "{}: byte {byte} is padding, in C part of a field",
                        row.name
                    ));
                }
            }
        }
    }
    report("structures or fields", &wrong);
    assert!(rows.len() > 200, "the table has lost its rows");
}

#[test]
fn structures_of_32_bit_code_are_laid_out_as_in_c() {
    let rows = structs::narrow_rows();
    let view = CView::of_narrow_structs(&rows);
    report("structures or fields", &differences(&rows, &view));
    assert!(rows.len() > 9, "the table has lost its rows");
}

#[test]
fn what_32_bit_code_shares_with_64_bit_code_is_the_same_in_c() {
    // The hypervisor takes these from either as they are.
    const GRANTS: &[&str] = &[
        "GnttabMapGrantRef",
        "GnttabUnmapGrantRef",
        "GnttabUnmapAndReplace",
        "GnttabQuerySize",
        "GnttabSetVersion",
        "GnttabGetVersion",
        "GnttabSwapGrantRef",
        "GnttabCacheFlush",
    ];
    let mut rows = structs::rows();
    rows.retain(|row| match row.module {
        "event_channel" => !row.name.contains("Fifo"),
        "grant_table" => GRANTS.contains(&row.name),
        "hvm_op" => row.name != "HvmAltp2mOp",
        "sched" => matches!(row.name, "SchedShutdown" | "SchedRemoteShutdown"),
        _ => false,
    });
    let mut view = CView::of_narrow_structs(&rows);
    for (row, c) in rows.iter().zip(&mut view.structs) {
        // There numbers of 64 bits are aligned as words: no matter to who copies the structure.
        c.align = row.align;
    }
    report("structures or fields", &differences(&rows, &view));
    assert!(rows.len() > 30, "the table has lost its rows");
}

#[test]
fn constants_have_the_values_of_c() {
    let rows = constants::rows();
    let view = CView::of_constants(&rows);
    assert_eq!(rows.len(), view.constants.len());
    let wrong: Vec<_> = rows
        .iter()
        .zip(&view.constants)
        .filter(|(row, c)| row.value != **c)
        .map(|(row, c)| format!("{}: {}, in C {c}", row.name, row.value))
        .collect();
    report("constants", &wrong);
    assert!(rows.len() > 1000, "the table has lost its rows");
}

#[test]
fn errors_are_those_of_c() {
    let in_c = CView::of_errors().errors;
    let mut known = 0;
    for (name, number) in &in_c {
        let errno = Errno::from_number(*number).unwrap_or_else(|| panic!("{name} is missing"));
        match name.as_str() {
            "EWOULDBLOCK" => assert_eq!(errno, Errno::EWOULDBLOCK),
            "EDEADLOCK" => assert_eq!(errno, Errno::EDEADLOCK),
            _ => {
                assert_eq!(errno.name(), name);
                known += 1;
            }
        }
        assert_eq!(errno.to_ret(), -i64::from(*number));
    }
    assert_eq!(known, Errno::ALL.len(), "errors that C does not have");
}

#[test]
fn every_constant_is_in_the_table() {
    let rows = constants::rows();
    let missing: Vec<_> = source::numeric_constants()
        .into_iter()
        .filter(|(module, name)| {
            !rows
                .iter()
                .any(|row| row.module == module && row.name == name)
        })
        .map(|(module, name)| format!("{module}::{name}"))
        .collect();
    report("constants of the crate and the table", &missing);
}

#[test]
fn every_structure_is_in_the_table() {
    // Has no counterpart in the headers; checked by a test of its own below.
    const OWN: &[&str] = &["E820Entry", "GuestHandle"];
    // Of modules that are behaviour, not layout.
    const BEHAVIOUR: &[&str] = &["ring", "xs_message"];
    let mut rows = structs::rows();
    rows.extend(structs::narrow_rows());
    let missing: Vec<_> = source::structures()
        .into_iter()
        .filter(|(module, _)| !BEHAVIOUR.contains(&module.as_str()))
        .filter(|(_, name)| !OWN.contains(&name.as_str()))
        .filter(|(module, name)| {
            !rows
                .iter()
                .any(|row| row.module == module && row.name == name)
        })
        .map(|(module, name)| format!("{module}::{name}"))
        .collect();
    report("structures of the crate and the table", &missing);
}

#[test]
fn bios_memory_map_entries_have_twenty_bytes() {
    use core::mem::offset_of;
    use xen_abi::e820::E820Entry;
    assert_eq!(size_of::<E820Entry>(), 20);
    assert_eq!(offset_of!(E820Entry, size), 8);
    assert_eq!(offset_of!(E820Entry, r#type), 16);
    assert_eq!(size_of::<xen_abi::GuestHandle<u8>>(), 8);
}
