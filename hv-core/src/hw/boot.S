# Entry from the boot loader and start of the secondary CPUs (Intel syntax).
#
# Every loader enters in 32-bit protected mode without paging: multiboot1 and 2
# with a magic number in eax and the information structure in ebx, PVH with its
# start_info in ebx. All meet in `boot_entry` with edi = protocol, esi = info.
#
# A multiboot2 loader may put the image elsewhere below 4 GiB: ebp is how far from
# where it was linked for, and every physical address is one of the linker's plus ebp.

.set MB1_MAGIC, 0x1badb002
.set MB1_FLAGS, 0x00010003          # page-aligned modules, memory map, address fields
.set MB2_MAGIC, 0xe85250d6
.set MB2_LOADER, 0x36d76289
.set PROTO_PVH, 0x336ec578          # no magic in a register: the structure's own is used
.set OPTIONAL, 1                    # flag of a tag: the loader need not know it

.section .boot.header, "a"
.balign 8
mb1_header:
    .long MB1_MAGIC, MB1_FLAGS, -(MB1_MAGIC + MB1_FLAGS)
    .long image_start_phys          # header address: this is the first byte of the image
    .long image_start_phys          # load address
    .long load_end_phys
    .long bss_end_phys
    .long boot_entry_phys
.balign 8
.global mb2_header
mb2_header:
    .long MB2_MAGIC, 0, mb2_header_end - mb2_header
    .long -(MB2_MAGIC + 0 + (mb2_header_end - mb2_header))
    .short 2, 0                     # where to load: a loader that read the ELF headers instead
    .long 24                        # would want the entry at a virtual address of the segment
    .long mb2_header_phys, image_start_phys, load_end_phys, bss_end_phys
    .balign 8
    .short 3, 0                     # entry address
    .long 12, boot_entry_phys
    .balign 8
    .short 6, 0                     # modules on pages of their own
    .long 8
    .balign 8
    .short 10, OPTIONAL             # or anywhere below 4 GiB, rather high: the low RAM is for devices
    .long 24
    .long image_start_phys, 0xffffffff, 0x200000, 2
    .balign 8
    .short 4, OPTIONAL              # VGA text is fine
    .long 12, 2
    .balign 8
    .short 5, OPTIONAL              # so is a framebuffer of any size
    .long 20, 0, 0, 0
    .balign 8
    .short 0, 0
    .long 8
mb2_header_end:

.section .note.Xen, "a", @note
.balign 4
    .long 4, 4, 18                  # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long boot_entry_pvh_phys

.section .boot.text, "ax"
.code32
.global boot_entry_pvh
boot_entry_pvh:
    mov eax, PROTO_PVH
.global boot_entry
boot_entry:
    cli
    cld
    mov edi, eax
    mov esi, ebx

    # Where are we? Only multiboot2 lets us be elsewhere. There is no stack yet: the address is caught in the
    # reserved word of the loader's information.
    xor ebp, ebp
    cmp eax, MB2_LOADER
    jne 1f
    lea esp, [ebx + 8]
    call boot_here
.global boot_here
boot_here:
    pop ebp
    sub ebp, offset boot_here_phys
1:  lea esp, [ebp + boot_stack_top_phys]
    test ebp, 0x1fffff
    jnz refuse_place
    mov [ebp + image_shift_phys], ebp

    # Long mode and NX are all that cannot be checked later.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb  refuse_long_mode
    mov eax, 0x80000001
    cpuid
    bt  edx, 29
    jnc refuse_long_mode
    bt  edx, 20                     # every mapping of ours relies on it
    jnc refuse_nx

    # Identity map of 4 GiB by 2 MiB pages, seen twice: at 0 (for this code and the secondary CPUs)
    # and as the early direct map.
    lea ebx, [ebp + boot_l2_phys]
    mov eax, 0x83                   # present, writable, 2 MiB
    xor ecx, ecx
1:  mov [ebx + ecx*8], eax
    mov dword ptr [ebx + ecx*8 + 4], 0
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 1b
    lea ebx, [ebp + boot_l3_low_phys]
    lea eax, [ebp + boot_l2_phys + 3]
    mov [ebx], eax
    add eax, 0x1000
    mov [ebx + 8], eax
    add eax, 0x1000
    mov [ebx + 16], eax
    add eax, 0x1000
    mov [ebx + 24], eax
    # The image where it was linked to run.
    lea ebx, [ebp + boot_l2_image_phys]
    lea eax, [ebp + 0x83]
    xor ecx, ecx
1:  mov [ebx + ecx*8], eax
    mov dword ptr [ebx + ecx*8 + 4], 0
    add eax, 0x200000
    inc ecx
    cmp ecx, offset boot_image_large
    jne 1b
    lea eax, [ebp + boot_l2_image_phys + 3]
    mov [ebp + boot_l3_image_phys + 321*8], eax
    lea ebx, [ebp + boot_l4_phys]
    lea eax, [ebp + boot_l3_low_phys + 3]
    mov [ebx], eax
    mov [ebx + 264*8], eax
    lea eax, [ebp + boot_l3_image_phys + 3]
    mov [ebx + 261*8], eax

    mov eax, 0x20                   # PAE alone: what firmware left on is not ours
    mov cr4, eax
    lea eax, [ebp + boot_l4_phys]
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or  eax, 0x901                  # NXE, LME, SCE
    wrmsr
    mov eax, 0x80010001             # PG, WP, PE
    mov cr0, eax
    lea eax, [ebp + boot_gdt_phys]
    mov [ebp + boot_gdt_ptr_phys + 2], eax
    lgdt [ebp + boot_gdt_ptr_phys]
    push 8                          # far return into the 64-bit segment
    lea eax, [ebp + boot_long_phys]
    push eax
    retf

refuse_place:
    mov esi, offset boot_msg_place_phys
    jmp refuse_cpu
refuse_long_mode:
    mov esi, offset boot_msg_long_mode_phys
    jmp refuse_cpu
refuse_nx:
    mov esi, offset boot_msg_nx_phys
refuse_cpu:
    # Prints the text at esi on COM1 and the VGA text buffer, by hand: nothing else works yet.
    add esi, ebp
    mov ebx, 0xb8000
2:  lodsb
    test al, al
    jz  3f
    mov ah, 0x4f
    mov [ebx], ax
    add ebx, 2
    mov ah, al
    mov dx, 0x3fd
4:  in  al, dx
    test al, 0x20
    jz  4b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    jmp 2b
3:  cli
    hlt
    jmp 3b

.code64
.global boot_long
boot_long:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    movabs rax, offset boot_high
    jmp rax

.section .text.asm, "ax"
.code64
boot_high:
    # The low address goes with the first page tables, and a fault still loads CS.
    lea rax, [rip + boot_gdt]
    mov [rip + boot_gdt_ptr + 2], rax
    lgdt [rip + boot_gdt_ptr]
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    mov edi, edi
    mov esi, esi
    call start                      # start(protocol, info) -> !
    ud2

.section .text.asm, "ax"
.code64
.global ap_high
ap_high:
    mov cr3, rax                    # the image is mapped at the same place in both
    xor ebp, ebp
    call ap_start                   # ap_start(cpu) -> !
    ud2

.section .rodata
.global boot_msg_long_mode, boot_msg_nx, boot_msg_place
boot_msg_place:
    .asciz "Xenolith: cannot boot: the loader put the image to an address that is no multiple of 2 MiB\r\n"
boot_msg_long_mode:
    .asciz "Xenolith: cannot boot: this CPU has no 64-bit mode\r\n"
boot_msg_nx:
    .asciz "Xenolith: cannot boot: this CPU has no NX (execute disable), or the firmware has it off\r\n"

.section .data
.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        # 64-bit code
    .quad 0x00cf92000000ffff        # data
.global boot_gdt_ptr
boot_gdt_ptr:
    .short 23
    .quad 0                         # filled in at entry
.balign 8
# How far from where it was linked for the image was loaded.
.global image_shift
image_shift:
    .quad 0

.section .bss
.balign 4096
.global boot_l4, boot_l3_low, boot_l3_image, boot_l2, boot_l2_image, boot_stack_top
boot_l4:       .skip 4096
boot_l3_low:   .skip 4096
boot_l3_image: .skip 4096
boot_l2:       .skip 4 * 4096
boot_l2_image: .skip 4096
               .skip 160 * 1024
boot_stack_top:
