//! What goes from a source through a pipeline to a batch.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use model::Labels;

/// A line on its way. A source fills the same one again for each line, so that lines cost no
/// allocation; whoever keeps something of it copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the epoch: when the line was read, or what its source or a stage knows better.
    pub timestamp_ns: i64,
    /// Of its stream. Cloning them costs a counter; stages that change them make new ones.
    pub labels: Labels,
    /// Structured metadata, in the order in which it was found; a name may stand there twice, the first
    /// counts.
    pub metadata: Vec<(String, String)>,
    /// The line without its end; any bytes. UTF-16 was made UTF-8 before.
    pub line: Vec<u8>,
    /// Whose the line is; `None` for the tenant of the agent.
    pub tenant: Option<Arc<str>>,
    /// Where the line begins in its source: bytes of a file as it lies there, or a number that grows.
    /// Of lines that were joined it is that of the first.
    pub offset: u64,
}

impl Entry {
    /// Begins a line of a source. Keeps the memory of what was there.
    pub fn begin(&mut self, offset: u64, timestamp_ns: i64, labels: &Labels, line: &[u8]) {
        self.timestamp_ns = timestamp_ns;
        self.labels.clone_from(labels);
        self.metadata.clear();
        self.line.clear();
        self.line.extend_from_slice(line);
        self.tenant = None;
        self.offset = offset;
    }
}

/// Where a pipeline puts what comes out of it.
pub trait Entries {
    /// Takes a line. The pipeline may go on using the memory.
    fn take(&mut self, entry: &Entry);
}

impl Entries for Vec<Entry> {
    fn take(&mut self, entry: &Entry) {
        self.push(entry.clone());
    }
}

/// What is done to the lines of one source: a file, a unit's journal, a connection. Each source has
/// its own, so what one holds back is the source's.
///
/// **Positions.** A pipeline may hold lines back until it has seen what follows them (`multiline`, lines
/// that a container runtime has cut). After each batch the source asks which ones, by [`Entry::offset`],
/// and writes that down with its position. After a restart it reads again from the first of them and
/// hands in those alone, then goes on where it was. So a pipeline must tell every line of which
/// something is still to come out, and none of which all has come out or been dropped.
pub trait Pipeline: Send {
    /// Takes a line and puts what becomes of it into `out`. It may be changed at will. `now` is the
    /// moment, for what waits.
    fn process(&mut self, entry: &mut Entry, now: Instant, out: &mut dyn Entries);

    /// When [`Pipeline::flush`] has something to do, if nothing comes until then.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Puts out what was held for long enough by `now`; with `None` all that is held, because nothing
    /// will follow: the source has ended.
    fn flush(&mut self, now: Option<Instant>, out: &mut dyn Entries) {
        let _ = (now, out);
    }

    /// Appends the offsets of all lines held back: of each line that was handed in, not only of the first
    /// of those that are being joined. In any order.
    fn held(&self, offsets: &mut Vec<u64>) {
        let _ = offsets;
    }

    /// Before this moment the source hands no further line in: how a limit of lines holds a source up
    /// instead of dropping what it has. The line that was handed in last went through.
    fn ready_at(&self) -> Option<Instant> {
        None
    }
}

/// Makes pipelines: the stages of one job, of which each of its sources gets its own. What they share,
/// such as expressions and metrics, lies behind it.
pub trait Stages: Send + Sync + fmt::Debug {
    /// A pipeline for a source that begins. Cheap: there may be ten thousand.
    fn start(&self) -> Box<dyn Pipeline>;
}

/// Lines as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unchanged;

impl Pipeline for Unchanged {
    fn process(&mut self, entry: &mut Entry, _now: Instant, out: &mut dyn Entries) {
        out.take(entry);
    }
}

impl Stages for Unchanged {
    fn start(&self) -> Box<dyn Pipeline> {
        Box::new(Unchanged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_begins_anew_and_nothing_of_the_last_line_stays() {
        let labels = Labels::from_pairs([("job", "a")]).expect("valid");
        let mut entry = Entry {
            metadata: vec![("k".to_owned(), "v".to_owned())],
            tenant: Some(Arc::from("t")),
            line: b"long line".to_vec(),
            ..Entry::default()
        };
        entry.begin(7, 9, &labels, b"x");
        let mut out: Vec<Entry> = Vec::new();
        Unchanged.start().process(&mut entry, Instant::now(), &mut out);
        let wanted =
            Entry { timestamp_ns: 9, labels, line: b"x".to_vec(), offset: 7, ..Entry::default() };
        assert_eq!(out, [wanted]);
    }
}
