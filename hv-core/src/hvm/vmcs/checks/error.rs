//! Why an instruction of VMX failed.

/// The number in `InstructionError` in words (Intel SDM vol. 3, 31.4).
#[must_use]
pub const fn instruction_error(number: u64) -> &'static str {
    match number {
        1 => "VMCALL by the host itself",
        2 => "VMCLEAR of what is no physical address of a page",
        3 => "VMCLEAR of the region of VMXON",
        4 => "VMLAUNCH of a VMCS that was launched already",
        5 => "VMRESUME of a VMCS that was not launched",
        6 => "VMRESUME of a VMCS launched before the last VMXOFF",
        7 => "entry with controls that the processor refuses",
        8 => "entry with a host state that the processor refuses",
        9 => "VMPTRLD of what is no physical address of a page",
        10 => "VMPTRLD of the region of VMXON",
        11 => "VMPTRLD of a page without this processor's revision",
        12 => "VMREAD or VMWRITE of a field that the processor does not have",
        13 => "VMWRITE to a field that only the processor writes",
        15 => "VMXON while VMX is on",
        16 => "entry with a bad pointer to the executive VMCS",
        17 => "entry with an executive VMCS that was not launched",
        18 => "entry with an executive VMCS that is not the region of VMXON",
        19 => "VMCALL into SMM of a VMCS that was launched already",
        20 => "VMCALL into SMM with controls of exits that the processor refuses",
        22 => "VMCALL into SMM with another revision of the monitor there",
        23 => "VMXOFF while SMM has a monitor of its own",
        24 => "VMCALL into SMM with features of the monitor that the processor refuses",
        25 => "entry with controls of the executive VMCS that the processor refuses",
        26 => "entry right behind a load of SS",
        28 => "INVEPT or INVVPID of a kind or an address that there is not",
        _ => "no error of the manual",
    }
}
