//! Every structure with all its fields, by module of the crate.

use crate::{Field, Struct};
use core::mem::{align_of, offset_of};

/// Rows are `"C type" Rust name { fields } [padding fields]`.
macro_rules! structs {
    ($table:ident: $($module:ident {
        $($c:literal $name:ident { $($field:ident)* } $([$($pad:ident)*])?)*
    })*) => {
        /// The table.
        pub fn $table() -> Vec<Struct> {
            let mut rows = Vec::new();
            $($(rows.push({
                use xen_abi::$module::$name;
                // A field missing in the table does not compile.
                let _complete = |value: &$name| {
                    let $name { $($field: _,)* $($($pad: _,)*)? } = value;
                };
                Struct {
                    c: $c,
                    module: stringify!($module),
                    name: stringify!($name),
                    size: size_of::<$name>(),
                    align: align_of::<$name>(),
                    fields: vec![$(Field {
                        name: stringify!($field).trim_start_matches("r#"),
                        offset: offset_of!($name, $field),
                        size: size_behind(|value: &$name| &value.$field),
                    }),*],
                    padding: vec![$($({
                        let from = offset_of!($name, $pad);
                        (from, from + size_behind(|value: &$name| &value.$pad))
                    }),*)?],
                }
            });)*)*
            rows
        }
    };
}

fn size_behind<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

structs! {
    rows:
    arch_x86 {
        "struct trap_info" TrapInfo { vector flags cs address } [_pad0]
        "struct cpu_user_regs" CpuUserRegs { r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi
            rdi error_code entry_vector rip cs _pad0 saved_upcall_mask _pad1 rflags rsp ss _pad2 es
            _pad3 ds _pad4 fs _pad5 gs _pad6 }
        "struct iret_context" IretContext { rax r11 rcx flags rip cs rflags rsp ss }
        "struct vcpu_guest_context" VcpuGuestContext { fpu_ctxt flags user_regs trap_ctxt ldt_base
            ldt_ents gdt_frames gdt_ents kernel_ss kernel_sp ctrlreg debugreg event_callback_eip
            failsafe_callback_eip syscall_callback_eip vm_assist fs_base gs_base_kernel gs_base_user
            }
        "struct arch_vcpu_info" ArchVcpuInfo { cr2 pad }
        "struct arch_shared_info" ArchSharedInfo { max_pfn pfn_to_mfn_frame_list_list nmi_reason
            p2m_cr3 p2m_vaddr p2m_generation }
        "struct xen_arch_domainconfig" ArchDomainConfig { emulation_flags misc_flags }
        "struct xen_cpuid_leaf" CpuidLeaf { leaf subleaf a b c d }
        "struct xen_msr_entry" MsrEntry { idx flags val }
    }
    callback {
        "struct callback_register" CallbackRegister { r#type flags address } [_pad0]
        "struct callback_unregister" CallbackUnregister { r#type _unused }
    }
    domctl {
        "struct xen_domctl" Domctl { cmd interface_version domain _pad u }
        "struct xen_domctl_createdomain" DomctlCreateDomain { ssidref handle flags iommu_opts
            max_vcpus max_evtchn_port max_grant_frames max_maptrack_frames grant_opts vmtrace_size
            cpupool_id arch }
        "struct xen_domctl_getdomaininfo" DomctlGetDomainInfo { domain pad1 flags tot_pages
            max_pages outstanding_pages shr_pages paged_pages shared_info_frame cpu_time
            nr_online_vcpus max_vcpu_id ssidref handle cpupool gpaddr_bits pad2 arch_config }
        "struct xen_domctl_max_vcpus" DomctlMaxVcpus { max }
        "struct xen_domctl_setdomainhandle" DomctlSetDomainHandle { handle }
        "struct xen_domctl_setdebugging" DomctlSetDebugging { enable }
        "struct xen_domctl_hypercall_init" DomctlHypercallInit { gmfn }
        "struct xen_domctl_settimeoffset" DomctlSetTimeOffset { time_offset_seconds }
        "struct xen_domctl_hvmcontext" DomctlHvmContext { size buffer } [_pad0]
        "struct xen_domctl_hvmcontext_partial" DomctlHvmContextPartial { r#type instance bufsz
            buffer }
        "struct xen_domctl_address_size" DomctlAddressSize { size }
        "struct xen_domctl_set_target" DomctlSetTarget { target }
        "struct xen_domctl_subscribe" DomctlSubscribe { port }
        "struct xen_domctl_set_virq_handler" DomctlSetVirqHandler { virq }
        "struct xen_domctl_cpu_policy" DomctlCpuPolicy { nr_leaves nr_msrs leaves msrs err_leaf
            err_subleaf err_msr } [_pad0]
        "struct xen_domctl_tsc_info" DomctlTscInfo { tsc_mode gtsc_khz incarnation pad elapsed_nsec
            }
        "struct xen_domctl_vcpucontext" DomctlVcpuContext { vcpu ctxt } [_pad0]
        "struct xen_domctl_getvcpuinfo" DomctlGetVcpuInfo { vcpu online blocked running cpu_time
            cpu } [_pad0 _pad1]
        "struct xen_domctl_vcpuaffinity" DomctlVcpuAffinity { vcpu flags cpumap_hard cpumap_soft }
        "struct xen_domctl_sendtrigger" DomctlSendTrigger { trigger vcpu }
        "struct xen_domctl_ext_vcpucontext" DomctlExtVcpuContext { vcpu size syscall32_callback_eip
            sysenter_callback_eip syscall32_callback_cs sysenter_callback_cs
            syscall32_disables_events sysenter_disables_events vmce } [_pad0]
        "struct xen_domctl_debug_op" DomctlDebugOp { op vcpu }
        "struct xen_domctl_vcpuextstate" DomctlVcpuExtState { vcpu xfeature_mask size buffer }
            [_pad0]
        "struct xen_domctl_vcpu_msr" DomctlVcpuMsr { index reserved value }
        "struct xen_domctl_vcpu_msrs" DomctlVcpuMsrs { vcpu msr_count msrs }
        "struct xen_domctl_gdbsx_pauseunp_vcpu" DomctlGdbsxPauseunpVcpu { vcpu }
        "struct xen_domctl_gdbsx_domstatus" DomctlGdbsxDomstatus { paused vcpu_id vcpu_ev } [_pad0]
        "struct xen_domctl_sched_credit" DomctlSchedCredit { weight cap }
        "struct xen_domctl_sched_credit2" DomctlSchedCredit2 { weight cap }
        "struct xen_domctl_sched_rtds" DomctlSchedRtds { period budget flags }
        "struct xen_domctl_schedparam_vcpu" DomctlSchedparamVcpu { u vcpuid }
        "struct xen_domctl_scheduler_op" DomctlSchedulerOp { sched_id cmd u }
        "struct xen_domctl_scheduler_op:u.v" DomctlSchedulerVcpus { vcpus nr_vcpus padding }
        "struct xen_domctl_nodeaffinity" DomctlNodeAffinity { nodemap }
        "struct xen_domctl_max_mem" DomctlMaxMem { max_memkb }
        "struct xen_domctl_getpageframeinfo3" DomctlGetPageFrameInfo3 { num array }
        "struct xen_domctl_shadow_op_stats" DomctlShadowOpStats { fault_count dirty_count }
        "struct xen_domctl_shadow_op" DomctlShadowOp { op mode mb dirty_bitmap pages stats }
            [_pad0]
        "struct xen_domctl_iomem_permission" DomctlIomemPermission { first_mfn nr_mfns allow_access
            } [_pad0]
        "struct xen_domctl_memory_mapping" DomctlMemoryMapping { first_gfn first_mfn nr_mfns
            add_mapping padding }
        "struct xen_domctl_paging_mempool" DomctlPagingMempool { size }
        "struct xen_domctl_vnuma" DomctlVnuma { nr_vnodes nr_vmemranges nr_vcpus pad vdistance
            vcpu_to_vnode vnode_to_pnode vmemrange }
        "struct xen_domctl_gdbsx_memio" DomctlGdbsxMemio { pgd3val gva uva len gwr remain } [_pad0
            _pad1]
        "struct xen_domctl_irq_permission" DomctlIrqPermission { pirq allow_access pad }
        "struct xen_domctl_ioport_permission" DomctlIoportPermission { first_port nr_ports
            allow_access } [_pad0]
        "struct xen_domctl_ioport_mapping" DomctlIoportMapping { first_gport first_mport nr_ports
            add_mapping }
        "struct xen_domctl_assign_device" DomctlAssignDevice { dev flags u }
        "struct xen_domctl_get_device_group" DomctlGetDeviceGroup { machine_sbdf max_sdevs
            num_sdevs sdev_array } [_pad0]
        "struct xen_domctl_bind_pt_irq" DomctlBindPtIrq { machine_irq irq_type u }
        "struct xen_domctl_bind_pt_irq:u.msi" DomctlBindPtIrqMsi { gvec gflags gtable } [_pad0]
    }
    event_channel {
        "struct evtchn_alloc_unbound" EvtchnAllocUnbound { dom remote_dom port }
        "struct evtchn_bind_interdomain" EvtchnBindInterdomain { remote_dom remote_port local_port
            } [_pad0]
        "struct evtchn_bind_virq" EvtchnBindVirq { virq vcpu port }
        "struct evtchn_bind_pirq" EvtchnBindPirq { pirq flags port }
        "struct evtchn_bind_ipi" EvtchnBindIpi { vcpu port }
        "struct evtchn_close" EvtchnClose { port }
        "struct evtchn_send" EvtchnSend { port }
        "struct evtchn_status" EvtchnStatus { dom port status vcpu u } [_pad0]
        "struct evtchn_status:u.unbound" EvtchnStatusUnbound { dom }
        "struct evtchn_status:u.interdomain" EvtchnStatusInterdomain { dom port } [_pad0]
        "struct evtchn_bind_vcpu" EvtchnBindVcpu { port vcpu }
        "struct evtchn_unmask" EvtchnUnmask { port }
        "struct evtchn_reset" EvtchnReset { dom }
        "struct evtchn_init_control" EvtchnInitControl { control_gfn offset vcpu link_bits _pad }
        "struct evtchn_expand_array" EvtchnExpandArray { array_gfn }
        "struct evtchn_set_priority" EvtchnSetPriority { port priority }
        "struct evtchn_fifo_control_block" EvtchnFifoControlBlock { ready _rsvd head }
        "struct evtchn_op" EvtchnOp { cmd u }
    }
    grant_table {
        "struct grant_entry_v1" GrantEntryV1 { flags domid frame }
        "struct grant_entry_header" GrantEntryHeader { flags domid }
        "union grant_entry_v2:full_page" GrantEntryV2FullPage { hdr pad0 frame }
        "union grant_entry_v2:sub_page" GrantEntryV2SubPage { hdr page_off length frame }
        "union grant_entry_v2:transitive" GrantEntryV2Transitive { hdr trans_domid pad0 gref }
        "struct gnttab_map_grant_ref" GnttabMapGrantRef { host_addr flags r#ref dom status handle
            dev_bus_addr }
        "struct gnttab_unmap_grant_ref" GnttabUnmapGrantRef { host_addr dev_bus_addr handle status
            } [_pad0]
        "struct gnttab_setup_table" GnttabSetupTable { dom nr_frames status frame_list } [_pad0
            _pad1]
        "struct gnttab_dump_table" GnttabDumpTable { dom status }
        "struct gnttab_transfer" GnttabTransfer { mfn domid r#ref status } [_pad0 _pad1]
        "struct gnttab_copy:source" GnttabCopyPtr { u domid offset } [_pad0]
        "struct gnttab_copy" GnttabCopy { source dest len flags status } [_pad0]
        "struct gnttab_query_size" GnttabQuerySize { dom nr_frames max_nr_frames status } [_pad0
            _pad1]
        "struct gnttab_unmap_and_replace" GnttabUnmapAndReplace { host_addr new_addr handle status
            } [_pad0]
        "struct gnttab_set_version" GnttabSetVersion { version }
        "struct gnttab_get_status_frames" GnttabGetStatusFrames { nr_frames dom status frame_list }
        "struct gnttab_get_version" GnttabGetVersion { dom pad version }
        "struct gnttab_swap_grant_ref" GnttabSwapGrantRef { ref_a ref_b status } [_pad0]
        "struct gnttab_cache_flush" GnttabCacheFlush { a offset length op }
    }
    hvm_op {
        "struct xen_hvm_param" HvmParam { domid pad index value }
        "struct xen_hvm_evtchn_upcall_vector" HvmEvtchnUpcallVector { vcpu vector } [_pad0]
        "struct xen_hvm_get_mem_type" HvmGetMemType { domid mem_type pad pfn }
        "struct xen_hvm_get_time" HvmGetTime { now }
        "struct xen_hvm_pagetable_dying" HvmPagetableDying { domid pad gpa }
        "struct xen_hvm_altp2m_op" HvmAltp2mOp { version cmd domain pad1 pad2 u }
    }
    hvm_start_info {
        "struct hvm_start_info" HvmStartInfo { magic version flags nr_modules modlist_paddr
            cmdline_paddr rsdp_paddr memmap_paddr memmap_entries reserved }
        "struct hvm_modlist_entry" HvmModlistEntry { paddr size cmdline_paddr reserved }
        "struct hvm_memmap_table_entry" HvmMemmapTableEntry { addr size r#type reserved }
    }
    hvm_save {
        "struct hvm_save_descriptor" HvmSaveDescriptor { typecode instance length }
        "struct hvm_save_header" HvmSaveHeader { magic version changeset cpuid gtsc_khz }
        "struct hvm_hw_cpu" HvmHwCpu { fpu_regs rax rbx rcx rdx rbp rsi rdi rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags cr0 cr2 cr3 cr4 dr0 dr1 dr2 dr3 dr6 dr7 cs_sel ds_sel es_sel fs_sel gs_sel ss_sel tr_sel ldtr_sel cs_limit ds_limit es_limit fs_limit gs_limit ss_limit tr_limit ldtr_limit idtr_limit gdtr_limit cs_base ds_base es_base fs_base gs_base ss_base tr_base ldtr_base idtr_base gdtr_base cs_arbytes ds_arbytes es_arbytes fs_arbytes gs_arbytes ss_arbytes tr_arbytes ldtr_arbytes sysenter_cs sysenter_esp sysenter_eip shadow_gs msr_flags msr_lstar msr_star msr_cstar msr_syscall_mask msr_efer msr_tsc_aux tsc pending_event error_code flags pad0 }
        "struct hvm_hw_lapic" HvmHwLapic { apic_base_msr disabled timer_divisor tdt_msr }
        "struct hvm_hw_lapic_regs" HvmHwLapicRegs { data }
        "struct hvm_hw_mtrr" HvmHwMtrr { msr_pat_cr msr_mtrr_var msr_mtrr_fixed msr_mtrr_cap msr_mtrr_def_type }
        "struct hvm_hw_cpu_xsave" HvmHwCpuXsave { xfeature_mask xcr0 xcr0_accum save_area }
        "struct hvm_vmce_vcpu" HvmVmceVcpu { caps mci_ctl2_bank0 mci_ctl2_bank1 mcg_ext_ctl }
        "struct hvm_tsc_adjust" HvmTscAdjust { tsc_adjust }
        "struct hvm_msr" HvmMsr { count msr } [_pad0]
        "struct hvm_msr:msr[0]" HvmOneMsr { index _rsvd val }
    }
    hvm_vcpu {
        "struct vcpu_hvm_x86_32" VcpuHvmX8632 { eax ecx edx ebx esp ebp esi edi eip eflags cr0 cr3 cr4 pad1 efer cs_base ds_base ss_base es_base tr_base cs_limit ds_limit ss_limit es_limit tr_limit cs_ar ds_ar ss_ar es_ar tr_ar pad2 }
        "struct vcpu_hvm_x86_64" VcpuHvmX8664 { rax rcx rdx rbx rsp rbp rsi rdi rip rflags cr0 cr3 cr4 efer }
        "struct vcpu_hvm_context" VcpuHvmContext { mode pad cpu_regs }
    }
    hypfs {
        "struct xen_hypfs_direntry" HypfsDirentry { r#type encoding pad content_len max_write_len }
        "struct xen_hypfs_dirlistentry" HypfsDirlistentry { e off_next } [_pad0]
    }
    io_console {
        "struct xencons_interface" XenconsInterface { r#in out in_cons in_prod out_cons out_prod }
    }
    io_xs_wire {
        "struct xsd_sockmsg" XsdSockmsg { r#type req_id tx_id len }
        "struct xenstore_domain_interface" XenstoreDomainInterface { req rsp req_cons req_prod
            rsp_cons rsp_prod server_features connection error }
    }
    kexec {
        "xen_kexec_range_t" KexecRange { range nr size start }
    }
    mca {
        "struct xen_mc_fetch" McFetch { flags _pad0 fetch_id data }
        "struct mcinfo_msr" McinfoMsr { reg value }
        "struct mcinfo_common" McinfoCommon { r#type size }
        "struct mcinfo_global" McinfoGlobal { common mc_domid mc_vcpuid mc_socketid mc_coreid
            mc_core_threadid mc_apicid mc_flags mc_gstatus }
        "struct mcinfo_bank" McinfoBank { common mc_bank mc_domid mc_status mc_addr mc_misc mc_ctrl2
            mc_tsc }
        "struct mc_info" McInfo { mi_nentries flags mi_data }
        "struct mcinfo_logical_cpu" McLogicalCpu { mc_cpunr mc_chipid mc_coreid mc_threadid
            mc_apicid mc_clusterid mc_ncores mc_ncores_active mc_nthreads mc_cpuid_level mc_family
            mc_vendor mc_model mc_step mc_vendorid mc_brandid mc_cpu_caps mc_cache_size
            mc_cache_alignment mc_nmsrvals mc_msrvalues } [_pad0]
        "struct xen_mc_physcpuinfo" McPhyscpuinfo { ncpus _pad0 info }
        "struct xen_mc" Mc { cmd interface_version u }
    }
    memory {
        "struct xen_memory_reservation" MemoryReservation { extent_start nr_extents extent_order
            mem_flags domid } [_pad0]
        "struct xen_memory_exchange" MemoryExchange { r#in out nr_exchanged }
        "struct xen_memory_domain" MemoryDomain { domid }
        "struct xen_machphys_mfn_list" MachphysMfnList { max_extents extent_start nr_extents }
            [_pad0 _pad1]
        "struct xen_machphys_mapping" MachphysMapping { v_start v_end max_mfn }
        "struct xen_add_to_physmap" AddToPhysmap { domid size space idx gpfn }
        "struct xen_add_to_physmap_batch" AddToPhysmapBatch { domid space size u idxs gpfns errs }
        "struct xen_remove_from_physmap" RemoveFromPhysmap { domid gpfn } [_pad0]
        "struct xen_memory_map" MemoryMap { nr_entries buffer } [_pad0]
        "struct xen_foreign_memory_map" ForeignMemoryMap { domid map } [_pad0]
        "struct xen_pod_target" PodTarget { target_pages tot_pages pod_cache_pages pod_entries
            domid } [_pad0]
        "struct xen_mem_paging_op" MemPagingOp { op domain buffer gfn } [_pad0 _pad1]
        "struct xen_mem_access_op" MemAccessOp { op access domid nr pfn pfn_list access_list }
        "struct xen_mem_sharing_op" MemSharingOp { op domain u } [_pad0 _pad1]
        "struct xen_reserved_device_memory" ReservedDeviceMemory { start_pfn nr_pages }
        "struct xen_reserved_device_memory_map" ReservedDeviceMemoryMap { flags nr_entries buffer
            dev } [_pad0]
        "struct xen_mem_acquire_resource" MemAcquireResource { domid r#type id nr_frames pad frame
            frame_list }
        "struct xen_vmemrange" Vmemrange { start end flags nid }
        "struct xen_vnuma_topology_info" VnumaTopologyInfo { domid pad nr_vnodes nr_vcpus
            nr_vmemranges vdistance vcpu_to_vnode vmemrange }
    }
    nmi {
        "struct xennmi_callback" NmiCallback { handler_address pad }
    }
    physdev {
        "struct physdev_eoi" PhysdevEoi { irq }
        "struct physdev_pirq_eoi_gmfn" PhysdevPirqEoiGmfn { gmfn }
        "struct physdev_irq_status_query" PhysdevIrqStatusQuery { irq flags }
        "struct physdev_set_iopl" PhysdevSetIopl { iopl }
        "struct physdev_set_iobitmap" PhysdevSetIobitmap { bitmap nr_ports } [_pad0]
        "struct physdev_apic" PhysdevApic { apic_physbase reg value }
        "struct physdev_irq" PhysdevIrq { irq vector }
        "struct physdev_map_pirq" PhysdevMapPirq { domid r#type index pirq bus devfn entry_nr
            table_base } [_pad0 _pad1]
        "struct physdev_unmap_pirq" PhysdevUnmapPirq { domid pirq } [_pad0]
        "struct physdev_manage_pci" PhysdevManagePci { bus devfn }
        "struct physdev_manage_pci_ext:physfn" PhysdevPhysfn { bus devfn }
        "struct physdev_manage_pci_ext" PhysdevManagePciExt { bus devfn is_extfn is_virtfn physfn }
            [_pad0 _pad1]
        "struct physdev_setup_gsi" PhysdevSetupGsi { gsi triggering polarity } [_pad0]
        "struct physdev_get_free_pirq" PhysdevGetFreePirq { r#type pirq }
        "struct physdev_pci_mmcfg_reserved" PhysdevPciMmcfgReserved { address segment start_bus
            end_bus flags }
        "struct physdev_pci_device_add" PhysdevPciDeviceAdd { seg bus devfn flags physfn } [_pad0]
        "struct physdev_pci_device" PhysdevPciDevice { seg bus devfn }
        "struct physdev_dbgp_op" PhysdevDbgpOp { op bus u }
    }
    platform {
        "struct xen_platform_op" PlatformOp { cmd interface_version u }
        "struct xenpf_settime32" PlatformSettime32 { secs nsecs system_time }
        "struct xenpf_settime64" PlatformSettime64 { secs nsecs mbz system_time }
        "struct xenpf_add_memtype" PlatformAddMemtype { mfn nr_mfns r#type handle reg } [_pad0]
        "struct xenpf_del_memtype" PlatformDelMemtype { handle reg }
        "struct xenpf_read_memtype" PlatformReadMemtype { reg mfn nr_mfns r#type } [_pad0 _pad1]
        "struct xenpf_microcode_update" PlatformMicrocodeUpdate { data length } [_pad0]
        "struct xenpf_platform_quirk" PlatformQuirk { quirk_id }
        "struct xenpf_efi_runtime_call" PlatformEfiRuntimeCall { function misc status u }
        "struct xenpf_firmware_info" PlatformFirmwareInfo { r#type index u }
        "struct xenpf_firmware_info:u.disk_info" FirmwareDiskInfo { device version
            interface_support legacy_max_cylinder legacy_max_head legacy_sectors_per_track
            edd_params }
        "struct xenpf_firmware_info:u.disk_mbr_signature" FirmwareDiskMbrSignature { device
            mbr_signature } [_pad0]
        "struct xenpf_firmware_info:u.vbeddc_info" FirmwareVbeddcInfo { capabilities
            edid_transfer_time edid } [_pad0]
        "struct xenpf_enter_acpi_sleep" PlatformEnterAcpiSleep { val_a val_b sleep_state flags }
        "struct xenpf_change_freq" PlatformChangeFreq { flags cpu freq }
        "struct xenpf_getidletime" PlatformGetidletime { cpumap_bitmap cpumap_nr_cpus idletime now
            } [_pad0]
        "struct xenpf_set_processor_pminfo" PlatformSetProcessorPminfo { id r#type u }
        "struct xenpf_pcpuinfo" PlatformPcpuinfo { xen_cpuid max_present flags apic_id acpi_id }
        "struct xenpf_pcpu_version" PlatformPcpuVersion { xen_cpuid max_present vendor_id family
            model stepping }
        "struct xenpf_cpu_ol" PlatformCpuOl { cpuid }
        "struct xenpf_cpu_hotadd" PlatformCpuHotadd { apic_id acpi_id pxm }
        "struct xenpf_mem_hotadd" PlatformMemHotadd { spfn epfn pxm flags }
        "struct xenpf_core_parking" PlatformCoreParking { r#type idle_nums }
        "struct xenpf_resource_entry" PlatformResourceEntry { u rsvd idx val }
        "struct xenpf_resource_op" PlatformResourceOp { nr_entries cpu entries }
        "struct xenpf_symdata" PlatformSymdata { namelen symnum name address r#type } [_pad0]
    }
    sched {
        "struct sched_shutdown" SchedShutdown { reason }
        "struct sched_poll" SchedPoll { ports nr_ports timeout } [_pad0]
        "struct sched_remote_shutdown" SchedRemoteShutdown { domain_id reason } [_pad0]
        "struct sched_watchdog" SchedWatchdog { id timeout }
        "struct sched_pin_override" SchedPinOverride { pcpu }
    }
    start_info {
        "struct start_info" StartInfo { magic nr_pages shared_info flags store_mfn store_evtchn
            console pt_base nr_pt_frames mfn_list mod_start mod_len cmd_line first_p2m_pfn
            nr_p2m_frames } [_pad0 _pad1]
        "struct start_info:console.domU" StartInfoConsoleDomu { mfn evtchn } [_pad0]
        "struct start_info:console.dom0" StartInfoConsoleDom0 { info_off info_size }
        "struct xen_multiboot_mod_list" MultibootModList { mod_start mod_end cmdline pad }
        "struct dom0_vga_console_info" Dom0VgaConsoleInfo { video_type u } [_pad0]
        "struct dom0_vga_console_info:u.text_mode_3" VgaTextMode3 { font_height cursor_x cursor_y
            rows columns }
        "struct dom0_vga_console_info:u.vesa_lfb" VgaVesaLfb { width height bytes_per_line
            bits_per_pixel lfb_base lfb_size red_pos red_size green_pos green_size blue_pos
            blue_size rsvd_pos rsvd_size gbl_caps mode_attrs pad ext_lfb_base }
    }
    sysctl {
        "struct xen_sysctl" Sysctl { cmd interface_version u }
        "struct xen_sysctl_readconsole" SysctlReadConsole { clear incremental pad0 pad1 index
            buffer count } [_pad0]
        "struct xen_sysctl_tbuf_op" SysctlTbufOp { cmd cpu_mask evt_mask buffer_mfn size } [_pad0
            _pad1 _pad2]
        "struct xen_sysctl_getdomaininfolist" SysctlGetDomainInfoList { first_domain max_domains
            buffer num_domains } [_pad0 _pad1]
        "struct xen_sysctl_debug_keys" SysctlDebugKeys { keys nr_keys } [_pad0]
        "struct xen_sysctl_physinfo" SysctlPhysInfo { threads_per_core cores_per_socket nr_cpus
            max_cpu_id nr_nodes max_node_id cpu_khz capabilities arch_capabilities pad total_pages
            free_pages scrub_pages outstanding_pages max_mfn hw_cap }
        "struct xen_sysctl_cpuinfo" SysctlCpuInfo { idletime }
        "struct xen_sysctl_getcpuinfo" SysctlGetCpuInfo { max_cpus info nr_cpus } [_pad0 _pad1]
        "struct xen_sysctl_availheap" SysctlAvailHeap { min_bitwidth max_bitwidth node avail_bytes
            } [_pad0]
        "struct xen_sysctl_cputopo" SysctlCpuTopo { core socket node }
        "struct xen_sysctl_cputopoinfo" SysctlCpuTopoInfo { num_cpus cputopo } [_pad0]
        "struct xen_sysctl_meminfo" SysctlMeminfo { memsize memfree }
        "struct xen_sysctl_numainfo" SysctlNumaInfo { num_nodes meminfo distance } [_pad0]
        "struct xen_sysctl_pcitopoinfo" SysctlPciTopoInfo { num_devs devs nodes } [_pad0]
        "struct xen_sysctl_sched_id" SysctlSchedId { sched_id }
        "struct xen_sysctl_cpupool_op" SysctlCpuPoolOp { op cpupool_id sched_id domid cpu n_dom
            cpumap }
        "struct xen_sysctl_credit_schedule" SysctlCreditSchedule { tslice_ms ratelimit_us
            vcpu_migr_delay_us }
        "struct xen_sysctl_credit2_schedule" SysctlCredit2Schedule { ratelimit_us }
        "struct xen_sysctl_scheduler_op" SysctlSchedulerOp { cpupool_id sched_id cmd u } [_pad0]
        "struct xen_sysctl_cpu_levelling_caps" SysctlCpuLevellingCaps { caps }
        "struct xen_sysctl_cpu_featureset" SysctlCpuFeatureset { index nr_features features }
        "struct xen_sysctl_cpu_policy" SysctlCpuPolicy { index nr_leaves nr_msrs _rsvd leaves msrs
            }
        "struct xen_sysctl_psr_cmt_op" SysctlPsrCmtOp { cmd flags u }
        "struct xen_sysctl_psr_alloc" SysctlPsrAlloc { cmd target u }
        "struct xen_sysctl_get_pmstat" SysctlGetPmstat { r#type cpuid u }
        "struct pm_cx_stat" PmCxStat {
            nr last idle_time triggers residencies nr_pc nr_cc pc cc
        }
        "struct xen_sysctl_cpu_hotplug" SysctlCpuHotplug { cpu op }
        "struct xen_sysctl_pm_op" SysctlPmOp { cmd cpuid u }
    }
    vcpu {
        "struct vcpu_runstate_info" VcpuRunstateInfo { state state_entry_time time } [_pad0]
        "struct vcpu_register_runstate_memory_area" VcpuRegisterRunstateMemoryArea { addr }
        "struct vcpu_set_periodic_timer" VcpuSetPeriodicTimer { period_ns }
        "struct vcpu_set_singleshot_timer" VcpuSetSingleshotTimer { timeout_abs_ns flags } [_pad0]
        "struct vcpu_register_vcpu_info" VcpuRegisterVcpuInfo { mfn offset rsvd }
        "struct vcpu_get_physid" VcpuGetPhysid { phys_id }
        "struct vcpu_register_time_memory_area" VcpuRegisterTimeMemoryArea { addr }
    }
    version {
        "struct xen_compile_info" CompileInfo { compiler compile_by compile_domain compile_date }
        "struct xen_platform_parameters" PlatformParameters { virt_start }
        "struct xen_feature_info" FeatureInfo { submap_idx submap }
        "struct xen_build_id" BuildId { len }
    }
    xen {
        "struct mmu_update" MmuUpdate { ptr val }
        "struct mmuext_op" MmuextOp { cmd arg1 arg2 } [_pad0]
        "struct multicall_entry" MulticallEntry { op result args }
        "struct vcpu_time_info" VcpuTimeInfo { version pad0 tsc_timestamp system_time
            tsc_to_system_mul tsc_shift flags pad1 }
        "struct vcpu_info" VcpuInfo { evtchn_upcall_pending evtchn_upcall_mask evtchn_pending_sel
            arch time } [_pad0]
        "struct shared_info" SharedInfo { vcpu_info evtchn_pending evtchn_mask wc_version wc_sec
            wc_nsec wc_sec_hi arch }
        "struct xenctl_bitmap" XenctlBitmap { bitmap nr_bits } [_pad0]
    }
    xenpmu {
        "struct xen_pmu_params:version" PmuVersion { maj min }
        "struct xen_pmu_params" PmuParams { version val vcpu pad }
    }
}

structs! {
    narrow_rows:
    narrow {
        "struct xen_memory_reservation" Reservation { extent_start nr_extents extent_order mem_flags domid } [_pad0]
        "struct xen_add_to_physmap" AddToPhysmap { domid size space idx gpfn }
        "struct xen_memory_map" MemoryMap { nr_entries buffer }
        "struct xen_foreign_memory_map" ForeignMemoryMap { domid map } [_pad0]
        "struct gnttab_setup_table" GnttabSetupTable { dom nr_frames status frame_list } [_pad0 _pad1]
        "struct gnttab_get_status_frames" GnttabGetStatusFrames { nr_frames dom status frame_list }
        "struct gnttab_transfer" GnttabTransfer { mfn domid r#ref status } [_pad0 _pad1]
        "struct gnttab_copy:source" GnttabCopyPtr { u domid offset }
        "struct gnttab_copy" GnttabCopy { source dest len flags status } [_pad0]
        "struct sched_poll" SchedPoll { ports nr_ports timeout }
    }
}
