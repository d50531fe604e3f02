//! `enable_features`: what is off unless it is named, by Prometheus' names.

use anyhow::{Result, bail};

/// Which of them are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// `use-start-timestamps`: functions over ranges look at when samples began at zero.
    pub(crate) use_start_timestamps: bool,
    /// `st-storage`: `_created` lines of scraped OpenMetrics are starts and no series. All other starts
    /// are stored without it.
    pub(crate) st_storage: bool,
    /// `type-and-unit-labels`: scrapes, OTLP and remote write 2.0 give series the labels `__type__` and
    /// `__unit__`.
    pub(crate) type_and_unit_labels: bool,
}

impl Features {
    /// Those that are named.
    ///
    /// # Errors
    /// A name that is none of them.
    pub(super) fn named(names: &[String]) -> Result<Features> {
        let mut features = Features::default();
        for name in names {
            match name.as_str() {
                "use-start-timestamps" => features.use_start_timestamps = true,
                "st-storage" => features.st_storage = true,
                "type-and-unit-labels" => features.type_and_unit_labels = true,
                unknown => bail!(
                    "enable_features: {unknown:?} cannot be switched; use-start-timestamps, \
                     st-storage and type-and-unit-labels can, and the other features of Prometheus \
                     that Watchfire has are always on: leave it out"
                ),
            }
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_features_are_named() {
        let named = |names: &[&str]| {
            Features::named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(named(&[]).expect("nothing"), Features::default());
        let one = named(&["use-start-timestamps"]).expect("known");
        assert!(one.use_start_timestamps && !one.st_storage);
        assert!(named(&["st-storage"]).expect("known").st_storage);
        let labels = named(&["type-and-unit-labels"]).expect("known");
        assert_eq!(labels, Features { type_and_unit_labels: true, ..Features::default() });
        let error = named(&["st-storage", "agent"]).expect_err("unknown").to_string();
        assert!(error.contains("\"agent\"") && error.contains("use-start-timestamps"), "{error}");
    }
}
