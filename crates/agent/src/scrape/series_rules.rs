//! From the labels a target exposes to those that are stored.

use model::{Labels, METRIC_NAME, is_legacy_metric_name};
use settings::NameValidation;
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};
use wire::LabelText;

use super::error::ScrapeError;

/// Put before a label of the target's own that would hide one of Watchfire's.
const EXPORTED: &str = "exported_";
/// So much of a name or value is shown in errors.
const SHOWN_BYTES: usize = 50;

/// What happens to the labels of every series of one target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeriesRules {
    pub(super) honor_labels: bool,
    /// The target's labels, without those that begin with `__`.
    pub(super) target_labels: Labels,
    pub(super) metric_relabel_configs: Vec<RelabelConfig>,
    /// What every series gets that does not have it; no rule and no limit looks at them.
    pub(super) external_labels: Labels,
    pub(super) names: NameValidation,
    /// Limits; 0 means none.
    pub(super) label_limit: usize,
    pub(super) label_name_length_limit: usize,
    pub(super) label_value_length_limit: usize,
}

impl SeriesRules {
    /// Leaves the labels to store in `work`; false when the series is dropped.
    ///
    /// # Errors
    /// What makes the whole scrape fail: no name, invalid names, limits of labels.
    pub(super) fn apply(
        &self,
        exposed: &LabelText,
        work: &mut LabelBuffer,
    ) -> Result<bool, ScrapeError> {
        work.clear();
        for (name, value) in exposed.iter() {
            work.load_label(name, value);
        }
        if self.honor_labels {
            self.add_missing(exposed, work);
        } else {
            self.overwrite(work);
        }
        if !relabel(&self.metric_relabel_configs, work) || work.is_empty() {
            return Ok(false);
        }
        self.check_names(work)?;
        self.check_limits(work)?;
        for (name, value) in self.external_labels.iter() {
            if work.get(name).is_empty() {
                work.set(name, value);
            }
        }
        Ok(true)
    }

    /// An empty label of the target counts as one it has: that is how a Pushgateway says that a
    /// series belongs to no instance.
    fn add_missing(&self, exposed: &LabelText, work: &mut LabelBuffer) {
        for (name, value) in self.target_labels.iter() {
            if !exposed.iter().any(|(exposed, _)| exposed == name) {
                work.set(name, value);
            }
        }
    }

    fn overwrite(&self, work: &mut LabelBuffer) {
        let mut hidden: Vec<(&str, String)> = Vec::new();
        for (name, value) in self.target_labels.iter() {
            let exposed = work.get(name);
            if !exposed.is_empty() {
                hidden.push((name, exposed.to_owned()));
            }
            work.set(name, value);
        }
        // The shortest first, so that `a` becomes `exported_a` before `exported_a` itself, exposed
        // as well, looks for a place. The sort is stable.
        hidden.sort_by_key(|(name, _)| name.len());
        for (name, value) in hidden {
            let mut free = format!("{EXPORTED}{name}");
            while !work.get(&free).is_empty() {
                free.insert_str(0, EXPORTED);
            }
            work.set(&free, &value);
        }
    }

    fn check_names(&self, work: &LabelBuffer) -> Result<(), ScrapeError> {
        let metric = work.get(METRIC_NAME);
        if metric.is_empty() {
            return Err(ScrapeError::NoName);
        }
        if self.names == NameValidation::Utf8 {
            return Ok(());
        }
        let is_valid = is_legacy_metric_name(metric)
            && work.iter().all(|(name, _)| is_legacy_metric_name(name) && !name.contains(':'));
        if is_valid {
            return Ok(());
        }
        let shown = work.to_labels().map_or_else(|error| error.to_string(), |l| l.to_string());
        Err(ScrapeError::Name(shown))
    }

    fn check_limits(&self, work: &LabelBuffer) -> Result<(), ScrapeError> {
        let metric = || shorten(work.get(METRIC_NAME));
        if self.label_limit > 0 && work.len() > self.label_limit {
            let (found, limit) = (work.len(), self.label_limit);
            return Err(ScrapeError::LabelCount { metric: metric(), found, limit });
        }
        if self.label_name_length_limit == 0 && self.label_value_length_limit == 0 {
            return Ok(());
        }
        for (name, value) in work.iter() {
            let limit = self.label_name_length_limit;
            if limit > 0 && name.len() > limit {
                let (metric, label, found) = (metric(), shorten(name), name.len());
                return Err(ScrapeError::LabelName { metric, label, found, limit });
            }
            let limit = self.label_value_length_limit;
            if limit > 0 && value.len() > limit {
                let (metric, label, found) = (metric(), shorten(name), value.len());
                let value = shorten(value);
                return Err(ScrapeError::LabelValue { metric, label, value, found, limit });
            }
        }
        Ok(())
    }
}

fn shorten(text: &str) -> String {
    text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned()
}
