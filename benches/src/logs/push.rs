//! Lines as Loki's clients push them: protobuf under snappy, about a mebibyte of lines a request, as Promtail
//! does by default. Source: `pkg/push/push.proto` of Loki.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use codec::varint::put_u64;

use super::corpus::{Form, STREAMS};

/// Bytes of lines of one request.
const BATCH_BYTES: usize = 1 << 20;
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// Lines of one form: on disk as they are, and as bodies for each connection.
pub(super) struct Corpus {
    pub(super) form: Form,
    pub(super) lanes: Vec<Vec<Vec<u8>>>,
    pub(super) lines: u64,
    /// With the ends of lines, as in the file.
    pub(super) raw_bytes: u64,
}

/// Writes lines into a file until it has `most_bytes`, and encodes them for `connections`, each of which has
/// its own streams. Their times go evenly from `start_ns` to `end_ns`.
pub(super) fn encode(
    form: Form,
    most_bytes: u64,
    connections: u64,
    (start_ns, end_ns): (i64, i64),
    file: &Path,
) -> Result<Corpus> {
    let file = File::create(file).with_context(|| format!("make {}", file.display()))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut lanes: Vec<Lane> = (0..connections).map(|_| Lane::default()).collect();
    let mut line = String::new();
    // How many lines there will be follows from their length.
    for n in 0..1_000 {
        form.write(n, start_ns, &mut line);
    }
    let step_ns = (end_ns - start_ns) as f64 * (line.len() + 1_000) as f64
        / (1_000.0 * most_bytes.max(1) as f64);
    let (mut lines, mut raw_bytes) = (0, 0);
    while raw_bytes < most_bytes {
        // A window of time does not have its first moment.
        let t_ns = start_ns + ((lines + 1) as f64 * step_ns) as i64;
        line.clear();
        form.write(lines, t_ns, &mut line);
        let stream = lines % STREAMS;
        lanes[(stream % connections) as usize].push(form, stream, t_ns, &line)?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
        raw_bytes += line.len() as u64;
        lines += 1;
    }
    file.flush().context("write the lines")?;
    let lanes = lanes.into_iter().map(|lane| lane.end(form)).collect::<Result<_>>()?;
    Ok(Corpus { form, lanes, lines, raw_bytes })
}

/// Of one connection.
#[derive(Default)]
struct Lane {
    /// Entries of each stream, encoded.
    open: Vec<(u64, Vec<u8>)>,
    line_bytes: usize,
    bodies: Vec<Vec<u8>>,
}

impl Lane {
    fn push(&mut self, form: Form, stream: u64, t_ns: i64, line: &str) -> Result<()> {
        let place = self.open.iter().position(|(of, _)| *of == stream).unwrap_or_else(|| {
            self.open.push((stream, Vec::new()));
            self.open.len() - 1
        });
        let mut time = Vec::with_capacity(16);
        put_u64(&mut time, 1 << 3 | VARINT);
        put_u64(&mut time, t_ns.div_euclid(1_000_000_000) as u64);
        put_u64(&mut time, 2 << 3 | VARINT);
        put_u64(&mut time, t_ns.rem_euclid(1_000_000_000) as u64);
        let mut entry = Vec::with_capacity(time.len() + line.len() + 8);
        put_bytes(1, &time, &mut entry);
        put_bytes(2, line.as_bytes(), &mut entry);
        put_bytes(2, &entry, &mut self.open[place].1);
        self.line_bytes += line.len();
        if self.line_bytes >= BATCH_BYTES {
            self.close(form)?;
        }
        Ok(())
    }

    fn close(&mut self, form: Form) -> Result<()> {
        let mut request = Vec::with_capacity(self.line_bytes * 5 / 4);
        for (stream, entries) in self.open.drain(..) {
            let labels = format!("{{host=\"host-{stream:02}\", job=\"{}\"}}", form.name());
            let mut encoded = Vec::with_capacity(entries.len() + labels.len() + 8);
            put_bytes(1, labels.as_bytes(), &mut encoded);
            encoded.extend_from_slice(&entries);
            put_bytes(1, &encoded, &mut request);
        }
        self.line_bytes = 0;
        let body = snap::raw::Encoder::new().compress_vec(&request).context("compress")?;
        self.bodies.push(body);
        Ok(())
    }

    fn end(mut self, form: Form) -> Result<Vec<Vec<u8>>> {
        if !self.open.is_empty() {
            self.close(form)?;
        }
        Ok(self.bodies)
    }
}

fn put_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_u64(out, field << 3 | BYTES);
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
