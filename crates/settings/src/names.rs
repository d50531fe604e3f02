//! Which metric and label names are valid.

/// A rule for names (`common/model`, `ValidationScheme`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameValidation {
    /// Any UTF-8 that is not empty.
    #[default]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics, the same without `:` for labels.
    Legacy,
}

impl NameValidation {
    /// Whether `name` may name a label.
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            NameValidation::Utf8 => !name.is_empty(),
            NameValidation::Legacy => model::is_legacy_metric_name(name) && !name.contains(':'),
        }
    }
}
