//! From what discovery found to something that can be scraped.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use discovery::{escape, escape_path};
use http::Uri;
use model::{Labels, LabelsBuilder};
use settings::prometheus::ScrapeConfig;
use settings::relabel::{LabelBuffer, relabel};
use settings::{TargetGroup, format_duration, parse_duration};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
pub(super) const INTERVAL: &str = "__scrape_interval__";
pub(super) const TIMEOUT: &str = "__scrape_timeout__";
/// Labels by which relabeling overrides the job's options about histograms for one target, since
/// Prometheus 3.13.
pub(super) const SCRAPE_NATIVE: &str = "__scrape_native_histograms__";
pub(super) const KEEP_CLASSIC: &str = "__always_scrape_classic_histograms__";
pub(super) const CONVERT_CLASSIC: &str = "__convert_classic_histograms_to_nhcb__";
const PARAM: &str = "__param_";
const META: &str = "__meta_";
const RESERVED: &str = "__";
const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// What is scraped; two are the same target when they are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// All labels after relabeling, except `__meta_*`.
    pub(super) labels: Labels,
    /// Where it is, as Go's `URL.String` writes it.
    pub(super) url: String,
}

/// What became of one discovered target.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Built {
    /// It is scraped.
    Active { target: Target, discovered: Labels },
    /// Relabeling dropped it.
    Dropped { discovered: Labels },
}

impl Target {
    /// The labels its series get.
    pub(super) fn public_labels(&self) -> Labels {
        self.labels.filter(|name| !name.starts_with(RESERVED))
    }

    /// How often it is scraped.
    pub(super) fn interval(&self) -> Duration {
        self.duration(INTERVAL)
    }

    /// How long a scrape may take.
    pub(super) fn timeout(&self) -> Duration {
        self.duration(TIMEOUT)
    }

    fn duration(&self, name: &str) -> Duration {
        parse_duration(self.written(name)).expect("checked when the target was built")
    }

    /// The value of a label as it is, or nothing.
    pub(super) fn written(&self, name: &str) -> &str {
        self.labels.get(name).unwrap_or_default()
    }

    /// What a label says that is true or false; `None` if it says neither.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.labels.get(name)?.parse().ok()
    }

    /// The URL to request.
    ///
    /// # Errors
    /// It is none, in words.
    pub(super) fn uri(&self) -> Result<Uri, String> {
        self.url
            .parse()
            .map_err(|error| format!("{:?} is no URL ({error}); check `__address__`", self.url))
    }

    /// Differs between targets and stays the same between runs.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.labels.as_packed().hash(&mut hasher);
        self.url.hash(&mut hasher);
        hasher.finish()
    }

    /// The same in every process and version (FNV-1a, with 64 bits), for those who share targets.
    pub(super) fn place(&self) -> u64 {
        let bytes = self.labels.as_packed().iter().chain(self.url.as_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Builds every target of a group; what cannot be one is an error in words.
pub(super) fn build<'a>(
    group: &'a TargetGroup,
    config: &'a ScrapeConfig,
    work: &'a mut LabelBuffer,
) -> impl Iterator<Item = Result<Built, String>> + 'a {
    group.targets.iter().enumerate().map(move |(index, labels)| {
        let discovered = discovered_labels(labels, &group.labels, config);
        build_one(discovered, config, work)
            .map_err(|error| format!("instance {index} in group {}: {error}", group.source))
    })
}

/// The labels before relabeling: those of the target, of its group, and of the job.
pub(super) fn discovered_labels(target: &Labels, group: &Labels, config: &ScrapeConfig) -> Labels {
    let mut labels = LabelsBuilder::from_labels(group);
    for (name, value) in target.iter() {
        labels.set(name, value);
    }
    let interval = format_duration(config.scrape_interval);
    let timeout = format_duration(config.scrape_timeout);
    let defaults = [
        (JOB, config.job_name.as_str()),
        (INTERVAL, &interval),
        (TIMEOUT, &timeout),
        (METRICS_PATH, &config.metrics_path),
        (SCHEME, &config.scheme),
        (SCRAPE_NATIVE, truth(config.scrape_native_histograms)),
        (KEEP_CLASSIC, truth(config.always_scrape_classic_histograms)),
        (CONVERT_CLASSIC, truth(config.convert_classic_histograms_to_nhcb)),
    ];
    for (name, value) in defaults {
        set_if_absent(&mut labels, name, value);
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            set_if_absent(&mut labels, &format!("{PARAM}{name}"), first);
        }
    }
    labels.build()
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn set_if_absent(labels: &mut LabelsBuilder, name: &str, value: &str) {
    if labels.get(name).is_none() {
        labels.set(name, value);
    }
}

fn build_one(
    discovered: Labels,
    config: &ScrapeConfig,
    work: &mut LabelBuffer,
) -> Result<Built, String> {
    work.load(&discovered);
    if !relabel(&config.relabel_configs, work) || work.is_empty() {
        return Ok(Built::Dropped { discovered });
    }
    let address = work.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let interval = positive(work.get(INTERVAL), "interval")?;
    let timeout = positive(work.get(TIMEOUT), "timeout")?;
    if timeout > interval {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({:?} > {:?})",
            work.get(TIMEOUT),
            work.get(INTERVAL)
        ));
    }
    if work.get(INSTANCE).is_empty() {
        work.set(INSTANCE, &address);
    }
    let labels =
        work.to_labels().map_err(|error| error.to_string())?.filter(|name| !name.starts_with(META));
    let url = url(&labels, config);
    Ok(Built::Active { target: Target { labels, url }, discovered })
}

fn positive(text: &str, what: &str) -> Result<Duration, String> {
    let duration =
        parse_duration(text).map_err(|error| format!("error parsing scrape {what}: {error}"))?;
    if duration.is_zero() {
        return Err(format!("scrape {what} cannot be 0"));
    }
    Ok(duration)
}

/// Scheme, host, path and parameters, those of `__param_*` in the first place.
fn url(labels: &Labels, config: &ScrapeConfig) -> String {
    let mut params: BTreeMap<&str, Vec<&str>> = config
        .params
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    for (name, value) in labels.iter() {
        if let Some(name) = name.strip_prefix(PARAM) {
            let values = params.entry(name).or_default();
            match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            }
        }
    }
    let get = |name| labels.get(name).unwrap_or_default();
    let mut url = String::new();
    if !get(SCHEME).is_empty() {
        url.push_str(get(SCHEME));
        url.push(':');
    }
    url.push_str("//");
    url.push_str(get(ADDRESS));
    let path = get(METRICS_PATH);
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape_path(path, &mut url);
    let mut separator = '?';
    for (name, values) in params {
        for value in values {
            url.push(separator);
            separator = '&';
            escape_query(name, &mut url);
            url.push('=');
            escape_query(value, &mut url);
        }
    }
    url
}

/// As Go's `url.QueryEscape`.
fn escape_query(text: &str, out: &mut String) {
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            out.push('+');
        }
        escape(part, b"", out);
    }
}
