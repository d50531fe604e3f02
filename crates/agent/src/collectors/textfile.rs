//! Metrics that other programs leave in files. Source: the text format of Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Labels, LabelsBuilder, METRIC_NAME, MetricType};
use wire::Entry;
use wire::exposition::Parser;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::read_once;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const MTIME: Family =
    Family::gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
const SCRAPE_ERROR: Family = Family::gauge(
    "node_textfile_scrape_error",
    "1 if there was an error opening or reading a file, 0 otherwise",
);
/// Ours alone: Node Exporter only says that there is a bad file.
const FILE_ERROR: Family = Family::gauge(
    "node_textfile_file_error",
    "1 for each file that could not be read, or not wholly.",
);

/// The series in `*.prom` of the configured directories, and `node_textfile_*`.
///
/// A file with a mistake is left out as a whole, like one with timestamps, which would soon be
/// stale. Where files describe a metric differently the first file counts.
pub(crate) struct Textfile {
    patterns: Vec<PathBuf>,
    buffer: Vec<u8>,
    /// What was wrong at the last run, so that it is logged once.
    complaints: BTreeMap<PathBuf, String>,
}

impl Textfile {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Textfile {
            patterns: config.textfile_directories.clone(),
            buffer: Vec::new(),
            complaints: BTreeMap::new(),
        }
    }
}

impl Survey for Textfile {
    fn name(&self) -> &'static str {
        "textfile"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let mut complaints = BTreeMap::new();
        let mut families = Families::default();
        for path in self.files(&mut complaints) {
            let parsed = match read_once(&path, &mut self.buffer) {
                Ok(text) => parse(text),
                Err(error) => Err(error.to_string()),
            };
            match parsed {
                Ok(parsed) => {
                    for complaint in families.merge(&path, parsed) {
                        complaints.insert(path.clone(), complaint);
                    }
                    let seconds = modified_seconds(&path);
                    out.put(&MTIME, &[("file", &*path.display().to_string())], seconds);
                }
                Err(complaint) => {
                    complaints.insert(path, complaint);
                }
            }
        }
        families.put(out);
        for (path, complaint) in &complaints {
            if self.complaints.get(path) != Some(complaint) {
                tracing::warn!(file = %path.display(), reason = %complaint, "bad textfile");
            }
            out.put(&FILE_ERROR, &[("file", &*path.display().to_string())], 1.0);
        }
        out.put(&SCRAPE_ERROR, &[], f64::from(u8::from(!complaints.is_empty())));
        self.complaints = complaints;
        Ok(())
    }
}

impl Textfile {
    /// All files that are to be read, in a fixed order.
    fn files(&self, complaints: &mut BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for pattern in &self.patterns {
            for directory in expand(pattern) {
                match sysfs::names(&directory) {
                    Ok(names) => {
                        let names = names.iter().filter(|name| name.ends_with(".prom"));
                        files.extend(names.map(|name| directory.join(name)));
                    }
                    Err(error) => {
                        complaints.insert(directory, error.to_string());
                    }
                }
            }
        }
        files
    }
}

/// The paths a pattern stands for; `*` and `?` stand for characters of one part of a path. A
/// pattern without them, or that matches nothing, stands for itself.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let is_wild = |part: &str| part.contains(['*', '?']);
    let mut found = vec![PathBuf::new()];
    for part in pattern {
        match part.to_str().filter(|part| is_wild(part)) {
            None => found.iter_mut().for_each(|path| path.push(part)),
            Some(wild) => {
                let below = found.into_iter().flat_map(|path| {
                    let listed = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
                    let names = sysfs::names_if_any(listed).into_iter();
                    let names = names.filter(|name| is_match(wild.as_bytes(), name.as_bytes()));
                    names.map(|name| path.join(name)).collect::<Vec<_>>()
                });
                found = below.collect();
            }
        }
    }
    if found.is_empty() { vec![pattern.to_owned()] } else { found }
}

/// Whether `name` is as `pattern` says.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            is_match(rest, name)
                || name.split_first().is_some_and(|(_, tail)| is_match(pattern, tail))
        }
        ([b'?', rest @ ..], [_, tail @ ..]) => is_match(rest, tail),
        ([wanted, rest @ ..], [byte, tail @ ..]) => wanted == byte && is_match(rest, tail),
        _ => false,
    }
}

fn modified_seconds(path: &Path) -> f64 {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    let since = modified.unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// A family in one file.
#[derive(Debug, Default)]
struct Described {
    kind: MetricType,
    help: String,
    samples: Vec<(Labels, f64)>,
}

impl Described {
    /// Adds the sums and counts that a histogram or summary lacks, as zeros, which is what Node
    /// Exporter shows for them.
    fn complete(&mut self, name: &str) {
        if !matches!(self.kind, MetricType::Histogram | MetricType::Summary) {
            return;
        }
        let is_own = |label: &str| !matches!(label, METRIC_NAME | "le" | "quantile");
        let known: BTreeSet<Labels> =
            self.samples.iter().map(|(labels, _)| labels.clone()).collect();
        let groups: BTreeSet<Labels> = known.iter().map(|labels| labels.filter(is_own)).collect();
        for group in groups {
            for end in ["_sum", "_count"] {
                let mut labels = LabelsBuilder::from_labels(&group);
                let labels = labels.set(METRIC_NAME, &format!("{name}{end}")).build();
                if !known.contains(&labels) {
                    self.samples.push((labels, 0.0));
                }
            }
        }
    }
}

/// The families of a file by name.
fn parse(text: &[u8]) -> Result<BTreeMap<String, Described>, String> {
    let mut families: BTreeMap<String, Described> = BTreeMap::new();
    let mut parser = Parser::new(text);
    loop {
        let entry = parser.next_entry().map_err(|error| error.to_string())?;
        match entry {
            None => {
                families.iter_mut().for_each(|(name, family)| family.complete(name));
                return Ok(families);
            }
            Some(Entry::Help { metric, text }) => {
                families.entry(metric.into_owned()).or_default().help = text.into_owned();
            }
            Some(Entry::Type { metric, kind }) => {
                families.entry(metric.into_owned()).or_default().kind = kind;
            }
            Some(Entry::Series(series)) => {
                let labels = series.labels().map_err(|error| error.to_string())?;
                if series.timestamp_ms.is_some() {
                    return Err(format!("{labels} has a timestamp; leave it out"));
                }
                let name = family_of(labels.metric_name().unwrap_or_default(), &families);
                let family = families.entry(name.to_owned()).or_default();
                family.samples.push((labels, series.value));
            }
            Some(_) => {}
        }
    }
}

/// The name of the family that the metric `name` belongs to.
fn family_of<'a>(name: &'a str, families: &BTreeMap<String, Described>) -> &'a str {
    let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
    let is_composed = |base: &&str| {
        families.get(*base).is_some_and(|family| {
            matches!(family.kind, MetricType::Histogram | MetricType::Summary)
        })
    };
    base.filter(is_composed).unwrap_or(name)
}

/// The families of all files.
#[derive(Default)]
struct Families {
    by_name: BTreeMap<String, (Described, Vec<String>)>,
}

impl Families {
    /// Adds those of one file; yields what contradicts files before it.
    fn merge(&mut self, path: &Path, parsed: BTreeMap<String, Described>) -> Vec<String> {
        let mut complaints = Vec::new();
        for (name, described) in parsed {
            if described.samples.is_empty() {
                continue;
            }
            let shown = path.display().to_string();
            let Some((known, files)) = self.by_name.get_mut(&name) else {
                self.by_name.insert(name, (described, vec![shown]));
                continue;
            };
            if known.help != described.help || known.kind != described.kind {
                complaints.push(format!(
                    "{name} has another type or help text here than in {}; make them equal",
                    files.join(", ")
                ));
                continue;
            }
            known.samples.extend(described.samples);
            files.push(shown);
        }
        complaints
    }

    fn put(&self, out: &mut Reading) {
        for (name, (described, files)) in &self.by_name {
            let help = match &*described.help {
                "" => format!("Metric read from {}", files.join(", ")),
                help => help.to_owned(),
            };
            for (labels, value) in &described.samples {
                let metric = labels.metric_name().unwrap_or(name);
                let own = labels.iter().filter(|(label, _)| *label != METRIC_NAME);
                out.put_of_family((name, described.kind, &help), metric, own, *value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wild_paths() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in ["a.d", "b.d", "c"] {
            std::fs::create_dir(directory.path().join(name)).expect("directory");
        }
        let names = |pattern: &str| -> Vec<_> {
            let found = expand(&directory.path().join(pattern));
            found.into_iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect()
        };
        assert_eq!(names("*.d"), ["a.d", "b.d"]);
        assert_eq!(names("?"), ["c"]);
        assert_eq!(names("c"), ["c"]);
        assert_eq!(names("none*"), ["none*"]);
        assert!(is_match(b"a*b*c", b"aXbYbc") && !is_match(b"a*b*c", b"aXc"));
    }

    #[test]
    fn a_file_with_a_mistake_is_named_with_its_line() {
        let message = parse(b"good 1\nbad{ 2\n").expect_err("mistake");
        assert!(message.contains("line 2"), "{message}");
        let message = parse(b"m 1 1441205977284\n").expect_err("timestamp");
        assert_eq!(message, "m has a timestamp; leave it out");
    }

    #[test]
    fn parts_of_histograms_belong_to_their_family() {
        let text = b"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 2\nh_count 1\nx_count 7\n";
        let families = parse(text).expect("valid");
        assert_eq!(families["h"].samples.len(), 3);
        assert_eq!(families["x_count"].samples.len(), 1);
    }
}
