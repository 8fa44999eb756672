//! What the instances of a plugin may use.

use std::time::Duration;

use crate::allowed_file::AllowedFiles;
use crate::egress::AllowedHost;

/// Bytes of the state that a plugin's instances share, unless its limits say otherwise.
pub const DEFAULT_BYTES: usize = 4 << 20;
/// Entries of the state that a plugin's instances share, unless its limits say otherwise.
pub const DEFAULT_ENTRIES: usize = 16_384;

/// Limits of a plugin's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: usize,
    /// Wall-clock time of one `pick` or `route` call.
    pub deadline: Duration,
    /// Wall-clock time of one call of `describe`, `configure` or `update`, and of a discovery plugin's work between two waits.
    pub configure_deadline: Duration,
    /// Hosts a discovery plugin may reach.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Entries of the state that its instances share.
    pub shared_entries: usize,
    /// Bytes of the state that its instances share.
    pub shared_bytes: usize,
    /// Files a discovery plugin may read.
    pub allowed_files: AllowedFiles,
    /// Requests and look-ups of a discovery plugin under way at once.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            deadline: Duration::from_millis(20),
            configure_deadline: Duration::from_secs(2),
            allowed_hosts: Vec::new(),
            shared_entries: DEFAULT_ENTRIES,
            shared_bytes: DEFAULT_BYTES,
            allowed_files: AllowedFiles::default(),
            requests: 64,
        }
    }
}
