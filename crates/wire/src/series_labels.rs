//! Label bytes of a batch to a checked label set.

use std::collections::BTreeMap;

use model::{LabelError, LabelForm, Labels, Limits, METRIC_NAME};

use crate::WireError;
use crate::protobuf::{self, Field};

/// Checks the label bytes of one series and yields its labels, sorted.
///
/// Called once per series, when a store meets bytes it does not know; costs about a microsecond.
/// Names may be any UTF-8, as in Prometheus 3. A label with an empty value is absent. Order does
/// not matter but in [`LabelForm::Packed`], which has only one.
///
/// # Errors
/// [`WireError::Labels`] for a missing metric name, a duplicate or empty label name, or bytes that
/// are not UTF-8; [`WireError::Limit`] for too many or too long labels; [`WireError::Malformed`]
/// where the bytes are not of their form.
pub fn decode_labels(form: LabelForm, bytes: &[u8], limits: &Limits) -> Result<Labels, WireError> {
    let labels = match form {
        LabelForm::Packed => Labels::from_packed(bytes).map_err(label_error)?,
        LabelForm::RemoteWrite1 => {
            let pairs = remote_write_pairs(bytes, limits.max_labels_per_series)?;
            Labels::from_pairs(pairs).map_err(label_error)?
        }
        LabelForm::Pairs => {
            let pairs = length_prefixed_pairs(bytes, limits.max_labels_per_series)?;
            Labels::from_pairs(pairs).map_err(label_error)?
        }
    };
    let Some(metric) = labels.metric_name() else {
        return Err(WireError::Labels(format!(
            "no metric name in {labels}; every series needs a label `{METRIC_NAME}`"
        )));
    };
    check_count(labels.len(), metric, limits.max_labels_per_series)?;
    for (name, value) in labels.iter() {
        check_label(name, value, metric, limits)?;
    }
    Ok(labels)
}

/// How a sender recognises the series with these label bytes, whatever is wrong with them: as
/// Prometheus prints it, the first of labels with one name, and only so much that it is not long.
/// Empty where the bytes are not of their form.
pub fn shown_labels(form: LabelForm, bytes: &[u8]) -> String {
    const ENOUGH_BYTES: usize = 1_024;
    let (mut pairs, mut size) = (BTreeMap::new(), 0);
    let mut show = |name: &[u8], value: &[u8]| {
        let [name, value] = [name, value].map(|text| {
            String::from_utf8_lossy(&text[..text.len().min(ENOUGH_BYTES)]).into_owned()
        });
        size += name.len() + value.len();
        if !name.is_empty() {
            pairs.entry(name).or_insert(value);
        }
        size < ENOUGH_BYTES
    };
    match form {
        LabelForm::Packed => {
            return Labels::from_packed(bytes).map_or_else(|_| String::new(), |l| l.to_string());
        }
        LabelForm::RemoteWrite1 => {
            for_each_field(bytes, |label| {
                let mut parts: [&[u8]; 2] = [b"", b""];
                for_each_field(label.1, |(number, part)| {
                    if let 1 | 2 = number {
                        parts[number as usize - 1] = part;
                    }
                    true
                });
                show(parts[0], parts[1])
            });
        }
        LabelForm::Pairs => {
            let mut at = 0;
            let mut part = || {
                let end = protobuf::length(bytes, &mut at, bytes.len()).ok()?;
                let start = std::mem::replace(&mut at, end);
                Some(&bytes[start..end])
            };
            while let (Some(name), Some(value)) = (part(), part()) {
                if !show(name, value) {
                    break;
                }
            }
        }
    }
    if pairs.is_empty() {
        return String::new();
    }
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Labels::from_pairs(pairs).map_or_else(|_| String::new(), |labels| labels.to_string())
}

/// Calls `each` with number and content of every field of bytes, as long as it wants more.
fn for_each_field<'b>(bytes: &'b [u8], mut each: impl FnMut((u64, &'b [u8])) -> bool) {
    let mut at = 0;
    while let Ok((number, Field::Bytes { start, end })) =
        protobuf::field(bytes, &mut at, bytes.len())
    {
        if !each((number, &bytes[start..end])) || at == bytes.len() {
            break;
        }
    }
}

/// The pairs of consecutive `1: Label { 1: name, 2: value }` fields, in their order.
pub(crate) fn remote_write_pairs(
    bytes: &[u8],
    max_labels: usize,
) -> Result<Vec<(&str, &str)>, WireError> {
    let malformed =
        |(offset, reason)| WireError::Malformed { format: "remote write label", offset, reason };
    let mut pairs = Vec::with_capacity(16);
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let (number, field) = protobuf::field(bytes, &mut at, bytes.len()).map_err(malformed)?;
        let (1, Field::Bytes { start: mut inner, end }) = (number, field) else {
            return Err(malformed((start, "a series' labels hold something that is no label")));
        };
        let (mut name, mut value) = ("", "");
        while inner < end {
            let start = inner;
            match protobuf::field(bytes, &mut inner, end).map_err(malformed)? {
                (1, Field::Bytes { start, end }) => name = utf8(&bytes[start..end], "name")?,
                (2, Field::Bytes { start, end }) => value = utf8(&bytes[start..end], "value")?,
                (1 | 2, _) => return Err(malformed((start, "label field is no string"))),
                _ => {}
            }
        }
        push_pair(&mut pairs, name, value, max_labels)?;
    }
    Ok(pairs)
}

/// The pairs of [`LabelForm::Pairs`], in their order.
pub(crate) fn length_prefixed_pairs(
    bytes: &[u8],
    max_labels: usize,
) -> Result<Vec<(&str, &str)>, WireError> {
    let mut pairs = Vec::with_capacity(16);
    let mut at = 0;
    let mut part = |what| {
        let end = protobuf::length(bytes, &mut at, bytes.len()).map_err(|(offset, reason)| {
            WireError::Malformed { format: "label pair", offset, reason }
        })?;
        let start = std::mem::replace(&mut at, end);
        utf8(&bytes[start..end], what).map(|text| (text, end == bytes.len()))
    };
    while !bytes.is_empty() {
        let (name, _) = part("name")?;
        let (value, is_last) = part("value")?;
        push_pair(&mut pairs, name, value, max_labels)?;
        if is_last {
            break;
        }
    }
    Ok(pairs)
}

/// Checks the number while collecting, so that a hostile series cannot make the list long.
fn push_pair<'a>(
    pairs: &mut Vec<(&'a str, &'a str)>,
    name: &'a str,
    value: &'a str,
    max_labels: usize,
) -> Result<(), WireError> {
    let metric = || pairs.iter().find(|(n, _)| *n == METRIC_NAME).map_or("", |(_, v)| *v);
    check_count(pairs.len() + 1, metric(), max_labels)?;
    pairs.push((name, value));
    Ok(())
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| {
        WireError::Labels(format!(
            "label {what} {:?} is not valid UTF-8",
            String::from_utf8_lossy(&bytes[..bytes.len().min(64)])
        ))
    })
}

fn check_count(count: usize, metric: &str, max_labels: usize) -> Result<(), WireError> {
    if count <= max_labels {
        return Ok(());
    }
    Err(WireError::Limit {
        what: format!("number of labels of a series of {:?}", shorten(metric)),
        limit: max_labels.to_string(),
        remedy: "drop labels at the sender or raise `limits.max_labels_per_series`",
    })
}

fn check_label(name: &str, value: &str, metric: &str, limits: &Limits) -> Result<(), WireError> {
    let metric = shorten(metric);
    if name.len() > limits.max_label_name_bytes {
        return Err(WireError::Limit {
            what: format!("name of label {:?} of {metric:?} ({} bytes)", shorten(name), name.len()),
            limit: format!("{} bytes", limits.max_label_name_bytes),
            remedy: "shorten it at the sender or raise `limits.max_label_name_bytes`",
        });
    }
    if value.len() > limits.max_label_value_bytes {
        return Err(WireError::Limit {
            what: format!("value of label {name:?} of {metric:?} ({} bytes)", value.len()),
            limit: format!("{} bytes", limits.max_label_value_bytes),
            remedy: "shorten it at the sender or raise `limits.max_label_value_bytes`",
        });
    }
    Ok(())
}

fn label_error(error: LabelError) -> WireError {
    WireError::Labels(error.to_string())
}

/// At most 64 bytes of `text`, so that an error about a long label is not itself long.
fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in pairs {
            let mut label = Vec::new();
            protobuf::push_bytes(&mut label, 0x0a, name);
            protobuf::push_bytes(&mut label, 0x12, value);
            protobuf::push_bytes(&mut out, 0x0a, &label);
        }
        out
    }

    fn decode(pairs: &[(&[u8], &[u8])], limits: &Limits) -> Result<Labels, String> {
        decode_labels(LabelForm::RemoteWrite1, &fields(pairs), limits).map_err(|e| e.to_string())
    }

    #[test]
    fn sorts_and_leaves_empty_values_out() {
        let labels = decode(&[(b"z", b"1"), (b"__name__", b"up"), (b"a", b"")], &Limits::default())
            .expect("valid labels");
        assert_eq!(labels.to_string(), r#"up{z="1"}"#);
    }

    #[test]
    fn what_is_refused_is_shown_all_the_same() {
        let long = "v".repeat(2_000);
        for (pairs, expected) in [
            (vec![("z", "1"), ("__name__", "up"), ("a", "")], r#"up{z="1"}"#.to_owned()),
            (
                vec![("__name__", "up"), ("a", "1"), ("a", "2"), ("", "x")],
                r#"up{a="1"}"#.to_owned(),
            ),
            (vec![("a", "1")], r#"{a="1"}"#.to_owned()),
            (vec![("__name__", "up"), ("l", &long)], format!("up{{l=\"{}\"}}", &long[..1_024])),
        ] {
            let bytes: Vec<(&[u8], &[u8])> =
                pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            assert_eq!(shown_labels(LabelForm::RemoteWrite1, &fields(&bytes)), expected);
            let mut flat = Vec::new();
            for (name, value) in bytes {
                crate::pair_rows::push_pair(&mut flat, name, value);
            }
            assert_eq!(shown_labels(LabelForm::Pairs, &flat), expected);
        }
        assert_eq!(shown_labels(LabelForm::Pairs, &[1, b'a', 1, 0xff]), "{a=\"\u{fffd}\"}");
        assert_eq!(shown_labels(LabelForm::Pairs, &[200]), "");
    }

    #[test]
    fn faults_say_what_and_how_to_help() {
        let limits = Limits {
            max_labels_per_series: 2,
            max_label_name_bytes: 8,
            max_label_value_bytes: 3,
            ..Limits::default()
        };
        let check = |pairs: &[(&[u8], &[u8])], expected: &str| {
            assert_eq!(decode(pairs, &limits).expect_err("must be refused"), expected);
        };
        check(
            &[(b"a", b"1")],
            "invalid labels: no metric name in {a=\"1\"}; every series needs a label `__name__`",
        );
        check(
            &[(b"__name__", b"")],
            "invalid labels: no metric name in {}; every series needs a label `__name__`",
        );
        check(
            &[(b"a", b"1"), (b"a", b"2")],
            "invalid labels: duplicate label name \"a\"; every label name may appear once per \
             series",
        );
        check(&[(b"__name__", b"m"), (b"", b"1")], "invalid labels: empty label name");
        check(
            &[(b"__name__", b"m\xff")],
            "invalid labels: label value \"m\u{fffd}\" is not valid UTF-8",
        );
        check(
            &[(b"__name__", b"m"), (b"a", b"1"), (b"b", b"1")],
            "number of labels of a series of \"m\" exceeds the limit of 2; drop labels at the \
             sender or raise `limits.max_labels_per_series`",
        );
        check(
            &[(b"__name__", b"m"), (b"abcdefghi", b"1")],
            "name of label \"abcdefghi\" of \"m\" (9 bytes) exceeds the limit of 8 bytes; shorten \
             it at the sender or raise `limits.max_label_name_bytes`",
        );
        check(
            &[(b"__name__", b"m"), (b"a", b"1234")],
            "value of label \"a\" of \"m\" (4 bytes) exceeds the limit of 3 bytes; shorten it at \
             the sender or raise `limits.max_label_value_bytes`",
        );
    }

    proptest! {
        #[test]
        fn both_forms_yield_the_same_set(
            pairs in proptest::collection::btree_map("[a-zé.]{1,12}", "[ -~é]{0,20}", 0..8)
        ) {
            let mut pairs = pairs;
            pairs.insert(METRIC_NAME.to_owned(), "m".to_owned());
            let wire: Vec<_> = pairs.iter().rev().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            let limits = Limits::default();
            let from_wire = decode_labels(LabelForm::RemoteWrite1, &fields(&wire), &limits)
                .expect("valid labels");
            let from_packed = decode_labels(LabelForm::Packed, from_wire.as_packed(), &limits)
                .expect("valid labels");
            prop_assert_eq!(&from_wire, &from_packed);
            for (name, value) in &pairs {
                prop_assert_eq!(from_wire.get(name).unwrap_or(""), value);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            for form in [LabelForm::Packed, LabelForm::RemoteWrite1, LabelForm::Pairs] {
                let _ = decode_labels(form, &bytes, &Limits::default());
            }
        }
    }
}
