//! Where everything goes in a 64-bit PV domain before it runs: a plan, nothing is written.
//!
//! The order is the ABI's (xen.h): kernel, initrd, p2m list, start info page, page tables, stack,
//! each on whole pages from pseudo-physical address 0 on, all mapped at `virt_base`. The mapping
//! ends on a 4 MiB boundary with at least 512 KiB unused. Behind it come the initrd that need not
//! be mapped and the p2m list that has an address of its own, with its page tables before it.

use core::fmt;
use core::ops::Range;

use super::kernel::{PvKernel, is_guest_address};
use super::tables::Tables;
use super::{PAGE_SIZE, pages_for};

/// The initial mapping ends on a multiple of this.
const MAPPING_ALIGN: u64 = 4 << 20;
/// Bytes at least between the stack and the end of the initial mapping.
const MAPPING_SLACK: u64 = 512 << 10;
/// Bytes of an entry of the p2m list.
const P2M_ENTRY: u64 = 8;

/// What the domain gets beside its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Pages of the domain; all of them are in the p2m list.
    pub nr_pages: u64,
    /// Bytes of the initrd; 0 for none.
    pub initrd_len: u64,
}

/// Successive pages of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First pseudo-physical frame.
    pub pfn: u64,
    /// Number of pages.
    pub pages: u64,
}

impl Extent {
    /// The frames.
    #[must_use]
    pub const fn pfns(&self) -> Range<u64> {
        self.pfn..self.end()
    }

    /// First frame behind.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.pfn + self.pages
    }
}

/// Where the initrd is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitrdPlace {
    /// There is none.
    None,
    /// In the initial mapping: start info gives its virtual address.
    Mapped(Extent),
    /// Behind the initial mapping: start info gives its frame (SIF_MOD_START_PFN).
    Unmapped(Extent),
}

impl InitrdPlace {
    /// Its pages.
    #[must_use]
    pub const fn extent(&self) -> Option<Extent> {
        match self {
            Self::None => None,
            Self::Mapped(extent) | Self::Unmapped(extent) => Some(*extent),
        }
    }
}

/// Where the p2m list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct P2mPlace {
    /// Its virtual address.
    pub virt: u64,
    /// Its pages.
    pub list: Extent,
    /// What start info names: the list and the page tables that only it needs.
    pub with_tables: Extent,
}

/// The plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Virtual address of pseudo-physical frame 0.
    pub virt_base: u64,
    /// Pages in the initial mapping, from frame 0 on.
    pub mapped_pages: u64,
    /// From the kernel's first page to its last; frames before it are mapped and unused.
    pub kernel: Extent,
    /// The initrd.
    pub initrd: InitrdPlace,
    /// Bytes of the initrd.
    pub initrd_len: u64,
    /// The p2m list.
    pub p2m: P2mPlace,
    /// The start info page.
    pub start_info: Extent,
    /// The page tables of the initial mapping; the root is the first.
    pub page_tables: Extent,
    /// The tables one by one.
    pub tables: Tables,
    /// The boot stack, one page.
    pub stack: Extent,
    /// First frame that nothing is planned for.
    pub end: u64,
}

/// Why a kernel does not fit into a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The domain has fewer pages than its start of day needs.
    TooSmall {
        /// Pages needed.
        needed: u64,
        /// Pages of the domain.
        present: u64,
    },
    /// The initial mapping does not fit between the virtual base and the end of that half of the
    /// address space, or reaches into the hypervisor's range.
    MappingTooLarge(u64),
    /// The p2m list at its own address overlaps the initial mapping or leaves the guest's range.
    P2mOverlap(u64),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { needed, present } => write!(
                f,
                "the domain is too small: kernel, initrd and p2m list need {} KiB, it has {} KiB",
                needed.saturating_mul(4),
                present.saturating_mul(4)
            ),
            Self::MappingTooLarge(pages) => write!(
                f,
                "kernel and initrd ({} KiB) do not fit into the kernel's address space",
                pages.saturating_mul(4)
            ),
            Self::P2mOverlap(address) => write!(
                f,
                "the p2m list does not fit at {address:#x}, where the kernel wants it"
            ),
        }
    }
}

impl core::error::Error for LayoutError {}

impl Layout {
    /// Plans the start of day.
    ///
    /// # Errors
    /// The domain or the kernel's address space is too small, or addresses overlap.
    pub fn plan(kernel: &PvKernel<'_>, request: &Request) -> Result<Self, LayoutError> {
        let too_small = |needed| LayoutError::TooSmall {
            needed,
            present: request.nr_pages,
        };
        // With these two bounds no sum of frame numbers below can overflow.
        let kernel_end = pages_for(kernel.end);
        let initrd_pages = pages_for(request.initrd_len);
        if kernel_end.saturating_add(initrd_pages) > request.nr_pages {
            return Err(too_small(kernel_end.saturating_add(initrd_pages)));
        }
        if request.nr_pages > MAX_PAGES {
            return Err(LayoutError::MappingTooLarge(request.nr_pages));
        }
        let mapped = Mapped::plan(kernel, request, kernel_end, initrd_pages)?;
        let layout = mapped.complete(kernel, request, initrd_pages)?;
        if layout.end > request.nr_pages {
            return Err(too_small(layout.end));
        }
        Ok(layout)
    }

    /// Virtual address of a frame in the initial mapping.
    #[must_use]
    pub const fn virt(&self, pfn: u64) -> u64 {
        self.virt_base + pfn * PAGE_SIZE
    }
}

/// Most pages of a domain: what 48 bits of machine address allow.
const MAX_PAGES: u64 = 1 << 36;

/// Hands out successive frames.
struct Cursor(u64);

impl Cursor {
    fn take(&mut self, pages: u64) -> Extent {
        let extent = Extent { pfn: self.0, pages };
        self.0 += pages;
        extent
    }
}

/// The part of the plan inside the initial mapping.
struct Mapped {
    kernel: Extent,
    initrd: InitrdPlace,
    p2m: Option<Extent>,
    start_info: Extent,
    page_tables: Extent,
    tables: Tables,
    stack: Extent,
    pages: u64,
}

impl Mapped {
    fn plan(
        kernel: &PvKernel<'_>,
        request: &Request,
        kernel_end: u64,
        initrd_pages: u64,
    ) -> Result<Self, LayoutError> {
        let first = kernel.segments.first().map_or(0, |segment| segment.paddr) / PAGE_SIZE;
        let mut cursor = Cursor(kernel_end);
        let initrd = if initrd_pages == 0 || kernel.unmapped_initrd {
            InitrdPlace::None
        } else {
            InitrdPlace::Mapped(cursor.take(initrd_pages))
        };
        let p2m = kernel
            .init_p2m
            .is_none()
            .then(|| cursor.take(p2m_pages(request)));
        let start_info = cursor.take(1);

        // The tables map themselves and the stack, so their number depends on itself: start with
        // one and go on until the mapping they make needs no more. Each round can only add tables.
        let tables_pfn = cursor.0;
        let mut count = 1;
        loop {
            let stack_end = tables_pfn + count + 1;
            let pages = mapping_pages(kernel.virt_base, stack_end)?;
            let last = kernel.virt_base + (pages * PAGE_SIZE - 1);
            let tables = Tables::for_mapping(kernel.virt_base, last, tables_pfn);
            if tables.main_count() == count {
                return Ok(Self {
                    kernel: Extent {
                        pfn: first,
                        pages: kernel_end - first,
                    },
                    initrd,
                    p2m,
                    start_info,
                    page_tables: cursor.take(count),
                    stack: cursor.take(1),
                    tables,
                    pages,
                });
            }
            count = tables.main_count();
        }
    }

    /// Adds what lies behind the initial mapping.
    fn complete(
        mut self,
        kernel: &PvKernel<'_>,
        request: &Request,
        initrd_pages: u64,
    ) -> Result<Layout, LayoutError> {
        let mut cursor = Cursor(self.pages);
        if initrd_pages != 0 && kernel.unmapped_initrd {
            self.initrd = InitrdPlace::Unmapped(cursor.take(initrd_pages));
        }
        let p2m = match (self.p2m, kernel.init_p2m) {
            (Some(list), _) => P2mPlace {
                virt: kernel.virt_base + list.pfn * PAGE_SIZE,
                list,
                with_tables: list,
            },
            (None, virt) => {
                let virt = virt.unwrap_or_default();
                let pages = p2m_pages(request);
                let last = self.check_own_p2m(kernel, virt, pages)?;
                self.tables.add_p2m(virt, last, cursor.0);
                let tables = cursor.take(self.tables.p2m_count());
                let list = cursor.take(pages);
                P2mPlace {
                    virt,
                    list,
                    with_tables: Extent {
                        pfn: tables.pfn,
                        pages: tables.pages + list.pages,
                    },
                }
            }
        };
        Ok(Layout {
            nr_pages: request.nr_pages,
            virt_base: kernel.virt_base,
            mapped_pages: self.pages,
            kernel: self.kernel,
            initrd: self.initrd,
            initrd_len: request.initrd_len,
            p2m,
            start_info: self.start_info,
            page_tables: self.page_tables,
            tables: self.tables,
            stack: self.stack,
            end: cursor.0,
        })
    }

    /// Checks the p2m list's own address range; returns its last byte.
    fn check_own_p2m(
        &self,
        kernel: &PvKernel<'_>,
        virt: u64,
        pages: u64,
    ) -> Result<u64, LayoutError> {
        let overlap = LayoutError::P2mOverlap(virt);
        let last = virt.checked_add(pages * PAGE_SIZE - 1).ok_or(overlap)?;
        let mapping_last = kernel.virt_base + (self.pages * PAGE_SIZE - 1);
        let apart = last < kernel.virt_base || virt > mapping_last;
        if apart && is_guest_range(virt, last) {
            Ok(last)
        } else {
            Err(overlap)
        }
    }
}

fn p2m_pages(request: &Request) -> u64 {
    pages_for(request.nr_pages * P2M_ENTRY)
}

/// Pages of a mapping at `virt_base` whose last used page is before frame `used`.
fn mapping_pages(virt_base: u64, used: u64) -> Result<u64, LayoutError> {
    let too_large = LayoutError::MappingTooLarge(used);
    let end = used
        .checked_mul(PAGE_SIZE)
        .and_then(|bytes| bytes.checked_add(MAPPING_SLACK))
        .and_then(|bytes| virt_base.checked_add(bytes))
        .ok_or(too_large)?;
    // A mapping may end with the address space itself, hence the last byte and not the end.
    let last = (end - 1) | (MAPPING_ALIGN - 1);
    if is_guest_range(virt_base, last) {
        Ok((last - virt_base) / PAGE_SIZE + 1)
    } else {
        Err(too_large)
    }
}

/// Whether a PV guest may map all of `first..=last`.
fn is_guest_range(first: u64, last: u64) -> bool {
    // Both ends in the same half; the hypervisor's range begins the upper one.
    first <= last
        && is_guest_address(first)
        && is_guest_address(last)
        && (first as i64 >= 0) == (last as i64 >= 0)
}
