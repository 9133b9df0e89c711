# memcpy, memmove and memset (Intel syntax). The compiler's library has them too, for want of better with string
# instructions whatever the length; here short copies, nearly all of them when a kernel is unpacked, are a few
# loads and then as many stores. As all loads come first, they may overlap.

.section .text.mem, "ax"
.code64

# memcpy(rdi = to, rsi = from, rdx = bytes) -> to
.balign 16
.global memcpy
.type memcpy, @function
memcpy:
    mov rax, rdi
    cmp rdx, 16
    ja  3f
    cmp rdx, 8
    jae 2f
    cmp rdx, 4
    jae 1f
    test rdx, rdx
    jz  5f
    # One to three bytes: first, middle and last.
    mov r10, rdx
    shr r10, 1
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + r10]
    movzx r9d, byte ptr [rsi + rdx - 1]
    mov [rdi], cl
    mov [rdi + r10], r8b
    mov [rdi + rdx - 1], r9b
    ret
1:  mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
2:  mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
3:  cmp rdx, 32
    ja  4f
    mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov r9, [rsi + rdx - 16]
    mov r10, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + rdx - 16], r9
    mov [rdi + rdx - 8], r10
    ret
    # The last eight bytes are loaded before anything is stored, for memmove.
4:  mov r8, [rsi + rdx - 8]
    lea r9, [rdi + rdx - 8]
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov [r9], r8
5:  ret

# memmove(rdi = to, rsi = from, rdx = bytes) -> to: as memcpy, but from the end where `to` lies inside
# what is copied.
.balign 16
.global memmove
.type memmove, @function
memmove:
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae memcpy
    cmp rdx, 32
    jbe memcpy
    mov rax, rdi
    mov r8, [rsi]
    lea rsi, [rsi + rdx - 8]
    lea rdi, [rdi + rdx - 8]
    mov rcx, rdx
    shr rcx, 3
    std
    rep movsq
    cld
    mov [rax], r8
    ret

# memset(rdi = to, sil = byte, rdx = bytes) -> to
.balign 16
.global memset
.type memset, @function
memset:
    mov r9, rdi
    movzx eax, sil
    movabs r10, 0x0101010101010101
    imul rax, r10
    mov rcx, rdx
    cmp rdx, 8
    jb  1f
    mov [rdi + rdx - 8], rax
    shr rcx, 3
    rep stosq
    mov rax, r9
    ret
1:  rep stosb
    mov rax, r9
    ret
