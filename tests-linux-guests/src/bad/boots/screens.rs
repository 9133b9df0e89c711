//! Machines without a serial line.

use super::{DOM0_CRASHED, SMALL, STOPPED, UNREADABLE};
use crate::bad::{BadBoot, Kernel};
use crate::case::Tier;
use crate::emulator::{Loader, Machine};
use crate::screen::Screen;

pub(super) const BOOTS: &[BadBoot] = &[
    BadBoot {
        name: "bad-screen-text",
        kernel: Kernel::Text,
        expected: &["System RAM: 511 MiB", UNREADABLE],
        screen: Some(Screen::Text),
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-screen-framebuffer",
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            ..SMALL
        },
        kernel: Kernel::Text,
        expected: &["Video: VGA is graphics mode", UNREADABLE],
        screen: Some(Screen::Framebuffer),
        ..BadBoot::BASE
    },
    BadBoot {
        // Also what comes after dom0 has begun.
        name: "bad-screen-keep",
        tier: Tier::Long,
        hypervisor_args: "dom0_mem=128M noreboot vga=keep",
        expected: &["Serial input to DOM0", DOM0_CRASHED, STOPPED],
        screen: Some(Screen::Text),
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-screen-keep-framebuffer",
        tier: Tier::Long,
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            ..SMALL
        },
        hypervisor_args: "dom0_mem=128M noreboot vga=keep",
        expected: &["Serial input to DOM0", DOM0_CRASHED, STOPPED],
        screen: Some(Screen::Framebuffer),
        ..BadBoot::BASE
    },
];
