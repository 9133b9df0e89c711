// What a PV kernel needs in assembly: the ELF notes, the entry point, the hypercall page, and the
// stubs at which the hypervisor delivers traps, events and failsafe callbacks.

.macro note_quad kind, value
    .balign 4
    .long 4, 8, \kind
    .asciz "Xen"
    .quad \value
.endm

.macro note_text kind, text
    .balign 4
    .long 4, 3f - 2f, \kind
    .asciz "Xen"
2:  .asciz "\text"
3:  .balign 4
.endm

    .section .note.Xen, "a", @note
    note_text 6, "micro-pv"             // GUEST_OS
    note_text 7, "1"                    // GUEST_VERSION
    note_text 5, "xen-3.0"              // XEN_VERSION
    note_text 8, "generic"              // LOADER
    note_quad 3, 0xffffffff80000000     // VIRT_BASE
    note_quad 4, 0                      // PADDR_OFFSET
    note_quad 1, micro_start            // ENTRY
    note_quad 2, hypercall_page         // HYPERCALL_PAGE

    .section .text.entry, "ax", @progbits
    .balign 4096
    .globl hypercall_page
hypercall_page:
    .skip 4096, 0xcc

// In: rsi = start info. The builder's stack is one page; ours has room for Rust.
    .globl micro_start
micro_start:
    cld
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    mov rdi, rsi
    call micro_main
    ud2

// A second vCPU starts here on the stack given in its context.
    .globl second_start
second_start:
    cld
    xor ebp, ebp
    and rsp, -16
    call second_main
    ud2

// In: rdi = rip, cs, rflags, rsp, ss to return to by hypercall. Comes back, through the trap
// handler, with the registers that a function must keep, whatever the other side left in them.
    .globl leave
leave:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + probe_stack], rsp
    lea rax, [rip + 1f]
    mov [rip + probe_fixup], rax
    push [rdi + 32]
    push [rdi + 24]
    push [rdi + 16]
    push [rdi + 8]
    push [rdi]
    push 0
    mov ebx, 0x0bbb                     // to be found in the frame of the trap
    mov r15d, 0x1555
    mov r9d, 0x0999
    mov edi, 0x0ddd
    jmp hypercall_page + 23 * 32
1:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

// The stubs make one frame of all deliveries: vector, error code, rip, cs, rflags, rsp, ss.
// The hypervisor has pushed rcx and r11 on top of what iret takes.
.macro stub number, with_code
    .balign 16
    pop rcx
    pop r11
    .if \with_code == 0
    push 0
    .endif
    push \number
    jmp deliver
.endm

    .balign 16
    .globl trap_stubs
trap_stubs:
    .irp number, 0,1,2,3,4,5,6,7
    stub \number, 0
    .endr
    stub 8, 1
    stub 9, 0
    .irp number, 10,11,12,13,14
    stub \number, 1
    .endr
    .irp number, 15,16
    stub \number, 0
    .endr
    stub 17, 1
    .irp number, 18,19,20
    stub \number, 0
    .endr
    stub 21, 1
    .irp number, 22,23,24,25,26,27,28,29,30,31
    stub \number, 0
    .endr

    .balign 16
    .globl event_stub
event_stub:
    stub 256, 0

// Below rcx and r11 it finds ds, es, fs and gs.
    .balign 16
    .globl failsafe_stub
failsafe_stub:
    pop rcx
    pop r11
    add rsp, 32
    push 0
    push 257
    jmp deliver

    .balign 16
    .globl syscall_stub
syscall_stub:
    stub 258, 0

    .balign 16
    .globl soft_stub
soft_stub:
    stub 0x80, 0

    .balign 16
    .globl nmi_stub
nmi_stub:
    stub 259, 0

deliver:
    call_with_general trap_entry
    add rsp, 16                         // vector and error code
    push 0                              // flags of iret_context
    jmp hypercall_page + 23 * 32        // __HYPERVISOR_iret; it pushes rcx, r11 and rax

    .section .bss.stack, "aw", @nobits
    .balign 4096
    .skip 65536
boot_stack_top:
