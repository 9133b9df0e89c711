//! Interrupts as they arrive: flushes at once, all else noted for the run loop.

use core::sync::atomic::Ordering;

use super::apic::{self, vector};
use super::percpu::{self, softirq};
use super::{cpu, tlb};

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
            remote.softirq.fetch_or(softirq::TIMER, Ordering::Relaxed);
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
            remote.vectors[v as usize / 64].fetch_or(1 << (v % 64), Ordering::Relaxed);
            remote.softirq.fetch_or(softirq::VECTORS, Ordering::Relaxed);
        }
    }
}

/// Takes the noted device vectors, highest first, and hands each to `handle`.
pub fn take_vectors(mut handle: impl FnMut(u8)) {
    let remote = &percpu::this().remote;
    for (i, word) in remote.vectors.iter().enumerate().rev() {
        let mut bits = word.swap(0, Ordering::Relaxed);
        while bits != 0 {
            let bit = 63 - bits.leading_zeros();
            bits &= !(1 << bit);
            handle((i as u32 * 64 + bit) as u8);
        }
    }
}
