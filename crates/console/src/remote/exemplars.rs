//! Exemplars as a broker sends them.

use model::{Exemplar, SeriesExemplars};
use net::rpc;
use promql::SourceError;

use super::labels_of;

/// Bytes a part takes, about.
pub(super) fn bytes(part: &rpc::SeriesExemplars) -> usize {
    let of_one = |one: &rpc::Exemplar| one.labels.len() + size_of::<rpc::Exemplar>();
    part.labels.len() + part.exemplars.iter().map(of_one).sum::<usize>()
}

/// Puts together the parts of each series, which stand one after the other.
pub(super) fn arrived(
    parts: Vec<rpc::SeriesExemplars>,
) -> Result<Vec<SeriesExemplars>, SourceError> {
    let mut all: Vec<SeriesExemplars> = Vec::new();
    for part in parts {
        let labels = labels_of(&part.labels)?;
        let mut exemplars = Vec::with_capacity(part.exemplars.len());
        for one in part.exemplars {
            let (value, t_ms, is_dated) = (one.value, one.timestamp_ms, one.is_dated);
            exemplars.push(Exemplar { labels: labels_of(&one.labels)?, value, t_ms, is_dated });
        }
        match all.last_mut().filter(|before| before.labels == labels) {
            Some(before) => before.exemplars.append(&mut exemplars),
            None => all.push(SeriesExemplars { labels, exemplars }),
        }
    }
    Ok(all)
}
