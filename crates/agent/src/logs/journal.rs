//! The journal of this host, read through `journalctl`.
//!
//! The program is asked for its export format and to follow; each entry bears a cursor, behind which a
//! restart goes on. Entries of this process are left out: what it says about storing them would be stored
//! again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use model::Labels;
use parking_lot::Mutex;

use super::collector::{HandedIn, Named};
use super::config::{FirstEntries, JournalConfig};
use super::entry::Entry;
use super::status::CollectionStatus;
use crate::clock::wall_ns;
use crate::error::AgentError;

/// What the source is called among positions.
pub(crate) const NAME: &str = "journal";

const THREAD_NAME: &str = "log-journal";
/// Largest field; a longer one is cut.
const MAX_FIELD_BYTES: usize = 1 << 20;
/// Most of one entry; what is beyond is left out.
const MAX_ENTRY_BYTES: usize = 4 << 20;
/// Entries handed over at once.
const BATCH: usize = 256;
/// Between two starts of the program.
const RESTART: Duration = Duration::from_secs(5);

/// Fields that become labels, as the route for `systemd-journal-upload` names them.
const LABELS: &[(&str, &str)] = &[
    ("_HOSTNAME", "hostname"),
    ("_SYSTEMD_UNIT", "systemd_unit"),
    ("_SYSTEMD_USER_UNIT", "systemd_user_unit"),
    ("SYSLOG_IDENTIFIER", "syslog_identifier"),
    ("_TRANSPORT", "transport"),
];
/// Words of severities, by their numbers in syslog, and the levels they are.
const SEVERITIES: [(&str, &str); 8] = [
    ("emergency", "fatal"),
    ("alert", "critical"),
    ("critical", "critical"),
    ("error", "error"),
    ("warning", "warn"),
    ("notice", "info"),
    ("informational", "info"),
    ("debug", "debug"),
];

/// The thread that reads the journal. Dropping it ends the program it reads from.
pub(crate) struct Journal {
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Begins behind a cursor.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(
        config: JournalConfig,
        host: String,
        cursor: Option<String>,
        source: usize,
        sender: SyncSender<HandedIn>,
        status: &Arc<CollectionStatus>,
    ) -> Result<Journal, AgentError> {
        let (stop, child) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let reader = Reader {
            config,
            host,
            cursor: cursor.filter(|cursor| !cursor.is_empty()),
            source,
            sender,
            status: Arc::clone(status),
            stop: Arc::clone(&stop),
            child: Arc::clone(&child),
            own_pid: std::process::id().to_string(),
            labels: BTreeMap::new(),
        };
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || reader.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        Ok(Journal { stop, child, thread: Some(thread) })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(child) = self.child.lock().as_mut() {
            let _ = child.kill();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reader {
    config: JournalConfig,
    host: String,
    cursor: Option<String>,
    source: usize,
    sender: SyncSender<HandedIn>,
    status: Arc<CollectionStatus>,
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
    own_pid: String,
    /// Labels by the values of the fields they are made of.
    labels: BTreeMap<Vec<String>, Labels>,
}

impl Reader {
    fn run(mut self) {
        let mut told: Option<String> = None;
        while !self.stop.load(Ordering::Acquire) {
            let began = Instant::now();
            let why = match self.follow() {
                Ok(()) => return,
                Err(why) => why,
            };
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.status.journal_restarts.add(1);
            if told.as_ref() != Some(&why) {
                tracing::warn!(
                    command = %self.config.command.display(),
                    reason = why,
                    "the journal cannot be read; it is tried again every {} s",
                    RESTART.as_secs()
                );
                told = Some(why);
            }
            let until = began + RESTART;
            while Instant::now() < until && !self.stop.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Reads until the program ends, or whoever takes entries does.
    fn follow(&mut self) -> Result<(), String> {
        let mut command = Command::new(&self.config.command);
        command.args(["--output=export", "--follow", "--quiet", "--all"]);
        command.args(&self.config.arguments);
        command.args(begin(self.cursor.as_deref(), self.config.first, wall_ns()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let output = child.stdout.take().expect("it is piped");
        let mut complaints = child.stderr.take().expect("it is piped");
        *self.child.lock() = Some(child);
        if self.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let outcome = self.entries(BufReader::with_capacity(64 << 10, output));
        if let Some(mut child) = self.child.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        match outcome {
            Ok(true) => Ok(()),
            Ok(false) => {
                let mut text = String::new();
                let _ = complaints.by_ref().take(1 << 10).read_to_string(&mut text);
                Err(match text.trim() {
                    "" => "it ended".to_owned(),
                    text => text.to_owned(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Hands entries over; true if nobody takes them any more, false if there are none any more.
    fn entries(&mut self, mut output: BufReader<ChildStdout>) -> Result<bool, String> {
        let mut fields = Fields::default();
        let mut entries = Vec::new();
        // The entry of the cursor comes again, if it is still there.
        let mut known = self.cursor.clone();
        loop {
            let is_entry = fields.read(&mut output).map_err(|error| error.to_string())?;
            let is_known = known.take().is_some_and(|known| known == fields.cursor);
            if is_entry && !is_known && !fields.cursor.is_empty() {
                self.cursor = Some(fields.cursor.clone());
                self.status.journal_entries.add(1);
                if let Some(entry) = self.entry(&fields) {
                    entries.push(Named { entry, cursor: fields.cursor.clone() });
                }
            }
            // What is there already goes together; what comes alone goes alone.
            let waits = output.buffer().is_empty() || !is_entry;
            if (waits || entries.len() >= BATCH) && !entries.is_empty() {
                let entries = std::mem::take(&mut entries);
                if self.sender.send(HandedIn { source: self.source, entries }).is_err() {
                    return Ok(true);
                }
            }
            if !is_entry {
                return Ok(false);
            }
        }
    }

    fn entry(&mut self, fields: &Fields) -> Option<Entry> {
        let line = match self.config.as_json {
            true => fields.json(),
            false => fields.values.iter().find(|(name, _)| name == "MESSAGE")?.1.clone(),
        };
        if fields.get("_PID").is_some_and(|pid| pid == self.own_pid) {
            return None;
        }
        let of_label = |(field, _): &(&str, &str)| fields.get(field).unwrap_or_default();
        let key: Vec<String> = LABELS.iter().map(of_label).collect();
        if self.labels.len() > 10_000 {
            self.labels.clear();
        }
        let labels = match self.labels.get(&key) {
            Some(labels) => labels.clone(),
            None => {
                let labels = self.labels_of(&key);
                self.labels.insert(key, labels.clone());
                labels
            }
        };
        let mut metadata = Vec::new();
        let severity = fields.get("PRIORITY").and_then(|number| number.parse::<usize>().ok());
        if let Some((word, level)) = severity.and_then(|number| SEVERITIES.get(number)) {
            metadata.push(("severity".to_owned(), (*word).to_owned()));
            metadata.push(("detected_level".to_owned(), (*level).to_owned()));
        }
        for (name, value) in &fields.values {
            let is_label = LABELS.iter().any(|(field, _)| field == name);
            if name != "MESSAGE" && name != "PRIORITY" && !name.starts_with("__") && !is_label {
                let name = name.trim_start_matches('_').to_ascii_lowercase();
                metadata.push((name, String::from_utf8_lossy(value).into_owned()));
            }
        }
        let timestamp_ns = fields.micros.saturating_mul(1_000);
        Some(Entry { timestamp_ns, labels, metadata, line, ..Entry::default() })
    }

    fn labels_of(&self, values: &[String]) -> Labels {
        let mut labels = self.config.labels.clone();
        for ((_, label), value) in LABELS.iter().zip(values) {
            labels.entry((*label).to_owned()).or_insert_with(|| value.clone());
        }
        labels.entry("job".to_owned()).or_insert_with(|| "journal".to_owned());
        labels.entry("host".to_owned()).or_insert_with(|| self.host.clone());
        let [_, unit, user_unit, identifier, _] = values else { return Labels::empty() };
        let service = [unit, user_unit, identifier].into_iter().find(|name| !name.is_empty());
        if let Some(service) = service {
            let service = service.strip_suffix(".service").unwrap_or(service).to_owned();
            labels.entry("service_name".to_owned()).or_insert(service);
        }
        let pairs = labels.iter().filter(|(_, value)| !value.is_empty());
        let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::from_pairs(pairs).unwrap_or_else(|_| Labels::empty())
    }
}

/// The arguments that say where `journalctl` begins.
///
/// `--after-cursor` leaves out the first entry it finds, also where that is not the one of the cursor,
/// because the journal has let go of that one. So it is asked for the entry itself, and what comes
/// first is compared.
fn begin(cursor: Option<&str>, first: FirstEntries, now_ns: i64) -> Vec<String> {
    match (cursor, first) {
        (Some(cursor), _) => vec!["--lines=all".to_owned(), format!("--cursor={cursor}")],
        (None, FirstEntries::Last(lines)) => vec![format!("--lines={lines}")],
        (None, FirstEntries::Since(age)) => {
            let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            let since_us = (now_ns / 1_000).saturating_sub(age_us).max(0);
            let (seconds, micros) = (since_us / 1_000_000, since_us % 1_000_000);
            vec!["--lines=all".to_owned(), format!("--since=@{seconds}.{micros:06}")]
        }
    }
}

/// One entry as it comes.
#[derive(Default)]
struct Fields {
    values: Vec<(String, Vec<u8>)>,
    cursor: String,
    micros: i64,
}

impl Fields {
    fn get(&self, name: &str) -> Option<String> {
        let value = self.values.iter().find(|(found, _)| found == name)?;
        Some(String::from_utf8_lossy(&value.1).into_owned())
    }

    /// All fields as an object. Of two with one name the last counts, as in Promtail.
    fn json(&self) -> Vec<u8> {
        let text = |(name, value): &(String, Vec<u8>)| {
            (name.clone(), String::from_utf8_lossy(value).into_owned())
        };
        // Those of two underscores are the journal's own, not the entry's.
        let fields = self.values.iter().filter(|(name, _)| !name.starts_with("__"));
        let fields: BTreeMap<String, String> = fields.map(text).collect();
        serde_json::to_vec(&fields).expect("texts by texts")
    }

    /// Reads up to a blank line; false at the end.
    fn read(&mut self, input: &mut impl BufRead) -> std::io::Result<bool> {
        self.values.clear();
        self.cursor.clear();
        self.micros = 0;
        let (mut bytes, mut is_begun) = (0, false);
        let mut line = Vec::new();
        loop {
            line.clear();
            let len = read_line(input, &mut line)?;
            if len == 0 {
                // One that is cut off comes again behind its cursor.
                return Ok(false);
            }
            if line.is_empty() {
                if is_begun {
                    return Ok(true);
                }
                continue;
            }
            is_begun = true;
            let (name, value) = match memchr::memchr(b'=', &line) {
                Some(at) => (line[..at].to_vec(), line[at + 1..].to_vec()),
                None => (line.clone(), sized(input)?),
            };
            let name = String::from_utf8_lossy(&name).into_owned();
            match name.as_str() {
                "__CURSOR" => self.cursor = String::from_utf8_lossy(&value).into_owned(),
                "__REALTIME_TIMESTAMP" => {
                    let text = String::from_utf8_lossy(&value);
                    self.micros = text.parse().unwrap_or(0);
                }
                _ => {
                    bytes += name.len() + value.len();
                    if bytes <= MAX_ENTRY_BYTES {
                        self.values.push((name, value));
                    }
                }
            }
        }
    }
}

/// A line without its end, cut where it is too long; yields how many bytes it took.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut taken = 0;
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let newline = memchr::memchr(b'\n', bytes);
        let len = newline.unwrap_or(bytes.len());
        let room = MAX_FIELD_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..len.min(room)]);
        let used = len + usize::from(newline.is_some());
        taken += used;
        input.consume(used);
        if newline.is_some() {
            return Ok(taken);
        }
    }
}

/// A value behind its length, cut where it is too long, and the newline behind it.
fn sized(input: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 8];
    input.read_exact(&mut len)?;
    let mut left = u64::from_le_bytes(len);
    let mut value = Vec::new();
    while left > 0 {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let len = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let room = MAX_FIELD_BYTES.saturating_sub(value.len());
        value.extend_from_slice(&bytes[..len.min(room)]);
        input.consume(len);
        left -= len as u64;
    }
    let mut newline = [0];
    input.read_exact(&mut newline)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_cursor_or_at_what_is_young_enough() {
        let seven_hours = FirstEntries::Since(Duration::from_secs(7 * 3_600));
        let now_ns = 1_764_468_000_250_000_000;
        assert_eq!(begin(None, seven_hours, now_ns), ["--lines=all", "--since=@1764442800.250000"]);
        assert_eq!(begin(None, FirstEntries::Last(9), now_ns), ["--lines=9"]);
        let whole = FirstEntries::Since(Duration::MAX);
        assert_eq!(begin(None, whole, now_ns), ["--lines=all", "--since=@0.000000"]);
        assert_eq!(begin(Some("s=1"), seven_hours, now_ns), ["--lines=all", "--cursor=s=1"]);
    }

    #[test]
    fn entries_of_the_export_format_are_read() {
        let mut text =
            b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1700000000000001\n__SEQNUM=1\n_PID=7\nMESSAGE\n"
                .to_vec();
        text.extend_from_slice(&9_u64.to_le_bytes());
        text.extend_from_slice(
            b"two\nlines\n\n__CURSOR=s=2\nMESSAGE=plain\n\n__CURSOR=s=3\nMESSAGE=cu",
        );
        let mut input = BufReader::with_capacity(7, &text[..]);
        let mut fields = Fields::default();
        assert!(fields.read(&mut input).expect("read"));
        assert_eq!((fields.cursor.as_str(), fields.micros), ("s=1", 1_700_000_000_000_001));
        assert_eq!(fields.get("MESSAGE").as_deref(), Some("two\nlines"));
        assert_eq!(fields.get("_PID").as_deref(), Some("7"));
        assert_eq!(fields.json(), br#"{"MESSAGE":"two\nlines","_PID":"7"}"#);
        assert!(fields.read(&mut input).expect("read"));
        assert_eq!((fields.cursor.as_str(), fields.values.len()), ("s=2", 1));
        assert!(!fields.read(&mut input).expect("read"), "the last one is cut off");
    }
}
