//! Records of a saved domain in containers that become the state of two vCPUs: what is left behind can be entered, and is told
//! again.

use super::engine::Answer;
use crate::hvm::records::tests::{Made, load_all, stream};

/// A stream as it is, and one without the registers.
pub fn corpus() -> Vec<Vec<u8>> {
    let whole = stream();
    let registers = 2 * (8 + 1032);
    let less = [&whole[..32], &whole[32 + registers..]].concat();
    vec![whole, less]
}

/// Loads what there is, as far as it goes.
pub fn run(input: &[u8]) -> Answer {
    let mut vcpus = [Made::new(0), Made::new(1)];
    let loaded = load_all(&mut vcpus, input);
    for vcpu in &vcpus {
        vcpu.check_entry();
        assert!(!vcpu.told().is_empty());
    }
    match loaded {
        Ok(_) => Answer::Taken,
        Err(_) => Answer::Refused,
    }
}
