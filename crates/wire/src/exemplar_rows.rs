//! Exemplars into a batch, whichever protocol they come by.

use std::ops::Range;

use model::{ExemplarSample, LabelForm, Labels, MetricBatch};

use crate::WireError;
use crate::protobuf::{self, Fault, Field};
use crate::series_labels::{length_prefixed_pairs, remote_write_pairs};

/// Exemplars one batch may hold; further ones are left out and counted. They take two bytes on the
/// wire and some forty in memory, and a broker keeps no more of them by default.
const MAX_EXEMPLARS: usize = 1 << 17;
/// Most labels an exemplar is read with: each takes one of at most 128 characters.
const MAX_LABELS: usize = 128;

/// An exemplar before it is known whose it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Observation {
    pub(crate) value: f64,
    /// `None` where its source does not tell.
    pub(crate) t_ms: Option<i64>,
}

/// Appends an exemplar whose own labels lie at `own` among the batch's label bytes, with labels of
/// its series that [`name_series`] sets. `read_ms` is its time if it has none. False if there are
/// too many.
pub(crate) fn push(
    out: &mut MetricBatch,
    (own, own_form): (Range<usize>, LabelForm),
    observed: Observation,
    read_ms: i64,
) -> bool {
    if out.exemplars.len() == MAX_EXEMPLARS {
        return false;
    }
    // The casts are exact: label bytes are below u32::MAX in every batch.
    out.exemplars.push(ExemplarSample {
        labels_start: 0,
        labels_len: 0,
        form: LabelForm::Pairs,
        own_start: own.start as u32,
        own_len: own.len() as u32,
        own_form,
        value: observed.value,
        t_ms: observed.t_ms.unwrap_or(read_ms),
        is_dated: observed.t_ms.is_some(),
    });
    true
}

/// Gives the exemplars from `first` on to the series whose labels lie at `start`, so many bytes.
pub(crate) fn name_series(
    out: &mut MetricBatch,
    first: usize,
    (start, len): (u32, u32),
    form: LabelForm,
) {
    for sample in &mut out.exemplars[first..] {
        (sample.labels_start, sample.labels_len, sample.form) = (start, len, form);
    }
}

/// Reads `Exemplar { labels = 1; double value = 2; int64 timestamp = 3 }` of remote write and shows
/// `label` each field of labels, which differ between 1.0 and 2.0. A time of 0 is none, as in
/// Prometheus.
pub(crate) fn remote_write(
    body: &[u8],
    message: Range<usize>,
    mut label: impl FnMut(usize, Field) -> Result<(), Fault>,
) -> Result<Observation, Fault> {
    let mut observed = Observation::default();
    let mut at = message.start;
    while at < message.end {
        let start = at;
        match protobuf::field(body, &mut at, message.end)? {
            (1, field) => label(start, field)?,
            (2, Field::Fixed64(bits)) => observed.value = f64::from_bits(bits),
            (3, Field::Varint(t_ms)) => observed.t_ms = Some(t_ms.cast_signed()),
            (2 | 3, _) => return Err((start, "field of an exemplar has the wrong type")),
            _ => {}
        }
    }
    observed.t_ms = observed.t_ms.filter(|t_ms| *t_ms != 0);
    Ok(observed)
}

/// Checks the bytes of an exemplar's own labels and yields them, sorted; there may be none.
///
/// # Errors
/// [`WireError::Labels`] for a duplicate or empty name, or bytes that are not UTF-8;
/// [`WireError::Limit`] for too many; [`WireError::Malformed`] where the bytes are not of their
/// form.
pub fn decode_exemplar_labels(form: LabelForm, bytes: &[u8]) -> Result<Labels, WireError> {
    let labels = match form {
        LabelForm::Packed => Labels::from_packed(bytes),
        LabelForm::RemoteWrite1 => Labels::from_pairs(remote_write_pairs(bytes, MAX_LABELS)?),
        LabelForm::Pairs => Labels::from_pairs(length_prefixed_pairs(bytes, MAX_LABELS)?),
    };
    labels.map_err(|error| WireError::Labels(error.to_string()))
}
