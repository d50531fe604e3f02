//! Unit tests of rules: promtool's test files, run over PromQL and the rules of this program.
//!
//! [`TestFile`] is such a file, [`run_file`] runs what it says: it evaluates the rules it names over
//! the series it makes, and compares alerts and answers with what it expects. [`notation`] is how
//! such files write series; [`MemorySource`] holds the samples. [`checks`] and [`compile`] are
//! PromQL, as rules want it.

mod engine;
mod language;
mod memory;
pub mod notation;
mod runner;
mod shown;
mod templates;
mod test_file;

pub use engine::{Features, answer};
pub use language::{checks, compile};
pub use memory::{InsertError, MAX_SAMPLES, MemorySource, Point};
pub use runner::{FileReport, TestOptions, TestReport, run_file};
pub use test_file::{
    AlertCase, ExpectedAlert, ExpectedSample, ExprCase, InputSeries, TestFile, TestGroup,
};
