//! Sources that hand lines over and cannot be asked again: syslog over the network, standard input.
//!
//! What they sent is safe when it is in the spool. Until then it is in memory: who sends over a
//! connection or a pipe waits while there is no room; datagrams are dropped by the kernel then.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::{Labels, LogBatch, LogLimits, LogRecord};
use wire::logs::LogContext;
use wire::logs::syslog::{self, SyslogOptions};
use wire::logs::syslog_frames::SyslogFrames;

use super::batch::MAX_LINE_BYTES;
use super::collector::{HandedIn, Named};
use super::config::{StdinConfig, SyslogConfig, SyslogListen};
use super::entry::Entry;
use super::status::CollectionStatus;
use crate::clock::wall_ns;
use crate::error::AgentError;

/// Connections of one listener at a time; a further one is closed.
const MAX_CONNECTIONS: usize = 256;
/// How long a read waits before it looks whether to end.
const TICK: Duration = Duration::from_millis(250);
/// Messages or lines handed over at once.
const BATCH: usize = 256;
/// Largest datagram.
const DATAGRAM_BYTES: usize = 64 << 10;

/// What threads of one receiver share.
#[derive(Clone)]
struct Shared {
    source: usize,
    sender: SyncSender<HandedIn>,
    status: Arc<CollectionStatus>,
    stop: Arc<AtomicBool>,
    host: String,
}

impl Shared {
    fn new(
        host: String,
        source: usize,
        sender: SyncSender<HandedIn>,
        status: &Arc<CollectionStatus>,
    ) -> Self {
        let (status, stop) = (Arc::clone(status), Arc::new(AtomicBool::new(false)));
        Shared { source, sender, status, stop, host }
    }

    /// Hands entries over; false if nobody takes them any more.
    fn hand_in(&self, entries: Vec<Named>) -> bool {
        entries.is_empty() || self.sender.send(HandedIn { source: self.source, entries }).is_ok()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A thread that receives. Dropping it ends it, and the connections it has.
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Where it listens, if it does.
    pub(crate) address: Option<SocketAddr>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Standard input cannot be woken; its thread ends with the process.
        if self.address.is_some()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, AgentError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|source| AgentError::Thread { name, source })
}

impl Listener {
    /// Listens for syslog.
    ///
    /// # Errors
    /// The address is taken; no thread.
    pub(crate) fn syslog(
        config: SyslogConfig,
        host: String,
        source: usize,
        sender: SyncSender<HandedIn>,
        status: &Arc<CollectionStatus>,
    ) -> Result<Listener, AgentError> {
        let shared = Shared::new(host, source, sender, status);
        let stop = Arc::clone(&shared.stop);
        let fault = |source| AgentError::Listen { listen: config.listen.to_string(), source };
        let decoder = Decoder::new(&config.labels, shared);
        let (address, thread) = match config.listen {
            SyslogListen::Udp(address) => {
                let socket = UdpSocket::bind(address).map_err(fault)?;
                socket.set_read_timeout(Some(TICK)).map_err(fault)?;
                let address = socket.local_addr().map_err(fault)?;
                (address, spawn("log-syslog-udp", move || datagrams(&socket, decoder))?)
            }
            SyslogListen::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(fault)?;
                listener.set_nonblocking(true).map_err(fault)?;
                let address = listener.local_addr().map_err(fault)?;
                (address, spawn("log-syslog-tcp", move || connections(&listener, &decoder))?)
            }
        };
        Ok(Listener { stop, thread: Some(thread), address: Some(address) })
    }

    /// Reads standard input.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn stdin(
        config: StdinConfig,
        host: String,
        source: usize,
        sender: SyncSender<HandedIn>,
        status: &Arc<CollectionStatus>,
    ) -> Result<Listener, AgentError> {
        let shared = Shared::new(host, source, sender, status);
        let stop = Arc::clone(&shared.stop);
        let labels = with_host(&config.labels, &shared.host);
        let thread = spawn("log-stdin", move || {
            lines(BufReader::new(std::io::stdin()), &labels, &shared);
            shared.status.stdin_ended.set(1);
        })?;
        Ok(Listener { stop, thread: Some(thread), address: None })
    }
}

fn with_host(labels: &BTreeMap<String, String>, host: &str) -> Labels {
    let mut labels = labels.clone();
    labels.entry("host".to_owned()).or_insert_with(|| host.to_owned());
    let pairs = labels.iter().filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
    Labels::from_pairs(pairs).unwrap_or_else(|_| Labels::empty())
}

/// Hands in the lines of `input` until its end.
fn lines(mut input: BufReader<impl Read>, labels: &Labels, shared: &Shared) {
    let mut entries: Vec<Named> = Vec::new();
    let mut last_ns = 0;
    loop {
        let mut line = Vec::new();
        let is_end = match read_line(&mut input, &mut line, shared) {
            Ok(is_end) => is_end,
            Err(error) => {
                tracing::warn!(%error, "standard input cannot be read further");
                true
            }
        };
        if !(is_end && line.is_empty()) {
            last_ns = wall_ns().max(last_ns + 1);
            let (timestamp_ns, labels) = (last_ns, labels.clone());
            let entry = Entry { timestamp_ns, labels, line, ..Entry::default() };
            entries.push(Named { entry, cursor: String::new() });
        }
        // Lines that are there already go together; what would have to be waited for is not.
        let waits = is_end || memchr::memchr(b'\n', input.buffer()).is_none();
        if (waits || entries.len() >= BATCH) && !shared.hand_in(std::mem::take(&mut entries)) {
            return;
        }
        if is_end || shared.is_over() {
            return;
        }
    }
}

/// A line without its end, cut where it is too long; whether the input has ended.
fn read_line(
    input: &mut BufReader<impl Read>,
    line: &mut Vec<u8>,
    shared: &Shared,
) -> std::io::Result<bool> {
    let mut is_cut = false;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(true);
        }
        let newline = memchr::memchr(b'\n', bytes);
        let len = newline.unwrap_or(bytes.len());
        let room = MAX_LINE_BYTES.saturating_sub(line.len());
        is_cut |= len > room;
        line.extend_from_slice(&bytes[..len.min(room)]);
        input.consume(len + usize::from(newline.is_some()));
        if newline.is_some() {
            line.pop_if(|last| *last == b'\r');
            if is_cut {
                shared.status.cut_lines.add(1);
            }
            return Ok(false);
        }
    }
}

/// Makes entries of messages.
#[derive(Clone)]
struct Decoder {
    options: SyslogOptions,
    limits: LogLimits,
    shared: Shared,
    number: u64,
}

impl Decoder {
    fn new(labels: &BTreeMap<String, String>, shared: Shared) -> Decoder {
        let labels = labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        let options = SyslogOptions { labels: labels.collect(), ..SyslogOptions::default() };
        // The broker has the limits of the tenant, and finds out levels and services.
        let limits = LogLimits {
            max_line_bytes: 0,
            max_label_names: usize::MAX,
            max_label_value_bytes: usize::MAX,
            creation_grace_ns: i64::MAX / 4,
            discover_log_levels: false,
            discover_service_name: Vec::new(),
            ..LogLimits::default()
        };
        Decoder { options, limits, shared, number: wall_ns().unsigned_abs() % 1_000 }
    }

    /// Hands messages in; false if nobody takes them any more.
    fn take(&mut self, messages: &[Vec<u8>]) -> bool {
        if messages.is_empty() {
            return true;
        }
        self.options.first_number = Some(self.number);
        self.number = self.number.wrapping_add(messages.len() as u64);
        let context = LogContext { limits: &self.limits, levels: None, now_ns: wall_ns() };
        let mut batch = LogBatch::default();
        let messages = messages.iter().map(Vec::as_slice);
        if let Err(error) = syslog::decode(messages, &self.options, &context, &mut batch) {
            tracing::warn!(error = error.text, "messages of syslog were not taken");
            return true;
        }
        let mut entries = Vec::new();
        let mut stream = Labels::empty();
        let (mut records, mut metadata) = (batch.records(), Vec::new());
        while let Some(record) = records.next_record(&mut metadata).expect("a batch is whole") {
            match record {
                LogRecord::Stream(labels) => {
                    let mut builder = model::LabelsBuilder::from_labels(&labels);
                    if builder.get("host").is_none() {
                        builder.set("host", &self.shared.host);
                    }
                    stream = builder.build();
                }
                LogRecord::Line { timestamp_ns, line } => {
                    let metadata = metadata.iter();
                    let metadata =
                        metadata.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                    let entry = Entry {
                        timestamp_ns,
                        labels: stream.clone(),
                        metadata: metadata.collect(),
                        line: line.to_vec(),
                        ..Entry::default()
                    };
                    entries.push(Named { entry, cursor: String::new() });
                }
            }
        }
        self.shared.status.syslog_messages.add(entries.len() as u64);
        self.shared.hand_in(entries)
    }
}

fn datagrams(socket: &UdpSocket, mut decoder: Decoder) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while !decoder.shared.is_over() {
        let mut messages = Vec::new();
        // The first one waits; those that are there already go with it.
        let mut received = socket.recv(&mut buffer);
        while let Ok(len) = received {
            let message = buffer[..len].trim_ascii_end();
            messages.push(message.to_vec());
            if messages.len() >= BATCH || socket.set_nonblocking(true).is_err() {
                break;
            }
            received = socket.recv(&mut buffer);
        }
        let _ = socket.set_nonblocking(false);
        if !decoder.take(&messages) {
            return;
        }
    }
}

fn connections(listener: &TcpListener, decoder: &Decoder) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !decoder.shared.is_over() {
        threads.retain(|thread| !thread.is_finished());
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(TICK / 5);
            continue;
        };
        if open.load(Ordering::Acquire) >= MAX_CONNECTIONS {
            tracing::warn!(
                limit = MAX_CONNECTIONS,
                "a connection of syslog more than may be is closed"
            );
            continue;
        }
        open.fetch_add(1, Ordering::AcqRel);
        let (decoder, counted) = (decoder.clone(), Arc::clone(&open));
        match spawn("log-syslog-peer", move || {
            connection(stream, decoder);
            counted.fetch_sub(1, Ordering::AcqRel);
        }) {
            Ok(thread) => threads.push(thread),
            Err(_) => _ = open.fetch_sub(1, Ordering::AcqRel),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn connection(mut stream: TcpStream, mut decoder: Decoder) {
    // A listener that does not block may hand that on.
    if stream.set_nonblocking(false).is_err() || stream.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    let mut frames = SyslogFrames::new(MAX_LINE_BYTES);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    if decoder.shared.is_over() {
                        return;
                    }
                    continue;
                }
                std::io::ErrorKind::Interrupted => continue,
                _ => return,
            },
        };
        frames.push(&buffer[..len]);
        let mut messages = Vec::new();
        loop {
            match frames.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a connection of syslog is closed");
                    decoder.take(&messages);
                    return;
                }
            }
        }
        for messages in messages.chunks(BATCH) {
            if !decoder.take(messages) {
                return;
            }
        }
    }
    if let Ok(Some(message)) = frames.finish() {
        decoder.take(&[message]);
    }
}
