//! A run of steps of one query, and how runs are cut and joined.

use std::sync::Arc;

use promql::{Annotation, RangeSeries};

/// As of when a result was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Which run of which broker counted.
    pub(crate) store: u64,
    /// Of its changes, the last that the result is sure to have seen.
    pub(crate) number: u64,
    /// When that was, by the broker's clock.
    pub(crate) at_ms: i64,
}

/// The result at the steps from `start_ms` up to and including `end_ms`.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Ascending by labels.
    pub(crate) series: Arc<Vec<RangeSeries>>,
    pub(crate) annotations: Arc<Vec<Annotation>>,
    pub(crate) version: Version,
    /// What it takes.
    pub(crate) bytes: usize,
}

/// A part of a result: the points of `series` from `start_ms` up to and including `end_ms`.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) series: Arc<Vec<RangeSeries>>,
    pub(crate) annotations: Arc<Vec<Annotation>>,
}

impl Extent {
    pub(crate) fn new(
        (start_ms, end_ms): (i64, i64),
        series: Vec<RangeSeries>,
        annotations: Vec<Annotation>,
        version: Version,
    ) -> Self {
        let bytes = bytes_of(&series, &annotations);
        let (series, annotations) = (Arc::new(series), Arc::new(annotations));
        Extent { start_ms, end_ms, series, annotations, version, bytes }
    }

    /// Extents that follow each other, all of one version and at least one, without the steps before
    /// `oldest_ms`.
    pub(crate) fn joined(run: &[Extent], oldest_ms: i64) -> Extent {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let start_ms = first.start_ms;
        let pieces: Vec<Piece> =
            run.iter().map(|one| one.piece(one.start_ms.max(oldest_ms), one.end_ms)).collect();
        let (series, annotations) = join(&pieces);
        // The first step that is left is found in what is left, as steps are not known here.
        let times = series.iter().flat_map(|one| {
            one.timestamps_ms
                .first()
                .copied()
                .into_iter()
                .chain(one.histograms.first().map(|h| h.0))
        });
        let start_ms = match oldest_ms <= start_ms {
            true => start_ms,
            false => times.min().unwrap_or(last.end_ms),
        };
        Extent::new((start_ms, last.end_ms), series, annotations, first.version)
    }

    /// The points from `start_ms` up to and including `end_ms`.
    pub(crate) fn piece(&self, start_ms: i64, end_ms: i64) -> Piece {
        let (series, annotations) = (Arc::clone(&self.series), Arc::clone(&self.annotations));
        Piece { start_ms, end_ms, series, annotations }
    }
}

/// Joins pieces that ascend in time: series ascending by labels, and each remark once.
pub(crate) fn join(pieces: &[Piece]) -> (Vec<RangeSeries>, Vec<Annotation>) {
    let mut parts: Vec<(&Piece, &RangeSeries)> =
        pieces.iter().flat_map(|piece| piece.series.iter().map(move |one| (piece, one))).collect();
    // Stable, so that parts of one series stay in order of time; each piece is a sorted run.
    parts.sort_by(|a, b| a.1.labels.cmp(&b.1.labels));
    let mut joined = Vec::new();
    for of_one in parts.chunk_by(|a, b| a.1.labels == b.1.labels) {
        let points = of_one.iter().map(|(_, part)| part.values.len()).sum();
        let mut series = RangeSeries {
            labels: of_one[0].1.labels.clone(),
            timestamps_ms: Vec::with_capacity(points),
            values: Vec::with_capacity(points),
            histograms: Vec::new(),
        };
        for (piece, part) in of_one {
            let range = within(&part.timestamps_ms, |t_ms| *t_ms, piece);
            series.timestamps_ms.extend_from_slice(&part.timestamps_ms[range.clone()]);
            series.values.extend_from_slice(&part.values[range]);
            let range = within(&part.histograms, |(t_ms, _)| *t_ms, piece);
            series.histograms.extend_from_slice(&part.histograms[range]);
        }
        if !series.timestamps_ms.is_empty() || !series.histograms.is_empty() {
            joined.push(series);
        }
    }
    let mut annotations: Vec<Annotation> = Vec::new();
    for note in pieces.iter().flat_map(|piece| piece.annotations.iter()) {
        if !annotations.contains(note) {
            annotations.push(note.clone());
        }
    }
    (joined, annotations)
}

/// Which of `points`, ascending in time, lie in the piece.
fn within<P>(points: &[P], time: impl Fn(&P) -> i64, piece: &Piece) -> std::ops::Range<usize> {
    let start = points.partition_point(|point| time(point) < piece.start_ms);
    let end = points.partition_point(|point| time(point) <= piece.end_ms);
    start..end.max(start)
}

/// What a result takes, with histograms as if each were held alone.
fn bytes_of(series: &[RangeSeries], annotations: &[Annotation]) -> usize {
    let of_series = |one: &RangeSeries| {
        let histograms = one
            .histograms
            .iter()
            .map(|(_, histogram)| size_of_val(&**histogram) + 8 * histogram.bucket_count() + 24);
        size_of::<RangeSeries>()
            + one.labels.as_packed().len()
            + 8 * (one.timestamps_ms.capacity() + one.values.capacity())
            + histograms.sum::<usize>()
    };
    let of_note = |note: &Annotation| size_of::<Annotation>() + note.message.len();
    series.iter().map(of_series).sum::<usize>() + annotations.iter().map(of_note).sum::<usize>()
}
