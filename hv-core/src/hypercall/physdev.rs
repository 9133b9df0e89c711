//! physdev_op: I/O privilege, interrupts of devices and (in `physdev_pci`) what dom0 tells of PCI (xen/physdev.h).

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::physdev as abi;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use super::physdev_pci;
use crate::base::{Mfn, PhysAddr};
use crate::domain::{Domain, Rights};
use crate::events;
use crate::irq::{AtEnd, LineMode, Numbering, Polarity, Trigger};
use crate::pv::state::PortBitmap;

/// Most I/O ports there are.
const PORTS: u32 = 0x1_0000;

/// physdev_op(cmd, argument).
///
/// # Errors
/// `ENOSYS` for commands that do not exist or are not implemented, and those of each.
pub fn physdev_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let at = args[1];
    match args[0] as u32 {
        abi::PHYSDEVOP_eoi => eoi(cx, at),
        abi::PHYSDEVOP_irq_status_query => irq_status_query(cx, at),
        abi::PHYSDEVOP_pirq_eoi_gmfn_v1 => pirq_eoi_gmfn(cx, at, AtEnd::Unmask),
        abi::PHYSDEVOP_pirq_eoi_gmfn_v2 => pirq_eoi_gmfn(cx, at, AtEnd::Leave),
        abi::PHYSDEVOP_set_iopl => set_iopl(cx, at),
        abi::PHYSDEVOP_set_iobitmap => set_iobitmap(cx, at),
        command => {
            cx.require_control()?;
            control_op(cx, command, at)
        }
    }
}

/// The commands of the domain that owns the devices.
fn control_op<H: Host>(cx: &mut AnyCtx<'_, H>, command: u32, at: u64) -> Reply {
    match command {
        abi::PHYSDEVOP_apic_read => apic_read(cx, at),
        abi::PHYSDEVOP_apic_write => apic_write(cx, at),
        abi::PHYSDEVOP_alloc_irq_vector => alloc_irq_vector(cx, at),
        abi::PHYSDEVOP_map_pirq => map_pirq(cx, at),
        abi::PHYSDEVOP_unmap_pirq => unmap_pirq(cx, at),
        abi::PHYSDEVOP_get_free_pirq => get_free_pirq(cx, at),
        abi::PHYSDEVOP_setup_gsi => setup_gsi(cx, at),
        abi::PHYSDEVOP_dbgp_op => dbgp_op(cx, at),
        _ => physdev_pci::operation(cx, command, at),
    }
}

/// The interrupt is dealt with.
fn eoi<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevEoi = cx.read(at)?;
    let irqs = cx.hv.irqs;
    irqs.end(cx.domain.id, request.irq)?;
    if irqs.at_end(cx.domain) == AtEnd::Unmask
        && let Some(port) = events::pirq_port(&**cx.domain, request.irq)
    {
        // The port may have been closed meanwhile; then there is nothing to unmask.
        let _ = events::unmask(&**cx.domain, port);
    }
    DONE
}

/// Whether the interrupt wants PHYSDEVOP_eoi, and whether it is shared.
fn irq_status_query<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::PhysdevIrqStatusQuery = cx.read(at)?;
    let status = cx.hv.irqs.status(cx.domain.id, request.irq)?;
    request.flags = match status.trigger {
        Trigger::Level => abi::XENIRQSTAT_needs_eoi,
        Trigger::Edge => 0,
    };
    if status.shared {
        request.flags |= abi::XENIRQSTAT_shared;
    }
    cx.write(at, &request)?;
    DONE
}

/// The page of bits that say which interrupts want PHYSDEVOP_eoi.
fn pirq_eoi_gmfn<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64, at_end: AtEnd) -> Reply {
    let request: abi::PhysdevPirqEoiGmfn = cx.read(at)?;
    let page = Mfn(request.gmfn);
    cx.hv.irqs.register_eoi_page(cx.domain, page, at_end)?;
    DONE
}

/// The calling vCPU's I/O privilege level.
fn set_iopl<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevSetIopl = cx.read(at)?;
    let state = cx.state.pv().ok_or(Errno::ENOSYS)?;
    state.iopl = match request.iopl {
        level @ 0..=3 => level as u8,
        _ => return Err(Errno::EINVAL),
    };
    DONE
}

/// The I/O ports that user programs of the calling vCPU may touch. The bits are read when one does.
fn set_iobitmap<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevSetIobitmap = cx.read(at)?;
    if request.nr_ports > PORTS {
        return Err(Errno::EINVAL);
    }
    let state = cx.state.pv().ok_or(Errno::ENOSYS)?;
    state.port_bitmap = PortBitmap {
        address: request.bitmap.address(),
        ports: request.nr_ports,
    };
    DONE
}

fn apic_read<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::PhysdevApic = cx.read(at)?;
    let address = PhysAddr(request.apic_physbase);
    request.value = cx.hv.irqs.read_chip(address, request.reg)?;
    cx.write(at, &request)?;
    DONE
}

fn apic_write<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevApic = cx.read(at)?;
    let address = PhysAddr(request.apic_physbase);
    cx.hv.irqs.write_chip(address, request.reg, request.value)?;
    DONE
}

/// The real vector is ours and nobody else's business; the number, whatever it is, stands for it.
fn alloc_irq_vector<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::PhysdevIrq = cx.read(at)?;
    request.vector = request.irq;
    cx.write(at, &request)?;
    DONE
}

/// A line becomes a domain's, under a number.
fn map_pirq<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::PhysdevMapPirq = cx.read(at)?;
    let target = cx.named(request.domid)?;
    if target.dying.load(Ordering::SeqCst) {
        return Err(Errno::ESRCH);
    }
    match request.r#type {
        abi::MAP_PIRQ_TYPE_GSI => {}
        abi::MAP_PIRQ_TYPE_MSI | abi::MAP_PIRQ_TYPE_MSI_SEG | abi::MAP_PIRQ_TYPE_MULTI_MSI => {
            return physdev_pci::map_messages(cx, at, request, target.id);
        }
        other => {
            log::info!("d{}: map_pirq: type {other} is unknown", cx.domain.id);
            return Err(Errno::EINVAL);
        }
    }
    let pirq = map_line(cx, &target, &request).inspect_err(|errno| {
        let (id, gsi) = (cx.domain.id, request.index);
        log::info!("d{id}: map_pirq: GSI {gsi}, PIRQ {}: {errno}", request.pirq);
    })?;
    request.pirq = pirq as i32;
    cx.write(at, &request)?;
    DONE
}

fn map_line<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: &Domain,
    request: &abi::PhysdevMapPirq,
) -> Result<u32, Errno> {
    let gsi = u32::try_from(request.index).map_err(|_| Errno::EINVAL)?;
    let numbering = match target.rights {
        Rights::Control => Numbering::Identity,
        Rights::Guest => Numbering::Free,
    };
    // Negative: any number will do.
    let wanted = u32::try_from(request.pirq).ok();
    cx.hv.irqs.map(target.id, numbering, gsi, wanted)
}

fn unmap_pirq<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevUnmapPirq = cx.read(at)?;
    let target = cx.named(request.domid)?;
    let pirq = u32::try_from(request.pirq).map_err(|_| Errno::EINVAL)?;
    cx.hv.irqs.unmap(target.id, pirq)?;
    DONE
}

/// A number for an interrupt that map_pirq will make.
fn get_free_pirq<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    // Numbers of one kind are as good for another, so that the kind does not matter.
    let mut request: abi::PhysdevGetFreePirq = cx.read(at)?;
    request.pirq = cx.hv.irqs.reserve(cx.domain.id)?;
    cx.write(at, &request)?;
    DONE
}

/// How a line signals, from AML that only dom0 reads.
fn setup_gsi<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevSetupGsi = cx.read(at)?;
    let gsi = u32::try_from(request.gsi).map_err(|_| Errno::EINVAL)?;
    let trigger = match request.triggering {
        0 => Trigger::Edge,
        1 => Trigger::Level,
        _ => return Err(Errno::EINVAL),
    };
    let polarity = match request.polarity {
        0 => Polarity::High,
        1 => Polarity::Low,
        _ => return Err(Errno::EINVAL),
    };
    cx.hv.irqs.set_up(gsi, LineMode { trigger, polarity })?;
    DONE
}

/// The controller of a USB debug port is reset. We drive no such port, so there is nothing to save or
/// to restore.
fn dbgp_op<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::PhysdevDbgpOp = cx.read(at)?;
    let known_op = matches!(
        request.op,
        abi::PHYSDEVOP_DBGP_RESET_PREPARE | abi::PHYSDEVOP_DBGP_RESET_DONE
    );
    let known_bus = matches!(
        request.bus,
        abi::PHYSDEVOP_DBGP_BUS_UNKNOWN | abi::PHYSDEVOP_DBGP_BUS_PCI
    );
    if known_op && known_bus {
        Ok(Outcome::Return(0))
    } else {
        Err(Errno::ENOSYS)
    }
}

#[cfg(test)]
mod tests;
