//! Error numbers of the interface (errno.h): Xen's own set, whatever the guest's system uses.
//!
//! A hypercall reports an error as the negative number. The two numbers that Xen keeps for its
//! inner use (`EINTR`, `ERESTART`) are left out on purpose: no guest may ever see them.

use core::fmt;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// An error a hypercall can report (errno.h); the value is the positive number.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(clippy::upper_case_acronyms)] // the ABI's own spelling
        pub enum Errno {
            $($(#[$doc])* $name = $value,)*
        }

        impl Errno {
            /// Every error of the interface, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name as C sources spell it, e.g. `"EINVAL"`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The error with this positive number, if the interface has one.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    /// Operation not permitted (errno.h).
    EPERM = 1,
    /// Nothing of that name or id (errno.h).
    ENOENT = 2,
    /// No such domain (errno.h).
    ESRCH = 3,
    /// Input or output failed (errno.h).
    EIO = 5,
    /// No such device or address (errno.h).
    ENXIO = 6,
    /// Argument list or count too large (errno.h).
    E2BIG = 7,
    /// Not a loadable image (errno.h).
    ENOEXEC = 8,
    /// Bad descriptor (errno.h).
    EBADF = 9,
    /// No children (errno.h).
    ECHILD = 10,
    /// Not now; try again (errno.h).
    EAGAIN = 11,
    /// Out of memory (errno.h).
    ENOMEM = 12,
    /// Permission denied (errno.h).
    EACCES = 13,
    /// A guest address could not be read or written (errno.h).
    EFAULT = 14,
    /// In use (errno.h).
    EBUSY = 16,
    /// Exists already (errno.h).
    EEXIST = 17,
    /// Crosses a device boundary (errno.h).
    EXDEV = 18,
    /// No such device (errno.h).
    ENODEV = 19,
    /// Not a directory (errno.h).
    ENOTDIR = 20,
    /// Is a directory (errno.h).
    EISDIR = 21,
    /// Invalid argument (errno.h).
    EINVAL = 22,
    /// Table of the system full (errno.h).
    ENFILE = 23,
    /// Table of the caller full (errno.h).
    EMFILE = 24,
    /// No space left (errno.h).
    ENOSPC = 28,
    /// Read-only (errno.h).
    EROFS = 30,
    /// Too many links (errno.h).
    EMLINK = 31,
    /// Outside a function's domain (errno.h).
    EDOM = 33,
    /// Outside the representable range (errno.h).
    ERANGE = 34,
    /// Would dead-lock (errno.h).
    EDEADLK = 35,
    /// Name too long (errno.h).
    ENAMETOOLONG = 36,
    /// No record locks left (errno.h).
    ENOLCK = 37,
    /// Operation not implemented (errno.h).
    ENOSYS = 38,
    /// Directory not empty (errno.h).
    ENOTEMPTY = 39,
    /// No data available (errno.h).
    ENODATA = 61,
    /// The time asked for has passed (errno.h).
    ETIME = 62,
    /// Malformed message (errno.h).
    EBADMSG = 74,
    /// Value does not fit its type (errno.h).
    EOVERFLOW = 75,
    /// Illegal byte sequence (errno.h).
    EILSEQ = 84,
    /// Not a socket (errno.h).
    ENOTSOCK = 88,
    /// Message too large (errno.h).
    EMSGSIZE = 90,
    /// Operation not supported by this object or build (errno.h).
    EOPNOTSUPP = 95,
    /// Address in use (errno.h).
    EADDRINUSE = 98,
    /// Address not available (errno.h).
    EADDRNOTAVAIL = 99,
    /// Buffer too small or none left (errno.h).
    ENOBUFS = 105,
    /// Connected already (errno.h).
    EISCONN = 106,
    /// Not connected (errno.h).
    ENOTCONN = 107,
    /// Timed out (errno.h).
    ETIMEDOUT = 110,
    /// Connection refused (errno.h).
    ECONNREFUSED = 111,
}

impl Errno {
    /// Another name of `EAGAIN` (errno.h).
    pub const EWOULDBLOCK: Self = Self::EAGAIN;
    /// Another name of `EDEADLK` (errno.h).
    pub const EDEADLOCK: Self = Self::EDEADLK;

    /// The positive number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The value a hypercall returns for this error: the number, negated.
    pub const fn to_ret(self) -> i64 {
        -(self as u16 as i64)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Errno {}
