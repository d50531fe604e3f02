//! Which native histograms are taken, and how fine they may be.

use model::Histogram;
use settings::prometheus::ScrapeConfig;
use wire::nhcb::Converter;
use wire::protobuf_exposition;

use super::error::ScrapeError;
use super::target::{CONVERT_CLASSIC, KEEP_CLASSIC, SCRAPE_NATIVE, Target};

/// The coarsest and the finest schema of exponential buckets.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;
/// The growth factor of the finest schema.
const LEAST_FACTOR: f64 = 1.00271;

/// The options of a job about histograms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HistogramRules {
    take_native: bool,
    keep_classic: bool,
    pub(super) convert_classic: bool,
    /// 0 means none.
    bucket_limit: usize,
    finest_schema: i32,
}

/// Those of a job that says nothing.
impl Default for HistogramRules {
    fn default() -> Self {
        HistogramRules {
            take_native: false,
            keep_classic: false,
            convert_classic: false,
            bucket_limit: 0,
            finest_schema: *SCHEMAS.end(),
        }
    }
}

impl HistogramRules {
    /// Those of the job, as far as the target's labels do not say something else.
    pub(super) fn new(config: &ScrapeConfig, target: &Target) -> Self {
        let choice = |label, job| target.flag(label).unwrap_or(job);
        HistogramRules {
            take_native: choice(SCRAPE_NATIVE, config.scrape_native_histograms),
            keep_classic: choice(KEEP_CLASSIC, config.always_scrape_classic_histograms),
            convert_classic: choice(CONVERT_CLASSIC, config.convert_classic_histograms_to_nhcb),
            bucket_limit: usize::try_from(config.native_histogram_bucket_limit)
                .unwrap_or(usize::MAX),
            finest_schema: finest_schema(config.native_histogram_min_bucket_factor),
        }
    }

    /// What the parser of protobuf is told.
    pub(super) fn protobuf_options(
        &self,
        type_and_unit_labels: bool,
    ) -> protobuf_exposition::Options {
        protobuf_exposition::Options {
            keep_classic: self.keep_classic,
            ignore_native: !self.take_native,
            type_and_unit_labels,
        }
    }

    /// What turns classic histograms into native ones with custom buckets, if the job wants it.
    pub(super) fn converter(&self) -> Option<Converter> {
        self.convert_classic.then(|| Converter::new(self.keep_classic))
    }

    /// Checks a histogram and makes it as coarse as the options want.
    ///
    /// # Errors
    /// It is inconsistent, or has too many buckets at the coarsest schema.
    pub(super) fn shape(&self, histogram: &mut Histogram) -> Result<(), ScrapeError> {
        histogram.validate()?;
        if histogram.layout().is_custom() {
            if self.bucket_limit > 0 && histogram.bucket_count() > self.bucket_limit {
                return Err(ScrapeError::BucketLimit { limit: self.bucket_limit });
            }
            return Ok(());
        }
        if histogram.layout().schema > self.finest_schema {
            histogram.coarsen(self.finest_schema)?;
        }
        while self.bucket_limit > 0 && histogram.bucket_count() > self.bucket_limit {
            let schema = histogram.layout().schema;
            if schema <= *SCHEMAS.start() {
                return Err(ScrapeError::BucketLimit { limit: self.bucket_limit });
            }
            histogram.coarsen(schema - 1)?;
        }
        Ok(())
    }
}

/// The finest schema whose buckets grow by at least `factor`; as Prometheus' `pickSchema`.
fn finest_schema(factor: f64) -> i32 {
    let factor = if factor <= 1.0 { LEAST_FACTOR } else { factor };
    let schema = (-factor.log2().log2()).floor();
    (schema as i32).clamp(*SCHEMAS.start(), *SCHEMAS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_become_schemas() {
        for (factor, schema) in
            [(0.0, 8), (1.0027, 8), (1.1, 2), (1.2, 1), (2.0, 0), (65_536.0, -4), (1e30, -4)]
        {
            assert_eq!(finest_schema(factor), schema, "{factor}");
        }
    }
}
