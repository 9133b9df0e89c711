use proptest::prelude::*;

use super::*;
use crate::boot::reset::Method;

/// Options of a line that must have no findings.
fn clean(line: &str) -> Options {
    let parsed = Parsed::new(line);
    assert_eq!(parsed.diagnostics, [], "{line}");
    parsed.options
}

/// Findings of a line.
fn findings(line: &str) -> Vec<Diagnostic> {
    Parsed::new(line).diagnostics
}

fn missing(word: &str) -> Diagnostic {
    Diagnostic::NotImplemented(word.into())
}

fn mib(count: u64) -> MemAmount {
    MemAmount::Of {
        bytes: count << 20,
        percent: 0,
    }
}

#[test]
fn an_empty_line_gives_xens_defaults() {
    let options = clean("");
    assert_eq!(options, Options::default());
    assert_eq!(options.conring_size, 16 << 10);
    assert_eq!(options.abi.to_string(), "4.17");
    assert_eq!(options.dom0_max_vcpus.pick(6), 6);
}

#[test]
fn the_reference_line_is_understood() {
    let options = clean(
        "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M loglvl=all guest_loglvl=all \
         sync_console noreboot placeholder no-real-mode edd=off",
    );
    assert_eq!(options.console, [ConsoleSink::Com1]);
    let port = options.com1.unwrap();
    assert_eq!(port.baud, Baud::Rate(115_200));
    assert_eq!((port.io_base, port.irq), (0x3f8, 4));
    assert_eq!(options.dom0_mem.amount, Some(mib(1024)));
    assert_eq!(options.dom0_mem.max, Some(mib(1024)));
    assert_eq!(options.loglvl, LogThreshold::both(LogLevel::Debug));
    assert_eq!(
        options.guest_loglvl.always.filter(),
        log::LevelFilter::Debug
    );
    assert!(options.sync_console);
    assert_eq!(options.after_panic, AfterPanic::Halt);
}

#[test]
fn booleans_have_all_of_xens_spellings() {
    for on in ["", "=yes", "=on", "=true", "=enable", "=1"] {
        assert!(clean(&format!("sync_console{on}")).sync_console);
    }
    for off in ["no", "off", "false", "disable", "0"] {
        assert!(!clean(&format!("sync_console sync_console={off}")).sync_console);
    }
    assert!(!clean("sync_console no-sync_console").sync_console);
    assert!(clean("sync-console").sync_console);
    for bad in ["sync_console=maybe", "sync_console=", "no-sync_console=yes"] {
        let found = findings(bad);
        assert!(matches!(&found[..], [Diagnostic::BadValue { .. }]), "{bad}");
    }
    assert_eq!(clean("noreboot=no").after_panic, AfterPanic::Reboot);
    assert_eq!(clean("reboot=no").after_panic, AfterPanic::Halt);
    assert_eq!(clean("reboot=acpi,w").reset.first, Some(Method::Acpi));
    assert_eq!(clean("reboot=acpi").after_panic, AfterPanic::Reboot);
    assert!(clean("ucode=scan").microcode.scan);
    let bad = findings("ucode=sometimes");
    assert!(matches!(&bad[..], [Diagnostic::BadValue { .. }]));
    let bad = findings("reboot=sometimes");
    assert!(matches!(&bad[..], [Diagnostic::BadValue { .. }]));
    assert_eq!(clean("watchdog=force").watchdog, Watchdog::Force);
    assert_eq!(clean("watchdog").watchdog, Watchdog::On);
    assert_eq!(clean("watchdog no-watchdog").watchdog, Watchdog::Off);
    assert_eq!(clean("watchdog_timeout=9").watch_for(), None);
    assert_eq!(clean("watchdog").watch_for(), Some(5));
    assert_eq!(clean("watchdog=force").watch_for(), Some(5));
    assert_eq!(clean("watchdog watchdog_timeout=60").watch_for(), Some(60));
    assert_eq!(clean("watchdog watchdog-timeout=0").watch_for(), None);
    assert!(!clean("").mwait_idle && !clean("mwait-idle=no").mwait_idle);
    assert!(clean("mwait-idle").mwait_idle && clean("mwait-idle=1").mwait_idle);
    assert_eq!(clean("").timer_slop, 50_000);
    assert_eq!(clean("timer_slop=0").timer_slop, 0);
    let bad = findings("timer_slop=-1");
    assert!(matches!(&bad[..], [Diagnostic::BadValue { .. }]));
    let bad = findings("watchdog_timeout=soon");
    assert!(matches!(&bad[..], [Diagnostic::BadValue { .. }]));
}

#[test]
fn serial_ports_take_every_form() {
    let com1 = |value: &str| clean(&format!("com1={value}")).com1.unwrap();
    assert_eq!(com1("auto").baud, Baud::Auto);
    let port = com1("38400/230400,7e2,0x2e8,0");
    assert_eq!(port.baud, Baud::Rate(38_400));
    assert_eq!(port.clock_hz, 230_400 * 16);
    assert_eq!(
        (port.data_bits, port.parity, port.stop_bits),
        (7, Parity::Even, 2)
    );
    assert_eq!((port.io_base, port.irq), (0x2e8, 0));
    let port = com1("baud=9600,parity=n,stop-bits=1,data-bits=8,io-base=0x3e8,irq=5");
    assert_eq!(port.baud, Baud::Rate(9600));
    assert_eq!((port.io_base, port.irq), (0x3e8, 5));
    assert_eq!(com1("115200,,0x3f8").io_base, 0x3f8);
    assert_eq!(clean("com2=115200").com2.unwrap().io_base, 0x2f8);
    assert_eq!(findings("com1=115200,8n1,pci"), [missing("com1=pci")]);
    assert_eq!(
        findings("com1=115200,8n1,0x3f8,4,reg-width=4"),
        [missing("com1=reg-width=4")]
    );
    for bad in [
        "fast",
        "115200,9n1",
        "115200,8x1",
        "115200,8n1,0x3f8,4,,,7",
        "0",
        "1,8n1,70000",
    ] {
        let line = format!("com1={bad}");
        let parsed = Parsed::new(&line);
        assert_eq!(parsed.options.com1, None, "{bad}");
        assert!(matches!(
            &parsed.diagnostics[..],
            [Diagnostic::BadValue { .. }]
        ));
    }
}

#[test]
fn consoles_are_a_list() {
    assert_eq!(
        clean("console=vga,com1,com2,vga").console,
        [ConsoleSink::Vga, ConsoleSink::Com1, ConsoleSink::Com2]
    );
    assert_eq!(clean("console=none").console, []);
    assert_eq!(findings("console=com1,pv"), [missing("console=pv")]);
    assert_eq!(
        findings("console=tty")[0].to_string(),
        "command line: option 'console=tty' has no effect, its value should be a list of com1, com2 and vga, or none"
    );
}

#[test]
fn parts_of_vt_x_can_be_left_off() {
    assert_eq!(clean("apicv vpid=on ept=1").vmx, VmxOptions::default());
    assert_eq!(clean("").vmx, VmxOptions::default());
    let off = clean("no-apicv vpid=0 ept=off").vmx;
    assert!(!off.apicv && !off.vpid && !off.ept);
    assert!(!clean("no-ept").vmx.ept && clean("no-ept ept").vmx.ept);
    // What is the case anyway, and what is not.
    assert!(clean("ept=no-ad,pml=0,exec-sp").vmx.ept);
    for item in ["ad", "pml=1", "no-exec-sp", "exec-sp=off"] {
        let parsed = Parsed::new(&format!("ept=no-pml,{item}"));
        assert_eq!(parsed.options, Options::default());
        assert_eq!(parsed.diagnostics, [missing(&format!("ept={item}"))]);
    }
    for bad in [
        "ept=fast",
        "ept=ad=maybe",
        "ept=0,ad",
        "no-ept=ad",
        "vpid=some",
    ] {
        let parsed = Parsed::new(bad);
        assert_eq!(parsed.options, Options::default());
        assert!(
            matches!(&parsed.diagnostics[..], [Diagnostic::BadValue { .. }]),
            "{bad}"
        );
    }
}

#[test]
fn the_screen_can_be_kept() {
    assert_eq!(clean("").screen, ScreenOwner::Dom0);
    assert_eq!(clean("vga=current,keep").screen, ScreenOwner::Shared);
    let parsed = Parsed::new("vga=gfx-1024x768x32,keep");
    assert_eq!(parsed.options.screen, ScreenOwner::Shared);
    assert_eq!(parsed.diagnostics, [missing("vga=gfx-1024x768x32")]);
    for word in ["vga=ask", "vga=text-80x50", "vga=mode-0x31b"] {
        assert_eq!(findings(word), [missing(word)]);
    }
    assert!(matches!(
        findings("vga=big")[..],
        [Diagnostic::BadValue { .. }]
    ));
}

#[test]
fn memory_sizes_have_units_signs_and_percentages() {
    let mem = |value: &str| clean(&format!("dom0_mem={value}")).dom0_mem;
    assert_eq!(
        mem("512").amount,
        Some(MemAmount::Of {
            bytes: 512 << 10,
            percent: 0
        })
    );
    assert_eq!(
        mem("65536b").amount,
        Some(MemAmount::Of {
            bytes: 65_536,
            percent: 0
        })
    );
    assert_eq!(mem("1T").amount, Some(mib(1 << 20)));
    assert_eq!(mem("0x10m").amount, Some(mib(16)));
    assert_eq!(mem("010m").amount, Some(mib(8)));
    assert_eq!(
        mem("-1G,min:25%,max:1G+50%"),
        Dom0Mem {
            amount: Some(MemAmount::AllBut {
                bytes: 1 << 30,
                percent: 0
            }),
            min: Some(MemAmount::Of {
                bytes: 0,
                percent: 25
            }),
            max: Some(MemAmount::Of {
                bytes: 1 << 30,
                percent: 50
            }),
        }
    );
    // Parts of two options add up, as with Xen.
    let both = clean("dom0_mem=1G dom0_mem=max:2G").dom0_mem;
    assert_eq!((both.amount, both.max), (Some(mib(1024)), Some(mib(2048))));
    for bad in [
        "",
        "1X",
        "+1G",
        "1G,",
        "100%",
        "min:",
        "99999999T",
        "1é",
        "é",
        "-",
    ] {
        let parsed = Parsed::new(&format!("dom0_mem={bad}"));
        assert_eq!(parsed.options.dom0_mem, Dom0Mem::default(), "{bad}");
        assert_eq!(parsed.diagnostics.len(), 1, "{bad}");
    }
}

#[test]
fn dom0_memory_follows_the_machine() {
    const GIB: u64 = 1 << 18;
    let pages = |value: &str, available| {
        clean(&format!("dom0_mem={value}"))
            .dom0_mem
            .resolve(available, 4 * GIB)
    };
    let default = Dom0Mem::default();
    assert_eq!(default.resolve(4 * GIB, 4 * GIB).initial, 4 * GIB - GIB / 8);
    assert_eq!(default.resolve(1600, 1600).initial, 1500);
    let all = Dom0Pages {
        initial: GIB,
        limit: GIB,
    };
    assert_eq!(pages("1024M,max:1024M", 3 * GIB), all);
    assert_eq!(pages("-1G", 3 * GIB).initial, 2 * GIB);
    assert_eq!(pages("-9G,min:1G", 3 * GIB).initial, GIB);
    assert_eq!(pages("1G,min:3G,max:2G", 4 * GIB).initial, 2 * GIB);
    assert_eq!(pages("25%", 3 * GIB).initial, GIB);
    assert_eq!(pages("64G", 3 * GIB).initial, 3 * GIB);
}

#[test]
fn vcpu_counts_are_numbers_or_ranges() {
    let range = |value: &str| clean(&format!("dom0_max_vcpus={value}")).dom0_max_vcpus;
    assert_eq!(range("4").pick(1), 4);
    assert_eq!([2, 6, 10].map(|cpus| range("4-8").pick(cpus)), [4, 6, 8]);
    assert_eq!(range("-2").pick(8), 2);
    assert_eq!(range("3-").pick(2), 3);
    for bad in ["-", "0", "5-4", "x", "1-2-3", ""] {
        assert_eq!(findings(&format!("dom0_max_vcpus={bad}")).len(), 1, "{bad}");
    }
}

#[test]
fn interrupts_are_limited() {
    assert_eq!(clean("loglvl=all").irq_ratelimit, None);
    assert_eq!(clean("irq_ratelimit=100").irq_ratelimit, Some(100));
    assert_eq!(clean("irq-ratelimit=0").irq_ratelimit, Some(0));
    for bad in ["", "-1", "many", "0x100000000"] {
        assert_eq!(findings(&format!("irq_ratelimit={bad}")).len(), 1, "{bad}");
    }
}

#[test]
fn credit2_is_configured_as_with_xen() {
    let line = "credit2_runqueue=core sched_credit2_max_cpus_runqueue=8 sched_ratelimit_us=0 \
                credit2-cap-period-ms=20 sched_credit2_migrate_resist=0x100 \
                credit2_load_window_shift=20 credit2_load_precision_shift=10 \
                credit2_balance_over=-1 credit2_balance_under=2";
    let wanted = Credit2Options {
        run_queue: RunQueueBy::Core,
        max_cpus_runqueue: 8,
        ratelimit_us: 0,
        cap_period_ms: 20,
        migrate_resist: 256,
        load_window_shift: 20,
        load_precision_shift: 10,
        balance_over: -1,
        balance_under: 2,
    };
    assert_eq!(clean(line).credit2, wanted);
    for bad in [
        "credit2_runqueue=die",
        "credit2_runqueue",
        "no-credit2_runqueue=cpu",
        "sched_ratelimit_us=99",
        "sched_ratelimit_us=-0x64",
        "credit2_balance_over=--1",
        "credit2_cap_period_ms=",
        "sched_credit2_max_cpus_runqueue=99999999999",
    ] {
        let found = findings(bad);
        assert_eq!(found.len(), 1, "{bad}");
        assert!(
            found[0].to_string().contains("its value should be"),
            "{bad}"
        );
        assert_eq!(Parsed::new(bad).options.credit2, Credit2Options::default());
    }
}

#[test]
fn cpu_limits_combine() {
    assert_eq!(clean("maxcpus=3").max_cpus, Some(3));
    assert_eq!(clean("nosmp maxcpus=3").max_cpus, Some(1));
    assert_eq!(clean("nosmp nosmp=no maxcpus=3").max_cpus, Some(3));
    assert_eq!(findings("maxcpus=0").len(), 1);
}

#[test]
fn log_levels_have_two_parts() {
    let level = |value: &str| clean(&format!("loglvl={value}")).loglvl;
    assert_eq!(level("error"), LogThreshold::both(LogLevel::Error));
    assert_eq!(
        level("none/info"),
        LogThreshold {
            always: LogLevel::None,
            limited: LogLevel::Info
        }
    );
    assert_eq!(level("info/error"), LogThreshold::both(LogLevel::Info));
    assert_eq!(findings("loglvl=loud").len(), 1);
    assert_eq!(findings("guest_loglvl=all/").len(), 1);
}

#[test]
fn the_rest_takes_its_values() {
    assert_eq!(clean("conring_size=100k").conring_size, 128 << 10);
    assert_eq!(findings("conring_size=1G").len(), 1);
    assert_eq!(clean("sched=null").scheduler, SchedulerName::Null);
    for other in ["sched=rtds", "sched=credit", "sched=arinc653"] {
        assert_eq!(findings(other), [missing(other)]);
        let scheduler = Parsed::new(other).options.scheduler;
        assert_eq!(scheduler, SchedulerName::Credit2, "{other}");
    }
    assert_eq!(
        clean("abi=4.20").abi,
        AbiVersion {
            major: 4,
            minor: 20
        }
    );
    for bad in [
        "abi=5.0",
        "abi=4",
        "abi=4.x",
        "abi=4.100",
        "sched=best",
        "dom0=hvm",
        "abi",
    ] {
        assert_eq!(findings(bad).len(), 1, "{bad}");
    }
    assert_eq!(clean("dom0=pv").dom0_mode, Dom0Mode::Pv);
    let pvh = Parsed::new("dom0=pvh,no-verbose");
    assert_eq!(pvh.options.dom0_mode, Dom0Mode::Pvh);
    assert_eq!(
        pvh.diagnostics,
        [missing("dom0=pvh"), missing("dom0=no-verbose")]
    );
}

#[test]
fn xpti_is_a_boolean_or_a_list() {
    let wanted = |line: &str| {
        let xpti = clean(line).xpti;
        (xpti.dom0, xpti.domu)
    };
    assert_eq!(wanted(""), (None, None));
    for (line, on) in [
        ("xpti", true),
        ("xpti=1", true),
        ("no-xpti", false),
        ("xpti=off", false),
    ] {
        assert_eq!(wanted(line), (Some(on), Some(on)), "{line}");
    }
    assert_eq!(wanted("xpti=dom0=off"), (Some(false), None));
    assert_eq!(wanted("xpti=no-dom0,domu"), (Some(false), Some(true)));
    assert_eq!(wanted("xpti=dom0=1 xpti=domu=0"), (Some(true), Some(false)));
    assert_eq!(wanted("xpti=true,dom0=false"), (Some(false), Some(true)));
    assert_eq!(wanted("xpti=domu=0,default"), (None, None));
    assert_eq!(wanted("no-xpti xpti=default"), (None, None));
    for bad in [
        "xpti=dom1",
        "xpti=dom0=maybe",
        "no-xpti=dom0",
        "xpti=no-default",
    ] {
        assert_eq!(findings(bad).len(), 1, "{bad}");
    }
    // A list with nonsense in it changes nothing.
    let half = Parsed::new("xpti=dom0=1,nonsense").options.xpti;
    assert_eq!((half.dom0, half.domu), (None, None));
}

#[test]
fn xens_other_options_are_told_from_nonsense() {
    for word in [
        "iommu=off",
        "spec-ctrl=no",
        "spec_ctrl=no",
        "ivrs_ioapic[2]=00:14.0",
        "edd=on",
    ] {
        assert_eq!(findings(word), [missing(word)]);
    }
    let unknown = findings("quiet splash=1");
    assert_eq!(
        unknown,
        [
            Diagnostic::Unknown("quiet".into()),
            Diagnostic::Unknown("splash=1".into())
        ]
    );
    assert_eq!(
        unknown[0].to_string(),
        "command line: option 'quiet' is unknown and has no effect"
    );
    assert_eq!(
        findings("clocksource=tsc")[0].to_string(),
        "command line: option 'clocksource=tsc' is not implemented and has no effect"
    );
}

#[test]
fn what_follows_two_dashes_is_dom0s() {
    let parsed = Parsed::new("noreboot --   root=/dev/sda1 -- quiet");
    assert_eq!(parsed.diagnostics, []);
    assert_eq!(
        parsed.dom0_extra.as_deref(),
        Some("root=/dev/sda1 -- quiet")
    );
    assert_eq!(parsed.dom0_line("ro"), "ro root=/dev/sda1 -- quiet");
    assert_eq!(parsed.dom0_line(""), "root=/dev/sda1 -- quiet");
    assert_eq!(Parsed::new("noreboot").dom0_line("ro"), "ro");
    assert_eq!(Parsed::new("noreboot -- ").dom0_line("ro"), "ro");
}

#[test]
fn findings_are_bounded() {
    let found = findings(&"x ".repeat(1000));
    assert_eq!(found.len(), 65);
    assert_eq!(
        found[64].to_string(),
        "command line: 936 more options have no effect"
    );
}

proptest! {
    #[test]
    fn any_line_is_survived(line in "[ -~é]{0,200}") {
        let parsed = Parsed::new(&line);
        for finding in parsed.diagnostics {
            prop_assert!(!finding.to_string().is_empty());
        }
    }

    #[test]
    fn any_value_is_survived(
        name in prop::sample::select(vec![
            "console", "com1", "com2", "conring_size", "loglvl", "guest_loglvl", "dom0",
            "dom0_mem", "dom0_max_vcpus", "maxcpus", "irq_ratelimit", "sched", "credit2_runqueue",
            "credit2_balance_over", "sched_ratelimit_us", "abi", "reboot", "watchdog",
            "watchdog_timeout", "timer_slop",
        ]),
        value in "[0-9a-zA-Z:,/.+%=é-]{0,40}",
        available in any::<u64>(),
        total in any::<u64>(),
    ) {
        let parsed = Parsed::new(&format!("{name}={value}"));
        let pages = parsed.options.dom0_mem.resolve(available, total);
        prop_assert!(pages.initial <= available);
        prop_assert!(pages.initial <= pages.limit);
        prop_assert!(parsed.options.conring_size.is_power_of_two());
    }
}
