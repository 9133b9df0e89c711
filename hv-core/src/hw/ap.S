# Start of the secondary CPUs (AT&T syntax: the differences of labels need it).
#
# Copied to a page below 1 MiB and entered in real mode. The code finds its own address in cs; the
# words at `ap_data` are filled by smp.rs.

.section .rodata
.balign 16
.global ap_code
ap_code:
.code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx                       # linear address of this page
    # The far pointer and the GDT base depend on where the page is.
    leal (ap_long - ap_code)(%ebx), %eax
    movl %eax, ap_jump - ap_code
    leal (ap_gdt - ap_code)(%ebx), %eax
    movl %eax, ap_gdt_base - ap_code
    movl $0x20, %eax                    # PAE
    movl %eax, %cr4
    movl ap_cr3 - ap_code, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER: NXE, LME, SCE
    rdmsr
    orl $0x901, %eax
    wrmsr
    lgdtl ap_gdt_ptr - ap_code
    movl $0x80010001, %eax              # PG, WP, PE
    movl %eax, %cr0
    .byte 0x66, 0xea                    # far jump, 32-bit offset
ap_jump:
    .long 0
    .short 8
.code64
ap_long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq ap_stack(%rip), %rsp
    movq ap_arg(%rip), %rdi
    movq ap_root(%rip), %rax
    movq ap_entry(%rip), %rcx
    # The final root maps the image but not this page: leave before loading it.
    jmp *%rcx
.balign 8
.global ap_data
ap_data:
ap_cr3:   .quad 0                       # the boot's tables, below 4 GiB
ap_stack: .quad 0
ap_arg:   .quad 0
ap_root:  .quad 0
ap_entry: .quad 0
ap_gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
ap_gdt_ptr:
    .short 23
ap_gdt_base:
    .long 0
.global ap_code_end
ap_code_end:
