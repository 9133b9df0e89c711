//! The console as hypercalls and debug keys use it; the binary implements it over the serial line,
//! the log ring and the received keys.

use super::ring::{ReadRequest, ReadResult};

/// Where console text goes and comes from. All methods may be called on any CPU, outside interrupt
/// handlers and with no lock of the console held.
pub trait ConsoleSink: Send + Sync {
    /// Prints text of the control domain as it is (`CONSOLEIO_write`): it may be one half of a
    /// dialogue with the operator.
    fn control_write(&self, text: &[u8]);

    /// Prints a line of the hypervisor that the operator asked for, whatever the log levels say. It
    /// comes without prefix and without newline.
    fn host_line(&self, line: &str);

    /// Moves keys that wait for the control domain to `out` (`CONSOLEIO_read`); returns how many.
    fn read_input(&self, out: &mut [u8]) -> usize;

    /// Copies kept text out of the log ring (`XEN_SYSCTL_readconsole`).
    fn read_ring(&self, request: ReadRequest, out: &mut [u8]) -> ReadResult;
}
