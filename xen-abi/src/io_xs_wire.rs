//! Xenstore's messages and ring page (io/xs_wire.h).

use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::handle::zero_default;

/// Message: control the daemon (io/xs_wire.h).
pub const XS_CONTROL: u32 = 0;
/// Message: list children (io/xs_wire.h).
pub const XS_DIRECTORY: u32 = 1;
/// Message: read a node (io/xs_wire.h).
pub const XS_READ: u32 = 2;
/// Message: read permissions (io/xs_wire.h).
pub const XS_GET_PERMS: u32 = 3;
/// Message: set a watch (io/xs_wire.h).
pub const XS_WATCH: u32 = 4;
/// Message: remove a watch (io/xs_wire.h).
pub const XS_UNWATCH: u32 = 5;
/// Message: begin a transaction (io/xs_wire.h).
pub const XS_TRANSACTION_START: u32 = 6;
/// Message: end a transaction (io/xs_wire.h).
pub const XS_TRANSACTION_END: u32 = 7;
/// Message: introduce a domain (io/xs_wire.h).
pub const XS_INTRODUCE: u32 = 8;
/// Message: forget a domain (io/xs_wire.h).
pub const XS_RELEASE: u32 = 9;
/// Message: home path of a domain (io/xs_wire.h).
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Message: write a node (io/xs_wire.h).
pub const XS_WRITE: u32 = 11;
/// Message: make a node (io/xs_wire.h).
pub const XS_MKDIR: u32 = 12;
/// Message: remove a node (io/xs_wire.h).
pub const XS_RM: u32 = 13;
/// Message: set permissions (io/xs_wire.h).
pub const XS_SET_PERMS: u32 = 14;
/// Message from the daemon: a watch fired (io/xs_wire.h).
pub const XS_WATCH_EVENT: u32 = 15;
/// Message from the daemon: error (io/xs_wire.h).
pub const XS_ERROR: u32 = 16;
/// Message: is a domain known? (io/xs_wire.h).
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// Message: a domain was resumed (io/xs_wire.h).
pub const XS_RESUME: u32 = 18;
/// Message: let a domain act for another (io/xs_wire.h).
pub const XS_SET_TARGET: u32 = 19;
/// Message: remove all watches and transactions (io/xs_wire.h).
pub const XS_RESET_WATCHES: u32 = 21;
/// Message: list children, in parts (io/xs_wire.h).
pub const XS_DIRECTORY_PART: u32 = 22;
/// Number of message types (io/xs_wire.h).
pub const XS_TYPE_COUNT: u32 = 23;
/// Never a valid type (io/xs_wire.h).
pub const XS_INVALID: u32 = 65_535;
/// Feature: the ring can be reconnected (io/xs_wire.h).
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// Feature: the error word exists (io/xs_wire.h).
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// Connection word: steady (io/xs_wire.h).
pub const XENSTORE_CONNECTED: u32 = 0;
/// Connection word: reconnecting (io/xs_wire.h).
pub const XENSTORE_RECONNECT: u32 = 1;
/// Error word: none (io/xs_wire.h).
pub const XENSTORE_ERROR_NONE: u32 = 0;
/// Error word: communication problem (io/xs_wire.h).
pub const XENSTORE_ERROR_COMM: u32 = 1;
/// Error word: ring index out of range (io/xs_wire.h).
pub const XENSTORE_ERROR_RINGIDX: u32 = 2;
/// Error word: protocol violated (io/xs_wire.h).
pub const XENSTORE_ERROR_PROTO: u32 = 3;

/// Size in bytes of each ring, a power of two (io/xs_wire.h).
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Most bytes after a header (io/xs_wire.h).
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Longest absolute path (io/xs_wire.h).
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Longest relative path (io/xs_wire.h).
pub const XENSTORE_REL_PATH_MAX: usize = 2048;

/// Header of a message (io/xs_wire.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct XsdSockmsg {
    /// `XS_*`.
    pub r#type: u32,
    /// Echoed in the answer.
    pub req_id: u32,
    /// Transaction; 0 none.
    pub tx_id: u32,
    /// Bytes that follow.
    pub len: u32,
}

/// The xenstore page (io/xs_wire.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct XenstoreDomainInterface {
    /// Requests, a ring.
    pub req: [u8; 1024],
    /// Answers and events, a ring.
    pub rsp: [u8; 1024],
    /// Requests read by the daemon.
    pub req_cons: u32,
    /// Requests written by the guest.
    pub req_prod: u32,
    /// Answers read by the guest.
    pub rsp_cons: u32,
    /// Answers written by the daemon.
    pub rsp_prod: u32,
    /// `XENSTORE_SERVER_FEATURE_*`.
    pub server_features: u32,
    /// Connection word.
    pub connection: u32,
    /// Error word.
    pub error: u32,
}

zero_default!(XenstoreDomainInterface);

/// Offset of the ring of requests (io/xs_wire.h).
pub const XENSTORE_REQ: usize = offset_of!(XenstoreDomainInterface, req);
/// Offset of the ring of answers (io/xs_wire.h).
pub const XENSTORE_RSP: usize = offset_of!(XenstoreDomainInterface, rsp);
/// Offset of `req_cons` (io/xs_wire.h); four bytes.
pub const XENSTORE_REQ_CONS: usize = offset_of!(XenstoreDomainInterface, req_cons);
/// Offset of `req_prod` (io/xs_wire.h); four bytes.
pub const XENSTORE_REQ_PROD: usize = offset_of!(XenstoreDomainInterface, req_prod);
/// Offset of `rsp_cons` (io/xs_wire.h); four bytes.
pub const XENSTORE_RSP_CONS: usize = offset_of!(XenstoreDomainInterface, rsp_cons);
/// Offset of `rsp_prod` (io/xs_wire.h); four bytes.
pub const XENSTORE_RSP_PROD: usize = offset_of!(XenstoreDomainInterface, rsp_prod);
/// Offset of `server_features` (io/xs_wire.h); four bytes.
pub const XENSTORE_SERVER_FEATURES: usize = offset_of!(XenstoreDomainInterface, server_features);
/// Offset of `connection` (io/xs_wire.h); four bytes.
pub const XENSTORE_CONNECTION: usize = offset_of!(XenstoreDomainInterface, connection);
/// Offset of `error` (io/xs_wire.h); four bytes.
pub const XENSTORE_ERROR: usize = offset_of!(XenstoreDomainInterface, error);
