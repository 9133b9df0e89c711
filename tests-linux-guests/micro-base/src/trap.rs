//! What the entry code of a trap leaves on the stack (`trap.S`).

/// General registers, what the stub pushed, and the hardware's or hypervisor's frame.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// r15 down to rax, as pushed.
    pub general: [u64; 15],
    /// Vector, or a number of the kernel's own above 255.
    pub vector: u64,
    /// Error code; zero where the trap has none.
    pub error: u64,
    /// Where it happened.
    pub rip: u64,
    /// Code segment; for PV guests bits 39:32 hold the event mask at that time.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}
