//! The decision as a table, and what holds in every situation.

use proptest::prelude::*;

use super::*;

const QUIET: Situation = Situation {
    occupied: false,
    nmi: false,
    nmi_masked: false,
    shadow: false,
    interrupts_enabled: true,
    upcall: None,
    lapic: None,
    blocked_by_task: false,
};

#[test]
fn table_of_decisions() {
    use NmiWindow::{Boundary, Closed, Iret};
    let all = Situation {
        nmi: true,
        upcall: Some(0xf3),
        lapic: Some(0x30),
        ..QUIET
    };
    let upcall = Some(Source::Upcall(0xf3));
    let lapic = Some(Source::Lapic(0x30));
    let rows = [
        ("nothing", QUIET, None, false, Closed),
        ("all: NMI first", all, Some(Source::Nmi), true, Closed),
        (
            "in the NMI handler",
            Situation {
                nmi_masked: true,
                ..all
            },
            upcall,
            true,
            Iret,
        ),
        (
            "occupied",
            Situation {
                occupied: true,
                ..all
            },
            None,
            true,
            Boundary,
        ),
        (
            "shadow",
            Situation {
                shadow: true,
                ..all
            },
            None,
            true,
            Boundary,
        ),
        (
            "interrupts off",
            Situation {
                interrupts_enabled: false,
                nmi: false,
                ..all
            },
            None,
            true,
            Closed,
        ),
        (
            "NMI alone",
            Situation {
                nmi: true,
                interrupts_enabled: false,
                ..QUIET
            },
            Some(Source::Nmi),
            false,
            Closed,
        ),
        (
            "event channels before local APIC",
            Situation { nmi: false, ..all },
            upcall,
            true,
            Closed,
        ),
        (
            "event channels alone",
            Situation {
                upcall: Some(0xf3),
                ..QUIET
            },
            upcall,
            false,
            Closed,
        ),
        (
            "local APIC alone",
            Situation {
                lapic: Some(0x30),
                ..QUIET
            },
            lapic,
            false,
            Closed,
        ),
    ];
    for (what, situation, inject, interrupt_window, nmi_window) in rows {
        let expected = Decision {
            inject,
            interrupt_window,
            nmi_window,
            watch_task_priority: false,
        };
        assert_eq!(situation.decide(), expected, "{what}");
    }
}

#[test]
fn the_callback_is_due_when_pending_and_not_masked() {
    let vector = 2 << 56 | 0xf3;
    assert_eq!(upcall_vector(vector, true), Some(0xf3));
    assert_eq!(upcall_vector(vector, false), None);
    assert_eq!(upcall_vector(1 << 56 | 0xf3, true), None);
    assert_eq!(upcall_vector(0, true), None);
}

fn situation() -> impl Strategy<Value = Situation> {
    let flags = any::<[bool; 6]>();
    (flags, any::<Option<u8>>(), any::<Option<u8>>()).prop_map(|(flags, upcall, lapic)| Situation {
        occupied: flags[0],
        nmi: flags[1],
        nmi_masked: flags[2],
        shadow: flags[3],
        interrupts_enabled: flags[4],
        blocked_by_task: flags[5],
        upcall,
        lapic,
    })
}

proptest! {
    /// Nothing that waits is forgotten: it goes in, or there is a window for it.
    #[test]
    fn what_waits_gets_in_or_gets_a_window(s in situation()) {
        let decision = s.decide();
        let maskable_in = matches!(decision.inject, Some(Source::Upcall(_) | Source::Lapic(_)));
        prop_assert!(!maskable_in || s.interrupts_enabled);
        prop_assert!(decision.inject.is_none() || !s.occupied && !s.shadow);
        prop_assert_eq!(
            s.upcall.is_some() && !matches!(decision.inject, Some(Source::Upcall(_)))
                || s.lapic.is_some() && !matches!(decision.inject, Some(Source::Lapic(_))),
            decision.interrupt_window
        );
        let nmi_in = decision.inject == Some(Source::Nmi);
        prop_assert_eq!(s.nmi, nmi_in || decision.nmi_window != NmiWindow::Closed);
        prop_assert!(!(nmi_in && s.nmi_masked));
        prop_assert_eq!(decision.watch_task_priority, s.blocked_by_task);
        // Who has something to do is not left asleep.
        prop_assert!(s.wakes() || decision.inject.is_none());
    }
}
