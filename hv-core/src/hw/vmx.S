# The way into a VT-x guest and back (Intel syntax; Intel SDM vol. 3, "VM Entries" and "VM Exits").
#
# vmx_enter(rdi = the guest's registers, esi = whether VMRESUME, rdx = what the VMCS has as the host's rsp) is called like a
# function with interrupts off, and comes back with interrupts off; eax is 0 when the guest was entered, or the entry failed for
# its state (an exit too), and 1 when the instruction itself failed.
#
# The entry and the exit switch CR0, CR3, CR4, EFER, DR7, the segments, GDTR, IDTR, RIP, RSP, RFLAGS and the MSRs of SYSENTER. An
# NMI that comes while the registers are half the guest's finds the hypervisor's stack and segments: it is like any other.

.section .text.asm, "ax"
.code64

.balign 16
.global vmx_enter
vmx_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    cmp [rdx], rsp
    je 1f
    mov [rdx], rsp
    mov eax, {host_rsp}
    vmwrite rax, rsp
1:
    test esi, esi
    # No flag changes from here to the entry.
    mov r15, [rdi + {r15}]
    mov r14, [rdi + {r14}]
    mov r13, [rdi + {r13}]
    mov r12, [rdi + {r12}]
    mov r11, [rdi + {r11}]
    mov r10, [rdi + {r10}]
    mov r9, [rdi + {r9}]
    mov r8, [rdi + {r8}]
    mov rbp, [rdi + {rbp}]
    mov rbx, [rdi + {rbx}]
    mov rcx, [rdi + {rcx}]
    mov rdx, [rdi + {rdx}]
    mov rsi, [rdi + {rsi}]
    mov rax, [rdi + {rax}]
    mov rdi, [rdi + {rdi}]
    jz 2f
    vmresume
    jmp 3f
2:
    vmlaunch
3:
    # Refused: the registers were the guest's already, and are as they were.
    mov eax, 1
    pop rdi
    jmp 4f

.balign 16
.global vmx_left
vmx_left:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi + {r15}], r15
    mov [rdi + {r14}], r14
    mov [rdi + {r13}], r13
    mov [rdi + {r12}], r12
    mov [rdi + {r11}], r11
    mov [rdi + {r10}], r10
    mov [rdi + {r9}], r9
    mov [rdi + {r8}], r8
    mov [rdi + {rbp}], rbp
    mov [rdi + {rbx}], rbx
    mov [rdi + {rcx}], rcx
    mov [rdi + {rdx}], rdx
    mov [rdi + {rsi}], rsi
    mov [rdi + {rax}], rax
    pop rax
    mov [rdi + {rdi}], rax
    pop rdi
    xor eax, eax
4:
    # Nothing of the guest stays in a register.
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
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
