// What a PVH kernel needs in assembly: the ELF note, the way from 32-bit protected mode to long mode, the same for a
// second vCPU from real mode, and the stubs of the interrupt descriptor table.

.macro note_text kind, text
    .balign 4
    .long 4, 3f - 2f, \kind
    .asciz "Xen"
2:  .asciz "\text"
3:  .balign 4
.endm

    .section .note.Xen, "a", @note
    note_text 6, "micro-pvh"            // GUEST_OS
    note_text 5, "xen-3.0"              // XEN_VERSION
    .balign 4
    .long 4, 8, 18                      // PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .text.entry, "ax", @progbits
    .balign 4096
    .globl hypercall_page
hypercall_page:
    .skip 4096, 0xcc

// In: ebx = start info, flat segments, no paging (docs/misc/pvh.pandoc).
    .code32
    .globl pvh_start
pvh_start:
    cld
    cli
    mov esp, offset boot_stack_top
    // One to one, 4 GiB in pages of 2 MiB.
    mov eax, offset boot_pml4
    mov edi, offset boot_pdpt
    lea ecx, [edi + 3]
    mov [eax], ecx
    mov eax, offset boot_pd
    or eax, 3
    mov ecx, 4
1:  mov [edi], eax
    add edi, 8
    add eax, 4096
    loop 1b
    mov edi, offset boot_pd
    mov eax, 0x83
    mov ecx, 2048
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 2b
    mov eax, cr4
    or eax, 0x20                        // PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, 0x100                       // LME
    wrmsr
    mov eax, cr0
    or eax, 0x80010001                  // PG, WP, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    push 8
    mov eax, offset pvh_long
    push eax
    retf
    .code64
pvh_long:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    mov edi, ebx
    call micro_main
    ud2

// Copied to page 7; a second vCPU begins there in real mode.
    .balign 16
    .globl ap_start
    .globl ap_end
    .globl ap_stop
    .globl ap_protected
ap_start:
    .code16
    cli
    cld
    .byte 0x8c, 0xc8                    // mov ax, cs
    .byte 0x8e, 0xd8                    // mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16        // lgdt, 32-bit base
    .word ap_gdt_pointer - ap_start
    .byte 0x0f, 0x20, 0xe0              // mov eax, cr4
    .byte 0x66, 0x83, 0xc8, 0x20        // or eax, PAE
    .byte 0x0f, 0x22, 0xe0              // mov cr4, eax
    .byte 0x66, 0xb8                    // mov eax, the tables
    .long boot_pml4
    .byte 0x0f, 0x22, 0xd8              // mov cr3, eax
    .byte 0x66, 0xb9                    // mov ecx, EFER
    .long 0xc0000080
    .byte 0x0f, 0x32                    // rdmsr
    .byte 0x66, 0x0d                    // or eax, LME
    .long 0x100
    .byte 0x0f, 0x30                    // wrmsr
    .byte 0x0f, 0x20, 0xc0              // mov eax, cr0
    .byte 0x66, 0x0d                    // or eax, PG, WP, PE
    .long 0x80010001
    .byte 0x0f, 0x22, 0xc0              // mov cr0, eax
    .byte 0x66, 0xea                    // jmp to 64-bit code
    .long ap_long
    .word 8
    .balign 8
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_end:

// Copied to page 6: stays in real mode, counts in a word of that page.
    .balign 16
    .globl ap_real
    .globl ap_real_end
ap_real:
    .code16
    cli
    .byte 0x8c, 0xc8                    // mov ax, cs
    .byte 0x8e, 0xd8                    // mov ds, ax
4:  .byte 0xff, 0x06, 0x00, 0x08        // inc word [0x800]
    hlt
    jmp 4b
ap_real_end:

    .code64
ap_long:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    lea rsp, [rip + second_stack_top]
    xor ebp, ebp
    call second_main
    ud2

// The stubs make one frame of all deliveries: vector, error code, rip, cs, rflags, rsp, ss.
    .balign 16
    .globl stubs
stubs:
    .set number, 0
    .rept 256
    .balign 16
    .if (number == 8) || ((number >= 10) && (number <= 14)) || (number == 17) || (number == 21) || (number == 29) || (number == 30)
    .else
    push 0
    .endif
    push number
    jmp deliver
    .set number, number + 1
    .endr

deliver:
    call_with_general trap_entry
    add rsp, 16                         // vector and error code
    iretq

    .section .data.gdt, "aw", @progbits
    .balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // 8: code, 64-bit
    .quad 0x00cf93000000ffff            // 16: data
    .quad 0x00cf9b000000ffff            // 24: code, 32-bit
    .quad 0x00cff3000000ffff            // 32: data of CPL 3
    .quad 0x00affb000000ffff            // 40: code of CPL 3
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

    .section .bss.stack, "aw", @nobits
    .balign 4096
    .globl boot_pml4
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pd:
    .skip 4 * 4096
    .skip 65536
boot_stack_top:
    .skip 16384
second_stack_top:
