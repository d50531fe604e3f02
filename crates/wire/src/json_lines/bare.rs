//! Numbers that JSON does not have and VictoriaMetrics writes all the same.

/// Longer ones before those that they begin with.
const NUMBERS: [&[u8]; 7] =
    [b"+Infinity", b"-Infinity", b"Infinity", b"+Inf", b"-Inf", b"Inf", b"NaN"];

/// The line with its bare infinities and NaNs in quotation marks; `None` if it has none.
pub(super) fn in_quotes(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut at, mut copied) = (0, 0);
    let mut is_text = false;
    while let Some(&byte) = line.get(at) {
        if is_text {
            at += if byte == b'\\' { 2 } else { 1 };
            is_text = byte != b'"';
            continue;
        }
        is_text = byte == b'"';
        let Some(number) = NUMBERS.iter().find(|number| line[at..].starts_with(number)) else {
            at += 1;
            continue;
        };
        out.extend_from_slice(&line[copied..at]);
        out.push(b'"');
        out.extend_from_slice(number.strip_prefix(b"+").unwrap_or(number));
        out.push(b'"');
        at += number.len();
        copied = at;
    }
    out.extend_from_slice(&line[copied..]);
    (copied > 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_as_they_are() {
        let quoted = |line: &str| in_quotes(line.as_bytes()).map(String::from_utf8);
        for line in ["", "[1,-2]", r#"{"a":"NaN"}"#, r#"["\\\"+Inf"]"#, r#""\"#, r#"["Inf"#] {
            assert_eq!(quoted(line), None, "{line}");
        }
        assert_eq!(
            quoted(r#"{"Inf":"\"","values":[+Inf,-Inf,1,NaN,Infinity]}"#),
            Some(Ok(r#"{"Inf":"\"","values":["Inf","-Inf",1,"NaN","Infinity"]}"#.to_owned()))
        );
    }
}
