//! What people type into a URL and no URL may hold.

use bytes::{Bytes, BytesMut};

/// Escapes the quotation marks, angle brackets and bytes beyond ASCII in the query of an HTTP/1
/// request line, as in `curl 'http://…/api/v1/query?query=up{job="a"}'`: RFC 3986 does not allow
/// them, Go's server and so Prometheus takes them. Everything else stays as it came, also a line
/// that is not complete.
///
/// Only the first request of a connection comes here: where a later one begins is known to the HTTP
/// parser alone, and a second opinion of that would be a way to smuggle requests.
pub(crate) fn escape_query(first: BytesMut) -> Bytes {
    let Some(end) = first.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return first.freeze();
    };
    let line = &first[..end];
    let query = line.iter().position(|byte| *byte == b'?');
    let version = line.iter().rposition(|byte| *byte == b' ');
    let (Some(query), Some(version)) = (query, version) else { return first.freeze() };
    if query > version || !line[query..version].iter().any(|byte| needs_escape(*byte)) {
        return first.freeze();
    }
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = BytesMut::with_capacity(first.len() + 64);
    escaped.extend_from_slice(&first[..query]);
    for &byte in &first[query..version] {
        if needs_escape(byte) {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            escaped.extend_from_slice(&[b'%', high, low]);
        } else {
            escaped.extend_from_slice(&[byte]);
        }
    }
    escaped.extend_from_slice(&first[version..]);
    escaped.freeze()
}

fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_is_escaped() {
        for (came, wanted) in [
            (
                "GET /a?q=up{a=\"b\"}<1 HTTP/1.1\r\nX: \"?<\r\n",
                "GET /a?q=up{a=%22b%22}%3C1 HTTP/1.1\r\nX: \"?<\r\n",
            ),
            ("GET /a?q=é HTTP/1.1\n", "GET /a?q=%C3%A9 HTTP/1.1\n"),
            ("GET /a\"?q=1 HTTP/1.1\r\n", "GET /a\"?q=1 HTTP/1.1\r\n"),
            ("GET /a HTTP/1.1\r\nX: ?\"\r\n", "GET /a HTTP/1.1\r\nX: ?\"\r\n"),
            ("GET /a?q=\"", "GET /a?q=\""),
            ("", ""),
            ("\r\n", "\r\n"),
            ("GET /a ?\"x\r\n", "GET /a ?\"x\r\n"),
        ] {
            let escaped = escape_query(BytesMut::from(came.as_bytes()));
            assert_eq!(String::from_utf8_lossy(&escaped), wanted);
        }
    }
}
