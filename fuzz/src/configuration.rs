//! Configuration files and the small texts in them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use settings::prometheus::{Config, Loaded, Surroundings};
use settings::yaml::Document;
use settings::{Faults, HttpUrl, format_duration, glob, parse_duration, parse_size, target_groups};

use crate::input::text_of;

/// A document, and the same as any typed value; faults can be shown and lie inside the text.
pub(crate) fn yaml(bytes: &[u8]) {
    match Document::parse("fuzz.yml", bytes) {
        Ok(document) => {
            let value: Result<serde_json::Value, Faults> = document.deserialize();
            value.map_or_else(|faults| check_faults(&faults, bytes), drop);
            let typed: Result<BTreeMap<String, Option<Vec<u32>>>, Faults> = document.deserialize();
            typed.map_or_else(|faults| check_faults(&faults, bytes), drop);
            for path in ["a", "a.b", "a.0.b", "global.scrape_interval", "", "."] {
                let _ = document.fault(path, "wrong", None).render();
            }
        }
        Err(faults) => check_faults(&faults, bytes),
    }
}

pub(crate) fn check_faults(faults: &Faults, bytes: &[u8]) {
    let lines = 2 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for fault in faults.iter() {
        // The separators of YAML 1.1 beside \n and \r are no line ends here.
        assert!(fault.line <= lines, "line {} of {lines}: {fault}", fault.line);
        assert!(!fault.message.is_empty());
    }
    let _ = faults.to_string();
    let _ = faults.render();
}

/// Prometheus' configuration: what loads has a redacted text that loads as well and has nothing
/// left to redact.
pub(crate) fn prometheus_config(bytes: &[u8]) {
    match load(bytes) {
        Ok(loaded) => {
            let _ = format!("{:?}", loaded.config);
            for warning in &loaded.warnings {
                let _ = warning.render();
            }
            let again = load(loaded.redacted.as_bytes()).unwrap_or_else(|faults| {
                panic!("redacted text does not load: {}\n{}", faults.render(), loaded.redacted)
            });
            assert_eq!(again.redacted, loaded.redacted);
        }
        Err(faults) => check_faults(&faults, bytes),
    }
}

fn load(bytes: &[u8]) -> Result<Loaded, Faults> {
    let mut files = BTreeMap::from([(PathBuf::from("/etc/p/prometheus.yml"), bytes.to_vec())]);
    let jobs = b"scrape_configs:\n- job_name: included\n".to_vec();
    files.insert("/etc/p/jobs/a.yml".into(), jobs);
    Config::load(Path::new("/etc/p/prometheus.yml"), &Files(files))
}

struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Surroundings for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let inside = self.0.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.map(|path| path.file_name().expect("a file").to_string_lossy().into()).collect())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "value".to_owned())
    }
}

/// Groups of targets as YAML and as JSON. JSON is YAML: where both read a text, they agree.
pub(crate) fn target_groups(bytes: &[u8]) {
    let yaml = target_groups::parse("fuzz.yml", bytes);
    let json = target_groups::parse("fuzz.json", bytes);
    if let Err(faults) = &yaml {
        check_faults(faults, bytes);
    }
    match (&json, &yaml) {
        (Err(faults), _) => {
            let _ = faults.render();
        }
        (Ok(json), Ok(yaml)) => assert_eq!(json, yaml, "{}", String::from_utf8_lossy(bytes)),
        // YAML refuses more: tabs, doubled keys, numbers where texts are wanted.
        (Ok(_), Err(_)) => {}
    }
}

/// Durations, sizes, addresses, patterns of paths.
pub(crate) fn scalars(bytes: &[u8]) {
    let text = text_of(bytes);
    match parse_duration(text) {
        Ok(duration) => {
            let written = format_duration(duration);
            assert_eq!(parse_duration(&written), Ok(duration), "{text} -> {written}");
        }
        Err(error) => {
            let _ = error.help();
        }
    }
    let _ = parse_size(text);
    let _ = promql::parse_duration(text);
    match HttpUrl::parse(text) {
        Ok(url) => {
            assert_eq!(url.reveal(), text);
            // No password is shown. What is behind the last @ of the authority is no password.
            let authority = text.split_once("://").map_or("", |(_, rest)| rest);
            let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
            if let Some((user, host)) = authority.rsplit_once('@')
                && let Some((name, password)) = user.split_once(':')
                && !password.is_empty()
            {
                let shown = url.to_string();
                assert!(shown.contains(&format!("{name}:xxxxx@{host}")), "{shown}");
                assert_eq!(shown, format!("{url:?}"));
            }
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
    let (pattern, name) = text.split_once('\n').unwrap_or((text, "a"));
    let is_plain = !pattern.contains(['*', '?', '[', '\\']);
    if is_plain {
        assert_eq!(glob::matches(pattern, name), pattern == name);
    } else {
        let _ = glob::matches(pattern, name);
    }
}
