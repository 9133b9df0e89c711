//! `xpti=`: whose address space is kept apart from ours.

use super::values::{Switch, item};

/// `xpti=`: what was asked for; `None`: what the processor needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XptiOptions {
    /// For the control domain.
    pub dom0: Option<bool>,
    /// For all others.
    pub domu: Option<bool>,
}

impl XptiOptions {
    /// The same for all domains.
    pub(super) const fn all(on: bool) -> Self {
        Self {
            dom0: Some(on),
            domu: Some(on),
        }
    }

    /// Takes a list; what it does not name stays. `None`: it has a word that makes no sense.
    pub(super) fn update(&mut self, value: &str) -> Option<()> {
        let mut new = *self;
        for text in value.split(',').filter(|text| !text.is_empty()) {
            if let Some(switch) = Switch::parse(text) {
                new = Self::all(switch == Switch::On);
                continue;
            }
            match item(text)? {
                ("default", Switch::On) if text == "default" => new = Self::default(),
                ("dom0", switch) => new.dom0 = Some(switch == Switch::On),
                ("domu", switch) => new.domu = Some(switch == Switch::On),
                _ => return None,
            }
        }
        *self = new;
        Some(())
    }
}
