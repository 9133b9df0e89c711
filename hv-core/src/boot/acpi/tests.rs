mod oracle;

use proptest::prelude::*;

use super::fixture::*;
use super::*;
use crate::base::PhysAddr;
use crate::boot::phys::{FakeMem, PhysMem};

fn parse(mem: &FakeMem, rsdp: u64) -> (AcpiFacts, Vec<AcpiWarning>) {
    AcpiFacts::parse(mem, PhysAddr(rsdp))
}

/// Facts of the PC after one of its tables is replaced.
fn pc_with(at: u64, table: &[u8]) -> (AcpiFacts, Vec<AcpiWarning>) {
    let mut mem = pc();
    mem.put(at, table);
    parse(&mem, PC_RSDP)
}

const PC_MADT: u64 = 0x9ffe_1a53;
const PC_FADT: u64 = 0x9ffe_19df;
const PC_HPET: u64 = 0x9ffe_1ad3;
const PC_RSDT: u64 = 0x9ffe_1b33;

#[test]
fn the_boot_log_of_the_pc_is_as_known() {
    let (facts, warnings) = parse(&pc(), PC_RSDP);
    assert_eq!(warnings, []);
    let tables: Vec<_> = facts.tables.iter().map(ToString::to_string).collect();
    assert_eq!(
        facts.root.unwrap().to_string(),
        "RSDP 000F59D0, 0014 (r0 BOCHS )"
    );
    assert_eq!(
        tables,
        [
            "RSDT 9FFE1B33, 0034 (r1 BOCHS  BXPC            1 BXPC        1)",
            "FACP 9FFE19DF, 0074 (r1 BOCHS  BXPC            1 BXPC        1)",
            "DSDT 9FFE0040, 199F (r1 BOCHS  BXPC            1 BXPC        1)",
            "FACS 9FFE0000, 0040",
            "APIC 9FFE1A53, 0080 (r1 BOCHS  BXPC            1 BXPC        1)",
            "HPET 9FFE1AD3, 0038 (r1 BOCHS  BXPC            1 BXPC        1)",
            "WAET 9FFE1B0B, 0028 (r1 BOCHS  BXPC            1 BXPC        1)",
        ]
    );
    assert_eq!(facts.table(*b"WAET").unwrap().length, 0x28);
}

#[test]
fn the_pc_has_two_cpus_one_io_apic_and_five_overrides() {
    let (facts, _) = parse(&pc(), PC_RSDP);
    let madt = facts.madt.as_ref().unwrap();
    assert_eq!(madt.local_apic_address, PhysAddr(0xfee0_0000));
    assert!(madt.has_pics);
    let ids: Vec<_> = madt
        .cpus
        .iter()
        .map(|cpu| (cpu.apic_id, cpu.enabled))
        .collect();
    assert_eq!(ids, [(0, true), (1, true)]);
    assert_eq!(madt.io_apics.len(), 1);
    let lines: Vec<_> = madt.overrides.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[0],
        "INT_SRC_OVR (bus 0 bus_irq 0 global_irq 2 dfl dfl)"
    );
    assert_eq!(
        lines[2],
        "INT_SRC_OVR (bus 0 bus_irq 9 global_irq 9 high level)"
    );
    assert_eq!(madt.local_nmis[0].target, CpuTarget::All);
    assert_eq!(madt.local_nmis[0].lint, 1);

    let fadt = facts.fadt.unwrap();
    assert_eq!(
        fadt.pm_timer.unwrap().to_string(),
        "PM-Timer IO Port: 0x608 (24 bits)"
    );
    assert_eq!(fadt.reset, None);
    assert_eq!(fadt.sci_int, 9);
    assert_eq!(fadt.pm1a_event.unwrap().port(), Some(0x600));
    assert_eq!(fadt.pm1a_control.unwrap().port(), Some(0x604));
    assert_eq!(fadt.pm1b_control, None);
    assert!(!fadt.is_hardware_reduced());
    assert_eq!(facts.hpet_address(), Some(PhysAddr(0xfed0_0000)));
    assert_eq!(facts.hpet.unwrap().id, 0x8086_a201);
    assert_eq!(facts.mcfg, []);
    assert_eq!(facts.srat, None);
}

#[test]
fn the_servers_64_bit_tables() {
    let (facts, warnings) = parse(&server(), SERVER_RSDP);
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ACPI: in table MCFG the entry at 0x4c is skipped: PCI configuration space with impossible address or buses"
        ]
    );
    let madt = facts.madt.unwrap();
    let cpus: Vec<_> = madt
        .cpus
        .iter()
        .map(|cpu| (cpu.apic_id, cpu.acpi_uid, cpu.enabled, cpu.online_capable))
        .collect();
    assert_eq!(
        cpus,
        [
            (2, 1, false, false),
            (0x100, 1256, true, false),
            (0x101, 1257, false, true),
            (2, 7, true, false)
        ]
    );
    assert_eq!(madt.io_apics[1].gsi_base, 24);
    assert_eq!(madt.nmis[0].gsi, 30);
    assert_eq!(
        (madt.nmis[0].polarity, madt.nmis[0].trigger),
        (Polarity::Low, Trigger::Level)
    );
    assert_eq!(
        (madt.local_nmis[0].target, madt.local_nmis[0].lint),
        (CpuTarget::All, 1)
    );
}

#[test]
fn the_servers_power_registers_segments_and_affinities() {
    let (facts, _) = parse(&server(), SERVER_RSDP);
    let fadt = facts.fadt.unwrap();
    assert_eq!(
        fadt.pm_timer,
        Some(PmTimer {
            port: 0x1808,
            bits: 32
        })
    );
    let reset = fadt.reset.unwrap();
    assert_eq!((reset.register.port(), reset.value), (Some(0xcf9), 6));
    assert_eq!((fadt.facs, fadt.dsdt), (None, Some(PhysAddr(0x7000_6000))));
    assert_eq!(facts.mcfg.len(), 2);
    assert_eq!(facts.mcfg[1].segment, 1);
    let srat = facts.srat.unwrap();
    assert_eq!(
        srat.cpus,
        [
            ProcessorAffinity {
                apic_id: 5,
                domain: 0x102
            },
            ProcessorAffinity {
                apic_id: 0x100,
                domain: 4
            }
        ]
    );
    assert_eq!(srat.memory[0].len, 0x8000_0000);
    assert_eq!(srat.memory[0].domain, 3);
    assert!(srat.memory[0].hot_pluggable);
}

#[test]
fn the_root_pointer_is_searched_where_a_bios_puts_it() {
    let mut mem = FakeMem::default();
    assert_eq!(find_rsdp(&mem), None);
    let mut rom = vec![0; 0x2_0000];
    rom[0x1_59d0..][..20].copy_from_slice(&rsdp_v1(1));
    mem.put(0xe_0000, &rom);
    assert_eq!(find_rsdp(&mem), Some(PhysAddr(PC_RSDP)));
    let mut ebda = vec![0; 1024];
    ebda[1024 - 32..][..20].copy_from_slice(&rsdp_v1(1));
    mem.put(0x9_fc00, &ebda);
    mem.put(0x40e, &[0xc0, 0x9f]);
    assert_eq!(find_rsdp(&mem), Some(PhysAddr(0x9_fc00 + 1024 - 32)));
    ebda[1024 - 32 + 12] ^= 1;
    mem.put(0x9_fc00, &ebda);
    assert_eq!(find_rsdp(&mem), Some(PhysAddr(PC_RSDP)));
    // Not at a multiple of 16, and cut off at the end.
    let mut rom = vec![0; 0x2_0000];
    rom[0x1_0008..][..20].copy_from_slice(&rsdp_v1(1));
    rom[0x2_0000 - 16..].copy_from_slice(&rsdp_v1(1)[..16]);
    mem.put(0xe_0000, &rom);
    assert_eq!(find_rsdp(&mem), None);
}

#[test]
fn a_copy_of_the_root_pointer_serves_too() {
    let (by_copy, warnings) = AcpiFacts::parse_copy(&server(), &rsdp_v2(0, 0x7000_1000));
    let (by_address, _) = parse(&server(), SERVER_RSDP);
    assert_eq!(by_copy.tables, by_address.tables);
    assert_eq!(warnings.len(), 1);
    let (none, warnings) = AcpiFacts::parse_copy(&server(), b"RSD PTR ");
    assert_eq!(none, AcpiFacts::default());
    assert_eq!(warnings, [AcpiWarning::NoRootPointer(PhysAddr(0))]);
}

#[test]
fn a_broken_extended_root_pointer_falls_back_to_the_short_list() {
    let mut mem = pc();
    let mut root = rsdp_v2(PC_RSDT as u32, 0x1234);
    root[32] ^= 1;
    mem.put(PC_RSDP, &root);
    let (facts, warnings) = parse(&mem, PC_RSDP);
    assert_eq!(warnings, [AcpiWarning::BadExtendedRootPointer]);
    assert!(facts.madt.is_some());
    // The same when the long list is what is broken.
    mem.put(PC_RSDP, &rsdp_v2(PC_RSDT as u32, 0x1234));
    let (facts, warnings) = parse(&mem, PC_RSDP);
    assert_eq!(warnings, [AcpiWarning::Unmapped(PhysAddr(0x1234))]);
    assert!(facts.madt.is_some());
    mem.put(PC_RSDP, &rsdp_v2(0, 0));
    assert_eq!(parse(&mem, PC_RSDP).1, [AcpiWarning::NoTableList]);
}

#[test]
fn broken_tables_are_skipped_and_named() {
    let table = Signature(*b"APIC");
    let mut bad_sum = madt(&pc_entries()).finish();
    bad_sum[50] ^= 1;
    let (facts, warnings) = pc_with(PC_MADT, &bad_sum);
    assert_eq!(warnings, [AcpiWarning::BadChecksum(table)]);
    assert_eq!(
        warnings[0].to_string(),
        "ACPI: table APIC has a wrong checksum and is skipped"
    );
    assert!(facts.madt.is_none() && facts.hpet.is_some());
    for length in [0, 35, u32::MAX, (16 << 20) + 1] {
        let bytes = madt(&[]).set(4, &length.to_le_bytes()).sealed();
        let (_, warnings) = pc_with(PC_MADT, &bytes);
        assert_eq!(warnings, [AcpiWarning::BadLength { table, length }]);
    }
    // A length that reaches beyond what is mapped.
    let bytes = madt(&[]).set(4, &0x10_0000_u32.to_le_bytes()).sealed();
    let (_, warnings) = pc_with(PC_MADT, &bytes);
    assert_eq!(warnings, [AcpiWarning::Unmapped(PhysAddr(PC_MADT))]);
    // Just a header is too short for what the table must hold.
    for (at, name) in [(PC_MADT, b"APIC"), (PC_FADT, b"FACP"), (PC_HPET, b"HPET")] {
        let (_, warnings) = pc_with(at, &Builder::new(name).finish());
        let bad = AcpiWarning::BadLength {
            table: Signature(*name),
            length: 36,
        };
        assert_eq!(warnings, [bad]);
    }
    let (facts, warnings) = pc_with(PC_HPET, &hpet(1, 0xfed0_0000).finish());
    assert_eq!(facts.hpet, None);
    assert!(matches!(warnings[..], [AcpiWarning::Nonsense { .. }]));
}

#[test]
fn lists_that_lead_in_circles_end() {
    let xsdt_at = 0x5000;
    let mut mem = pc();
    mem.put(xsdt_at, &xsdt(&[PC_MADT]));
    let list = [
        PC_RSDT as u32,
        xsdt_at as u32,
        PC_MADT as u32,
        PC_MADT as u32,
    ];
    mem.put(PC_RSDT, &rsdt(&list));
    let (facts, warnings) = parse(&mem, PC_RSDP);
    assert_eq!(
        warnings,
        [
            AcpiWarning::Repeated(PhysAddr(PC_RSDT)),
            AcpiWarning::NestedList(PhysAddr(xsdt_at)),
            AcpiWarning::Repeated(PhysAddr(PC_MADT)),
        ]
    );
    assert!(facts.madt.is_some());
    // A root pointer that leads to some other table, and a FADT whose DSDT is itself.
    mem.put(PC_RSDP, &rsdp_v1(PC_MADT as u32));
    let (_, warnings) = parse(&mem, PC_RSDP);
    assert!(matches!(
        warnings[..],
        [AcpiWarning::WrongSignature { .. }, AcpiWarning::NoTableList]
    ));
    let fadt = pc_fadt().set(40, &(PC_FADT as u32).to_le_bytes()).finish();
    let (facts, warnings) = pc_with(PC_FADT, &fadt);
    assert_eq!(warnings, [AcpiWarning::Repeated(PhysAddr(PC_FADT))]);
    assert!(facts.fadt.is_some());
}

#[test]
fn second_tables_and_long_lists_are_refused() {
    let mut mem = pc();
    mem.put(0x5000, &madt(&[]).finish());
    mem.put(PC_RSDT, &rsdt(&[PC_MADT as u32, 0x5000]));
    let (facts, warnings) = parse(&mem, PC_RSDP);
    assert_eq!(warnings, [AcpiWarning::SecondTable(Signature(*b"APIC"))]);
    assert_eq!(facts.madt.unwrap().cpus.len(), 2);
    mem.put(PC_RSDT, &rsdt(&[0; 300]));
    let (_, warnings) = parse(&mem, PC_RSDP);
    assert_eq!(
        warnings[0].to_string(),
        "ACPI: table RSDT has more than 256 tables; the rest are ignored"
    );
}

/// Warnings about a MADT of these entries, and how many CPUs it has then.
fn madt_with(entries: &[Vec<u8>]) -> (Madt, Vec<String>) {
    let (facts, warnings) = pc_with(PC_MADT, &madt(entries).finish());
    let warnings = warnings.iter().map(ToString::to_string).collect();
    (facts.madt.unwrap(), warnings)
}

#[test]
fn broken_madt_entries_cost_only_what_they_must() {
    let cpu = || local_apic(0, 7, 1);
    for (bad, rest, message) in [
        (
            vec![0, 0],
            1,
            "entry at 0x34 of type 0 cannot be 0 bytes long",
        ),
        (
            vec![0, 1],
            1,
            "entry at 0x34 of type 0 cannot be 1 bytes long",
        ),
        (
            vec![0, 200],
            1,
            "entry at 0x34 of type 0 cannot be 200 bytes long",
        ),
        (
            vec![0, 4, 1, 1],
            2,
            "entry at 0x34 of type 0 cannot be 4 bytes long",
        ),
        (
            vec![1, 2],
            2,
            "entry at 0x34 of type 1 cannot be 2 bytes long",
        ),
        (
            cpu(),
            2,
            "entry at 0x34 is skipped: this CPU is listed before",
        ),
        (irq_override(3, 3, 2), 2, "reserved flags"),
        (io_apic(0, 0, 0), 2, "address 0"),
        (vec![4, 6, 0, 0, 0, 2], 2, "input that does not exist"),
    ] {
        let (madt, warnings) = madt_with(&[cpu(), bad.clone(), local_apic(1, 8, 1)]);
        assert_eq!(madt.cpus.len(), rest, "{bad:?}");
        assert_eq!(warnings.len(), 1, "{bad:?}");
        assert!(warnings[0].contains(message), "{}", warnings[0]);
    }
    let (madt, warnings) = madt_with(&[cpu(), vec![0]]);
    assert_eq!((madt.cpus.len(), warnings.len()), (1, 1));
}

#[test]
fn hostile_counts_are_bounded() {
    let (madt, warnings) = madt_with(&vec![local_apic(0, 0xff, 0); 5000]);
    assert_eq!(madt.cpus.len(), 4096);
    assert_eq!(
        warnings,
        ["ACPI: table APIC has more than 4096 CPUs; the rest are ignored"]
    );
    let (_, warnings) = madt_with(&vec![vec![0, 2]; 100_000]);
    assert_eq!(warnings.len(), 65);
    assert_eq!(
        warnings[64],
        "ACPI: 99936 more parts of the tables are skipped"
    );
}

proptest! {
    #[test]
    fn changed_tables_are_survived(
        which in 0..2_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        seal in any::<bool>(),
    ) {
        let (original, root, tables): (_, _, &[u64]) = match which {
            0 => (pc(), PC_RSDP, &[PC_RSDT, PC_MADT, PC_FADT, PC_HPET]),
            _ => (
                server(),
                SERVER_RSDP,
                &[0x7000_1000, 0x7000_2000, 0x7000_3000, 0x7000_4000, 0x7000_5000],
            ),
        };
        let (facts, _) = AcpiFacts::parse(&original, PhysAddr(root));
        for &at in tables {
            let mut mem = if which == 0 { pc() } else { server() };
            let length = facts.tables.iter().find(|table| table.address.0 == at).unwrap().length;
            let mut bytes = original.read(PhysAddr(at), length as usize).unwrap().to_vec();
            for (index, value) in &changes {
                let slot = index.index(bytes.len());
                bytes[slot] = *value;
            }
            if seal {
                // With a right checksum the change reaches the parsers behind it.
                bytes[9] = 0;
                bytes[9] = checksum(&bytes);
            }
            mem.put(at, &bytes);
            let (_, warnings) = AcpiFacts::parse(&mem, PhysAddr(root));
            for warning in warnings {
                prop_assert!(warning.to_string().starts_with("ACPI: "));
            }
        }
    }

    #[test]
    fn random_entries_are_survived(
        name in prop::sample::select(vec![*b"APIC", *b"FACP", *b"HPET", *b"MCFG", *b"SRAT"]),
        content in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (facts, _) = pc_with(PC_MADT, &Builder::new(&name).bytes(&content).finish());
        prop_assert!(facts.tables.len() >= 2);
    }
}
