//! A batch of the spool as what single requests carry.

use std::collections::{HashMap, VecDeque};

use model::{Labels, LogBatch, LogRecord};

/// What a request may carry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes of lines and their metadata; a single line may be longer.
    pub(super) bytes: usize,
    pub(super) lines: usize,
    /// Whether labels are sent with each line, so that they count.
    pub(super) labels_count: bool,
}

/// Cuts a batch so that each part has room, with the lines of a stream together. `external` are labels
/// that each line gets that has none of that name.
pub(super) fn parts(batch: &LogBatch, external: &Labels, room: Room) -> VecDeque<LogBatch> {
    let mut parts = Parts { room, ..Parts::default() };
    let (mut records, mut metadata) = (batch.records(), Vec::new());
    // A batch of our own is never broken.
    while let Ok(Some(record)) = records.next_record(&mut metadata) {
        match record {
            LogRecord::Stream(labels) => parts.stream(with_external(labels, external)),
            LogRecord::Line { timestamp_ns, line } => parts.line(timestamp_ns, line, &metadata),
        }
    }
    parts.finish();
    parts.done
}

/// Two halves of a part; nothing if it has one line.
pub(super) fn halves(part: &LogBatch, room: Room) -> Option<VecDeque<LogBatch>> {
    let lines = usize::try_from(part.lines()).unwrap_or(usize::MAX).div_ceil(2);
    let room = Room { lines, ..room };
    (part.lines() > 1).then(|| parts(part, &Labels::empty(), room))
}

fn with_external(labels: Labels, external: &Labels) -> Labels {
    if external.iter().all(|(name, _)| labels.get(name).is_some()) {
        return labels;
    }
    let mut builder = model::LabelsBuilder::from_labels(&labels);
    for (name, value) in external.iter().filter(|(name, _)| labels.get(name).is_none()) {
        builder.set(name, value);
    }
    builder.build()
}

struct Parts {
    room: Room,
    done: VecDeque<LogBatch>,
    /// Of the part at hand, in the order in which they came.
    streams: Vec<LogBatch>,
    places: HashMap<Labels, usize>,
    labels: Labels,
    /// Where the stream at hand is among them; none until it has a line.
    at: Option<usize>,
    bytes: usize,
    lines: usize,
}

impl Default for Parts {
    fn default() -> Self {
        Parts {
            room: Room { bytes: 0, lines: 0, labels_count: false },
            done: VecDeque::new(),
            streams: Vec::new(),
            places: HashMap::new(),
            labels: Labels::empty(),
            at: None,
            bytes: 0,
            lines: 0,
        }
    }
}

impl Parts {
    fn stream(&mut self, labels: Labels) {
        self.at = self.places.get(&labels).copied();
        self.labels = labels;
    }

    fn line(&mut self, timestamp_ns: i64, line: &[u8], metadata: &[(&str, &str)]) {
        let of_metadata: usize =
            metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        let of_labels = if self.room.labels_count { self.labels.as_packed().len() } else { 0 };
        let bytes = line.len() + of_metadata + of_labels;
        let is_full = self.bytes + bytes > self.room.bytes || self.lines >= self.room.lines;
        if self.lines > 0 && is_full {
            self.finish();
        }
        let at = *self.at.get_or_insert_with(|| {
            let mut stream = LogBatch::default();
            stream.stream(&self.labels);
            self.streams.push(stream);
            self.places.insert(self.labels.clone(), self.streams.len() - 1);
            self.streams.len() - 1
        });
        // It was in a batch already.
        let pushed = self.streams[at].push(timestamp_ns, line, metadata);
        pushed.expect("a part is no larger than what it is a part of");
        self.bytes += bytes;
        self.lines += 1;
    }

    fn finish(&mut self) {
        if self.lines == 0 {
            return;
        }
        let parts: Vec<u8> =
            self.streams.drain(..).flat_map(|stream| stream.as_parts().to_vec()).collect();
        let part = LogBatch::from_parts(parts).expect("streams one after the other are a batch");
        self.done.push_back(part);
        self.places.clear();
        (self.at, self.bytes, self.lines) = (None, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(part: &LogBatch) -> String {
        let (mut records, mut metadata, mut out) = (part.records(), Vec::new(), String::new());
        while let Some(record) = records.next_record(&mut metadata).expect("whole") {
            match record {
                LogRecord::Stream(labels) => out.push_str(&format!("{labels} ")),
                LogRecord::Line { timestamp_ns, line } => {
                    let line = String::from_utf8_lossy(line);
                    out.push_str(&format!("{timestamp_ns}:{line}{metadata:?} "));
                }
            }
        }
        out
    }

    #[test]
    fn streams_are_together_and_no_request_is_too_large() {
        let (mut batch, room) =
            (LogBatch::default(), Room { bytes: 8, lines: 3, labels_count: false });
        let [a, b] = ["a", "b"].map(|job| Labels::from_pairs([("job", job)]).expect("valid"));
        for (labels, ns, line) in
            [(&a, 3, "aa"), (&b, 2, "bb"), (&a, 1, "cc"), (&b, 4, "dd"), (&b, 5, "0123456789")]
        {
            batch.stream(labels);
            batch.push(ns, line.as_bytes(), &[]).expect("small");
        }
        let external = Labels::from_pairs([("job", "no"), ("zone", "z")]).expect("valid");
        let found: Vec<String> = parts(&batch, &external, room).iter().map(shown).collect();
        assert_eq!(
            found,
            [
                "{job=\"a\", zone=\"z\"} 3:aa[] 1:cc[] {job=\"b\", zone=\"z\"} 2:bb[] ",
                "{job=\"b\", zone=\"z\"} 4:dd[] ",
                "{job=\"b\", zone=\"z\"} 5:0123456789[] ",
            ]
        );
        let whole = Room { bytes: 1 << 20, lines: 1_000, labels_count: true };
        let all = parts(&batch, &Labels::empty(), whole);
        assert_eq!((all.len(), all[0].lines()), (1, 5));
        let halves = halves(&all[0], whole).expect("more than one line");
        assert_eq!(halves.iter().map(LogBatch::lines).collect::<Vec<_>>(), [3, 2]);
        assert!(super::halves(&parts(&batch, &external, room)[1], whole).is_none());
        let tight = Room { bytes: 20, ..whole };
        assert!(parts(&batch, &external, tight).len() > 2, "labels count where they are repeated");
    }
}
