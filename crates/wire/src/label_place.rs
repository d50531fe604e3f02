//! Where one label stands among the label bytes of a series that nobody has checked yet.

use std::ops::Range;

use model::LabelForm;

use crate::protobuf::{self, Field};

/// A label inside label bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelPlace {
    /// What has to be cut out so that the rest, in the same form, is the series without the label.
    pub whole: Range<usize>,
    /// Its value, of any bytes.
    pub value: Range<usize>,
}

/// The first label called `name` with a value that is not empty, which would mean that there is no
/// such label. `None` also where the bytes are not of their form; whoever decodes them will say so.
///
/// Allocates nothing; as fast as it can walk over the lengths.
pub fn find_label(form: LabelForm, bytes: &[u8], name: &[u8]) -> Option<LabelPlace> {
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let (found, value) = match form {
            LabelForm::Packed | LabelForm::Pairs => prefixed_pair(bytes, &mut at)?,
            LabelForm::RemoteWrite1 => remote_write_label(bytes, &mut at)?,
        };
        if bytes[found] == *name && !value.is_empty() {
            return Some(LabelPlace { whole: start..at, value });
        }
    }
    None
}

fn prefixed_pair(bytes: &[u8], at: &mut usize) -> Option<(Range<usize>, Range<usize>)> {
    let mut part = || {
        let end = protobuf::length(bytes, at, bytes.len()).ok()?;
        let start = std::mem::replace(at, end);
        Some(start..end)
    };
    Some((part()?, part()?))
}

fn remote_write_label(bytes: &[u8], at: &mut usize) -> Option<(Range<usize>, Range<usize>)> {
    let (1, Field::Bytes { start: mut inner, end }) =
        protobuf::field(bytes, at, bytes.len()).ok()?
    else {
        return None;
    };
    let (mut name, mut value) = (0..0, 0..0);
    while inner < end {
        match protobuf::field(bytes, &mut inner, end).ok()? {
            (1, Field::Bytes { start, end }) => name = start..end,
            (2, Field::Bytes { start, end }) => value = start..end,
            _ => {}
        }
    }
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use model::{Labels, Limits};
    use proptest::prelude::*;

    use super::*;
    use crate::decode_labels;

    fn written(form: LabelForm, pairs: &[(String, String)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            let mut label = Vec::new();
            for (tag, text) in [(0x0a, name), (0x12, value)] {
                if form == LabelForm::RemoteWrite1 {
                    label.push(tag);
                }
                // All texts here are short enough for a length of one byte.
                label.push(text.len() as u8);
                label.extend_from_slice(text.as_bytes());
            }
            if form == LabelForm::RemoteWrite1 {
                bytes.extend([0x0a, label.len() as u8]);
            }
            bytes.extend(label);
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_left_is_the_series_without_the_label(
            others in proptest::collection::btree_map("[a-f]{1,3}", "[a-z]{0,9}", 0..6),
            value in proptest::option::of("[a-z]{0,9}"),
            place in 0..7_usize,
            form in prop_oneof![
                Just(LabelForm::Pairs), Just(LabelForm::RemoteWrite1), Just(LabelForm::Packed)
            ],
        ) {
            let mut pairs: Vec<(String, String)> = others.into_iter().collect();
            pairs.push(("__name__".to_owned(), "m".to_owned()));
            pairs.retain(|(_, value)| form != LabelForm::Packed || !value.is_empty());
            let without = pairs.clone();
            if let Some(value) = &value && (form != LabelForm::Packed || !value.is_empty()) {
                pairs.insert(place.min(pairs.len()), ("__replica__".to_owned(), value.clone()));
            }
            if form == LabelForm::Packed {
                pairs.sort();
            }
            let bytes = written(form, &pairs);
            let found = find_label(form, &bytes, b"__replica__");
            let wanted = value.filter(|value| !value.is_empty());
            prop_assert_eq!(found.is_some(), wanted.is_some());
            if let (Some(found), Some(wanted)) = (found, wanted) {
                prop_assert_eq!(&bytes[found.value], wanted.as_bytes());
                let rest = [&bytes[..found.whole.start], &bytes[found.whole.end..]].concat();
                let rest = decode_labels(form, &rest, &Limits::default()).expect("a series");
                let pairs = without.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                prop_assert_eq!(rest, Labels::from_pairs(pairs).expect("labels"));
            }
        }

        #[test]
        fn any_bytes_are_walked_over(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            form in prop_oneof![
                Just(LabelForm::Pairs), Just(LabelForm::RemoteWrite1), Just(LabelForm::Packed)
            ],
        ) {
            if let Some(found) = find_label(form, &bytes, b"a") {
                prop_assert!(found.whole.end <= bytes.len());
                prop_assert!(found.value.end <= found.whole.end);
            }
        }
    }
}
