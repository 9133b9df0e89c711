//! The guest's side of the FIFO protocol, as `event_channel.h` describes it.

use super::*;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;
const LINK: u32 = (1 << 17) - 1;

/// Where a [`Guest`] keeps its control blocks: 128 bytes apart in the first page.
pub const CONTROL_GFN: u64 = FIRST_GFN;
/// The first page of its event array.
pub const ARRAY_GFN: u64 = FIRST_GFN + 1;

/// What a guest's vCPU remembers of its queues.
pub struct Guest<'a> {
    d: &'a Fake,
    vcpu: VcpuId,
    heads: [PortNumber; 16],
}

/// Event word of a port.
pub fn word(d: &Fake, port: PortNumber) -> &AtomicU32 {
    &d.pages[1 + port as usize / 1024][port as usize % 1024]
}

/// Sets up every vCPU and `pages` of the array, every port masked.
pub fn enter_fifo(d: &Fake, pages: usize) {
    enter_fifo_with(d, pages, MASKED);
}

/// Sets up every vCPU and `pages` of the array, every event word as given.
pub fn enter_fifo_with(d: &Fake, pages: usize, fresh: u32) {
    for vcpu in 0..d.vcpus {
        assert_eq!(init_control(d, vcpu, CONTROL_GFN, vcpu * 128), Ok(17));
    }
    for page in 0..pages {
        for word in &d.pages[1 + page] {
            word.store(fresh, Ordering::SeqCst);
        }
        assert_eq!(expand_array(d, ARRAY_GFN + page as u64), Ok(()));
    }
}

/// Masks a port as a guest does.
pub fn mask(d: &Fake, port: PortNumber) {
    word(d, port).fetch_or(MASKED, Ordering::SeqCst);
}

/// Unmasks a port as a guest does: by itself when nothing is pending, else by hypercall.
pub fn open(d: &Fake, port: PortNumber) {
    let word = word(d, port);
    loop {
        let old = word.load(Ordering::SeqCst);
        if old & PENDING != 0 {
            assert_eq!(unmask(d, port), Ok(()));
            return;
        }
        let old = old & !BUSY;
        if word
            .compare_exchange(old, old & !MASKED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            return;
        }
    }
}

impl<'a> Guest<'a> {
    /// The consumer of a vCPU.
    pub fn new(d: &'a Fake, vcpu: VcpuId) -> Self {
        Self {
            d,
            vcpu,
            heads: [0; 16],
        }
    }

    fn control(&self, index: usize) -> &'a AtomicU32 {
        &self.d.pages[0][self.vcpu as usize * 32 + index]
    }

    /// Whether an upcall waits.
    pub fn upcall(&self) -> bool {
        self.d.info[self.vcpu as usize][0].load(Ordering::SeqCst) & 0xff != 0
    }

    /// Handles an upcall, if there is one: the ports in the order they were taken.
    pub fn take(&mut self) -> Vec<PortNumber> {
        let mut ports = Vec::new();
        if self.d.info[self.vcpu as usize][0].fetch_and(!0xff, Ordering::SeqCst) & 0xff == 0 {
            return ports;
        }
        let mut ready = 0;
        // A queue that loops would never end: more steps than ports means that it does.
        for _ in 0..200_000 {
            ready |= self.control(0).swap(0, Ordering::SeqCst);
            if ready == 0 {
                return ports;
            }
            self.consume(&mut ready, &mut ports);
        }
        panic!("a queue of vCPU {} never ends", self.vcpu);
    }

    fn consume(&mut self, ready: &mut u32, ports: &mut Vec<PortNumber>) {
        let queue = ready.trailing_zeros() as usize;
        let mut port = self.heads[queue];
        if port == 0 {
            port = self.control(2 + queue).load(Ordering::SeqCst);
        }
        assert_ne!(port, 0, "a queue without a first port is ready");
        let word = word(self.d, port);
        let mut old = word.load(Ordering::SeqCst);
        while let Err(now) = word.compare_exchange(
            old,
            old & !(LINKED | LINK),
            Ordering::SeqCst,
            Ordering::SeqCst,
        ) {
            old = now;
        }
        let next = old & LINK;
        if next == 0 {
            *ready &= !(1 << queue);
        }
        self.heads[queue] = next;
        let now = word.load(Ordering::SeqCst);
        if now & PENDING != 0 && now & MASKED == 0 {
            word.fetch_and(!PENDING, Ordering::SeqCst);
            ports.push(port);
        }
    }
}
