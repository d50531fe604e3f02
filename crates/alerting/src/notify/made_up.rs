//! The alert by which receivers are tried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{LabelError, Labels};

use super::{Alert, Fingerprint, NotifiedAlert};

const LABELS: [(&str, &str); 2] = [("alertname", "WatchfireTest"), ("severity", "info")];
const ANNOTATIONS: [(&str, &str); 2] = [
    ("summary", "A test of this receiver"),
    ("description", "Somebody asked Watchfire to test this receiver. Nothing is wrong."),
];

/// An alert that fires and says that it is a test, with these labels in place of its own of that name;
/// one with an empty value is taken out.
///
/// # Errors
/// A label without a name.
pub fn made_up_alert(
    labels: &BTreeMap<String, String>,
    now_ns: i64,
) -> Result<NotifiedAlert, LabelError> {
    let mut all: BTreeMap<&str, &str> = LABELS.into();
    all.extend(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let labels = Labels::from_pairs(all)?;
    let annotations = ANNOTATIONS.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let fingerprint = Fingerprint::of(&labels);
    let alert = Alert {
        labels,
        annotations: annotations.into_iter().collect(),
        starts_at_ns: now_ns,
        ends_at_ns: now_ns,
        updated_at_ns: now_ns,
        timed_out: false,
        generator_url: String::new(),
    };
    Ok(NotifiedAlert { alert: Arc::new(alert), fingerprint, resolved: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_take_the_place_of_those_that_are_made_up() {
        let labels = [("severity", ""), ("team", "db"), ("alertname", "DiskFull")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let alert = made_up_alert(&labels, 7).expect("labels");
        assert_eq!(alert.alert.labels.to_string(), r#"{alertname="DiskFull", team="db"}"#);
        let nameless = [(String::new(), "x".to_owned())].into();
        assert_eq!(made_up_alert(&nameless, 7).err(), Some(LabelError::EmptyName));
    }
}
