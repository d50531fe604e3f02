//! The grouping key in the path of a push: `/metrics/job/JOB{/LABEL/VALUE}`.
//!
//! Source: the README of Prometheus' Pushgateway, "URL". A name followed by `@base64` says that
//! its value is base64 in the URL alphabet, with or without padding; a lone `=` is the empty text.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::WireError;

const BASE64_SUFFIX: &str = "@base64";
const PATH_REMEDY: &str = "the path is /metrics/job/JOB{/LABEL/VALUE}";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the path behind `/metrics/`, still percent-encoded, into labels; `job` is among them.
///
/// # Errors
/// [`WireError::Labels`] with what is wrong and what the path should be.
pub fn parse(path: &str) -> Result<BTreeMap<String, String>, WireError> {
    let mut labels = BTreeMap::new();
    let mut segments = path.trim_end_matches('/').split('/');
    while let Some(name) = segments.next() {
        let value = segments.next().ok_or_else(|| {
            fault(format!("odd number of components in {path:?}: label {name:?} has no value"))
        })?;
        let name = unescape(name)?;
        let (name, value) = match name.strip_suffix(BASE64_SUFFIX) {
            Some(name) => (name.to_owned(), decode_base64(name, &unescape(value)?)?),
            None => (name, unescape(value)?),
        };
        if labels.is_empty() && name != "job" {
            return Err(fault(format!("the first label is {name:?} where job is wanted")));
        }
        if name.is_empty() || name.starts_with("__") {
            return Err(fault(format!(
                "improper label name {name:?}: it is empty or begins with the reserved __"
            )));
        }
        if labels.is_empty() && value.is_empty() {
            return Err(fault("job name is required".to_owned()));
        }
        if labels.insert(name.clone(), value).is_some() && name == "job" {
            return Err(fault("the label job stands twice in the path".to_owned()));
        }
    }
    Ok(labels)
}

fn fault(what: String) -> WireError {
    WireError::Labels(format!("{what}; {PATH_REMEDY}"))
}

/// Resolves `%XX`; a plus is a plus in a path.
fn unescape(segment: &str) -> Result<String, WireError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(fault(format!("{segment:?} has a percent sign without two digits")));
        };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are one byte"));
    }
    String::from_utf8(bytes).map_err(|_| {
        fault(format!("{segment:?} is not UTF-8; encode it with {BASE64_SUFFIX} or %XX"))
    })
}

fn decode_base64(name: &str, value: &str) -> Result<String, WireError> {
    let bytes = match value {
        "=" => Vec::new(),
        value => BASE64.decode(value).map_err(|error| {
            fault(format!("invalid base64 encoding in label {name:?}={value:?}: {error}"))
        })?,
    };
    String::from_utf8(bytes)
        .map_err(|_| fault(format!("the base64 value of label {name:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(path: &str) -> Result<Vec<(String, String)>, String> {
        parse(path).map(|labels| labels.into_iter().collect()).map_err(|error| error.to_string())
    }

    fn check(path: &str, wanted: &[(&str, &str)]) {
        let wanted: Vec<_> =
            wanted.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(pairs(path), Ok(wanted), "{path}");
    }

    #[test]
    fn paths_are_grouping_keys() {
        check("job/some_job", &[("job", "some_job")]);
        check("job/some_job/instance/a:9100/", &[("instance", "a:9100"), ("job", "some_job")]);
        check("job/a%2Fb+c", &[("job", "a/b+c")]);
        check("job@base64/L3Zhci90bXA", &[("job", "/var/tmp")]);
        check("job@base64/L3Zhci90bXA=", &[("job", "/var/tmp")]);
        check("job/titan/name@base64/=", &[("job", "titan"), ("name", "")]);
        check(
            "job/titan/name@base64/zqDPgc6_zrzOt864zrXPjc-C",
            &[("job", "titan"), ("name", "Προμηθεύς")],
        );
        check("job/titan/name/%CE%A0", &[("job", "titan"), ("name", "Π")]);
        // As with the Pushgateway, the last one counts.
        check("job/j/a/1/a/2", &[("a", "2"), ("job", "j")]);
    }

    #[test]
    fn what_is_no_grouping_key_is_told() {
        for (path, why) in [
            ("", "no value"),
            ("job", "no value"),
            ("job/", "no value"),
            ("job//instance/a", "job name is required"),
            ("job@base64/=", "job name is required"),
            ("instance/a", "job is wanted"),
            ("job/j/instance", "no value"),
            ("job/j//v", "improper label name"),
            ("job/j/__name__/x", "improper label name"),
            ("job/j/job/k", "twice"),
            ("job/%zz", "two digits"),
            ("job/%4", "two digits"),
            ("job/%ff", "not UTF-8"),
            ("job@base64/%%%", "two digits"),
            ("job@base64/a?b", "invalid base64"),
            ("job@base64/_w", "not UTF-8"),
        ] {
            let error = pairs(path).expect_err(path);
            assert!(error.contains(why) && error.contains("/metrics/job/JOB"), "{path}: {error}");
        }
    }
}
