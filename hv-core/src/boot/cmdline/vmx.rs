//! The options of Intel's VT-x.

use super::diagnostic::Findings;
use super::values::{Switch, item};

/// What of VT-x may be used where the processor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxOptions {
    /// `ept=`, as a boolean (ours): nested paging, and with it all of VT-x.
    pub ept: bool,
    /// `vpid=`: tags of translations.
    pub vpid: bool,
    /// `apicv=`: what the processor does of a guest's local APIC.
    pub apicv: bool,
}

impl Default for VmxOptions {
    fn default() -> Self {
        Self {
            ept: true,
            vpid: true,
            apicv: true,
        }
    }
}

/// Looks at `ept=` as a list: Xen's words for how nested tables are used, of which each has one way here. `None` for what is no such word.
pub(super) fn look_at_ept(value: &str, findings: &mut Findings) -> Option<()> {
    for text in value.split(',').filter(|text| !text.is_empty()) {
        match item(text)? {
            // Accessed and dirty bits are not used, and large pages can be executed.
            ("ad" | "pml", Switch::Off) | ("exec-sp", Switch::On) => {}
            ("ad" | "pml" | "exec-sp", _) => findings.missing("ept", text),
            _ => return None,
        }
    }
    Some(())
}
