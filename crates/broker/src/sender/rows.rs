//! Samples on their way to a remote.

use std::time::Instant;

use model::{Exemplar, Histogram, Labels};

/// One sample or exemplar with the labels it is sent under.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) labels: Labels,
    /// Of the labels; decides the shard.
    pub(super) hash: u32,
    pub(super) t_ms: i64,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Float {
        value: f64,
        /// When it began at zero, 0 if nobody knows.
        start_ms: i64,
    },
    /// Boxed: histograms are few and large.
    Histogram(Box<HistogramValue>),
    /// Boxed: they are few and have labels.
    Exemplar(Box<Exemplar>),
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Float,
    Histogram,
    Exemplar,
}

#[derive(Debug, Clone)]
pub(super) struct HistogramValue {
    /// 0 if nobody knows.
    pub(super) start_ms: i64,
    pub(super) histogram: Histogram,
}

/// Rows of one frame of the log for one shard, in the order of the frame.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Number of the frame; grows with the log.
    pub(super) frame: u64,
    /// When it was read.
    pub(super) at: Instant,
    pub(super) rows: Vec<Row>,
}

/// How many rows there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) floats: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

impl Row {
    pub(super) fn kind(&self) -> Kind {
        match self.value {
            Value::Float { .. } => Kind::Float,
            Value::Histogram(_) => Kind::Histogram,
            Value::Exemplar(_) => Kind::Exemplar,
        }
    }
}

impl Amount {
    pub(super) fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut amount = Amount::default();
        for row in rows {
            match row.kind() {
                Kind::Float => amount.floats += 1,
                Kind::Histogram => amount.histograms += 1,
                Kind::Exemplar => amount.exemplars += 1,
            }
        }
        amount
    }

    pub(super) fn total(self) -> u64 {
        self.floats + self.histograms + self.exemplars
    }

    /// So many of one kind.
    pub(super) fn of_kind(kind: Kind, count: u64) -> Self {
        let mut amount = Amount::default();
        match kind {
            Kind::Float => amount.floats = count,
            Kind::Histogram => amount.histograms = count,
            Kind::Exemplar => amount.exemplars = count,
        }
        amount
    }
}
