//! Forms as `multipart/form-data`, as `curl -F` sends them.
//!
//! Source: RFC 7578 and RFC 2046. The body is at hand and bounded; what is read points into it.

/// What a part may say about itself.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// The boundary that a `Content-Type` names, if it is that of such a form.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// Names and values of a form, in their order. Files are passed over, as in Go.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut fields = Vec::new();
    let opening = format!("--{boundary}");
    let delimiter = format!("\r\n{opening}");
    // The first delimiter may stand at the very beginning, without the end of a line before it.
    let mut rest = match body.strip_prefix(opening.as_bytes()) {
        Some(rest) => rest,
        None => split(body, delimiter.as_bytes()).ok_or("it does not have its boundary")?.1,
    };
    loop {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        rest = next_line(rest).ok_or("a boundary is not a line of its own")?;
        let (part, behind) = split(rest, delimiter.as_bytes()).ok_or("it was cut off")?;
        rest = behind;
        let (header, value) = match part.strip_prefix(b"\r\n") {
            Some(value) => (&b""[..], value),
            None => split(part, b"\r\n\r\n").ok_or("a part has no end of its header")?,
        };
        if header.len() > MAX_HEADER_BYTES {
            return Err("the header of a part is too long");
        }
        let header = String::from_utf8_lossy(header);
        let Some(disposition) = header.split("\r\n").find_map(disposition) else { continue };
        let name = parameter(disposition, "name");
        if let (Some(name), None) = (name, parameter(disposition, "filename")) {
            fields.push((name.to_owned(), String::from_utf8_lossy(value).into_owned()));
        }
    }
}

/// What is behind `Content-Disposition: form-data;`.
fn disposition(line: &str) -> Option<&str> {
    let (name, value) = line.split_once(':')?;
    let (kind, parameters) = value.split_once(';')?;
    let is_it = name.trim().eq_ignore_ascii_case("content-disposition")
        && kind.trim().eq_ignore_ascii_case("form-data");
    is_it.then_some(parameters)
}

/// The value of `name` among `name=value; name="value"`. Escapes in quotation marks are not undone:
/// browsers and curl write `%22` for a quotation mark in a name.
fn parameter<'a>(mut text: &'a str, name: &str) -> Option<&'a str> {
    loop {
        let (key, rest) = text.split_once('=')?;
        let (value, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(';').unwrap_or((rest, "")),
        };
        if key.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case(name) {
            return Some(value.trim());
        }
        text = behind;
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = memchr::memmem::find(bytes, at)?;
    Some((&bytes[..place], &bytes[place + at.len()..]))
}

/// What is behind blanks and the end of a line.
fn next_line(bytes: &[u8]) -> Option<&[u8]> {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    bytes[blanks..].strip_prefix(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_sends_is_read() {
        let kind = "multipart/form-data; boundary=------------------------x1";
        let boundary = boundary(kind).expect("a boundary");
        let body = "--------------------------x1\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n\
                    up\r\n--not\r\n--------------------------x1\r\n\
                    Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\
                    Content-Type: text/plain\r\n\r\nignored\r\n--------------------------x1 \r\n\
                    content-disposition: form-data; name=time\r\n\r\n\r\n\
                    --------------------------x1--\r\n";
        let found = fields(body.as_bytes(), boundary).expect("a form");
        let wanted = [("query", "up\r\n--not"), ("time", "")];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for end in 0..body.len() - 4 {
            assert!(fields(&body.as_bytes()[..end], boundary).is_err(), "{end}");
        }
        assert_eq!(fields(b"--x--", "x"), Ok(Vec::new()));
    }

    #[test]
    fn boundaries_are_named_by_the_content_type() {
        assert_eq!(boundary("Multipart/Form-Data; charset=a; Boundary=\"a b;\""), Some("a b;"));
        for none in [
            "multipart/form-data",
            "multipart/mixed; boundary=x",
            "a; boundary=x",
            "",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"x",
        ] {
            assert_eq!(boundary(none), None, "{none}");
        }
    }
}
