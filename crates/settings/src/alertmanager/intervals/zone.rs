//! Zones of time by name, from the files of the system.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use model::zone;

use crate::prometheus::Surroundings;

/// Where systems keep the files.
const DIRECTORY: &str = "/usr/share/zoneinfo";

/// Largest file that is read; those of the database are below 4 KiB.
const MAX_FILE_BYTES: usize = 256 << 10;

/// A zone of time. Cheap to clone; two are equal if they have the same name.
#[derive(Clone)]
pub struct TimeZone {
    name: Arc<str>,
    /// Its TZif file; empty for UTC.
    file: Arc<[u8]>,
}

impl TimeZone {
    /// Coordinated universal time.
    pub fn utc() -> TimeZone {
        TimeZone { name: Arc::from("UTC"), file: Arc::default() }
    }

    /// The zone of that name, from the files of the system. `None` if there is none. `Local` is
    /// that of this host, as the variable `TZ` or else `/etc/localtime` has it; UTC if neither
    /// says anything.
    pub fn load(name: &str, surroundings: &dyn Surroundings) -> Option<TimeZone> {
        match name {
            "" | "UTC" => Some(TimeZone { name: Arc::from(name), file: Arc::default() }),
            "Local" => Some(TimeZone { name: Arc::from(name), file: local_file(surroundings) }),
            name => TimeZone::named(name, surroundings),
        }
    }

    fn named(name: &str, surroundings: &dyn Surroundings) -> Option<TimeZone> {
        let valid = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if name.len() > 128 || !name.split('/').all(valid) {
            return None;
        }
        let bytes = surroundings.read(&Path::new(DIRECTORY).join(name)).ok()?;
        TimeZone::parse(name, &bytes)
    }

    /// A zone from the bytes of its file. `None` if they are malformed.
    pub fn parse(name: &str, bytes: &[u8]) -> Option<TimeZone> {
        if bytes.len() > MAX_FILE_BYTES {
            return None;
        }
        zone::offset_at(bytes, 0)?;
        Some(TimeZone { name: Arc::from(name), file: Arc::from(bytes) })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much later than UTC it is at a moment, in seconds. What a file does not say is zero.
    pub fn offset_s(&self, unix_s: i64) -> i64 {
        let offset = zone::offset_at(&self.file, unix_s);
        offset.map_or(0, |offset| i64::from(offset.seconds))
    }
}

/// The file of the zone this host is in.
fn local_file(surroundings: &dyn Surroundings) -> Arc<[u8]> {
    let zone = match surroundings.variable("TZ") {
        Some(name) => TimeZone::named(name.trim_start_matches(':'), surroundings),
        None => {
            let bytes = surroundings.read(Path::new("/etc/localtime")).ok();
            bytes.and_then(|bytes| TimeZone::parse("Local", &bytes))
        }
    };
    zone.unwrap_or_else(TimeZone::utc).file
}

impl PartialEq for TimeZone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TimeZone {}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;

    fn file(footer: &str) -> Vec<u8> {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend([0, 0, 0x0e, 0x10, 0, 0]);
        block.extend(b"CET\0");
        let mut all = [block.clone(), block].concat();
        all.extend(format!("\n{footer}\n").bytes());
        all
    }

    #[test]
    fn the_rule_at_the_end_holds() {
        let berlin = TimeZone::parse("x", &file("CET-1CEST,M3.5.0,M10.5.0/3")).expect("a zone");
        for (unix_s, hours) in [
            (1_774_745_999, 1), // 2026-03-29T00:59:59Z
            (1_774_746_000, 2),
            (1_792_889_999, 2), // 2026-10-25T00:59:59Z
            (1_792_890_000, 1),
        ] {
            assert_eq!(berlin.offset_s(unix_s), hours * 3_600, "{unix_s}");
        }
        let sydney = TimeZone::parse("x", &file("AEST-10AEDT,M10.1.0,M4.1.0/3")).expect("a zone");
        assert_eq!(sydney.offset_s(1_767_225_600), 11 * 3_600); // 2026-01-01
        assert_eq!(sydney.offset_s(1_782_864_000), 10 * 3_600); // 2026-07-01
        let fixed = TimeZone::parse("x", &file("<+0545>-5:45")).expect("a zone");
        assert_eq!(fixed.offset_s(0), 5 * 3_600 + 45 * 60);
    }

    struct Host(Option<&'static str>);

    impl Surroundings for Host {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            match path.to_str() {
                Some("/etc/localtime") => Ok(file("CET-1")),
                Some("/usr/share/zoneinfo/Asia/Shanghai") => Ok(file("CST-8")),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }

        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn variable(&self, name: &str) -> Option<String> {
            self.0.filter(|_| name == "TZ").map(str::to_owned)
        }
    }

    #[test]
    fn zones_have_names() {
        let hours = |name, tz| TimeZone::load(name, &Host(tz)).map(|z| z.offset_s(0) / 3_600);
        assert_eq!(hours("Asia/Shanghai", None), Some(8));
        assert_eq!(hours("Local", None), Some(1));
        assert_eq!(hours("Local", Some(":Asia/Shanghai")), Some(8));
        assert_eq!(hours("Local", Some("Nowhere")), Some(0));
        assert_eq!((hours("UTC", None), hours("", None)), (Some(0), Some(0)));
        for name in ["Nowhere", "../../../etc/localtime", "/etc/localtime", "a//b", "Asia"] {
            assert_eq!(hours(name, None), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn bad_files_do_no_harm(cut in 0_usize..100, at in 0_usize..100, byte: u8, when: i32) {
            let mut bytes = file("CET-1CEST,M3.5.0,M10.5.0/3");
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Some(zone) = TimeZone::parse("x", &bytes) {
                zone.offset_s(i64::from(when));
            }
        }
    }
}
