//! Debug keys: state in words for the operator, from the serial line (when the hypervisor has the
//! keys) and from `xl debug-keys`.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use arrayvec::ArrayString;

use crate::base::Nanos;
use crate::console::ConsoleSink;
use crate::domain::{Domain, Hypervisor, RunFlags, Vcpu};
use crate::events;
use crate::pv::state::Mode;
use crate::time::wallclock::Civil;

/// A key and what it shows.
pub struct DebugKey {
    /// The key.
    pub key: u8,
    /// What it shows, in a few words.
    pub about: &'static str,
    show: fn(&Hypervisor, &mut dyn Write) -> fmt::Result,
}

/// All keys, in the order of the help text.
pub const KEYS: &[DebugKey] = &[
    key(
        b'C',
        "crash the hypervisor, to see its registers",
        |hv, _| {
            hv.services.diagnostics.crash();
            Ok(())
        },
    ),
    key(
        b'd',
        "the CPUs, and the registers of waiting vCPUs",
        |hv, out| {
            hv.services.diagnostics.registers(out)?;
            each_domain(hv, |d| waiting(d, out))
        },
    ),
    key(b'e', "event channels", |hv, out| {
        each_domain(hv, |d| events::dump(d, out))
    }),
    key(b'g', "grant tables", |hv, out| {
        each_domain(hv, |d| grants(d, out))
    }),
    key(b'h', "this list", |_, out| help(out)),
    #[cfg(debug_assertions)]
    key(b'H', "hang this CPU under a lock, for good", |hv, _| {
        hv.services.diagnostics.hang();
        Ok(())
    }),
    key(b'i', "interrupts", |hv, out| {
        hv.services.diagnostics.interrupts(out)
    }),
    key(b'm', "memory", memory),
    key(b'M', "message interrupts", |hv, out| {
        hv.irqs.dump_messages(out)
    }),
    key(b'q', "domains and their vCPUs", domains),
    key(b'r', "run queues", |hv, out| {
        let now = hv.backing.machine.now();
        hv.backing.sched.dump(now, out)
    }),
    DebugKey {
        key: b'R',
        about: "reboot the machine",
        show: |hv, _| {
            let reason = xen_abi::sched::SHUTDOWN_reboot;
            hv.backing
                .machine
                .hardware_shutdown(crate::domain::ShutdownReason(reason));
            Ok(())
        },
    },
    key(b's', "clocks and idle times", clocks),
    key(b't', "timers of the vCPUs", timers),
];

const fn key(
    key: u8,
    about: &'static str,
    show: fn(&Hypervisor, &mut dyn Write) -> fmt::Result,
) -> DebugKey {
    DebugKey { key, about, show }
}

/// Writes what a key shows.
///
/// # Errors
/// Those of `out`.
pub fn show(hv: &Hypervisor, pressed: u8, out: &mut dyn Write) -> fmt::Result {
    match KEYS.iter().find(|k| k.key == pressed) {
        Some(found) => {
            writeln!(out, "'{}' pressed: {}", pressed as char, found.about)?;
            (found.show)(hv, out)
        }
        None => writeln!(
            out,
            "key '{}' has no meaning; 'h' lists those that have",
            pressed.escape_ascii()
        ),
    }
}

/// Presses a key: prints what it shows on the console, whatever the log levels say.
pub fn press(hv: &Hypervisor, pressed: u8) {
    let mut lines = Lines {
        console: hv.services.console,
        line: ArrayString::new(),
    };
    // Printing itself never fails.
    let _ = show(hv, pressed, &mut lines);
    lines.end();
}

/// Cuts what is written to it into lines for the console.
struct Lines<'a> {
    console: &'a dyn ConsoleSink,
    line: ArrayString<160>,
}

impl Lines<'_> {
    /// Prints a line that has no newline yet.
    fn end(&mut self) {
        if !self.line.is_empty() {
            self.print();
        }
    }

    fn print(&mut self) {
        self.console.host_line(&self.line);
        self.line.clear();
    }
}

impl Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c == '\n' {
                self.print();
            } else if self.line.try_push(c).is_err() {
                self.print();
                self.line.push(c);
            }
        }
        Ok(())
    }
}

fn each_domain(hv: &Hypervisor, mut show: impl FnMut(&Domain) -> fmt::Result) -> fmt::Result {
    hv.domains().try_for_each(|d| show(&d))
}

fn help(out: &mut dyn Write) -> fmt::Result {
    for known in KEYS {
        writeln!(out, "  key '{}': {}", known.key as char, known.about)?;
    }
    Ok(())
}

/// Where the vCPUs that no CPU holds go on.
fn waiting(domain: &Domain, out: &mut dyn Write) -> fmt::Result {
    for vcpu in domain.vcpus() {
        // Copied, so that nothing is printed under the lock.
        let saved = vcpu
            .state
            .lock()
            .as_ref()
            .map(|s| (*s.regs(), s.pv().map(|pv| pv.mode)));
        write!(out, "  d{}v{}: ", domain.id, vcpu.id)?;
        match saved {
            Some((r, mode)) => writeln!(
                out,
                "{}, rip {:016x} rsp {:016x} rflags {:08x}",
                match mode {
                    Some(Mode::Kernel) => "kernel mode",
                    Some(Mode::User) => "user mode",
                    None => "in a container",
                },
                r.rip,
                r.rsp,
                r.rflags
            )?,
            None if vcpu.flags() & RunFlags::UNINITIALISED != 0 => {
                writeln!(out, "never initialised")?;
            }
            None => writeln!(out, "in a CPU")?,
        }
    }
    Ok(())
}

fn grants(domain: &Domain, out: &mut dyn Write) -> fmt::Result {
    let mut from = Some(0);
    while let Some(reference) = from {
        from = domain.grants.dump(reference, out)?;
    }
    Ok(())
}

fn memory(hv: &Hypervisor, out: &mut dyn Write) -> fmt::Result {
    let (total, free) = (hv.facts.total_pages, hv.backing.machine.free_pages());
    writeln!(
        out,
        "RAM: {total} pages of 4 KiB, {free} free, frames below {:#x}",
        hv.facts.max_page
    )?;
    each_domain(hv, |d| {
        let has = d.pages.load(Ordering::Relaxed);
        let may = d.max_pages.load(Ordering::Relaxed);
        writeln!(out, "d{}: {has} pages of at most {may}", d.id)
    })
}

fn domains(hv: &Hypervisor, out: &mut dyn Write) -> fmt::Result {
    each_domain(hv, |d| {
        let kind = d.kind;
        write!(out, "d{}: {kind:?}, {:?}", d.id, d.rights)?;
        write!(out, ", shared info at mfn {:#x}", d.shared_info.0)?;
        if d.is_paused() {
            let by = if d.is_paused_by_tool() {
                ", paused by the toolstack"
            } else {
                ", paused"
            };
            write!(out, "{by}")?;
        }
        if let Some(reason) = *d.shutdown.lock() {
            write!(out, ", down with reason {}", reason.0)?;
        }
        if d.dying.load(Ordering::Relaxed) {
            write!(out, ", dying")?;
        }
        writeln!(out)?;
        let now = d.machine.now();
        d.vcpus().iter().try_for_each(|v| vcpu(d, v, now, out))
    })
}

fn vcpu(domain: &Domain, vcpu: &Vcpu, now: Nanos, out: &mut dyn Write) -> fmt::Result {
    write!(out, "  d{}v{}: ", domain.id, vcpu.id)?;
    match vcpu.running_on() {
        Some(cpu) => write!(out, "runs on cpu {cpu}")?,
        None => write!(out, "last on cpu {}", vcpu.cpu())?,
    }
    let flags = vcpu.flags();
    for (bit, word) in [
        (RunFlags::BLOCKED, "blocked"),
        (RunFlags::POLLING, "polling"),
        (RunFlags::DOWN, "down"),
        (RunFlags::UNINITIALISED, "never initialised"),
        (RunFlags::RESETTING, "being reset"),
    ] {
        if flags & bit != 0 {
            write!(out, ", {word}")?;
        }
    }
    let ran = vcpu.runstate.lock().cpu_time(now);
    writeln!(out, ", ran {} ms", ran / 1_000_000)
}

fn clocks(hv: &Hypervisor, out: &mut dyn Write) -> fmt::Result {
    let machine = hv.backing.machine;
    let now = machine.now();
    writeln!(out, "system time {now} ns, TSC {} kHz", hv.facts.tsc_khz)?;
    if let Some((seconds, _)) = hv.wallclock().map(|clock| clock.at(now)) {
        match Civil::from_unix(seconds) {
            Some(c) => writeln!(
                out,
                "wall clock {}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
                c.year, c.month, c.day, c.hour, c.minute, c.second
            )?,
            None => writeln!(out, "wall clock {seconds} s after 1970")?,
        }
    } else {
        writeln!(out, "wall clock not set")?;
    }
    for cpu in hv.backing.sched.online().iter() {
        let idle = machine.idle(cpu);
        let (times, ms) = (idle.entries, idle.time / 1_000_000);
        let timer = idle.timer_interrupts;
        writeln!(
            out,
            "  cpu {cpu}: idled {times} times, for {ms} ms in all; {timer} timer interrupts"
        )?;
    }
    Ok(())
}

fn timers(hv: &Hypervisor, out: &mut dyn Write) -> fmt::Result {
    let now = hv.backing.machine.now();
    writeln!(out, "system time {now} ns")?;
    each_domain(hv, |d| {
        for v in d.vcpus() {
            let (next, period) = {
                let timers = v.timers.lock();
                (timers.next_deadline(), timers.period())
            };
            write!(out, "  d{}v{}: period {period} ns, ", d.id, v.id)?;
            match next {
                Some(at) if at > now => writeln!(out, "next in {} us", (at - now) / 1000)?,
                Some(at) => writeln!(out, "due for {} us", (now - at) / 1000)?,
                None => writeln!(out, "none armed")?,
            }
        }
        Ok(())
    })
}
