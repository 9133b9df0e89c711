//! Device interrupts.
/// A device vector has arrived.
pub fn arrived(_vector: u8) {
    super::apic::eoi();
}
