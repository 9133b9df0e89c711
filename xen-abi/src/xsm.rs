//! Security module, hypercall `xsm_op` (xsm/flask_op.h): operation numbers only. Without a security
//! module the hypercall answers `ENOSYS`.

/// Version of the interface (xsm/flask_op.h).
pub const XEN_FLASK_INTERFACE_VERSION: u32 = 1;
/// Load a policy (xsm/flask_op.h).
pub const FLASK_LOAD: u32 = 1;
/// Is the policy enforced? (xsm/flask_op.h).
pub const FLASK_GETENFORCE: u32 = 2;
/// Enforce the policy or not (xsm/flask_op.h).
pub const FLASK_SETENFORCE: u32 = 3;
/// Label to number (xsm/flask_op.h).
pub const FLASK_CONTEXT_TO_SID: u32 = 4;
/// Number to label (xsm/flask_op.h).
pub const FLASK_SID_TO_CONTEXT: u32 = 5;
/// Ask for a decision (xsm/flask_op.h).
pub const FLASK_ACCESS: u32 = 6;
/// Label for a new object (xsm/flask_op.h).
pub const FLASK_CREATE: u32 = 7;
/// Label after relabelling (xsm/flask_op.h).
pub const FLASK_RELABEL: u32 = 8;
/// Removed (xsm/flask_op.h).
pub const FLASK_USER: u32 = 9;
/// Version of policies (xsm/flask_op.h).
pub const FLASK_POLICYVERS: u32 = 10;
/// Read a policy variable (xsm/flask_op.h).
pub const FLASK_GETBOOL: u32 = 11;
/// Set a policy variable (xsm/flask_op.h).
pub const FLASK_SETBOOL: u32 = 12;
/// Commit policy variables (xsm/flask_op.h).
pub const FLASK_COMMITBOOLS: u32 = 13;
/// Is multi-level security on? (xsm/flask_op.h).
pub const FLASK_MLS: u32 = 14;
/// Removed (xsm/flask_op.h).
pub const FLASK_DISABLE: u32 = 15;
/// Read the cache threshold (xsm/flask_op.h).
pub const FLASK_GETAVC_THRESHOLD: u32 = 16;
/// Set the cache threshold (xsm/flask_op.h).
pub const FLASK_SETAVC_THRESHOLD: u32 = 17;
/// Statistics of the cache's hash (xsm/flask_op.h).
pub const FLASK_AVC_HASHSTATS: u32 = 18;
/// Statistics of the cache (xsm/flask_op.h).
pub const FLASK_AVC_CACHESTATS: u32 = 19;
/// Label of a member object (xsm/flask_op.h).
pub const FLASK_MEMBER: u32 = 20;
/// Label a resource (xsm/flask_op.h).
pub const FLASK_ADD_OCONTEXT: u32 = 21;
/// Remove a resource's label (xsm/flask_op.h).
pub const FLASK_DEL_OCONTEXT: u32 = 22;
/// Label at the other end of a port (xsm/flask_op.h).
pub const FLASK_GET_PEER_SID: u32 = 23;
/// Relabel a domain (xsm/flask_op.h).
pub const FLASK_RELABEL_DOMAIN: u32 = 24;
/// Label a device-tree node (xsm/flask_op.h).
pub const FLASK_DEVICETREE_LABEL: u32 = 25;
