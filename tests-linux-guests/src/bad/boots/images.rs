//! Modules that are no kernel for dom0.

use super::STOPPED;
use crate::bad::{BadBoot, Kernel};

pub(super) const BOOTS: &[BadBoot] = &[
    BadBoot {
        name: "bad-no-module",
        kernel: Kernel::Missing,
        // Also without noreboot: another boot would find the same.
        hypervisor_args: "",
        expected: &["Cannot boot: no dom0 kernel", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-empty-module",
        kernel: Kernel::Empty,
        expected: &["Cannot boot: dom0 kernel: the file is empty", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-text-module",
        kernel: Kernel::Text,
        expected: &[
            "Cannot boot: dom0 kernel: neither an ELF file nor compressed",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-no-notes",
        kernel: Kernel::Program,
        expected: &[
            "Cannot boot: dom0 kernel: the kernel has no Xen ELF notes",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-itself",
        kernel: Kernel::Hypervisor,
        expected: &[
            "Cannot boot: dom0 kernel: the kernel has a PVH entry but no PV one",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-32-bit-kernel",
        kernel: Kernel::Program32,
        expected: &[
            "Cannot boot: dom0 kernel: the kernel is 32-bit only",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cut-image",
        kernel: Kernel::CutImage,
        expected: &[
            "Cannot boot: dom0 kernel: the boot image is cut short",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-damaged-image",
        kernel: Kernel::DamagedImage,
        expected: &["Cannot boot: dom0 kernel: xz data is damaged", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-bzip2-image",
        kernel: Kernel::Bzip2Image,
        expected: &[
            "Cannot boot: dom0 kernel: compressed with bzip2, which is not supported",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-bzip2-file",
        kernel: Kernel::Bzip2File,
        expected: &[
            "Cannot boot: dom0 kernel: compressed with bzip2, which is not supported",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
];
