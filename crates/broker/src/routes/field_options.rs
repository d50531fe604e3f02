//! What a request says about the fields of its lines, as VictoriaLogs' senders say it.
//!
//! Source: <https://docs.victoriametrics.com/victorialogs/data-ingestion/#http-parameters>.

use http::request::Parts;
use wire::logs::FieldOptions;

/// Most names in one of the lists: each is looked for in each line.
const MAX_NAMES: usize = 1_000;

/// The options by the parameters of the URL and the headers `VL-*`, of which the parameters go before.
///
/// # Errors
/// In words: a list is too long, or an extra field is not `name=value`.
pub(super) fn of(parts: &Parts) -> Result<FieldOptions, String> {
    let mut options = FieldOptions::default();
    let names = |parameter, header| -> Result<Option<Vec<String>>, String> {
        let Some(list) = value(parts, parameter, header) else { return Ok(None) };
        let names: Vec<String> = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        match names.len() {
            0 => Ok(None),
            1..=MAX_NAMES => Ok(Some(names)),
            len => Err(format!("{parameter} names {len} fields, the limit is {MAX_NAMES}")),
        }
    };
    for (parameter, header, list) in [
        ("_msg_field", "vl-msg-field", &mut options.message),
        ("_time_field", "vl-time-field", &mut options.time),
        ("_stream_fields", "vl-stream-fields", &mut options.stream),
        ("ignore_fields", "vl-ignore-fields", &mut options.ignored),
    ] {
        if let Some(names) = names(parameter, header)? {
            *list = names;
        }
    }
    for pair in names("extra_fields", "vl-extra-fields")?.unwrap_or_default() {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("extra_fields: {pair:?} is not name=value"));
        };
        options.extra.push((name.to_owned(), value.to_owned()));
    }
    Ok(options)
}

fn value(parts: &Parts, parameter: &str, header: &str) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == parameter);
    match found {
        Some((_, value)) => Some(value.into_owned()),
        None => parts.headers.get(header)?.to_str().ok().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn parameters_go_before_headers_and_these_before_what_is_usual() {
        let request = Request::post("/x?_stream_fields=a,+b&extra_fields=env%3Dp,z=1")
            .header("VL-Stream-Fields", "c")
            .header("VL-Msg-Field", "text")
            .body(());
        let (parts, ()) = request.expect("a request").into_parts();
        let options = of(&parts).expect("options");
        assert_eq!(
            (options.stream, options.message),
            (vec!["a".into(), "b".into()], vec!["text".into()])
        );
        assert_eq!(options.time, FieldOptions::default().time);
        let extra = [("env", "p"), ("z", "1")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(options.extra, extra);
        let (parts, ()) =
            Request::post("/x?extra_fields=env").body(()).expect("a request").into_parts();
        assert!(of(&parts).expect_err("no value").contains("name=value"));
    }
}
