//! Interrupts as they arrive: flushes at once, all else noted for the run loop.

use core::sync::atomic::Ordering;

use x86_64::instructions::interrupts::without_interrupts;

use super::apic::{self, vector};
use super::percpu::{self, softirq};
use super::{cpu, tlb, watchdog};

/// An interrupt taken while the hypervisor worked; interrupts are off.
pub fn host_interrupt(v: u8) {
    match v {
        vector::FLUSH => {
            apic::eoi();
            tlb::serve();
        }
        vector::SPURIOUS => {}
        _ => note(v),
    }
}

/// Notes an interrupt for the run loop; interrupts are off. Device vectors keep their place in the
/// APIC's in-service register until the run loop has dealt with them.
pub fn note(v: u8) {
    let remote = &percpu::this().remote;
    match v {
        vector::TIMER => {
            apic::eoi();
            remote.timer_interrupts.fetch_add(1, Ordering::Relaxed);
            remote.softirq.fetch_or(softirq::TIMER, Ordering::Relaxed);
            watchdog::look();
        }
        vector::EVENT_CHECK => apic::eoi(),
        vector::FLUSH => {
            apic::eoi();
            tlb::serve();
        }
        vector::STOP => {
            apic::eoi();
            remote.online.store(false, Ordering::SeqCst);
            cpu::stop();
        }
        vector::ERROR => {
            let status = apic::errors();
            apic::eoi();
            remote.apic_errors.fetch_or(status, Ordering::Relaxed);
            remote.softirq.fetch_or(softirq::SERIAL, Ordering::Relaxed);
        }
        vector::SPURIOUS => {}
        _ => {
            percpu::this().vectors.note(v);
            remote.softirq.fetch_or(softirq::VECTORS, Ordering::Relaxed);
        }
    }
}

/// Takes the noted device vectors, highest first, and hands each to `handle`, which ends it.
pub fn take_vectors(mut handle: impl FnMut(u8)) {
    while let Some(vector) = without_interrupts(|| percpu::this().vectors.take()) {
        handle(vector);
    }
}

/// A device vector may come again; interrupts are on.
pub fn end(vector: u8) {
    without_interrupts(|| percpu::this().vectors.end(vector, apic::eoi));
}
