//! A receiver of remote write that keeps what it gets and answers as a test says, and reads both
//! versions of the message by itself.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
    /// When it came, milliseconds since the epoch.
    pub(crate) at_ms: i64,
    /// What it was answered with; 0 where that was no HTTP.
    pub(crate) status: u16,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reaction {
    /// A status with more header lines and a body, after a while.
    Status(u16, String, Vec<u8>, Duration),
    /// These bytes, and then the connection is closed.
    Raw(Vec<u8>),
}

impl Reaction {
    pub(crate) fn status(status: u16) -> Reaction {
        Reaction::Status(status, String::new(), Vec::new(), Duration::ZERO)
    }
}

/// Decides by path and number of the request, from 0 on.
pub(crate) type Script = dyn Fn(&str, usize) -> Reaction + Send + Sync;

type Kept = Arc<Mutex<HashMap<String, Vec<Received>>>>;

/// A running receiver; it listens until the process ends.
pub(crate) struct WriteReceiver {
    address: SocketAddr,
    kept: Kept,
}

impl WriteReceiver {
    pub(crate) fn start(script: Box<Script>) -> Result<WriteReceiver> {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), script)
    }

    pub(crate) fn start_at(address: SocketAddr, script: Box<Script>) -> Result<WriteReceiver> {
        let listener = TcpListener::bind(address).context("listen for remote write")?;
        let address = listener.local_addr()?;
        let kept = Kept::default();
        let (shared, script) = (Arc::clone(&kept), Arc::<Script>::from(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, script) = (Arc::clone(&shared), Arc::clone(&script));
                // A client that goes away in the middle is no news.
                std::thread::spawn(move || serve(stream, &kept, &script));
            }
        });
        Ok(WriteReceiver { address, kept })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came for a path so far, in order.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        self.kept.lock().expect("no holder panics").get(path).cloned().unwrap_or_default()
    }
}

fn serve(stream: TcpStream, kept: &Kept, script: &Arc<Script>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (method, path) = (method.to_owned(), path.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(Ok(0), |(_, length)| length.parse::<usize>())?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (at, at_ms) = (Instant::now(), super::now_ms());
        let request = Received { method, headers, body, at, at_ms, status: 0 };
        let number = {
            let mut kept = kept.lock().expect("no holder panics");
            let of_path = kept.entry(path.clone()).or_default();
            of_path.push(request.clone());
            of_path.len() - 1
        };
        match script(&path, number) {
            Reaction::Raw(bytes) => {
                writer.write_all(&bytes)?;
                writer.shutdown(std::net::Shutdown::Both)?;
                return Ok(());
            }
            Reaction::Status(status, mut more, body, delay) => {
                std::thread::sleep(delay);
                if let Some(request) = kept
                    .lock()
                    .expect("no holder panics")
                    .get_mut(&path)
                    .map(|all| &mut all[number])
                {
                    request.status = status;
                }
                if (200..300).contains(&status)
                    && !more.to_lowercase().contains("written")
                    && let Ok(message) = Message::of(&request)
                {
                    more.push_str(&message.written());
                }
                let length = match status {
                    204 => String::new(),
                    _ => format!("Content-Length: {}\r\n", body.len()),
                };
                write!(writer, "HTTP/1.1 {status} Said\r\n{length}{more}\r\n")?;
                writer.write_all(&body)?;
            }
        }
    }
}

/// A message of either version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) is_two: bool,
    /// Of version 2.
    pub(crate) symbols: Vec<String>,
    pub(crate) series: Vec<SeenSeries>,
    /// Entries of version 1: family, type, help, unit.
    pub(crate) metadata: Vec<(String, u64, String, String)>,
    /// Numbers of the fields of the message itself.
    pub(crate) fields: Vec<u64>,
}

/// One series of a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenSeries {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) floats: Vec<(i64, f64)>,
    pub(crate) histograms: Vec<SeenHistogram>,
    pub(crate) exemplars: Vec<SeenExemplar>,
    /// Of version 2: type, help, unit.
    pub(crate) metadata: Option<(u64, String, String)>,
    /// Numbers of fields met in it and in its samples, as `field` and `field.field`.
    pub(crate) starts: Vec<i64>,
}

/// One native histogram.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenHistogram {
    pub(crate) t_ms: i64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) schema: Option<i64>,
    pub(crate) custom_values: Vec<f64>,
}

/// One exemplar.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenExemplar {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
    pub(crate) t_ms: i64,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Message {
    /// Unpacks and reads the body of a request; what the specification forbids is an error.
    pub(crate) fn of(request: &Received) -> Result<Message> {
        let kind = request.header("content-type").unwrap_or_default();
        let bytes = snap::raw::Decoder::new().decompress_vec(&request.body).context("snappy")?;
        let is_two = kind.contains("proto=io.prometheus.write.v2.Request");
        let mut message = Message { is_two, ..Message::default() };
        for (number, field) in fields(&bytes)? {
            message.fields.push(number);
            match (is_two, number, field) {
                (true, 4, Field::Bytes(text)) => message.symbols.push(utf8(text)?),
                (true, 5, Field::Bytes(series)) => {
                    let series = series_two(series, &message.symbols)?;
                    message.series.push(series);
                }
                (false, 1, Field::Bytes(series)) => message.series.push(series_one(series)?),
                (false, 3, Field::Bytes(entry)) => message.metadata.push(metadata_one(entry)?),
                (_, number, _) => bail!("field {number} in a request"),
            }
        }
        Ok(message)
    }

    fn written(&self) -> String {
        if !self.is_two {
            return String::new();
        }
        let sum = |count: fn(&SeenSeries) -> usize| self.series.iter().map(count).sum::<usize>();
        [
            ("Samples", sum(|series| series.floats.len())),
            ("Histograms", sum(|series| series.histograms.len())),
            ("Exemplars", sum(|series| series.exemplars.len())),
        ]
        .map(|(kind, count)| format!("X-Prometheus-Remote-Write-{kind}-Written: {count}\r\n"))
        .concat()
    }
}

impl SeenSeries {
    pub(crate) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

fn utf8(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes)?.to_owned())
}

fn series_one(bytes: &[u8]) -> Result<SeenSeries> {
    let mut series = SeenSeries::default();
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(label)) => {
                let (mut name, mut value) = (String::new(), String::new());
                for (number, field) in fields(label)? {
                    match (number, field) {
                        (1, Field::Bytes(text)) => name = utf8(text)?,
                        (2, Field::Bytes(text)) => value = utf8(text)?,
                        (number, _) => bail!("field {number} in a label"),
                    }
                }
                series.labels.push((name, value));
            }
            (2, Field::Bytes(sample)) => series.take_sample(sample, false)?,
            (4, Field::Bytes(one)) => series.take_histogram(one, false)?,
            (number, _) => bail!("field {number} in a series of version 1"),
        }
    }
    Ok(series)
}

fn series_two(bytes: &[u8], symbols: &[String]) -> Result<SeenSeries> {
    let mut series = SeenSeries::default();
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(references)) => series.labels = resolve(references, symbols)?,
            (2, Field::Bytes(sample)) => series.take_sample(sample, true)?,
            (3, Field::Bytes(one)) => series.take_histogram(one, true)?,
            (4, Field::Bytes(one)) => series.exemplars.push(exemplar_two(one, symbols)?),
            (5, Field::Bytes(metadata)) => {
                let (mut kind, mut help, mut unit) = (0, String::new(), String::new());
                for (number, field) in fields(metadata)? {
                    match (number, field) {
                        (1, Field::Number(number)) => kind = number,
                        (3, Field::Number(at)) => help = symbol(at, symbols)?,
                        (4, Field::Number(at)) => unit = symbol(at, symbols)?,
                        (number, _) => bail!("field {number} in metadata"),
                    }
                }
                series.metadata = Some((kind, help, unit));
            }
            (number, _) => bail!("field {number} in a series of version 2"),
        }
    }
    Ok(series)
}

fn exemplar_two(bytes: &[u8], symbols: &[String]) -> Result<SeenExemplar> {
    let mut exemplar = SeenExemplar::default();
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(references)) => exemplar.labels = resolve(references, symbols)?,
            (2, Field::Fixed(bits)) => exemplar.value = f64::from_bits(bits),
            (3, Field::Number(t_ms)) => exemplar.t_ms = t_ms.cast_signed(),
            (number, _) => bail!("field {number} in an exemplar"),
        }
    }
    Ok(exemplar)
}

fn metadata_one(bytes: &[u8]) -> Result<(String, u64, String, String)> {
    let mut entry = (String::new(), 0, String::new(), String::new());
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Number(kind)) => entry.1 = kind,
            (2, Field::Bytes(text)) => entry.0 = utf8(text)?,
            (4, Field::Bytes(text)) => entry.2 = utf8(text)?,
            (5, Field::Bytes(text)) => entry.3 = utf8(text)?,
            (number, _) => bail!("field {number} in metadata"),
        }
    }
    Ok(entry)
}

impl SeenSeries {
    fn take_sample(&mut self, bytes: &[u8], may_start: bool) -> Result<()> {
        let (mut t_ms, mut value) = (0, 0.0);
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Fixed(bits)) => value = f64::from_bits(bits),
                (2, Field::Number(number)) => t_ms = number.cast_signed(),
                (3, Field::Number(start)) if may_start => self.starts.push(start.cast_signed()),
                (number, _) => bail!("field {number} in a sample"),
            }
        }
        self.floats.push((t_ms, value));
        Ok(())
    }

    fn take_histogram(&mut self, bytes: &[u8], may_start: bool) -> Result<()> {
        let mut seen = SeenHistogram::default();
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Number(count)) => seen.count = count as f64,
                (2, Field::Fixed(bits)) => seen.count = f64::from_bits(bits),
                (3, Field::Fixed(bits)) => seen.sum = f64::from_bits(bits),
                (4, Field::Number(number)) => {
                    let magnitude = (number >> 1).cast_signed();
                    seen.schema = Some(if number & 1 == 1 { !magnitude } else { magnitude });
                }
                (15, Field::Number(number)) => seen.t_ms = number.cast_signed(),
                (16, Field::Bytes(values)) => {
                    let values = values.as_chunks::<8>().0.iter();
                    seen.custom_values = values.map(|bits| f64::from_le_bytes(*bits)).collect();
                }
                (17, Field::Number(start)) if may_start => self.starts.push(start.cast_signed()),
                (5..=14, _) => {}
                (number, _) => bail!("field {number} in a histogram"),
            }
        }
        self.histograms.push(seen);
        Ok(())
    }
}

fn symbol(at: u64, symbols: &[String]) -> Result<String> {
    let found = usize::try_from(at).ok().and_then(|at| symbols.get(at));
    found.cloned().with_context(|| format!("symbol {at} of {}", symbols.len()))
}

fn resolve(references: &[u8], symbols: &[String]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    let mut rest = references;
    while !rest.is_empty() {
        texts.push(symbol(varint(&mut rest)?, symbols)?);
    }
    ensure!(texts.len() % 2 == 0, "an odd number of references");
    Ok(texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

enum Field<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first().context("a varint is cut off")?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift.min(63);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a varint is too long")
}

fn fields(bytes: &[u8]) -> Result<Vec<(u64, Field<'_>)>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)?),
            1 => {
                let (bits, tail) = rest.split_first_chunk().context("a double is cut off")?;
                rest = tail;
                Field::Fixed(u64::from_le_bytes(*bits))
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?)?;
                let (content, tail) = rest.split_at_checked(length).context("bytes are cut off")?;
                rest = tail;
                Field::Bytes(content)
            }
            other => bail!("wire type {other}"),
        };
        found.push((tag >> 3, field));
    }
    Ok(found)
}
