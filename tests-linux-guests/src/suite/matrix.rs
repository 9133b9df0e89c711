//! Debian's kernels, each as dom0 and as both kinds of guest: the rows of the table that `cargo xtask test --matrix` prints.

use crate::case::{Case, Guests, Script, Tier};
use crate::emulator::Linux;

/// A kernel and what it is tried as.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The Debian that it is from.
    pub name: &'static str,
    /// The kernel.
    pub linux: Linux,
    /// Its boots, in the order of [`COLUMNS`].
    pub cells: [Case; 3],
}

/// What a kernel is tried as.
pub const COLUMNS: [&str; 3] = ["PV dom0", "PV domU", "PVH domU"];

/// The kernels.
pub static ROWS: [Row; 3] = [
    Row {
        name: "Debian 12",
        linux: Linux::Debian12,
        cells: [
            dom0("matrix-debian12-dom0", Linux::Debian12),
            pv("matrix-debian12-pv", Linux::Debian12),
            pvh("matrix-debian12-pvh", Linux::Debian12),
        ],
    },
    Row {
        name: "Debian 13",
        linux: Linux::Debian13,
        cells: [
            dom0("matrix-debian13-dom0", Linux::Debian13),
            pv("matrix-debian13-pv", Linux::Debian13),
            pvh("matrix-debian13-pvh", Linux::Debian13),
        ],
    },
    Row {
        name: "Debian unstable",
        linux: Linux::DebianUnstable,
        cells: [
            dom0("matrix-unstable-dom0", Linux::DebianUnstable),
            pv("matrix-unstable-pv", Linux::DebianUnstable),
            pvh("matrix-unstable-pvh", Linux::DebianUnstable),
        ],
    },
];

/// The boots of all rows: a cell is also a case with a name.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    ROWS.iter().flat_map(|row| &row.cells)
}

/// As dom0.
const fn dom0(name: &'static str, linux: Linux) -> Case {
    Case {
        name,
        tier: Tier::Named,
        linux,
        ..Case::BASE
    }
}

/// As PV guest of Debian 12's kernel.
const fn pv(name: &'static str, linux: Linux) -> Case {
    Case {
        name,
        tier: Tier::Named,
        guests: Guests::Kernel(linux),
        // The newer ones are too large for what Debian 12's makes do with.
        kernel_args: "XMEMORY=256",
        script: Script::Guest("domu-boot"),
        seconds: 900,
        ..Case::BASE
    }
}

/// As PVH guest of Debian 12's kernel.
const fn pvh(name: &'static str, linux: Linux) -> Case {
    Case {
        kernel_args: "XMEMORY=256 XTYPE=pvh",
        ..pv(name, linux)
    }
}
