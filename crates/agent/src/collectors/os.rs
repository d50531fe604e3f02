//! The distribution. Source: `os-release(5)`.

use std::path::PathBuf;
use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{lines, parse_f64, read_once};
use crate::series::{Family, Samples, SeriesRef};

const INFO: Family = Family::gauge(
    "node_os_info",
    "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, \
     image_version, name, pretty_name, variant, variant_id, version, version_codename, \
     version_id.",
);
const VERSION: Family =
    Family::gauge("node_os_version", "Metric containing the major.minor part of the OS version.");

/// Labels of `node_os_info`; in the file they are upper case.
const LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];
const ID: usize = 1;
const ID_LIKE: usize = 2;
const NAME: usize = 5;
const VERSION_ID: usize = 11;

/// How often the file is read again; it changes with an upgrade.
const PERIOD: Duration = Duration::from_secs(60);

/// `node_os_info`, `node_os_version`.
pub(crate) struct Os {
    paths: [PathBuf; 2],
    cadence: Cadence,
    buffer: Vec<u8>,
    values: [String; 12],
    info: Option<SeriesRef>,
    version: Option<SeriesRef>,
}

impl Os {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Os {
            paths: ["etc/os-release", "usr/lib/os-release"].map(|path| config.root_fs.join(path)),
            cadence: Cadence::new(PERIOD),
            buffer: Vec::new(),
            values: Default::default(),
            info: None,
            version: None,
        }
    }

    fn read(&mut self) -> Result<[String; 12], AgentError> {
        let [first, second] = &self.paths;
        if let Ok(text) = read_once(first, &mut self.buffer) {
            return Ok(parse_os_release(text));
        }
        read_once(second, &mut self.buffer).map(parse_os_release)
    }
}

impl Collector for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if self.cadence.due(host.now) {
            let values = self.read();
            if values.is_err() {
                self.cadence.retry();
            }
            let values = values?;
            if values != self.values {
                self.values = values;
                let series = [self.info.take(), self.version.take()];
                series.into_iter().flatten().for_each(|series| out.release(series));
            }
        }
        let values = &self.values;
        let label = |at: usize| (LABELS[at], values[at].as_str());
        out.put(&mut self.info, 1.0, |out| {
            let labels: [_; 12] = std::array::from_fn(label);
            out.register(&INFO, &labels)
        });
        if let Some(version) = major_minor(&values[VERSION_ID]) {
            out.put(&mut self.version, version, |out| {
                out.register(&VERSION, &[label(ID), label(ID_LIKE), label(NAME)])
            });
        }
        Ok(Outcome::Collected)
    }
}

fn parse_os_release(text: &[u8]) -> [String; 12] {
    let mut values: [String; 12] = Default::default();
    for line in lines(text) {
        let Some(equals) = line.iter().position(|&b| b == b'=') else { continue };
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        if let Some(at) = LABELS.iter().position(|l| l.as_bytes().eq_ignore_ascii_case(key)) {
            values[at] = unquote(&String::from_utf8_lossy(value));
        }
    }
    values
}

/// Removes a shell's quotes and, inside double quotes, its backslashes.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let inside = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(literal) = inside('\'') {
        return literal.to_owned();
    }
    let Some(escaped) = inside('"') else { return value.to_owned() };
    let mut plain = String::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// `20.04` of `20.04.2`; nothing for versions that start with no digit.
fn major_minor(version: &str) -> Option<f64> {
    let mut dots = 0;
    let end = version.find(|c: char| {
        dots += usize::from(c == '.');
        !(c.is_ascii_digit() || c == '.') || dots > 1
    });
    let number = version[..end.unwrap_or(version.len())].trim_end_matches('.');
    if number.starts_with('.') { None } else { parse_f64(number.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(major_minor("20.04.2"), Some(20.04));
        assert_eq!(major_minor("12"), Some(12.0));
        assert_eq!(major_minor("12."), Some(12.0));
        assert_eq!(major_minor("3.19_alpha"), Some(3.19));
        assert_eq!(major_minor("rolling"), None);
        assert_eq!(major_minor(".5"), None);
        assert_eq!(major_minor(""), None);
    }

    #[test]
    fn quotes() {
        assert_eq!(unquote(r#""a \"b\" \$c""#), r#"a "b" $c"#);
        assert_eq!(unquote(r"'a\b'"), r"a\b");
        assert_eq!(unquote("plain"), "plain");
        assert_eq!(unquote("\""), "\"");
        let values = parse_os_release(b"# c\nNAME=\"X\"\nbroken\nID=\xff\n");
        assert_eq!((values[NAME].as_str(), values[ID].as_str()), ("X", "\u{fffd}"));
    }
}
