# The way into an AMD-V guest and back (Intel syntax; AMD APM vol. 2, 15.5 and 15.17).
#
# svm_enter(rdi = address of the guest's VMCB, rsi = that of this CPU's host VMCB, rdx = the guest's registers) is called
# like a function with interrupts off, and comes back with interrupts off.
#
# From CLGI to STGI nothing interrupts: no NMI, no machine check, no interrupt, so it does not matter that the registers
# are half the guest's. In between interrupts are on in RFLAGS, which VMRUN saves as the host's: so one that waits, or
# comes while the guest runs, is an exit (V_INTR_MASKING), not lost and not the guest's. The CPU does not acknowledge it:
# it waits on, until the caller turns interrupts on. An NMI is an exit too, and is taken right behind STGI.
#
# VMRUN switches CR0, CR3, CR4, EFER, CS, SS, DS, ES, GDTR, IDTR, RIP, RSP, RFLAGS and RAX by itself. FS, GS, TR, LDTR
# and the MSRs of SYSCALL and SYSENTER are the guest's between the VMLOADs.

.section .text.asm, "ax"
.code64

.balign 16
.global svm_enter
svm_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rsi
    push rdx
    mov rax, rdi
    clgi
    sti
    vmload rax
    mov r15, [rdx + {r15}]
    mov r14, [rdx + {r14}]
    mov r13, [rdx + {r13}]
    mov r12, [rdx + {r12}]
    mov r11, [rdx + {r11}]
    mov r10, [rdx + {r10}]
    mov r9, [rdx + {r9}]
    mov r8, [rdx + {r8}]
    mov rbp, [rdx + {rbp}]
    mov rbx, [rdx + {rbx}]
    mov rcx, [rdx + {rcx}]
    mov rsi, [rdx + {rsi}]
    mov rdi, [rdx + {rdi}]
    mov rdx, [rdx + {rdx}]
    vmrun rax
    # rax and rsp are ours again; the guest's are in its VMCB.
    vmsave rax
    pop rax
    mov [rax + {r15}], r15
    mov [rax + {r14}], r14
    mov [rax + {r13}], r13
    mov [rax + {r12}], r12
    mov [rax + {r11}], r11
    mov [rax + {r10}], r10
    mov [rax + {r9}], r9
    mov [rax + {r8}], r8
    mov [rax + {rbp}], rbp
    mov [rax + {rbx}], rbx
    mov [rax + {rcx}], rcx
    mov [rax + {rdx}], rdx
    mov [rax + {rsi}], rsi
    mov [rax + {rdi}], rdi
    pop rax
    vmload rax
    # Nothing of the guest stays in a register.
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    cli
    stgi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
