//! Type and unit of a metric as labels of its series, Prometheus' feature `type-and-unit-labels`.
//!
//! Source: Prometheus' `schema/labels.go` and its proposal PROM-39.

use model::MetricType;

use crate::pair_rows::push_pair;
use crate::protobuf::{Fault, length};

/// The label that says what kind of metric a series is of.
pub(crate) const TYPE: &str = "__type__";
/// The label that says in what unit a series is counted.
pub(crate) const UNIT: &str = "__unit__";

/// The value of [`TYPE`]; empty, which is no label, for a metric of unknown type.
pub(crate) fn type_label(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Unknown => "",
        kind => kind.as_str(),
    }
}

/// Those of the labels that a metric has.
pub(crate) fn labels_of(
    kind: MetricType,
    unit: &str,
) -> impl Iterator<Item = (&'static str, &str)> {
    [(TYPE, type_label(kind)), (UNIT, unit)].into_iter().filter(|(_, value)| !value.is_empty())
}

/// Labels in [`model::LabelForm::Pairs`] with those of `kind` and `unit` in place of both that they
/// have; `None` if there are none to put there.
pub(crate) fn replaced(
    pairs: &[u8],
    kind: MetricType,
    unit: &str,
) -> Result<Option<Vec<u8>>, Fault> {
    let mut own = labels_of(kind, unit).peekable();
    if own.peek().is_none() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(pairs.len() + 64);
    let mut at = 0;
    while at < pairs.len() {
        let name_end = length(pairs, &mut at, pairs.len())?;
        let name = &pairs[at..name_end];
        at = name_end;
        let value_end = length(pairs, &mut at, pairs.len())?;
        if name != TYPE.as_bytes() && name != UNIT.as_bytes() {
            push_pair(&mut out, name, &pairs[at..value_end]);
        }
        at = value_end;
    }
    own.for_each(|(name, value)| push_pair(&mut out, name.as_bytes(), value.as_bytes()));
    Ok(Some(out))
}
