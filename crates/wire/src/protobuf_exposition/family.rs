//! The head of a metric family.

use std::ops::Range;

use model::MetricType;

use super::metric::malformed;
use crate::WireError;
use crate::protobuf::{Field, each_field};
use crate::text_lex::go_quote;

/// A family whose metrics are not read yet.
#[derive(Debug, Default)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) help: &'a str,
    pub(super) unit: &'a str,
    pub(super) kind: MetricType,
    /// Where its metrics lie in the input.
    pub(super) metrics: Vec<Range<usize>>,
    /// The fields as they came, until they are checked.
    raw: RawFamily<'a>,
}

#[derive(Debug, Default, Clone, Copy)]
struct RawFamily<'a> {
    name: &'a [u8],
    help: &'a [u8],
    unit: &'a [u8],
    kind: u64,
}

impl<'a> Family<'a> {
    /// Reads the message at `range`, of which nothing is believed yet.
    pub(super) fn read(&mut self, input: &'a [u8], range: Range<usize>) -> Result<(), WireError> {
        self.raw = RawFamily::default();
        self.metrics.clear();
        let (raw, metrics) = (&mut self.raw, &mut self.metrics);
        each_field(input, range, |number, field| {
            match (number, field) {
                (1, Field::Bytes { start, end }) => raw.name = &input[start..end],
                (2, Field::Bytes { start, end }) => raw.help = &input[start..end],
                (3, Field::Varint(kind)) => raw.kind = kind,
                (4, Field::Bytes { start, end }) => metrics.push(start..end),
                (5, Field::Bytes { start, end }) => raw.unit = &input[start..end],
                (1..=5, _) => return Err("field of a metric family has the wrong type"),
                _ => {}
            }
            Ok(())
        })
        .map_err(malformed)
    }

    /// Checks name, help, type and unit, in Prometheus' words.
    pub(super) fn check(&mut self) -> Result<(), WireError> {
        let raw = self.raw;
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes);
        let shown = String::from_utf8_lossy(raw.name);
        self.name = text(raw.name)
            .ok()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| WireError::Family(format!("invalid metric name: {shown}")))?;
        self.help = text(raw.help).map_err(|_| {
            let help = String::from_utf8_lossy(raw.help);
            WireError::Family(format!("invalid help for metric {}: {help}", go_quote(raw.name)))
        })?;
        self.kind = match raw.kind {
            0 => MetricType::Counter,
            1 => MetricType::Gauge,
            2 => MetricType::Summary,
            3 => MetricType::Unknown,
            4 => MetricType::Histogram,
            5 => MetricType::GaugeHistogram,
            other => {
                let name = go_quote(raw.name);
                return Err(WireError::Family(format!(
                    "unknown metric type for metric {name}: {other}"
                )));
            }
        };
        // A name need not end in it, as it must in OpenMetrics; one that is no text is left out.
        self.unit = text(raw.unit).unwrap_or_default();
        Ok(())
    }
}
