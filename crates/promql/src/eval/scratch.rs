//! Memory one piece of work uses again and again, so that no series and no step allocates.

use super::annotations::Notes;
use super::histogram_rows::HistogramRow;
use super::profiler::{Local, NodeId};
use super::rollup::Gaps;
use super::windows::Windows;
use crate::source::Columns;

/// Buffers of one piece of work.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The samples of the series at hand.
    pub(crate) columns: Columns,
    /// Where the window of each step begins and ends in `columns`.
    pub(crate) windows: Windows,
    /// The same for histograms.
    pub(crate) histogram_windows: Windows,
    /// What `rate` needs to know about the windows.
    pub(crate) gaps: Gaps,
    /// The steps of the series at hand.
    pub(crate) row: Vec<f64>,
    /// Histograms at the steps of the series at hand; empty if it has none.
    pub(crate) histogram_row: HistogramRow,
    /// For functions that sort or select within a window.
    pub(crate) sorted: Vec<f64>,
    /// Indices into `columns`: counter resets, or candidates of a sliding extremum.
    pub(crate) marks: Vec<u32>,
    /// Remarks about the series seen.
    pub(crate) notes: Notes,
    /// The last metric name remarked upon, to skip the same remark for the next series.
    pub(crate) noted_name: String,
    /// Samples decoded.
    pub(crate) samples_read: u64,
    /// Most samples `columns` held.
    pub(crate) peak_columns: usize,
    /// What the piece of work measures, if it does.
    pub(crate) profile: Option<Local>,
}

impl Scratch {
    /// The time that passes from here on is that of `node`.
    #[inline]
    pub(crate) fn switch(&mut self, node: NodeId) {
        if let Some(local) = &mut self.profile {
            local.switch(node);
        }
    }

    /// The time that passes from here on is that of whoever works.
    #[inline]
    pub(crate) fn switch_back(&mut self) {
        if let Some(local) = &mut self.profile {
            local.switch_back();
        }
    }

    /// Counts a series that `node` yields.
    #[inline]
    pub(crate) fn count_out(&mut self, node: NodeId) {
        if let Some(local) = &mut self.profile {
            local.count_out(node);
        }
    }
}
