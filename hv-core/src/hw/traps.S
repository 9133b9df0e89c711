# Traps, system calls and the way into a guest (Intel syntax).
#
# Register contract: the run loop calls `enter_guest(info)` like a function. It
# saves the callee-saved registers and the stack pointer, loads the guest's frame
# and leaves by IRET or SYSRET. Whatever brings the CPU back from CPL 3 stores the
# guest's registers into the frame of this CPU's `CpuInfo`, scrubs them, restores
# what `enter_guest` saved and returns the reason in eax: the vector,
# EXIT_SYSCALL or EXIT_SYSENTER. A trap from CPL 0 instead calls `host_trap(frame)` on the stack
# that the CPU chose and resumes where it came from.
#
# The frame is laid out as the ABI's cpu_user_regs. INFO_* offsets come from
# cpuinfo.rs as assembler constants.

.macro PUSH_GPRS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm

.macro POP_GPRS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
.endm

# CLAC where the CPU has SMAP: AC belongs to the guest. Patched at boot.
.macro CLAC_SITE
.pushsection .smap_sites, "a"
    .quad 7f, 0xca010f
.popsection
7:  .byte 0x0f, 0x1f, 0x00
.endm

# The instruction that follows, of five bytes or more, becomes a jump to the target where guests run on views (a call
# becomes a call), see below. Patched at boot.
.macro VIEW_SITE target
.pushsection .view_sites, "a"
    .quad 6f, \target
.popsection
6:
.endm

# rsp = frame of this CPU: give the run loop its registers back.
.macro RETURN_TO_HOST
    VIEW_SITE return_from_view
    HOST_REGISTERS
.endm

.macro HOST_REGISTERS
    mov rsp, [rsp + {host_rsp_from_regs}]
    xor edi, edi
    xor esi, esi
    xor edx, edx
    xor ecx, ecx
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
.endm

.section .text.entry, "ax"
.code64

# One 16-byte stub for each vector: error code (or 0) and vector above it.
.balign 16
.global trap_stubs
trap_stubs:
.set vec, 0
.rept 256
    .balign 16
    .if vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30
    .else
    push 0
    .endif
    mov dword ptr [rsp + 4], vec
    .if vec == 1 || vec == 2 || vec == 8 || vec == 18
    jmp trap_ist
    .else
    jmp trap_common
    .endif
    .set vec, vec + 1
.endr

.balign 16
trap_common:
    test byte ptr [rsp + 16], 3
    jz  trap_from_host
    cld
    CLAC_SITE
from_guest:
    PUSH_GPRS
    mov eax, [rsp + 124]
    RETURN_TO_HOST

trap_from_host:
    cld
    CLAC_SITE
    PUSH_GPRS
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    VIEW_SITE host_trap_by_view
    call host_trap
    mov rsp, rbp
    POP_GPRS
    add rsp, 8
    iretq

# Vectors with a stack of their own: coming from the guest, the main stack is
# free, so the hardware frame moves there and the exit is like any other.
trap_ist:
    test byte ptr [rsp + 16], 3
    jz  trap_from_host
    cld
    CLAC_SITE
    push rax
    push rcx
    mov rax, rsp
    or  rax, {block_mask}
    lea rax, [rax + {error_from_block_last}]
    mov rcx, [rsp + 16]
    mov [rax], rcx
    mov rcx, [rsp + 24]
    mov [rax + 8], rcx
    mov rcx, [rsp + 32]
    mov [rax + 16], rcx
    mov rcx, [rsp + 40]
    mov [rax + 24], rcx
    mov rcx, [rsp + 48]
    mov [rax + 32], rcx
    mov rcx, [rsp + 56]
    mov [rax + 40], rcx
    xchg rsp, rax
    mov rcx, [rax]
    mov rax, [rax + 8]
    jmp from_guest

# The per-CPU SYSCALL stub (syscall.rs writes it) has stored ss, rsp, rflags, cs
# and rip at the top of the frame and jumps here.
.balign 16
.global syscall_common
syscall_common:
    push 0
    mov dword ptr [rsp + 4], {exit_syscall}
    PUSH_GPRS
    mov eax, {exit_syscall}
    RETURN_TO_HOST

# SYSENTER: the CPU has turned interrupts off and found our stack, and nothing else.
# Where the program was and its stack pointer nobody knows but the program's own
# kernel. Of the flags TF, NT, AC and DF are still the program's: until TF is
# cleared, each instruction here ends in a trap to `host_trap`, which ignores it.
.balign 16
.global sysenter_entry
sysenter_entry:
    push {user_ss}
    push 0
    pushfq
    push {fixed_flags}
    popfq
    or dword ptr [rsp], {interrupts_on}
    push {user_cs32}
    push 0
    push 0
    mov dword ptr [rsp + 4], {exit_sysenter}
    PUSH_GPRS
    mov eax, {exit_sysenter}
    RETURN_TO_HOST

# enter_guest(rdi = CpuInfo) -> eax = reason. Interrupts are off.
.balign 16
.global enter_guest
enter_guest:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    VIEW_SITE enter_by_view
    mov [rdi + {host_rsp}], rsp
    lea rsp, [rdi + {regs}]
enter_loaded:
    POP_GPRS
    test dword ptr [rsp + 4], {exit_syscall}
    jnz 1f
    add rsp, 8
.global guest_iret
guest_iret:
    iretq
1:  mov rcx, [rsp + 8]
    mov r11, [rsp + 24]
    mov rsp, [rsp + 32]
    sysretq

# Where host_trap sends the CPU when `guest_iret` itself faulted: the frame has
# been put together again, eax is the reason.
.balign 16
.global guest_iret_failed
guest_iret_failed:
    mov eax, {exit_bad_frame}
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

# Views (XPTI, view.rs): at CPL 3 a CPU may be on a root that has nothing of ours but this section, the IDT, and of this CPU
# the frame with its surroundings, the interrupt stacks, descriptor tables, TSS and SYSCALL stub. The three pieces below are
# reached only where the boot has patched the sites above.
#
# In between the view is loaded at CPL 0:
# - from an entry's first instruction to `mov cr3` in `return_from_view`. All that is touched lies in the view: the frame, and
#   for vectors with a stack of their own that stack first.
# - from `mov cr3` in `enter_by_view` to IRET or SYSRET. The frame again.
# A trap there came from CPL 0. NMI, #MC, #DB and #DF can come at each instruction; their stacks are in the view. A fault of the
# IRET (the guest's frame, a descriptor page that is not there) comes on the frame's own page, below what IRET was to load. All
# of them end in `host_trap_by_view`, which changes to the guest's own root for the handler and back to what it has found. So
# - one that hits between the test of CR3 and the change, here or there, is undone when that goes on;
# - one that hits after the change back finds the view again, and does the same on top;
# - the handler that does not come back, for a bad frame, leaves with the guest's own root in CR3, as `guest_iret_failed`
#   needs it;
# - one before there is a frame, on the boot's stack, is told by its stack: only the areas of CPUs lie in their slot. In a new
#   area the frame's surroundings are zero, which is no root.
# A trap from CPL 0 elsewhere finds a root in CR3 that is no view, and costs the comparison.
.balign 16
return_from_view:
    cmp qword ptr [rsp + {guest_cr3_from_regs}], 0
    je  1f
    mov rcx, [rsp + {host_cr3_from_regs}]
    mov cr3, rcx
1:
    HOST_REGISTERS

.balign 16
enter_by_view:
    mov [rdi + {host_rsp}], rsp
    lea rsp, [rdi + {regs}]
    mov rax, [rdi + {guest_cr3}]
    test rax, rax
    jz  enter_loaded
    mov cr3, rax
    jmp enter_loaded

# In place of host_trap(rdi = frame). Of the registers that it must leave as they are, rbx is saved in the frame.
.balign 16
host_trap_by_view:
    mov rax, rsp
    shr rax, {slot_shift}
    cmp eax, {cpu_areas_slot}
    jne host_trap
    mov rbx, cr3
    mov rax, rsp
    or  rax, {block_mask}
    cmp rbx, [rax + {guest_cr3_from_block_last}]
    jne host_trap
    mov rax, [rax + {host_cr3_from_block_last}]
    mov cr3, rax
    sub rsp, 8
    call host_trap
    add rsp, 8
    mov cr3, rbx
    ret
