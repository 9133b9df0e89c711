//! Random sequences over three domains against a simple model.

use super::world::*;
use crate::base::DomId;
use crate::grants::copy::{CopyRequest, Place};
use crate::grants::teardown::{Progress, release_mappings};
use crate::grants::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use xen_abi::grant_table::*;

const DOMS: u16 = 3;
const REFS: u32 = 6;

#[derive(Clone, Debug)]
enum Op {
    Grant {
        dom: DomId,
        reference: u32,
        to: DomId,
        page: u64,
        flags: u16,
    },
    Revoke {
        dom: DomId,
        reference: u32,
    },
    Map {
        by: DomId,
        dom: DomId,
        reference: u32,
        flags: u32,
        fault: Fault,
    },
    Unmap {
        by: DomId,
        which: usize,
        host: bool,
        device: bool,
        fault: Fault,
    },
    Copy {
        by: DomId,
        from: (DomId, u32),
        to: (DomId, u32),
        fault: Fault,
    },
    Swap {
        dom: DomId,
        a: u32,
        b: u32,
    },
    Version {
        dom: DomId,
        version: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct ModelGrant {
    to: DomId,
    frame: u64,
    flags: u16,
}

#[derive(Clone, Copy, Debug)]
struct ModelMap {
    dom: DomId,
    reference: u32,
    frame: u64,
    writes: bool,
    addr: u64,
    host: bool,
    device: bool,
}

#[derive(Default)]
struct Model {
    grants: BTreeMap<(DomId, u32), ModelGrant>,
    maps: BTreeMap<(DomId, u32), ModelMap>,
    next_addr: u64,
}

fn dom() -> impl Strategy<Value = DomId> {
    0..DOMS
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::CreateMapping),
        1 => Just(Fault::DestroyMapping),
        2 => (0..3u32).prop_map(Fault::Reference),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![
        4 => Just(GTF_permit_access),
        2 => Just(GTF_permit_access | GTF_readonly),
        1 => Just(GTF_accept_transfer),
    ];
    let map_flags = (1..8u32).prop_filter("a part", |f| f & 3 != 0);
    let end = || (dom(), 0..REFS);
    prop_oneof![
        4 => (dom(), 0..REFS, dom(), 0..PAGES, flags).prop_map(
            |(dom, reference, to, page, flags)| Op::Grant { dom, reference, to, page, flags }
        ),
        1 => end().prop_map(|(dom, reference)| Op::Revoke { dom, reference }),
        8 => (dom(), dom(), 0..REFS, map_flags, fault()).prop_map(
            |(by, dom, reference, flags, fault)| Op::Map { by, dom, reference, flags, fault }
        ),
        5 => (dom(), any::<usize>(), any::<bool>(), any::<bool>(), fault()).prop_map(
            |(by, which, host, device, fault)| Op::Unmap { by, which, host, device, fault }
        ),
        3 => (dom(), end(), end(), fault()).prop_map(
            |(by, from, to, fault)| Op::Copy { by, from, to, fault }
        ),
        1 => (dom(), 0..REFS, 0..REFS).prop_map(|(dom, a, b)| Op::Swap { dom, a, b }),
        1 => (dom(), 1..3u32).prop_map(|(dom, version)| Op::Version { dom, version }),
    ]
}

impl Model {
    fn users(&self, dom: DomId, reference: u32) -> impl Iterator<Item = &ModelMap> {
        let here = move |m: &&ModelMap| (m.dom, m.reference) == (dom, reference);
        self.maps.values().filter(here)
    }

    fn used(&self, dom: DomId, reference: u32) -> bool {
        self.users(dom, reference).next().is_some()
    }

    /// Whether the entry grants this now.
    fn allows(&self, by: DomId, dom: DomId, reference: u32, writes: bool) -> Option<u64> {
        let grant = self.grants.get(&(dom, reference))?;
        let kind = grant.flags & GTF_type_mask == GTF_permit_access;
        let access = !writes || grant.flags & GTF_readonly == 0;
        (grant.to == by && kind && access).then_some(grant.frame)
    }

    fn apply(&mut self, w: &World, op: &Op) {
        match *op {
            Op::Grant {
                dom,
                reference,
                to,
                page,
                flags,
            } if !self.used(dom, reference) => {
                let frame = page_of(dom, page);
                w.grant(dom, reference, to, frame, flags);
                self.grants
                    .insert((dom, reference), ModelGrant { to, frame, flags });
            }
            Op::Revoke { dom, reference } if !self.used(dom, reference) => {
                w.grant(dom, reference, 0, 0, 0);
                self.grants.remove(&(dom, reference));
            }
            Op::Grant { .. } | Op::Revoke { .. } => {}
            Op::Map {
                by,
                dom,
                reference,
                flags,
                fault,
            } => {
                self.map(w, by, (dom, reference), flags, fault);
            }
            Op::Unmap {
                by,
                which,
                host,
                device,
                fault,
            } => {
                self.unmap(w, by, which, (host, device), fault);
            }
            Op::Copy {
                by,
                from,
                to,
                fault,
            } => self.copy(w, by, from, to, fault),
            Op::Swap { dom, a, b } => {
                let busy = a != b && (self.used(dom, a) || self.used(dom, b));
                let result = w.grants(dom).swap(a, b);
                assert_eq!(
                    result,
                    if busy {
                        Err(GrantError::Eagain)
                    } else {
                        Ok(())
                    }
                );
                if !busy {
                    let (x, y) = (self.grants.remove(&(dom, a)), self.grants.remove(&(dom, b)));
                    self.grants
                        .extend(x.or(y.filter(|_| a == b)).map(|g| ((dom, b), g)));
                    self.grants
                        .extend(y.filter(|_| a != b).map(|g| ((dom, a), g)));
                }
            }
            Op::Version { dom, version } => {
                // All references used here are among the reserved ones.
                let before = w.grants(dom).version().number();
                w.grants(dom).set_version(version, &w.pool).unwrap();
                if before != version {
                    self.grants.retain(|(d, _), g| {
                        *d != dom || g.flags & GTF_type_mask == GTF_permit_access
                    });
                }
            }
        }
    }

    fn map(
        &mut self,
        w: &World,
        by: DomId,
        (dom, reference): (DomId, u32),
        flags: u32,
        fault: Fault,
    ) {
        self.next_addr += 0x1000;
        let addr = self.next_addr;
        let writes = flags & GNTMAP_readonly == 0;
        let (host, device) = (flags & GNTMAP_host_map != 0, flags & GNTMAP_device_map != 0);
        let request = MapRequest {
            dom,
            reference,
            host_addr: addr,
            flags,
        };
        w.fault.set(fault);
        let result = map::map_grant_ref(&w.host(by), &request);
        w.fault.set(Fault::None);
        let parts = u32::from(host) + u32::from(device);
        let hit = match fault {
            Fault::CreateMapping => host,
            Fault::Reference(left) => left < parts,
            Fault::DestroyMapping | Fault::None => false,
        };
        let frame = self.allows(by, dom, reference, writes).filter(|_| !hit);
        match (result, frame) {
            (Ok(outcome), Some(frame)) => {
                assert_eq!(outcome.dev_bus_addr, frame << 12);
                let map = ModelMap {
                    dom,
                    reference,
                    frame,
                    writes,
                    addr,
                    host,
                    device,
                };
                assert!(self.maps.insert((by, outcome.handle), map).is_none());
            }
            (Err(_), None) => {}
            (got, want) => panic!("{got:?} where the model says {want:?}"),
        }
    }

    fn unmap(&mut self, w: &World, by: DomId, which: usize, parts: (bool, bool), fault: Fault) {
        let handles: Vec<_> = self.maps.keys().filter(|k| k.0 == by).copied().collect();
        let Some(&key) = handles.get(which % (handles.len() + 1)) else {
            assert_eq!(unmap(&w.host(by), 200, 1, 1), Err(GrantError::BadHandle));
            return;
        };
        let mut map = self.maps[&key];
        let host_addr = if parts.0 { map.addr } else { 0 };
        let dev_bus_addr = if parts.1 { map.frame << 12 } else { 0 };
        w.fault.set(fault);
        let result = unmap(&w.host(by), key.1, host_addr, dev_bus_addr);
        w.fault.set(Fault::None);
        if fault == Fault::DestroyMapping && parts.0 && map.host {
            assert!(result.is_err());
            return;
        }
        assert_eq!(result, Ok(()));
        map.host &= !parts.0;
        map.device &= !parts.1;
        if map.host || map.device {
            self.maps.insert(key, map);
        } else {
            self.maps.remove(&key);
        }
    }

    fn copy(&self, w: &World, by: DomId, from: (DomId, u32), to: (DomId, u32), fault: Fault) {
        let place = |(dom, reference)| Place::Granted {
            dom: Some(dom),
            reference,
        };
        let request = CopyRequest::new((place(from), 0), (place(to), 8), 8).unwrap();
        w.fault.set(fault);
        let result = copy(&w.host(by), &request);
        w.fault.set(Fault::None);
        let allowed = self.allows(by, from.0, from.1, false).is_some()
            && self.allows(by, to.0, to.1, true).is_some();
        let hit = matches!(fault, Fault::Reference(0 | 1));
        assert_eq!(result.is_ok(), allowed && !hit);
    }

    /// Entries, pages, handles and page tables are as the mappings say.
    fn check(&self, w: &World) {
        for dom in 0..DOMS {
            for reference in 0..REFS {
                let mut want = self.grants.get(&(dom, reference)).map_or(0, |g| g.flags);
                for user in self.users(dom, reference) {
                    want |= GTF_reading;
                    want |= if user.writes { GTF_writing } else { 0 };
                }
                assert_eq!(w.flags(dom, reference), want, "d{dom} {reference}");
            }
            for page in 0..PAGES {
                let frame = page_of(dom, page);
                let of = |writes| {
                    let mine = self.maps.values().filter(|m| m.frame == frame);
                    mine.filter(|m| m.writes == writes)
                        .map(|m| u32::from(m.host) + u32::from(m.device))
                        .sum::<u32>()
                };
                assert_eq!(w.refs(frame), (of(false), of(true)));
            }
            let handles = self.maps.keys().filter(|k| k.0 == dom).count();
            assert_eq!(w.grants(dom).mappings() as usize, handles);
        }
        let hosts = self.maps.iter().filter(|(_, m)| m.host);
        let want: BTreeMap<_, _> = hosts.map(|(k, m)| ((k.0, m.addr), Mfn(m.frame))).collect();
        let entries = w.entries.borrow();
        let got: BTreeMap<_, _> = entries.iter().map(|(k, v)| (*k, v.0)).collect();
        assert_eq!(got, want);
    }
}

/// All domains die, one after the other; nothing may be left.
fn tear_down(w: &World, budget: u32) {
    for dom in 0..DOMS {
        w.grants(dom).mark_dying();
    }
    for dom in 0..DOMS {
        let host = w.host(dom);
        while release_mappings(&host, budget) == Progress::More {}
        w.tear_down_page_tables(dom);
    }
    assert_eq!(w.total_refs(), 0);
    for dom in 0..DOMS {
        for reference in 0..REFS {
            assert_eq!(w.flags(dom, reference) & (GTF_reading | GTF_writing), 0);
        }
        w.grants(dom).abandon(&w.pool);
    }
    assert_eq!(w.pool.live.get(), 0);
}

proptest! {
    #[test]
    fn books_agree_with_the_model(
        ops in prop::collection::vec(op(), 1..120),
        budget in 1..300u32,
    ) {
        let w = World::new(DOMS, Limits { max_handles: 200, ..Limits::default() });
        let mut model = Model::default();
        for op in &ops {
            model.apply(&w, op);
            model.check(&w);
        }
        tear_down(&w, budget);
    }
}
