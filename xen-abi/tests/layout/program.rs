//! The generated C program and what it says.

use crate::{Constant, Struct};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Headers the program includes, relative to `/usr/include/xen`.
const HEADERS: &[&str] = &[
    "xen.h",
    "version.h",
    "features.h",
    "event_channel.h",
    "sched.h",
    "vcpu.h",
    "callback.h",
    "nmi.h",
    "hypfs.h",
    "pmu.h",
    "memory.h",
    "grant_table.h",
    "physdev.h",
    "platform.h",
    "elfnote.h",
    "sysctl.h",
    "domctl.h",
    "kexec.h",
    "arch-x86/cpuid.h",
    "arch-x86/hvm/start_info.h",
    "arch-x86/xen-mca.h",
    "io/console.h",
    "io/xs_wire.h",
    "hvm/hvm_op.h",
    "hvm/params.h",
    "hvm/save.h",
    "hvm/hvm_vcpu.h",
    "xsm/flask_op.h",
];

/// Those of them with structures of calls that 32-bit code may make.
const NARROW_HEADERS: &[&str] = &[
    "xen.h",
    "version.h",
    "event_channel.h",
    "sched.h",
    "memory.h",
    "grant_table.h",
    "hvm/hvm_op.h",
    "hvm/params.h",
];

/// What the C compiler says, in the order of the tables.
#[derive(Default)]
pub struct CView {
    pub structs: Vec<CStruct>,
    pub constants: Vec<i128>,
    pub errors: Vec<(String, u16)>,
}

/// A structure as C lays it out.
#[derive(Default)]
pub struct CStruct {
    pub size: usize,
    pub align: usize,
    /// Offset and size.
    pub fields: Vec<(usize, usize)>,
    /// Bytes that belong to no field.
    pub padding: Vec<usize>,
}

impl CView {
    pub fn of_structs(rows: &[Struct]) -> Self {
        let mut program = includes() + &typedefs(rows);
        program += "static void holes(const unsigned char *bytes, size_t size)\n{\n\
            size_t i;\n\
            for (i = 0; i < size; i++) if (!bytes[i]) printf(\"pad %zu\\n\", i);\n}\n\
            int main(void)\n{\n";
        for (index, row) in rows.iter().enumerate() {
            let _ = writeln!(program, "{{ /* {} */", row.name);
            let _ = writeln!(
                program,
                "printf(\"struct %zu %zu\\n\", sizeof(T{index}), _Alignof(T{index}));"
            );
            for field in &row.fields {
                let name = field.name;
                let _ = writeln!(
                    program,
                    "printf(\"field %zu %zu\\n\", offsetof(T{index}, {name}), \
                     sizeof(((T{index} *)0)->{name}));"
                );
            }
            let _ = writeln!(
                program,
                "T{index} t; memset(&t, 0xff, sizeof(t)); __builtin_clear_padding(&t);\n\
                 holes(&t, sizeof(t));\n}}"
            );
        }
        program += "return 0;\n}\n";
        run("structs", &program)
    }

    /// As 32-bit code has them: without padding, and read from assembly, for there may be no C library for such code.
    pub fn of_narrow_structs(rows: &[Struct]) -> Self {
        let mut program = includes_for(&["stddef.h", "stdint.h"], NARROW_HEADERS) + &typedefs(rows);
        program += "const unsigned numbers[] = {\n";
        for (index, row) in rows.iter().enumerate() {
            let _ = writeln!(program, "sizeof(T{index}), _Alignof(T{index}),");
            for field in &row.fields {
                let name = field.name;
                let _ = writeln!(
                    program,
                    "offsetof(T{index}, {name}), sizeof(((T{index} *)0)->{name}),"
                );
            }
        }
        // An array that ends in this is neither empty nor of zeros.
        program += "0xffff };\n";
        let mut numbers = assembled("narrow", &program).into_iter();
        let mut pair = || {
            let mut next = || numbers.next().expect("as many as there are expressions");
            (next(), next())
        };
        let structs = rows.iter().map(|row| {
            let (size, align) = pair();
            CStruct {
                size,
                align,
                fields: row.fields.iter().map(|_| pair()).collect(),
                padding: Vec::new(),
            }
        });
        Self {
            structs: structs.collect(),
            ..Self::default()
        }
    }

    pub fn of_constants(rows: &[Constant]) -> Self {
        let mut program = includes();
        program += "int main(void)\n{\n";
        for row in rows {
            let c = &row.c;
            let _ = writeln!(
                program,
                "if (({c}) < 0) printf(\"constant %lld\\n\", (long long)({c}));\n\
                 else printf(\"constant %llu\\n\", (unsigned long long)({c}));"
            );
        }
        program += "return 0;\n}\n";
        run("constants", &program)
    }

    pub fn of_errors() -> Self {
        let program = "#include <stdio.h>\nint main(void)\n{\n\
             #define XEN_ERRNO(name, value) printf(\"error %s %d\\n\", #name, value);\n\
             #include <xen/errno.h>\nreturn 0;\n}\n";
        run("errors", program)
    }

    fn read(output: &str) -> Self {
        let mut view = Self::default();
        for line in output.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<usize>().expect("a number");
            match words[0] {
                "struct" => view.structs.push(CStruct {
                    size: number(1),
                    align: number(2),
                    ..CStruct::default()
                }),
                "field" => view.last().fields.push((number(1), number(2))),
                "pad" => view.last().padding.push(number(1)),
                "constant" => view.constants.push(words[1].parse().expect("a number")),
                "error" => {
                    let number = words[2].parse().expect("a number");
                    view.errors.push((words[1].to_owned(), number));
                }
                other => panic!("the C program printed {other:?}"),
            }
        }
        view
    }

    fn last(&mut self) -> &mut CStruct {
        self.structs.last_mut().expect("a struct line comes first")
    }
}

fn includes() -> String {
    includes_for(&["stddef.h", "stdint.h", "stdio.h", "string.h"], HEADERS)
}

fn includes_for(of_c: &[&str], of_xen: &[&str]) -> String {
    let mut text = String::new();
    for header in of_c {
        let _ = writeln!(text, "#include <{header}>");
    }
    for header in of_xen {
        let _ = writeln!(text, "#include <xen/{header}>");
    }
    text
}

/// A name for each row's type.
fn typedefs(rows: &[Struct]) -> String {
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let c_type = match row.c.split_once(':') {
            Some((outer, path)) => format!("__typeof__((({outer} *)0)->{path})"),
            None => row.c.to_owned(),
        };
        let _ = writeln!(text, "typedef {c_type} T{index};");
    }
    text
}

/// Compiles to 32-bit assembly and gives the words of data in it.
fn assembled(name: &str, program: &str) -> Vec<usize> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let assembly = folder.join(format!("layout-{name}.s"));
    let options = ["-m32", "-ffreestanding", "-S"];
    compile(name, program, &options, &assembly);
    let text = std::fs::read_to_string(&assembly).expect("what cc wrote is text");
    let mut words = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(word) = line.strip_prefix(".long") {
            words.push(word.trim().parse().expect("a number"));
        } else if let Some(bytes) = line.strip_prefix(".zero") {
            let bytes: usize = bytes.trim().parse().expect("a number");
            words.extend(std::iter::repeat_n(0, bytes / 4));
        }
    }
    words
}

/// Compiles and runs a program; a failure says what to install.
fn run(name: &str, program: &str) -> CView {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layout-{name}"));
    compile(name, program, &[], &binary);
    let ran = Command::new(&binary).output().expect("the program starts");
    assert!(ran.status.success(), "the generated program failed");
    CView::read(&String::from_utf8(ran.stdout).expect("the program prints text"))
}

fn compile(name: &str, program: &str, options: &[&str], result: &Path) {
    assert!(
        Path::new("/usr/include/xen/xen.h").exists(),
        "the layout check needs Xen's public headers in /usr/include/xen: \
         install the package libxen-dev"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join(format!("layout-{name}.c"));
    std::fs::write(&source, program).expect("the build folder is writable");
    let compiled = Command::new("cc")
        // C89 gives arrays of variable length the size zero instead of none.
        .args(["-std=gnu89", "-w", "-D__XEN_TOOLS__"])
        .args(options)
        .arg("-o")
        .args([result, &source])
        .output()
        .expect("the layout check needs cc: install the packages gcc and libxen-dev");
    assert!(
        compiled.status.success(),
        "cc failed; are the headers those of Xen 4.17 (package libxen-dev)?\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
}
