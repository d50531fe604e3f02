//! What a store was asked, and how that ended.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wire::text_encode::TextEncoder;

use crate::StoreError;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An object is written in one piece.
    Put,
    /// A part of an object is written, or the whole is begun or finished.
    PutPart,
    /// An object is read.
    Get,
    /// A part of an object is read.
    GetRange,
    /// The length of an object is asked.
    Head,
    /// Objects are listed.
    List,
    /// An object is removed.
    Delete,
    /// An object is to be kept longer.
    Renew,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 8] = [
        Operation::Put,
        Operation::PutPart,
        Operation::Get,
        Operation::GetRange,
        Operation::Head,
        Operation::List,
        Operation::Delete,
        Operation::Renew,
    ];

    /// The label `operation` of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::PutPart => "put_part",
            Operation::Get => "get",
            Operation::GetRange => "get_range",
            Operation::Head => "head",
            Operation::List => "list",
            Operation::Delete => "delete",
            Operation::Renew => "renew",
        }
    }

    /// In an error, after "to".
    pub(crate) fn action(self) -> &'static str {
        match self {
            Operation::Put | Operation::PutPart => "write",
            Operation::Get | Operation::GetRange => "read",
            Operation::Head => "look at",
            Operation::List => "list",
            Operation::Delete => "delete",
            Operation::Renew => "keep",
        }
    }
}

const BOUNDS: usize = 13;
/// Upper bounds of the histogram's buckets, milliseconds: from a local disk to the deadline.
const BOUNDS_MS: [u64; BOUNDS] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000];

/// What one store was asked. Reading and adding are lock-free.
#[derive(Debug, Default)]
pub struct StoreCounters {
    operations: [OperationCounters; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct OperationCounters {
    requests: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    errors: [AtomicU64; StoreError::KINDS.len()],
    micros: AtomicU64,
    /// Not cumulative; the last one is what took longer than every bound.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
}

impl StoreCounters {
    /// Requests of a kind that ended, well or not, each with all its attempts.
    pub fn requests(&self, operation: Operation) -> u64 {
        self.of(operation).requests.load(Relaxed)
    }

    /// Requests of a kind that failed.
    pub fn errors(&self, operation: Operation) -> u64 {
        self.of(operation).errors.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Requests of a kind that failed, by [`StoreError::kind`].
    pub fn errors_by_kind(
        &self,
        operation: Operation,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = &self.of(operation).errors;
        StoreError::KINDS.iter().zip(counts).map(|(kind, count)| (*kind, count.load(Relaxed)))
    }

    /// Upper bounds of [`StoreCounters::durations`], milliseconds, ascending.
    pub const BOUNDS_MS: &'static [u64] = &BOUNDS_MS;

    /// Requests of a kind by how long they took, one number for each bound, and one for what took
    /// longer than all; not cumulative.
    pub fn durations(&self, operation: Operation) -> [u64; BOUNDS + 1] {
        let buckets = &self.of(operation).buckets;
        std::array::from_fn(|at| buckets[at].load(Relaxed))
    }

    /// Attempts that failed and were followed by another.
    pub fn retries(&self, operation: Operation) -> u64 {
        self.of(operation).retries.load(Relaxed)
    }

    /// Bytes moved by requests that succeeded.
    pub fn bytes(&self, operation: Operation) -> u64 {
        self.of(operation).bytes.load(Relaxed)
    }

    /// Writes the counters of several stores, each with a name for the label `store`, in
    /// Prometheus' text format.
    pub fn render(stores: &[(&str, &StoreCounters)], out: &mut TextEncoder<'_>) {
        type Read = fn(&OperationCounters) -> &AtomicU64;
        let families: [(&str, &str, Read); 3] = [
            (
                "watchfire_objects_requests_total",
                "Requests to a store that ended, each with all its attempts.",
                |of| &of.requests,
            ),
            (
                "watchfire_objects_retries_total",
                "Attempts that failed and were followed by another.",
                |of| &of.retries,
            ),
            ("watchfire_objects_bytes_total", "Bytes written to and read from a store.", |of| {
                &of.bytes
            }),
        ];
        for (name, help, read) in families {
            out.family(name, "counter", help);
            for_each(stores, |store, operation, of| {
                let labels = [("store", store), ("operation", operation)];
                out.sample(name, &labels, read(of).load(Relaxed) as f64);
            });
        }
        let name = "watchfire_objects_errors_total";
        out.family(name, "counter", "Requests to a store that failed, by kind of error.");
        for_each(stores, |store, operation, of| {
            for (kind, count) in StoreError::KINDS.iter().zip(&of.errors) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = [("store", store), ("operation", operation), ("kind", kind)];
                    out.sample(name, &labels, count as f64);
                }
            }
        });
        let name = "watchfire_objects_request_duration_seconds";
        out.family(name, "histogram", "Time of requests to a store, all attempts together.");
        for_each(stores, |store, operation, of| of.render_histogram(name, store, operation, out));
    }

    pub(crate) fn note_retry(&self, operation: Operation) {
        self.of(operation).retries.fetch_add(1, Relaxed);
    }

    /// A request that ended. That there is no such object is an answer and no error.
    pub(crate) fn note(
        &self,
        operation: Operation,
        took: Duration,
        outcome: Result<usize, &StoreError>,
    ) {
        let of = self.of(operation);
        of.requests.fetch_add(1, Relaxed);
        of.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        let fits = |bound: &u64| took <= Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().position(fits).unwrap_or(BOUNDS_MS.len());
        of.buckets[bucket].fetch_add(1, Relaxed);
        match outcome {
            Ok(bytes) => _ = of.bytes.fetch_add(bytes as u64, Relaxed),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => {
                let kind = StoreError::KINDS.iter().position(|kind| *kind == error.kind());
                of.errors[kind.expect("every kind is listed")].fetch_add(1, Relaxed);
            }
        }
    }

    fn of(&self, operation: Operation) -> &OperationCounters {
        &self.operations[operation as usize]
    }
}

impl OperationCounters {
    fn render_histogram(
        &self,
        name: &str,
        store: &str,
        operation: &str,
        out: &mut TextEncoder<'_>,
    ) {
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = BOUNDS_MS.get(index);
            let le = bound.map_or("+Inf".to_owned(), |ms| {
                format!("{}", Duration::from_millis(*ms).as_secs_f64())
            });
            let labels = [("store", store), ("operation", operation), ("le", le.as_str())];
            out.sample(&bucket_name, &labels, count as f64);
        }
        let labels = [("store", store), ("operation", operation)];
        let seconds = self.micros.load(Relaxed) as f64 / 1e6;
        out.sample(&format!("{name}_sum"), &labels, seconds);
        out.sample(&format!("{name}_count"), &labels, count as f64);
    }
}

fn for_each(
    stores: &[(&str, &StoreCounters)],
    mut each: impl FnMut(&str, &str, &OperationCounters),
) {
    for (store, counters) in stores {
        for operation in Operation::ALL {
            each(store, operation.as_str(), counters.of(operation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_in_its_bucket_and_by_its_kind() {
        let counters = StoreCounters::default();
        counters.note(Operation::Put, Duration::from_millis(3), Ok(7));
        let late = StoreError::Unknown {
            key: "k".to_owned(),
            waited: Duration::from_secs(16),
            why: String::new(),
        };
        counters.note(Operation::Put, Duration::from_secs(16), Err(&late));
        let missing = StoreError::NotFound { key: "k".to_owned() };
        counters.note(Operation::Get, Duration::ZERO, Err(&missing));
        let mut page = Vec::new();
        StoreCounters::render(&[("truth", &counters)], &mut TextEncoder::new(&mut page));
        let page = String::from_utf8(page).expect("text");
        for line in [
            r#"watchfire_objects_requests_total{store="truth",operation="put"} 2"#,
            r#"watchfire_objects_bytes_total{store="truth",operation="put"} 7"#,
            r#"watchfire_objects_errors_total{store="truth",operation="put",kind="unknown"} 1"#,
            r#"watchfire_objects_request_duration_seconds_bucket{store="truth",operation="put",le="0.002"} 0"#,
            r#"watchfire_objects_request_duration_seconds_bucket{store="truth",operation="put",le="0.005"} 1"#,
            r#"watchfire_objects_request_duration_seconds_bucket{store="truth",operation="put",le="15"} 1"#,
            r#"watchfire_objects_request_duration_seconds_bucket{store="truth",operation="put",le="+Inf"} 2"#,
            r#"watchfire_objects_request_duration_seconds_count{store="truth",operation="put"} 2"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert_eq!(page.matches("_errors_total{").count(), 1, "what is not there is no error");
    }
}
