//! Remote read: Debian's Prometheus answers queries with our samples, and streams of chunks are
//! as its documentation says.

use anyhow::{Context, Result, ensure};

use super::peer::Scraper;
use crate::harness::remote_write::{push_bytes, push_varint, snappy};
use crate::harness::{Client, Launch, Scratch, WriteBody, now_ms};

const SAMPLES: i64 = 1_000;

pub(super) fn prometheus_reads_from_us(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let ours = server.client();
    let first = now_ms() - SAMPLES * 5_000;
    let rows: Vec<(i64, f64)> =
        (0..SAMPLES).map(|step| (first + step * 5_000, (step * step) as f64 / 7.0)).collect();
    let histograms: Vec<(i64, Vec<i64>)> =
        (0..50).map(|step| (first + step * 5_000, vec![step, 2])).collect();
    let mut body = WriteBody::new().histograms(&[("__name__", "far_seconds")], &histograms);
    for n in 0..20 {
        let n = n.to_string();
        body = body.series(&[("__name__", "far"), ("n", n.as_str())], &rows);
    }
    let answer = ours.write(&body.snappy())?;
    ensure!(answer.status == 204, "{}", answer.text());

    let file = scratch.join("read.yml");
    let url = format!("http://{}/api/v1/read", ours.address());
    std::fs::write(&file, format!("remote_read: [{{url: '{url}', read_recent: true}}]\n"))?;
    let prometheus = Scraper::start(scratch, &file.display().to_string())?;
    let theirs = prometheus.client;
    // Never at the time of a sample: 2.42 counts one at the left edge of a window, 3.x does not.
    let end = (first + SAMPLES * 5_000 + 2_500) as f64 / 1_000.0;
    let (start, end) = ((end - 3_000.0).to_string(), end.to_string());
    let queries = [
        "far",
        r#"max by (n) (max_over_time(far{n=~"1.*"}[1m]))"#,
        r#"count_over_time(far{n!="3"}[20m])"#,
        "absent(near)",
    ];
    for query in queries {
        let form = [("query", query), ("start", &start), ("end", &end), ("step", "15")];
        let a = ours.data("/api/v1/query_range", &form)?;
        let b = theirs.data("/api/v1/query_range", &form)?;
        ensure!(a["result"] == b["result"], "{query}: {a} is not {b}");
    }
    let streamed = streamed_samples(&ours, r"far.*", first, first + SAMPLES * 5_000)?;
    let wanted = 20 * SAMPLES as u64 + 50;
    ensure!(streamed == wanted, "{streamed} of {wanted} samples came in chunks");
    let answer = ours.post("/api/v1/read", &[], b"no snappy")?;
    ensure!(answer.status == 400, "damage is answered {}", answer.status);
    server.stop()?;
    Ok(format!("{} queries through Prometheus, {streamed} samples in chunks", queries.len()))
}

/// Asks for a stream of chunks and counts the samples that the chunks say to have.
fn streamed_samples(client: &Client, pattern: &str, start_ms: i64, end_ms: i64) -> Result<u64> {
    let mut matcher = vec![1 << 3, 2];
    push_bytes(&mut matcher, 2, b"__name__");
    push_bytes(&mut matcher, 3, pattern.as_bytes());
    let mut query = vec![1 << 3];
    push_varint(&mut query, start_ms.cast_unsigned());
    query.push(2 << 3);
    push_varint(&mut query, end_ms.cast_unsigned());
    push_bytes(&mut query, 3, &matcher);
    let mut request = Vec::new();
    push_bytes(&mut request, 1, &query);
    push_bytes(&mut request, 2, &[1, 0]);
    let answer = client.post("/api/v1/read", &[], &snappy(&request))?;
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(answer.status == 200 && kind.starts_with("application/x-streamed-protobuf"), "{kind}");
    let mut samples = 0;
    let mut rest = answer.body.as_slice();
    while !rest.is_empty() {
        let length = varint(&mut rest)? as usize;
        // The checksum is proven by the program's own tests against the standard's examples.
        let message = rest.get(4..4 + length).context("a whole frame")?;
        rest = &rest[4 + length..];
        for series in fields(message, 1)? {
            for chunk in fields(series, 2)? {
                let data = *fields(chunk, 4)?.first().context("the data of a chunk")?;
                samples += u64::from(u16::from_be_bytes([data[0], data[1]]));
            }
        }
    }
    Ok(samples)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first().context("a varint")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return Ok(value);
        }
    }
}

/// The contents of all fields of a message with this number, which hold bytes.
fn fields(mut message: &[u8], number: u64) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = varint(&mut message)?;
        if tag & 7 == 2 {
            let (content, rest) = message.split_at(value as usize);
            message = rest;
            if tag >> 3 == number {
                found.push(content);
            }
        }
    }
    Ok(found)
}
