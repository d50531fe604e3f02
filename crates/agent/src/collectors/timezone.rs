//! The host's time zone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::zone::{ZoneOffset, offset_at};

use crate::collector::Cadence;
use crate::config::AgentConfig;
use crate::proc_reader::read_once;

/// How often the zone is read again; it changes when an administrator moves the host.
const PERIOD: Duration = Duration::from_secs(60);

/// The zone of this host, UTC until it is known.
pub(crate) struct TimeZone {
    path: Option<PathBuf>,
    cadence: Cadence,
    buffer: Vec<u8>,
    length: usize,
}

const UTC: ZoneOffset<'static> = ZoneOffset { name: "UTC", seconds: 0 };

impl TimeZone {
    /// The zone that `TZ` names, else that of `/etc/localtime`.
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let path = match std::env::var("TZ") {
            Ok(name) if name.is_empty() => None,
            Ok(name) => {
                let name = name.trim_start_matches(':');
                // An absolute path replaces the directory, as it should.
                Some(config.root_fs.join("usr/share/zoneinfo").join(name))
            }
            Err(_) => Some(config.root_fs.join("etc/localtime")),
        };
        TimeZone { path, cadence: Cadence::new(PERIOD), buffer: Vec::new(), length: 0 }
    }

    /// The offset at `unix_s`.
    pub(crate) fn at(&mut self, unix_s: i64, now: Instant) -> ZoneOffset<'_> {
        if let Some(path) = &self.path
            && self.cadence.due(now)
        {
            self.length = read_once(path, &mut self.buffer).map_or(0, <[u8]>::len);
        }
        offset_at(&self.buffer[..self.length], unix_s).unwrap_or(UTC)
    }
}
