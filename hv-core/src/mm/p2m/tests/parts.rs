//! Mappings that are too large to go at once.

use super::*;

/// 1 GiB of RAM is not replaced at once, and goes by the 2 MiB; whole only where whoever takes it lets go of it in parts.
#[test]
fn a_gib_of_ram_goes_in_parts() {
    let mut bench = Bench::new(Format::Ept, 5);
    bench.run(&Op::Set(1 << 18, 18, 0, P2mKind::Ram));
    let set = |bench: &mut Bench, kind| {
        let at = (Gfn(1 << 18), 18);
        bench
            .radix
            .set(&bench.m, &mut bench.inventory, at, Mfn(0), kind)
    };
    for kind in [P2mKind::Mmio, P2mKind::OnDemand, P2mKind::Ram] {
        assert_eq!(set(&mut bench, kind), Err(Errno::EEXIST));
    }
    let range = (Gfn(1 << 18), 1 << 18);
    let taken = bench
        .radix
        .take(&bench.m, &mut bench.inventory, range, Grants::Stay);
    assert_eq!(taken.unwrap().passed, 512);
    assert_eq!(bench.inventory.count(P2mKind::Ram), (1 << 18) - 512);
    bench.model.punch(1 << 18, 512);
    bench.check();
    bench.end();
    // Without a page to split it, it stays as it is; whole it can go.
    let mut bench = Bench::new(Format::Npt, 2);
    bench.run(&Op::Set(1 << 18, 18, 0, P2mKind::Ram));
    let taken = bench
        .radix
        .take(&bench.m, &mut bench.inventory, range, Grants::Stay);
    assert_eq!(taken, Err(Errno::ENOMEM));
    bench.run(&Op::TakeWhole((1 << 18) + 77));
    assert!(bench.model.0.is_empty());
    bench.flush();
    assert_eq!(bench.inventory.pool.free(), 1);
}
