//! Every numeric constant, by module of the crate.

use crate::Constant;

/// Rows are names; `name = "C expression"` where C has no such name.
macro_rules! constants {
    ($($module:ident { $($name:ident $(= $c:literal)?)* })*) => {
        /// The table.
        pub fn rows() -> Vec<Constant> {
            vec![$($(Constant {
                c: String::from([$($c,)? stringify!($name)][0]),
                module: stringify!($module),
                name: stringify!($name),
                value: xen_abi::$module::$name as i128,
            },)*)*]
        }
    };
}

constants! {
    arch_x86 {
        HYPERVISOR_VIRT_START HYPERVISOR_VIRT_END MACH2PHYS_VIRT_START MACH2PHYS_VIRT_END
            MACH2PHYS_NR_ENTRIES FLAT_RING3_CS32 FLAT_RING3_CS64 FLAT_RING3_DS32 FLAT_RING3_DS64
            FLAT_RING3_SS32 FLAT_RING3_SS64 FLAT_KERNEL_CS FLAT_KERNEL_CS32 FLAT_KERNEL_CS64
            FLAT_KERNEL_DS FLAT_KERNEL_DS32 FLAT_KERNEL_DS64 FLAT_KERNEL_SS FLAT_KERNEL_SS32
            FLAT_KERNEL_SS64 FLAT_USER_CS FLAT_USER_CS32 FLAT_USER_CS64 FLAT_USER_DS FLAT_USER_DS32
            FLAT_USER_DS64 FLAT_USER_SS FLAT_USER_SS32 FLAT_USER_SS64 FIRST_RESERVED_GDT_PAGE
            FIRST_RESERVED_GDT_BYTE FIRST_RESERVED_GDT_ENTRY XEN_LEGACY_MAX_VCPUS
            XEN_HVM_DEBUGCONS_IOPORT VGCF_in_syscall VGCF_i387_valid VGCF_in_kernel
            VGCF_failsafe_disables_events VGCF_syscall_disables_events VGCF_online XEN_X86_EMU_LAPIC
            XEN_X86_EMU_HPET XEN_X86_EMU_PM XEN_X86_EMU_RTC XEN_X86_EMU_IOAPIC XEN_X86_EMU_PIC
            XEN_X86_EMU_VGA XEN_X86_EMU_IOMMU XEN_X86_EMU_PIT XEN_X86_EMU_USE_PIRQ XEN_X86_EMU_VPCI
            XEN_X86_EMU_ALL XEN_X86_MSR_RELAXED XEN_X86_MISC_FLAGS_MAX XEN_CPUID_NO_SUBLEAF
    }
    callback {
        CALLBACKOP_register CALLBACKOP_unregister CALLBACKTYPE_event CALLBACKTYPE_failsafe
            CALLBACKTYPE_syscall CALLBACKTYPE_sysenter_deprecated CALLBACKTYPE_nmi
            CALLBACKTYPE_sysenter CALLBACKTYPE_syscall32 CALLBACKF_mask_events
    }
    cpuid {
        XEN_CPUID_FIRST_LEAF XEN_CPUID_SIGNATURE_EBX XEN_CPUID_SIGNATURE_ECX
            XEN_CPUID_SIGNATURE_EDX XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD
            XEN_HVM_CPUID_APIC_ACCESS_VIRT XEN_HVM_CPUID_X2APIC_VIRT XEN_HVM_CPUID_IOMMU_MAPPINGS
            XEN_HVM_CPUID_VCPU_ID_PRESENT XEN_HVM_CPUID_DOMID_PRESENT XEN_HVM_CPUID_EXT_DEST_ID
            XEN_HVM_CPUID_UPCALL_VECTOR XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK
            XEN_CPUID_MAX_NUM_LEAVES
    }
    domctl {
        XEN_DOMCTL_INTERFACE_VERSION XEN_DOMCTL_createdomain XEN_DOMCTL_destroydomain
            XEN_DOMCTL_pausedomain XEN_DOMCTL_unpausedomain XEN_DOMCTL_getdomaininfo
            XEN_DOMCTL_setvcpuaffinity XEN_DOMCTL_shadow_op XEN_DOMCTL_max_mem
            XEN_DOMCTL_setvcpucontext XEN_DOMCTL_getvcpucontext XEN_DOMCTL_getvcpuinfo
            XEN_DOMCTL_max_vcpus XEN_DOMCTL_scheduler_op XEN_DOMCTL_setdomainhandle
            XEN_DOMCTL_setdebugging XEN_DOMCTL_irq_permission XEN_DOMCTL_iomem_permission
            XEN_DOMCTL_ioport_permission XEN_DOMCTL_hypercall_init XEN_DOMCTL_settimeoffset
            XEN_DOMCTL_getvcpuaffinity XEN_DOMCTL_real_mode_area XEN_DOMCTL_resumedomain
            XEN_DOMCTL_sendtrigger XEN_DOMCTL_subscribe XEN_DOMCTL_gethvmcontext
            XEN_DOMCTL_sethvmcontext XEN_DOMCTL_set_address_size XEN_DOMCTL_get_address_size
            XEN_DOMCTL_assign_device XEN_DOMCTL_bind_pt_irq XEN_DOMCTL_memory_mapping
            XEN_DOMCTL_ioport_mapping XEN_DOMCTL_set_ext_vcpucontext XEN_DOMCTL_get_ext_vcpucontext
            XEN_DOMCTL_set_opt_feature XEN_DOMCTL_test_assign_device XEN_DOMCTL_set_target
            XEN_DOMCTL_deassign_device XEN_DOMCTL_unbind_pt_irq XEN_DOMCTL_get_device_group
            XEN_DOMCTL_debug_op XEN_DOMCTL_gethvmcontext_partial XEN_DOMCTL_vm_event_op
            XEN_DOMCTL_mem_sharing_op XEN_DOMCTL_gettscinfo XEN_DOMCTL_settscinfo
            XEN_DOMCTL_getpageframeinfo3 XEN_DOMCTL_setvcpuextstate XEN_DOMCTL_getvcpuextstate
            XEN_DOMCTL_set_access_required XEN_DOMCTL_audit_p2m XEN_DOMCTL_set_virq_handler
            XEN_DOMCTL_set_broken_page_p2m XEN_DOMCTL_setnodeaffinity XEN_DOMCTL_getnodeaffinity
            XEN_DOMCTL_cacheflush XEN_DOMCTL_get_vcpu_msrs XEN_DOMCTL_set_vcpu_msrs
            XEN_DOMCTL_setvnumainfo XEN_DOMCTL_psr_cmt_op XEN_DOMCTL_monitor_op XEN_DOMCTL_psr_alloc
            XEN_DOMCTL_soft_reset XEN_DOMCTL_vuart_op XEN_DOMCTL_get_cpu_policy
            XEN_DOMCTL_set_cpu_policy XEN_DOMCTL_vmtrace_op XEN_DOMCTL_get_paging_mempool_size
            XEN_DOMCTL_set_paging_mempool_size XEN_DOMCTL_gdbsx_guestmemio
            XEN_DOMCTL_gdbsx_pausevcpu XEN_DOMCTL_gdbsx_unpausevcpu XEN_DOMCTL_gdbsx_domstatus
            XEN_DOMCTL_CDF_hvm XEN_DOMCTL_CDF_hap XEN_DOMCTL_CDF_s3_integrity XEN_DOMCTL_CDF_oos_off
            XEN_DOMCTL_CDF_xs_domain XEN_DOMCTL_CDF_iommu XEN_DOMCTL_CDF_nested_virt
            XEN_DOMCTL_CDF_vpmu XEN_DOMCTL_CDF_MAX XEN_DOMCTL_IOMMU_no_sharept XEN_DOMCTL_IOMMU_MAX
            XEN_DOMCTL_GRANT_version_mask XEN_DOMINF_dying XEN_DOMINF_hvm_guest XEN_DOMINF_shutdown
            XEN_DOMINF_paused XEN_DOMINF_blocked XEN_DOMINF_running XEN_DOMINF_debugged
            XEN_DOMINF_xs_domain XEN_DOMINF_hap XEN_DOMINF_shutdownmask XEN_DOMINF_shutdownshift
            XEN_INVALID_MAX_VCPU_ID XEN_VCPUAFFINITY_HARD XEN_VCPUAFFINITY_SOFT
            XEN_VCPUAFFINITY_FORCE XEN_DOMCTL_SENDTRIGGER_NMI XEN_DOMCTL_SENDTRIGGER_RESET
            XEN_DOMCTL_SENDTRIGGER_INIT XEN_DOMCTL_SENDTRIGGER_POWER XEN_DOMCTL_SENDTRIGGER_SLEEP
            XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_ON
            XEN_SCHEDULER_CREDIT XEN_SCHEDULER_CREDIT2 XEN_SCHEDULER_ARINC653 XEN_SCHEDULER_RTDS
            XEN_SCHEDULER_NULL XEN_DOMCTL_SCHEDOP_putinfo XEN_DOMCTL_SCHEDOP_getinfo
            XEN_DOMCTL_SCHEDOP_putvcpuinfo XEN_DOMCTL_SCHEDOP_getvcpuinfo XEN_DOMCTL_SCHEDRT_extra
            XEN_DOMCTL_PFINFO_LTAB_SHIFT XEN_DOMCTL_PFINFO_NOTAB XEN_DOMCTL_PFINFO_L1TAB
            XEN_DOMCTL_PFINFO_L2TAB XEN_DOMCTL_PFINFO_L3TAB XEN_DOMCTL_PFINFO_L4TAB
            XEN_DOMCTL_PFINFO_LTABTYPE_MASK XEN_DOMCTL_PFINFO_LPINTAB XEN_DOMCTL_PFINFO_XTAB
            XEN_DOMCTL_PFINFO_XALLOC XEN_DOMCTL_PFINFO_BROKEN XEN_DOMCTL_PFINFO_LTAB_MASK
            XEN_DOMCTL_SHADOW_OP_OFF XEN_DOMCTL_SHADOW_OP_ENABLE XEN_DOMCTL_SHADOW_OP_CLEAN
            XEN_DOMCTL_SHADOW_OP_PEEK XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION
            XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION XEN_DOMCTL_SHADOW_OP_ENABLE_TEST
            XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT
            XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE
            XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL DPCI_ADD_MAPPING
            DPCI_REMOVE_MAPPING XEN_DOMCTL_DEV_PCI XEN_DOMCTL_DEV_DT XEN_DOMCTL_DEV_RDM_RELAXED
            PT_IRQ_TYPE_PCI PT_IRQ_TYPE_ISA PT_IRQ_TYPE_MSI PT_IRQ_TYPE_MSI_TRANSLATE
            PT_IRQ_TYPE_SPI XEN_DOMCTL_VMSI_X86_DEST_ID_MASK XEN_DOMCTL_VMSI_X86_RH_MASK
            XEN_DOMCTL_VMSI_X86_DM_MASK XEN_DOMCTL_VMSI_X86_DELIV_MASK XEN_DOMCTL_VMSI_X86_TRIG_MASK
            XEN_DOMCTL_VMSI_X86_UNMASKED
    }
    elfnote {
        XEN_ELFNOTE_INFO XEN_ELFNOTE_ENTRY XEN_ELFNOTE_HYPERCALL_PAGE XEN_ELFNOTE_VIRT_BASE
            XEN_ELFNOTE_PADDR_OFFSET XEN_ELFNOTE_XEN_VERSION XEN_ELFNOTE_GUEST_OS
            XEN_ELFNOTE_GUEST_VERSION XEN_ELFNOTE_LOADER XEN_ELFNOTE_PAE_MODE XEN_ELFNOTE_FEATURES
            XEN_ELFNOTE_BSD_SYMTAB XEN_ELFNOTE_HV_START_LOW XEN_ELFNOTE_L1_MFN_VALID
            XEN_ELFNOTE_SUSPEND_CANCEL XEN_ELFNOTE_INIT_P2M XEN_ELFNOTE_MOD_START_PFN
            XEN_ELFNOTE_SUPPORTED_FEATURES XEN_ELFNOTE_PHYS32_ENTRY XEN_ELFNOTE_MAX
            XEN_ELFNOTE_CRASH_INFO XEN_ELFNOTE_CRASH_REGS XEN_ELFNOTE_DUMPCORE_NONE
            XEN_ELFNOTE_DUMPCORE_HEADER XEN_ELFNOTE_DUMPCORE_XEN_VERSION
            XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION
    }
    event_channel {
        EVTCHNOP_bind_interdomain EVTCHNOP_bind_virq EVTCHNOP_bind_pirq EVTCHNOP_close
            EVTCHNOP_send EVTCHNOP_status EVTCHNOP_alloc_unbound EVTCHNOP_bind_ipi
            EVTCHNOP_bind_vcpu EVTCHNOP_unmask EVTCHNOP_reset EVTCHNOP_init_control
            EVTCHNOP_expand_array EVTCHNOP_set_priority EVTCHNSTAT_closed EVTCHNSTAT_unbound
            EVTCHNSTAT_interdomain EVTCHNSTAT_pirq EVTCHNSTAT_virq EVTCHNSTAT_ipi
            BIND_PIRQ__WILL_SHARE EVTCHN_2L_NR_CHANNELS EVTCHN_FIFO_PRIORITY_MAX
            EVTCHN_FIFO_PRIORITY_DEFAULT EVTCHN_FIFO_PRIORITY_MIN EVTCHN_FIFO_MAX_QUEUES
            EVTCHN_FIFO_PENDING EVTCHN_FIFO_MASKED EVTCHN_FIFO_LINKED EVTCHN_FIFO_BUSY
            EVTCHN_FIFO_LINK_BITS EVTCHN_FIFO_LINK_MASK EVTCHN_FIFO_NR_CHANNELS
    }
    features {
        XENFEAT_writable_page_tables XENFEAT_writable_descriptor_tables
            XENFEAT_auto_translated_physmap XENFEAT_supervisor_mode_kernel
            XENFEAT_pae_pgdir_above_4gb XENFEAT_mmu_pt_update_preserve_ad XENFEAT_highmem_assist
            XENFEAT_gnttab_map_avail_bits XENFEAT_hvm_callback_vector XENFEAT_hvm_safe_pvclock
            XENFEAT_hvm_pirqs XENFEAT_dom0 XENFEAT_memory_op_vnode_supported
            XENFEAT_ARM_SMCCC_supported XENFEAT_linux_rsdp_unrestricted XENFEAT_not_direct_mapped
            XENFEAT_direct_mapped XENFEAT_NR_SUBMAPS
    }
    grant_table {
        GNTTABOP_map_grant_ref GNTTABOP_unmap_grant_ref GNTTABOP_setup_table GNTTABOP_dump_table
            GNTTABOP_transfer GNTTABOP_copy GNTTABOP_query_size GNTTABOP_unmap_and_replace
            GNTTABOP_set_version GNTTABOP_get_status_frames GNTTABOP_get_version
            GNTTABOP_swap_grant_ref GNTTABOP_cache_flush GNTTAB_NR_RESERVED_ENTRIES
            GNTTAB_RESERVED_CONSOLE GNTTAB_RESERVED_XENSTORE GTF_invalid GTF_permit_access
            GTF_accept_transfer GTF_transitive GTF_type_mask GTF_readonly GTF_reading GTF_writing
            GTF_PWT GTF_PCD GTF_PAT GTF_sub_page GTF_transfer_committed GTF_transfer_completed
            GNTMAP_device_map GNTMAP_host_map GNTMAP_readonly GNTMAP_application_map
            GNTMAP_contains_pte _GNTMAP_guest_avail0 GNTMAP_guest_avail_mask GNTCOPY_source_gref
            GNTCOPY_dest_gref GNTTAB_CACHE_CLEAN GNTTAB_CACHE_INVAL GNTTAB_CACHE_SOURCE_GREF
            GNTST_okay GNTST_general_error GNTST_bad_domain GNTST_bad_gntref GNTST_bad_handle
            GNTST_bad_virt_addr GNTST_bad_dev_addr GNTST_no_device_space GNTST_permission_denied
            GNTST_bad_page GNTST_bad_copy_arg GNTST_address_too_big GNTST_eagain GNTST_no_space
    }
    hvm_op {
        HVMOP_set_param HVMOP_get_param HVMOP_flush_tlbs HVMOP_pagetable_dying HVMOP_get_time
            HVMOP_xentrace HVMOP_set_mem_access HVMOP_get_mem_access HVMOP_get_mem_type
            HVMOP_set_evtchn_upcall_vector HVMOP_guest_request_vm_event HVMOP_altp2m
            HVM_PARAM_CALLBACK_IRQ HVM_PARAM_STORE_PFN HVM_PARAM_STORE_EVTCHN HVM_PARAM_PAE_ENABLED
            HVM_PARAM_IOREQ_PFN HVM_PARAM_BUFIOREQ_PFN HVM_PARAM_VIRIDIAN HVM_PARAM_TIMER_MODE
            HVM_PARAM_HPET_ENABLED HVM_PARAM_IDENT_PT HVM_PARAM_DM_DOMAIN HVM_PARAM_ACPI_S_STATE
            HVM_PARAM_VM86_TSS HVM_PARAM_VPT_ALIGN HVM_PARAM_CONSOLE_PFN HVM_PARAM_CONSOLE_EVTCHN
            HVM_PARAM_ACPI_IOPORTS_LOCATION HVM_PARAM_NESTEDHVM HVM_PARAM_BUFIOREQ_EVTCHN
            HVM_PARAM_PAGING_RING_PFN HVM_PARAM_MONITOR_RING_PFN HVM_PARAM_SHARING_RING_PFN
            HVM_PARAM_TRIPLE_FAULT_REASON HVM_PARAM_IOREQ_SERVER_PFN HVM_PARAM_NR_IOREQ_SERVER_PAGES
            HVM_PARAM_VM_GENERATION_ID_ADDR HVM_PARAM_ALTP2M HVM_PARAM_X87_FIP_WIDTH
            HVM_PARAM_VM86_TSS_SIZED HVM_PARAM_MCA_CAP HVM_NR_PARAMS HVMMEM_ram_rw HVMMEM_ram_ro HVMMEM_mmio_dm HVMPTM_delay_for_missed_ticks HVMPTM_one_missed_tick_pending XEN_ALTP2M_disabled
            HVM_PARAM_CALLBACK_IRQ_TYPE_MASK HVM_PARAM_CALLBACK_TYPE_GSI
            HVM_PARAM_CALLBACK_TYPE_PCI_INTX HVM_PARAM_CALLBACK_TYPE_VECTOR
    }
    hvm_start_info {
        XEN_HVM_START_MAGIC_VALUE XEN_HVM_MEMMAP_TYPE_RAM XEN_HVM_MEMMAP_TYPE_RESERVED
            XEN_HVM_MEMMAP_TYPE_ACPI XEN_HVM_MEMMAP_TYPE_NVS XEN_HVM_MEMMAP_TYPE_UNUSABLE
            XEN_HVM_MEMMAP_TYPE_DISABLED XEN_HVM_MEMMAP_TYPE_PMEM
    }
    hypercall {
        __HYPERVISOR_set_trap_table __HYPERVISOR_mmu_update __HYPERVISOR_set_gdt
            __HYPERVISOR_stack_switch __HYPERVISOR_set_callbacks __HYPERVISOR_fpu_taskswitch
            __HYPERVISOR_sched_op_compat __HYPERVISOR_platform_op __HYPERVISOR_set_debugreg
            __HYPERVISOR_get_debugreg __HYPERVISOR_update_descriptor __HYPERVISOR_memory_op
            __HYPERVISOR_multicall __HYPERVISOR_update_va_mapping __HYPERVISOR_set_timer_op
            __HYPERVISOR_event_channel_op_compat __HYPERVISOR_xen_version __HYPERVISOR_console_io
            __HYPERVISOR_physdev_op_compat __HYPERVISOR_grant_table_op __HYPERVISOR_vm_assist
            __HYPERVISOR_update_va_mapping_otherdomain __HYPERVISOR_iret __HYPERVISOR_vcpu_op
            __HYPERVISOR_set_segment_base __HYPERVISOR_mmuext_op __HYPERVISOR_xsm_op
            __HYPERVISOR_nmi_op __HYPERVISOR_sched_op __HYPERVISOR_callback_op
            __HYPERVISOR_xenoprof_op __HYPERVISOR_event_channel_op __HYPERVISOR_physdev_op
            __HYPERVISOR_hvm_op __HYPERVISOR_sysctl __HYPERVISOR_domctl __HYPERVISOR_kexec_op
            __HYPERVISOR_tmem_op __HYPERVISOR_argo_op __HYPERVISOR_xenpmu_op __HYPERVISOR_dm_op
            __HYPERVISOR_hypfs_op __HYPERVISOR_arch_0 __HYPERVISOR_arch_1 __HYPERVISOR_arch_2
            __HYPERVISOR_arch_3 __HYPERVISOR_arch_4 __HYPERVISOR_arch_5 __HYPERVISOR_arch_6
            __HYPERVISOR_arch_7 __HYPERVISOR_mca
    }
    hvm_save {
        HVM_SAVE_CODE_END = "HVM_SAVE_CODE(END)"
        HVM_SAVE_CODE_HEADER = "HVM_SAVE_CODE(HEADER)"
        HVM_SAVE_CODE_CPU = "HVM_SAVE_CODE(CPU)"
        HVM_SAVE_CODE_PIC = "HVM_SAVE_CODE(PIC)"
        HVM_SAVE_CODE_IOAPIC = "HVM_SAVE_CODE(IOAPIC)"
        HVM_SAVE_CODE_LAPIC = "HVM_SAVE_CODE(LAPIC)"
        HVM_SAVE_CODE_LAPIC_REGS = "HVM_SAVE_CODE(LAPIC_REGS)"
        HVM_SAVE_CODE_PCI_IRQ = "HVM_SAVE_CODE(PCI_IRQ)"
        HVM_SAVE_CODE_ISA_IRQ = "HVM_SAVE_CODE(ISA_IRQ)"
        HVM_SAVE_CODE_PCI_LINK = "HVM_SAVE_CODE(PCI_LINK)"
        HVM_SAVE_CODE_PIT = "HVM_SAVE_CODE(PIT)"
        HVM_SAVE_CODE_RTC = "HVM_SAVE_CODE(RTC)"
        HVM_SAVE_CODE_HPET = "HVM_SAVE_CODE(HPET)"
        HVM_SAVE_CODE_PMTIMER = "HVM_SAVE_CODE(PMTIMER)"
        HVM_SAVE_CODE_MTRR = "HVM_SAVE_CODE(MTRR)"
        HVM_SAVE_CODE_VIRIDIAN_DOMAIN = "HVM_SAVE_CODE(VIRIDIAN_DOMAIN)"
        HVM_SAVE_CODE_VIRIDIAN_VCPU = "HVM_SAVE_CODE(VIRIDIAN_VCPU)"
        HVM_SAVE_CODE_VMCE_VCPU = "HVM_SAVE_CODE(VMCE_VCPU)"
        HVM_SAVE_CODE_TSC_ADJUST = "HVM_SAVE_CODE(TSC_ADJUST)"
        CPU_XSAVE_CODE
        CPU_MSR_CODE
        HVM_SAVE_CODE_MAX
        XEN_X86_FPU_INITIALISED
        MTRR_VCNT
        NUM_FIXED_MSR
        HVM_FILE_MAGIC
        HVM_FILE_VERSION
    }
    hvm_vcpu {
        VCPU_HVM_MODE_32B VCPU_HVM_MODE_64B
    }
    hypfs {
        XEN_HYPFS_VERSION XEN_HYPFS_OP_get_version XEN_HYPFS_OP_read XEN_HYPFS_OP_write_contents
            XEN_HYPFS_MAX_PATHLEN XEN_HYPFS_TYPE_DIR XEN_HYPFS_TYPE_BLOB XEN_HYPFS_TYPE_STRING
            XEN_HYPFS_TYPE_UINT XEN_HYPFS_TYPE_INT XEN_HYPFS_TYPE_BOOL XEN_HYPFS_ENC_PLAIN
            XEN_HYPFS_ENC_GZIP
    }
    io_xs_wire {
        XS_CONTROL XS_DIRECTORY XS_READ XS_GET_PERMS XS_WATCH XS_UNWATCH XS_TRANSACTION_START
            XS_TRANSACTION_END XS_INTRODUCE XS_RELEASE XS_GET_DOMAIN_PATH XS_WRITE XS_MKDIR XS_RM
            XS_SET_PERMS XS_WATCH_EVENT XS_ERROR XS_IS_DOMAIN_INTRODUCED XS_RESUME XS_SET_TARGET
            XS_RESET_WATCHES XS_DIRECTORY_PART XS_TYPE_COUNT XS_INVALID
            XENSTORE_SERVER_FEATURE_RECONNECTION XENSTORE_SERVER_FEATURE_ERROR XENSTORE_CONNECTED
            XENSTORE_RECONNECT XENSTORE_ERROR_NONE XENSTORE_ERROR_COMM XENSTORE_ERROR_RINGIDX
            XENSTORE_ERROR_PROTO XENSTORE_RING_SIZE XENSTORE_PAYLOAD_MAX XENSTORE_ABS_PATH_MAX
            XENSTORE_REL_PATH_MAX
    }
    kexec {
        KEXEC_CMD_kexec KEXEC_CMD_kexec_load_v1 KEXEC_CMD_kexec_unload_v1 KEXEC_CMD_kexec_get_range
            KEXEC_CMD_kexec_load KEXEC_CMD_kexec_unload KEXEC_CMD_kexec_status KEXEC_RANGE_MA_CRASH
            KEXEC_RANGE_MA_XEN KEXEC_RANGE_MA_CPU KEXEC_RANGE_MA_XENHEAP KEXEC_RANGE_MA_BOOT_PARAM
            KEXEC_RANGE_MA_EFI_MEMMAP KEXEC_RANGE_MA_VMCOREINFO KEXEC_TYPE_DEFAULT KEXEC_TYPE_CRASH
    }
    mca {
        XEN_MCA_INTERFACE_VERSION XEN_MC_NONURGENT XEN_MC_URGENT XEN_MC_ACK XEN_MC_OK
            XEN_MC_FETCHFAILED XEN_MC_NODATA XEN_MC_NOMATCH XEN_MC_CANNOTHANDLE XEN_MC_NOTDELIVERED
            XEN_MC_fetch XEN_MC_notifydomain XEN_MC_physcpuinfo XEN_MC_msrinject XEN_MC_mceinject
            XEN_MC_inject_v2 MC_NCAPS MCINFO_MAXSIZE
            MCINFO_WORDS = "sizeof(((struct mc_info *)0)->mi_data) / 8" XEN_MC_VCPUID_INVALID
            MC_TYPE_GLOBAL MC_TYPE_BANK MC_FLAG_CORRECTABLE MC_FLAG_UNCORRECTABLE
            MC_FLAG_RECOVERABLE MC_FLAG_POLLED MC_FLAG_RESET MC_FLAG_MCE
    }
    memory {
        XENMEM_increase_reservation XENMEM_decrease_reservation XENMEM_maximum_ram_page
            XENMEM_current_reservation XENMEM_maximum_reservation XENMEM_machphys_mfn_list
            XENMEM_populate_physmap XENMEM_add_to_physmap XENMEM_memory_map
            XENMEM_machine_memory_map XENMEM_exchange XENMEM_machphys_mapping XENMEM_set_memory_map
            XENMEM_maximum_gpfn XENMEM_remove_from_physmap XENMEM_set_pod_target
            XENMEM_get_pod_target XENMEM_get_sharing_freed_pages XENMEM_get_sharing_shared_pages
            XENMEM_paging_op XENMEM_access_op XENMEM_sharing_op XENMEM_add_to_physmap_batch
            XENMEM_claim_pages XENMEM_machphys_compat_mfn_list XENMEM_get_vnumainfo
            XENMEM_reserved_device_memory_map XENMEM_acquire_resource XENMEMF_populate_on_demand
            XENMEMF_exact_node_request XENMEMF_vnode XENMAPSPACE_shared_info XENMAPSPACE_grant_table
            XENMAPSPACE_gmfn XENMAPSPACE_gmfn_range XENMAPSPACE_gmfn_foreign XENMAPSPACE_dev_mmio
            XENMAPIDX_grant_table_status XENMEM_resource_ioreq_server XENMEM_resource_grant_table
            XENMEM_resource_vmtrace_buf XENMEM_resource_grant_table_id_shared
            XENMEM_resource_grant_table_id_status XENMEM_resource_ioreq_server_frame_bufioreq
            XENMEM_RDM_ALL XENMEM_paging_op_nominate XENMEM_paging_op_evict XENMEM_paging_op_prep
            XENMEM_access_op_set_access XENMEM_access_op_get_access
            XENMEM_access_op_set_access_multi XENMEM_access_n XENMEM_access_r XENMEM_access_w
            XENMEM_access_rw XENMEM_access_x XENMEM_access_rx XENMEM_access_wx XENMEM_access_rwx
            XENMEM_access_rx2rw XENMEM_access_n2rwx XENMEM_access_default
            XENMEM_sharing_op_nominate_gfn XENMEM_sharing_op_nominate_gref XENMEM_sharing_op_share
            XENMEM_sharing_op_debug_gfn XENMEM_sharing_op_debug_mfn XENMEM_sharing_op_debug_gref
            XENMEM_sharing_op_add_physmap XENMEM_sharing_op_audit XENMEM_sharing_op_range_share
            XENMEM_sharing_op_fork XENMEM_sharing_op_fork_reset
    }
    nmi {
        XENNMI_register_callback XENNMI_unregister_callback XEN_NMIREASON_io_error
            XEN_NMIREASON_pci_serr XEN_NMIREASON_unknown
    }
    physdev {
        PHYSDEVOP_IRQ_UNMASK_NOTIFY PHYSDEVOP_irq_status_query PHYSDEVOP_set_iopl
            PHYSDEVOP_set_iobitmap PHYSDEVOP_apic_read PHYSDEVOP_apic_write
            PHYSDEVOP_alloc_irq_vector PHYSDEVOP_free_irq_vector PHYSDEVOP_eoi PHYSDEVOP_map_pirq
            PHYSDEVOP_unmap_pirq PHYSDEVOP_manage_pci_add PHYSDEVOP_manage_pci_remove
            PHYSDEVOP_pirq_eoi_gmfn_v1 PHYSDEVOP_restore_msi PHYSDEVOP_manage_pci_add_ext
            PHYSDEVOP_setup_gsi PHYSDEVOP_get_free_pirq PHYSDEVOP_pci_mmcfg_reserved
            PHYSDEVOP_pci_device_add PHYSDEVOP_pci_device_remove PHYSDEVOP_restore_msi_ext
            PHYSDEVOP_pirq_eoi_gmfn_v2 PHYSDEVOP_dbgp_op PHYSDEVOP_prepare_msix
            PHYSDEVOP_release_msix XENIRQSTAT_needs_eoi XENIRQSTAT_shared MAP_PIRQ_TYPE_MSI
            MAP_PIRQ_TYPE_GSI MAP_PIRQ_TYPE_UNKNOWN MAP_PIRQ_TYPE_MSI_SEG MAP_PIRQ_TYPE_MULTI_MSI
            XEN_PCI_MMCFG_RESERVED XEN_PCI_DEV_EXTFN XEN_PCI_DEV_VIRTFN XEN_PCI_DEV_PXM
            PHYSDEVOP_DBGP_RESET_PREPARE PHYSDEVOP_DBGP_RESET_DONE PHYSDEVOP_DBGP_BUS_UNKNOWN
            PHYSDEVOP_DBGP_BUS_PCI
    }
    platform {
        XENPF_INTERFACE_VERSION XENPF_settime32 XENPF_add_memtype XENPF_del_memtype
            XENPF_read_memtype XENPF_microcode_update XENPF_platform_quirk XENPF_get_cpu_version
            XENPF_efi_runtime_call XENPF_firmware_info XENPF_enter_acpi_sleep XENPF_change_freq
            XENPF_getidletime XENPF_set_processor_pminfo XENPF_get_cpuinfo XENPF_cpu_online
            XENPF_cpu_offline XENPF_cpu_hotadd XENPF_mem_hotadd XENPF_core_parking XENPF_resource_op
            XENPF_settime64 XENPF_get_symbol QUIRK_NOIRQBALANCING QUIRK_IOAPIC_BAD_REGSEL
            QUIRK_IOAPIC_GOOD_REGSEL XEN_FW_DISK_INFO XEN_FW_DISK_MBR_SIGNATURE XEN_FW_VBEDDC_INFO
            XEN_FW_EFI_INFO XEN_FW_KBD_SHIFT_FLAGS XEN_FW_EFI_VERSION XEN_FW_EFI_CONFIG_TABLE
            XEN_FW_EFI_VENDOR XEN_FW_EFI_MEM_INFO XEN_FW_EFI_RT_VERSION XEN_FW_EFI_PCI_ROM
            XEN_FW_EFI_APPLE_PROPERTIES XEN_EFI_get_time XEN_EFI_set_time XEN_EFI_get_wakeup_time
            XEN_EFI_set_wakeup_time XEN_EFI_get_next_high_monotonic_count XEN_EFI_get_variable
            XEN_EFI_set_variable XEN_EFI_get_next_variable_name XEN_EFI_query_variable_info
            XEN_EFI_query_capsule_capabilities XEN_EFI_update_capsule XENPF_ACPI_SLEEP_EXTENDED
            XEN_PM_CX XEN_PM_PX XEN_PM_TX XEN_PM_PDC XEN_PX_PCT XEN_PX_PSS XEN_PX_PPC XEN_PX_PSD
            XEN_PCPU_FLAGS_ONLINE XEN_PCPU_FLAGS_INVALID XEN_CORE_PARKING_SET XEN_CORE_PARKING_GET
            XEN_RESOURCE_OP_MSR_READ XEN_RESOURCE_OP_MSR_WRITE
    }
    sched {
        SCHEDOP_yield SCHEDOP_block SCHEDOP_shutdown SCHEDOP_poll SCHEDOP_remote_shutdown
            SCHEDOP_shutdown_code SCHEDOP_watchdog SCHEDOP_pin_override SHUTDOWN_poweroff
            SHUTDOWN_reboot SHUTDOWN_suspend SHUTDOWN_crash SHUTDOWN_watchdog SHUTDOWN_soft_reset
            SHUTDOWN_MAX
    }
    start_info {
        SIF_PRIVILEGED SIF_INITDOMAIN SIF_MULTIBOOT_MOD SIF_MOD_START_PFN SIF_VIRT_P2M_4TOOLS
            SIF_PM_MASK MAX_GUEST_CMDLINE XEN_VGATYPE_TEXT_MODE_3 XEN_VGATYPE_VESA_LFB
            XEN_VGATYPE_EFI_LFB
    }
    sysctl {
        XEN_SYSCTL_INTERFACE_VERSION XEN_SYSCTL_readconsole XEN_SYSCTL_tbuf_op XEN_SYSCTL_physinfo
            XEN_SYSCTL_sched_id XEN_SYSCTL_perfc_op XEN_SYSCTL_getdomaininfolist
            XEN_SYSCTL_CX_UNLIMITED XEN_SYSCTL_debug_keys XEN_SYSCTL_getcpuinfo XEN_SYSCTL_availheap XEN_SYSCTL_get_pmstat
            XEN_SYSCTL_cpu_hotplug XEN_SYSCTL_pm_op XEN_SYSCTL_page_offline_op
            XEN_SYSCTL_lockprof_op XEN_SYSCTL_cputopoinfo XEN_SYSCTL_numainfo XEN_SYSCTL_cpupool_op
            XEN_SYSCTL_scheduler_op XEN_SYSCTL_coverage_op XEN_SYSCTL_psr_cmt_op
            XEN_SYSCTL_pcitopoinfo XEN_SYSCTL_psr_alloc XEN_SYSCTL_get_cpu_levelling_caps
            XEN_SYSCTL_get_cpu_featureset XEN_SYSCTL_livepatch_op XEN_SYSCTL_get_cpu_policy
            XEN_SYSCTL_TBUFOP_get_info XEN_SYSCTL_TBUFOP_set_cpu_mask XEN_SYSCTL_TBUFOP_set_evt_mask
            XEN_SYSCTL_TBUFOP_set_size XEN_SYSCTL_TBUFOP_enable XEN_SYSCTL_TBUFOP_disable
            XEN_SYSCTL_PHYSCAP_hvm XEN_SYSCTL_PHYSCAP_pv XEN_SYSCTL_PHYSCAP_directio
            XEN_SYSCTL_PHYSCAP_hap XEN_SYSCTL_PHYSCAP_shadow XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share
            XEN_SYSCTL_PHYSCAP_vmtrace XEN_SYSCTL_PHYSCAP_vpmu XEN_SYSCTL_PHYSCAP_gnttab_v1
            XEN_SYSCTL_PHYSCAP_gnttab_v2 XEN_SYSCTL_PHYSCAP_MAX XEN_INVALID_CORE_ID
            XEN_INVALID_SOCKET_ID XEN_INVALID_NODE_ID XEN_INVALID_DEV XEN_INVALID_NODE_DIST
            XEN_SYSCTL_CPUPOOL_OP_CREATE XEN_SYSCTL_CPUPOOL_OP_DESTROY XEN_SYSCTL_CPUPOOL_OP_INFO
            XEN_SYSCTL_CPUPOOL_OP_ADDCPU XEN_SYSCTL_CPUPOOL_OP_RMCPU
            XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN XEN_SYSCTL_CPUPOOL_OP_FREEINFO
            XEN_SYSCTL_CPUPOOL_PAR_ANY XEN_SYSCTL_SCHEDOP_putinfo XEN_SYSCTL_SCHEDOP_getinfo
            XEN_SYSCTL_SCHED_RATELIMIT_MAX XEN_SYSCTL_SCHED_RATELIMIT_MIN
            XEN_SYSCTL_CSCHED_TSLICE_MAX XEN_SYSCTL_CSCHED_TSLICE_MIN
            XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US XEN_SYSCTL_cpu_featureset_raw
            XEN_SYSCTL_cpu_featureset_host XEN_SYSCTL_cpu_featureset_pv
            XEN_SYSCTL_cpu_featureset_hvm XEN_SYSCTL_cpu_featureset_pv_max
            XEN_SYSCTL_cpu_featureset_hvm_max XEN_SYSCTL_cpu_policy_raw XEN_SYSCTL_cpu_policy_host
            XEN_SYSCTL_cpu_policy_pv_max XEN_SYSCTL_cpu_policy_hvm_max
            XEN_SYSCTL_cpu_policy_pv_default XEN_SYSCTL_cpu_policy_hvm_default
            XEN_SYSCTL_CPU_LEVELCAP_faulting XEN_SYSCTL_CPU_LEVELCAP_ecx XEN_SYSCTL_CPU_LEVELCAP_edx
            XEN_SYSCTL_CPU_LEVELCAP_extd_ecx XEN_SYSCTL_CPU_LEVELCAP_extd_edx
            XEN_SYSCTL_CPU_LEVELCAP_xsave_eax XEN_SYSCTL_CPU_LEVELCAP_thermal_ecx
            XEN_SYSCTL_CPU_LEVELCAP_l7s0_eax XEN_SYSCTL_CPU_LEVELCAP_l7s0_ebx
            XEN_SYSCTL_PSR_CMT_get_total_rmid XEN_SYSCTL_PSR_CMT_get_l3_upscaling_factor
            XEN_SYSCTL_PSR_CMT_get_l3_cache_size XEN_SYSCTL_PSR_CMT_enabled
            XEN_SYSCTL_PSR_CMT_get_l3_event_mask XEN_SYSCTL_PSR_get_l3_info
            XEN_SYSCTL_PSR_get_l2_info XEN_SYSCTL_PSR_get_mba_info PMSTAT_CATEGORY_MASK PMSTAT_PX
            PMSTAT_CX PMSTAT_get_max_px PMSTAT_get_pxstat PMSTAT_reset_pxstat PMSTAT_get_max_cx
            PMSTAT_get_cxstat PMSTAT_reset_cxstat XEN_SYSCTL_CPU_HOTPLUG_ONLINE
            XEN_SYSCTL_CPU_HOTPLUG_OFFLINE XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE
            XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE PM_PARA_CATEGORY_MASK CPUFREQ_PARA GET_CPUFREQ_PARA
            SET_CPUFREQ_GOV SET_CPUFREQ_PARA GET_CPUFREQ_AVGFREQ XEN_SYSCTL_pm_op_set_sched_opt_smt
            XEN_SYSCTL_pm_op_get_max_cstate XEN_SYSCTL_pm_op_set_max_cstate
            XEN_SYSCTL_pm_op_set_vcpu_migration_delay XEN_SYSCTL_pm_op_get_vcpu_migration_delay
            XEN_SYSCTL_pm_op_enable_turbo XEN_SYSCTL_pm_op_disable_turbo
    }
    vcpu {
        VCPUOP_initialise VCPUOP_up VCPUOP_down VCPUOP_is_up VCPUOP_get_runstate_info
            VCPUOP_register_runstate_memory_area VCPUOP_set_periodic_timer
            VCPUOP_stop_periodic_timer VCPUOP_set_singleshot_timer VCPUOP_stop_singleshot_timer
            VCPUOP_register_vcpu_info VCPUOP_send_nmi VCPUOP_get_physid
            VCPUOP_register_vcpu_time_memory_area RUNSTATE_running RUNSTATE_runnable
            RUNSTATE_blocked RUNSTATE_offline VCPU_SSHOTTMR_future XEN_RUNSTATE_UPDATE
    }
    version {
        XENVER_version XENVER_extraversion XENVER_compile_info XENVER_capabilities XENVER_changeset
            XENVER_platform_parameters XENVER_get_features XENVER_pagesize XENVER_guest_handle
            XENVER_commandline XENVER_build_id XEN_EXTRAVERSION_LEN XEN_CAPABILITIES_INFO_LEN
            XEN_CHANGESET_INFO_LEN
    }
    xen {
        DOMID_FIRST_RESERVED DOMID_SELF DOMID_IO DOMID_XEN DOMID_COW DOMID_INVALID DOMID_IDLE
            DOMID_MASK VIRQ_TIMER VIRQ_DEBUG VIRQ_CONSOLE VIRQ_DOM_EXC VIRQ_TBUF VIRQ_DEBUGGER
            VIRQ_XENOPROF VIRQ_CON_RING VIRQ_PCPU_STATE VIRQ_MEM_EVENT VIRQ_ARGO VIRQ_ENOMEM
            VIRQ_XENPMU VIRQ_ARCH_0 VIRQ_ARCH_1 VIRQ_ARCH_2 VIRQ_ARCH_3 VIRQ_ARCH_4 VIRQ_ARCH_5
            VIRQ_ARCH_6 VIRQ_ARCH_7 NR_VIRQS VIRQ_MCA MMU_NORMAL_PT_UPDATE MMU_MACHPHYS_UPDATE
            MMU_PT_UPDATE_PRESERVE_AD MMU_PT_UPDATE_NO_TRANSLATE MMUEXT_PIN_L1_TABLE
            MMUEXT_PIN_L2_TABLE MMUEXT_PIN_L3_TABLE MMUEXT_PIN_L4_TABLE MMUEXT_UNPIN_TABLE
            MMUEXT_NEW_BASEPTR MMUEXT_TLB_FLUSH_LOCAL MMUEXT_INVLPG_LOCAL MMUEXT_TLB_FLUSH_MULTI
            MMUEXT_INVLPG_MULTI MMUEXT_TLB_FLUSH_ALL MMUEXT_INVLPG_ALL MMUEXT_FLUSH_CACHE
            MMUEXT_SET_LDT MMUEXT_NEW_USER_BASEPTR MMUEXT_CLEAR_PAGE MMUEXT_COPY_PAGE
            MMUEXT_FLUSH_CACHE_GLOBAL MMUEXT_MARK_SUPER MMUEXT_UNMARK_SUPER UVMF_NONE UVMF_TLB_FLUSH
            UVMF_INVLPG UVMF_FLUSHTYPE_MASK UVMF_MULTI UVMF_LOCAL UVMF_ALL CONSOLEIO_write
            CONSOLEIO_read VMASST_CMD_enable VMASST_CMD_disable VMASST_TYPE_4gb_segments
            VMASST_TYPE_4gb_segments_notify VMASST_TYPE_writable_pagetables
            VMASST_TYPE_pae_extended_cr3 VMASST_TYPE_architectural_iopl
            VMASST_TYPE_runstate_update_flag VMASST_TYPE_m2p_strict SEGBASE_FS SEGBASE_GS_USER
            SEGBASE_GS_KERNEL SEGBASE_GS_USER_SEL XEN_PVCLOCK_TSC_STABLE_BIT
            XEN_PVCLOCK_GUEST_STOPPED
    }
    xenpmu {
        XENPMU_VER_MAJ XENPMU_VER_MIN XENPMU_mode_get XENPMU_mode_set XENPMU_feature_get
            XENPMU_feature_set XENPMU_init XENPMU_finish XENPMU_lvtpc_set XENPMU_flush
            XENPMU_MODE_OFF XENPMU_MODE_SELF XENPMU_MODE_HV XENPMU_MODE_ALL XENPMU_FEATURE_INTEL_BTS
            XENPMU_FEATURE_IPC_ONLY XENPMU_FEATURE_ARCH_ONLY
    }
    xsm {
        XEN_FLASK_INTERFACE_VERSION FLASK_LOAD FLASK_GETENFORCE FLASK_SETENFORCE
            FLASK_CONTEXT_TO_SID FLASK_SID_TO_CONTEXT FLASK_ACCESS FLASK_CREATE FLASK_RELABEL
            FLASK_USER FLASK_POLICYVERS FLASK_GETBOOL FLASK_SETBOOL FLASK_COMMITBOOLS FLASK_MLS
            FLASK_DISABLE FLASK_GETAVC_THRESHOLD FLASK_SETAVC_THRESHOLD FLASK_AVC_HASHSTATS
            FLASK_AVC_CACHESTATS FLASK_MEMBER FLASK_ADD_OCONTEXT FLASK_DEL_OCONTEXT
            FLASK_GET_PEER_SID FLASK_RELABEL_DOMAIN FLASK_DEVICETREE_LABEL
    }
    arch_x86 {
        TI_DPL_MASK = "({ struct trap_info t = { .flags = 0xff }; TI_GET_DPL(&t); })"
        TI_IF = "({ struct trap_info t = { .flags = 0xff }; TI_GET_IF(&t); })"
    }
    e820 {
        // The headers refer to the BIOS here; PVH's own list has the same numbers.
        E820_RAM = "XEN_HVM_MEMMAP_TYPE_RAM"
        E820_RESERVED = "XEN_HVM_MEMMAP_TYPE_RESERVED"
        E820_ACPI = "XEN_HVM_MEMMAP_TYPE_ACPI"
        E820_NVS = "XEN_HVM_MEMMAP_TYPE_NVS"
        E820_UNUSABLE = "XEN_HVM_MEMMAP_TYPE_UNUSABLE"
    }
    io_console {
        XENCONS_IN = "offsetof(struct xencons_interface, in)"
        XENCONS_OUT = "offsetof(struct xencons_interface, out)"
        XENCONS_IN_SIZE = "sizeof(((struct xencons_interface *)0)->in)"
        XENCONS_OUT_SIZE = "sizeof(((struct xencons_interface *)0)->out)"
        XENCONS_IN_CONS = "offsetof(struct xencons_interface, in_cons)"
        XENCONS_IN_PROD = "offsetof(struct xencons_interface, in_prod)"
        XENCONS_OUT_CONS = "offsetof(struct xencons_interface, out_cons)"
        XENCONS_OUT_PROD = "offsetof(struct xencons_interface, out_prod)"
    }
    io_xs_wire {
        XENSTORE_REQ = "offsetof(struct xenstore_domain_interface, req)"
        XENSTORE_RSP = "offsetof(struct xenstore_domain_interface, rsp)"
        XENSTORE_SERVER_FEATURES = "offsetof(struct xenstore_domain_interface, server_features)"
        XENSTORE_CONNECTION = "offsetof(struct xenstore_domain_interface, connection)"
        XENSTORE_ERROR = "offsetof(struct xenstore_domain_interface, error)"
        XENSTORE_REQ_CONS = "offsetof(struct xenstore_domain_interface, req_cons)"
        XENSTORE_REQ_PROD = "offsetof(struct xenstore_domain_interface, req_prod)"
        XENSTORE_RSP_CONS = "offsetof(struct xenstore_domain_interface, rsp_cons)"
        XENSTORE_RSP_PROD = "offsetof(struct xenstore_domain_interface, rsp_prod)"
    }
    memory {
        XENMEMF_ADDRESS_BITS_MASK = "XENMEMF_get_address_bits(~0U)"
        XENMEMF_NODE_SHIFT = "__builtin_ctz(XENMEMF_node(0))"
        XENMEMF_NODE_MASK = "XENMEMF_get_node(0)"
    }
    sysctl {
        XEN_INVALID_MEM_SZ
    }
    version {
        XEN_COMMANDLINE_LEN = "sizeof(xen_commandline_t)"
    }
    xen {
        VCPU_INFO_UPCALL_PENDING = "offsetof(struct vcpu_info, evtchn_upcall_pending)"
        VCPU_INFO_UPCALL_MASK = "offsetof(struct vcpu_info, evtchn_upcall_mask)"
        VCPU_INFO_PENDING_SEL = "offsetof(struct vcpu_info, evtchn_pending_sel)"
        VCPU_INFO_CR2 = "offsetof(struct vcpu_info, arch.cr2)"
        VCPU_INFO_TIME = "offsetof(struct vcpu_info, time)"
        VCPU_INFO_SIZE = "sizeof(struct vcpu_info)"
        SHARED_INFO_VCPU_INFO = "offsetof(struct shared_info, vcpu_info)"
        SHARED_INFO_EVTCHN_PENDING = "offsetof(struct shared_info, evtchn_pending)"
        SHARED_INFO_EVTCHN_MASK = "offsetof(struct shared_info, evtchn_mask)"
        SHARED_INFO_WC_VERSION = "offsetof(struct shared_info, wc_version)"
        SHARED_INFO_WC_SEC = "offsetof(struct shared_info, wc_sec)"
        SHARED_INFO_WC_NSEC = "offsetof(struct shared_info, wc_nsec)"
        SHARED_INFO_WC_SEC_HI = "offsetof(struct shared_info, xen_wc_sec_hi)"
        SHARED_INFO_ARCH = "offsetof(struct shared_info, arch)"
        VCPU_TIME_INFO_VERSION = "offsetof(struct vcpu_time_info, version)"
    }
}
