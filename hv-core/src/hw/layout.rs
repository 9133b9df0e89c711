//! Where things are in the hypervisor's part of the address space (PML4 slots 256-271, which the
//! PV ABI reserves: xen/arch-x86/xen-x86_64.h, HYPERVISOR_VIRT_START).

use hv_core::base::{CpuId, Mfn, PAGE_SIZE, PhysAddr};

/// First PML4 slot that belongs to the hypervisor.
pub const FIRST_SLOT: usize = 256;
/// Number of PML4 slots that belong to the hypervisor.
pub const SLOTS: usize = 16;
/// The machine-to-phys table as PV guests see it, read-only (slot 256).
pub const M2P_GUEST: u64 = 0xffff_8000_0000_0000;
/// Where it ends at the latest.
pub const M2P_GUEST_END: u64 = 0xffff_8040_0000_0000;
/// The same table, writable by us only (slot 257).
pub const M2P_OURS: u64 = 0xffff_8080_0000_0000;
/// Per-CPU areas, `CPU_STRIDE` each (slot 260).
pub const CPU_AREAS: u64 = 0xffff_8200_0000_0000;
/// Where physical 0 would be in the image window, had the loader put the image where it was linked for (slot 261;
/// link.ld).
pub const IMAGE_WINDOW: u64 = 0xffff_82d0_4000_0000;
/// The frame table (slot 262).
pub const FRAME_TABLE: u64 = 0xffff_8300_0000_0000;
/// Device registers, uncached (slot 263).
pub const MMIO_WINDOW: u64 = 0xffff_8380_0000_0000;
/// All RAM below `DIRECT_LIMIT` (slots 264-271).
pub const DIRECT_MAP: u64 = 0xffff_8400_0000_0000;
/// First physical address that the direct map cannot reach: 4 TiB.
pub const DIRECT_LIMIT: u64 = 4 << 40;
/// First address above the hypervisor's range.
pub const HYPERVISOR_END: u64 = 0xffff_8800_0000_0000;

/// Bytes of address space for each CPU's area: what two tables of the last level map. All that the second maps may be seen at CPL 3
/// by whoever can read what he may not (`hw/view.rs`).
pub const CPU_STRIDE: u64 = 4 << 20;
/// Size and alignment of the stack block: from any address in it the CPU's data is found.
pub const STACK_BLOCK: u64 = 128 << 10;
/// First mapped page of the main stack in the block; the main stack reaches to the block's end.
pub const MAIN_STACK_PAGE: u64 = 24;
/// Pages of each interrupt stack; a guard page lies below each.
pub const IST_PAGES: u64 = 3;
/// Where the second table's part begins.
pub const WINDOWS: u64 = 2 << 20;
/// The guest's and our GDT (16 pages), then the LDT (16 pages).
pub const GDT_OFFSET: u64 = WINDOWS;
/// The guest's LDT.
pub const LDT_OFFSET: u64 = WINDOWS + 0x1_0000;
/// The SYSCALL entry stubs (one executable page).
pub const STUB_OFFSET: u64 = WINDOWS + 0x2_0000;
/// The task state segment (one page).
pub const TSS_OFFSET: u64 = WINDOWS + 0x2_2000;

/// Base of a CPU's area.
pub const fn cpu_area(cpu: CpuId) -> u64 {
    CPU_AREAS + cpu as u64 * CPU_STRIDE
}

/// Address of a physical byte in the direct map.
pub const fn direct(addr: PhysAddr) -> u64 {
    DIRECT_MAP + addr.0
}

// SAFETY: `boot.S` defines it, as one word.
unsafe extern "C" {
    /// How far from where it was linked for the image was loaded.
    static image_shift: u64;
}

/// Physical address of something in the direct map or the image window.
pub fn phys_of(va: u64) -> PhysAddr {
    if va >= DIRECT_MAP {
        PhysAddr(va - DIRECT_MAP)
    } else {
        // SAFETY: boot.S wrote it before any Rust ran; nothing does later.
        PhysAddr(va - IMAGE_WINDOW + unsafe { image_shift })
    }
}

/// Address of a frame's first byte in the direct map.
pub const fn direct_frame(mfn: Mfn) -> u64 {
    DIRECT_MAP + mfn.0 * PAGE_SIZE as u64
}
