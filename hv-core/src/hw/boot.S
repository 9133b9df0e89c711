# Entry from the boot loader and start of the secondary CPUs (Intel syntax).
#
# Every loader enters in 32-bit protected mode without paging: multiboot1 and 2
# with a magic number in eax and the information structure in ebx, PVH with its
# start_info in ebx. All meet in `boot_common` with edi = protocol, esi = info.

.set MB1_MAGIC, 0x1badb002
.set MB1_FLAGS, 0x00010003          # page-aligned modules, memory map, address fields
.set MB2_MAGIC, 0xe85250d6
.set PROTO_PVH, 0x336ec578          # no magic in a register: the structure's own is used

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
mb2_header:
    .long MB2_MAGIC, 0, mb2_header_end - mb2_header
    .long -(MB2_MAGIC + 0 + (mb2_header_end - mb2_header))
    .short 3, 0                     # entry address
    .long 12, boot_entry_phys
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
    mov esp, offset boot_stack_top_phys

    # Long mode and NX are all that cannot be checked later.
    mov ebp, offset boot_msg_long_mode_phys
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb  refuse_cpu
    mov eax, 0x80000001
    cpuid
    bt  edx, 29
    jnc refuse_cpu
    mov ebp, offset boot_msg_nx_phys
    bt  edx, 20                     # every mapping of ours relies on it
    jnc refuse_cpu

    # Identity map of 4 GiB by 2 MiB pages, seen three times: at 0 (for this code
    # and the secondary CPUs), in the image window and as the early direct map.
    mov ebx, offset boot_l2_phys
    mov eax, 0x83                   # present, writable, 2 MiB
    xor ecx, ecx
1:  mov [ebx + ecx*8], eax
    mov dword ptr [ebx + ecx*8 + 4], 0
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 1b
    mov ebx, offset boot_l3_low_phys
    mov eax, offset boot_l2_phys + 3
    mov [ebx], eax
    add eax, 0x1000
    mov [ebx + 8], eax
    add eax, 0x1000
    mov [ebx + 16], eax
    add eax, 0x1000
    mov [ebx + 24], eax
    mov ebx, offset boot_l3_image_phys
    mov dword ptr [ebx + 321*8], offset boot_l2_phys + 3
    mov ebx, offset boot_l4_phys
    mov dword ptr [ebx], offset boot_l3_low_phys + 3
    mov dword ptr [ebx + 261*8], offset boot_l3_image_phys + 3
    mov dword ptr [ebx + 264*8], offset boot_l3_low_phys + 3

    mov eax, 0x20                   # PAE alone: what firmware left on is not ours
    mov cr4, eax
    mov eax, offset boot_l4_phys
    mov cr3, eax
    push esi
    push edi
    mov ecx, 0xc0000080             # EFER
    rdmsr
    or  eax, 0x901                  # NXE, LME, SCE
    wrmsr
    pop edi
    pop esi
    mov eax, 0x80010001             # PG, WP, PE
    mov cr0, eax
    lgdt [boot_gdt_ptr_phys]
    .byte 0xea                      # far jump into the 64-bit segment
    .long boot_long_phys
    .short 8

refuse_cpu:
    # Prints the text at ebp on COM1 and the VGA text buffer, by hand: nothing else works yet.
    mov esi, ebp
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

.section .text.entry, "ax"
.code64
boot_high:
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    mov edi, edi
    mov esi, esi
    call start                      # start(protocol, info) -> !
    ud2

.section .text.entry, "ax"
.code64
.global ap_high
ap_high:
    mov cr3, rax                    # the image is mapped at the same place in both
    xor ebp, ebp
    call ap_start                   # ap_start(cpu) -> !
    ud2

.section .rodata
.global boot_msg_long_mode, boot_msg_nx
boot_msg_long_mode:
    .asciz "Xenolith: cannot boot: this CPU has no 64-bit mode\r\n"
boot_msg_nx:
    .asciz "Xenolith: cannot boot: this CPU has no NX (execute disable), or the firmware has it off\r\n"

.section .data
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        # 64-bit code
    .quad 0x00cf92000000ffff        # data
.global boot_gdt_ptr
boot_gdt_ptr:
    .short 23
    .quad boot_gdt_phys_base

.set boot_gdt_phys_base, boot_gdt - 0xffff82d040000000

.section .bss
.balign 4096
.global boot_l4, boot_l3_low, boot_l3_image, boot_l2, boot_stack_top
boot_l4:       .skip 4096
boot_l3_low:   .skip 4096
boot_l3_image: .skip 4096
boot_l2:       .skip 4 * 4096
               .skip 160 * 1024
boot_stack_top:
