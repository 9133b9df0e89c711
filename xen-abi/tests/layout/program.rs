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
        let mut program = includes();
        for (index, row) in rows.iter().enumerate() {
            let c_type = match row.c.split_once(':') {
                Some((outer, path)) => format!("__typeof__((({outer} *)0)->{path})"),
                None => row.c.to_owned(),
            };
            let _ = writeln!(program, "typedef {c_type} T{index};");
        }
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
    let mut text = String::from(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n",
    );
    for header in HEADERS {
        let _ = writeln!(text, "#include <xen/{header}>");
    }
    text
}

/// Compiles and runs a program; a failure says what to install.
fn run(name: &str, program: &str) -> CView {
    assert!(
        Path::new("/usr/include/xen/xen.h").exists(),
        "the layout check needs Xen's public headers in /usr/include/xen: \
         install the package libxen-dev"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join(format!("layout-{name}.c"));
    let binary = folder.join(format!("layout-{name}"));
    std::fs::write(&source, program).expect("the build folder is writable");
    let compiled = Command::new("cc")
        // C89 gives arrays of variable length the size zero instead of none.
        .args(["-std=gnu89", "-w", "-D__XEN_TOOLS__", "-o"])
        .args([&binary, &source])
        .output()
        .expect("the layout check needs cc: install the packages gcc and libxen-dev");
    assert!(
        compiled.status.success(),
        "cc failed; are the headers those of Xen 4.17 (package libxen-dev)?\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let ran = Command::new(&binary).output().expect("the program starts");
    assert!(ran.status.success(), "the generated program failed");
    CView::read(&String::from_utf8(ran.stdout).expect("the program prints text"))
}
