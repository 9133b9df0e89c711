//! The order of all locks, from the outside in: a lock is only taken under locks of lower rank.
//!
//! Copies from and to guest memory are made, and guests entered, with none of them held; no
//! interrupt handler takes one.

/// Place of a kind of lock in the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rank {
    /// Those with lower levels are taken first.
    #[cfg(debug_assertions)]
    pub(super) level: u8,
    /// For the message when something is wrong.
    #[cfg(debug_assertions)]
    pub(super) name: &'static str,
}

impl Rank {
    const fn new(level: u8, name: &'static str) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = (level, name);
        Self {
            #[cfg(debug_assertions)]
            level,
            #[cfg(debug_assertions)]
            name,
        }
    }
}

/// Rows are level, name and what the lock guards. Locks of one level are never held together, but for
/// those that have numbers.
macro_rules! ranks {
    ($($level:literal $name:ident $what:literal)*) => {
        $(#[doc = concat!("Rank of ", $what, ".")]
        pub const $name: Rank = Rank::new($level, $what);)*
    };
}

ranks! {
    10 WALLCLOCK "the time of day"
    10 NEXT_ID "the next domain id"
    5 HOTPLUG "the CPU that comes or goes"
    10 WATCHDOGS "a domain's watchdogs"
    20 LEDGER "a domain's event channels, numbered by the domain's id"
    21 BINDING "the binding of a port"
    22 QUEUES "the event queues of a vCPU, numbered by the vCPU"
    29 PCI_DEVICES "the PCI functions and their messages"
    30 IRQ_NUMBERS "the numbers of interrupts"
    31 IRQ_LINE "an interrupt line"
    32 IO_APIC "the registers of an I/O APIC"
    40 GRANTS "a grant table"
    40 MAPTRACK "a domain's mappings of grants"
    50 VCPU_PIN "the affinity that a vCPU goes back to"
    50 VCPU_TIMERS "a vCPU's timers"
    50 VCPU_RUNSTATE "a vCPU's runstate"
    50 VCPU_STATE "a vCPU's state"
    59 SCHED_POOLS "the pools of CPUs"
    60 SCHED_TOPOLOGY "the scheduler's CPUs"
    61 SCHED_PARAMS "the weights of domains"
    63 SCHED_GROUP "a run queue, numbered by its index"
    70 DEADLINES "a CPU's deadlines"
    70 PORT_MAP "a domain's ports"
    70 PORT_PAIR "an index and data pair of ports"
    70 CONFIG_WINDOWS "the windows of PCI configuration space"
    70 TABLE_PAGES "the pages of MSI-X tables"
    70 DEVICE_PAGE "the page through which devices are reached"
    70 REGISTER_PAGES "the register pages that are kept from dom0"
    70 DOMAIN_HANDLE "a domain's handle"
    70 DOMAIN_SHUTDOWN "why a domain shut down"
    70 DOMAIN_MEMORY_MAP "a domain's memory map"
    70 DOMAIN_POLICY "a domain's CPU policy"
    70 VCPU_INFOS "the registered vcpu_info areas"
    70 MSR_LOG "the MSRs already told of"
    70 MICROCODE "the microcode"
    70 TELEMETRY "what machine checks told"
    70 KEYS "the keys typed"
    70 EFI "the firmware's services"
    70 IDT "the making of the IDT"
    74 DEMAND "the sweep of a domain's map"
    75 TRANSLATED "a domain's map of its memory"
    80 DOMAINS "the list of domains"
    80 UNITS "the list of units"
    90 HOLDINGS "the list of a domain's frames"
    90 MMIO_WINDOW "the window of device registers"
    91 HEAP "the heap"
    92 PAGES "the free pages"
    92 QUARANTINE "the pages that wait for a flush"
    100 CONSOLE "the console"
}
