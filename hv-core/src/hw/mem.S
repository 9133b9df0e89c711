# Copying and filling memory (Intel syntax, System V calling convention).
#
# The compiler calls memcpy, memmove and memset. Those of its own library start three string instructions for the
# shortest copy, which costs a processor dozens of cycles each; most copies are of a few bytes (unpacking a kernel is
# nothing else). Up to 32 bytes, all is loaded before anything is stored, so areas may overlap.
#
# fast_memcpy(rdi = to, rsi = from, rdx = bytes), fast_memmove the same, fast_memset(rdi = to, sil = value,
# rdx = bytes); all return `to` in rax.

# Jumps to 2f where there are more than 32 bytes, else copies and returns. Changes rcx and r8 to r10.
.macro COPY_SHORT
    mov rax, rdi
    cmp rdx, 16
    ja  5f
    cmp edx, 8
    jb  3f
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
3:  cmp edx, 4
    jb  4f
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
4:  test edx, edx
    jz  6f
    # One to three bytes: the first, the middle one and the last.
    mov r10d, edx
    shr r10d, 1
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + r10]
    movzx r9d, byte ptr [rsi + rdx - 1]
    mov [rdi], cl
    mov [rdi + r10], r8b
    mov [rdi + rdx - 1], r9b
6:  ret
5:  cmp rdx, 32
    ja  2f
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov r9, [rsi + rdx - 16]
    mov r10, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + rdx - 16], r9
    mov [rdi + rdx - 8], r10
    ret
.endm

# More than 32 bytes, upwards; the last eight are loaded first and stored last.
.macro COPY_UP
    mov r8, [rsi + rdx - 8]
    lea r9, [rdi + rdx - 8]
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov [r9], r8
    ret
.endm

.section .text.mem, "ax"
.code64

.balign 16
.global fast_memcpy
fast_memcpy:
    COPY_SHORT
2:  COPY_UP

.balign 16
.global fast_memmove
fast_memmove:
    COPY_SHORT
2:  mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jb  3f
    COPY_UP
    # `to` lies inside what is to be copied: downwards; the first eight bytes come last.
3:  mov r8, [rsi]
4:  mov rcx, [rsi + rdx - 8]
    mov [rdi + rdx - 8], rcx
    sub rdx, 8
    cmp rdx, 8
    ja  4b
    mov [rdi], r8
    ret

.balign 16
.global fast_memset
fast_memset:
    mov r8, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    cmp rdx, 16
    ja  2f
    cmp edx, 8
    jb  3f
    mov [rdi], rax
    mov [rdi + rdx - 8], rax
    jmp 5f
3:  cmp edx, 4
    jb  4f
    mov [rdi], eax
    mov [rdi + rdx - 4], eax
    jmp 5f
4:  test edx, edx
    jz  5f
    mov ecx, edx
    shr ecx, 1
    mov [rdi], al
    mov [rdi + rcx], al
    mov [rdi + rdx - 1], al
    jmp 5f
2:  mov [rdi + rdx - 8], rax
    mov rcx, rdx
    shr rcx, 3
    rep stosq
5:  mov rax, r8
    ret
