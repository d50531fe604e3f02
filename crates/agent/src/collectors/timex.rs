//! How well the clock is disciplined. Source: `adjtimex(2)`.

use std::path::PathBuf;

use rtime_clock::adjtime;

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::read_error;
use crate::series::{Family, Samples, Single};

const fn gauge(name: &'static str, help: &'static str) -> Single {
    Single::new(Family::gauge(name, help))
}

const fn counter(name: &'static str, help: &'static str) -> Single {
    Single::new(Family::counter(name, help))
}

/// What `adjtimex` returns if the clock is not synchronized.
const TIME_ERROR: i32 = 5;

/// The bit of the status that says that some times are in nanoseconds instead of microseconds.
const STA_NANO: i32 = 0x2000;

const MICROSECONDS: f64 = 1e6;
const NANOSECONDS: f64 = 1e9;

/// Frequencies are in parts per million, with 16 bits after the binary point.
const SCALED_PPM: f64 = 1e6 * 65_536.0;

/// `node_timex_*`.
pub(crate) struct Timex {
    metrics: [Single; 17],
}

impl Timex {
    pub(crate) fn new(_: &AgentConfig) -> Self {
        Timex {
            metrics: [
                gauge(
                    "node_timex_offset_seconds",
                    "Time offset in between local system and reference clock.",
                ),
                gauge("node_timex_frequency_adjustment_ratio", "Local clock frequency adjustment."),
                gauge("node_timex_maxerror_seconds", "Maximum error in seconds."),
                gauge("node_timex_estimated_error_seconds", "Estimated error in seconds."),
                gauge("node_timex_status", "Value of the status array bits."),
                gauge("node_timex_loop_time_constant", "Phase-locked loop time constant."),
                gauge("node_timex_tick_seconds", "Seconds between clock ticks."),
                gauge("node_timex_pps_frequency_hertz", "Pulse per second frequency."),
                gauge("node_timex_pps_jitter_seconds", "Pulse per second jitter."),
                gauge("node_timex_pps_shift_seconds", "Pulse per second interval duration."),
                gauge(
                    "node_timex_pps_stability_hertz",
                    "Pulse per second stability, average of recent frequency changes.",
                ),
                counter(
                    "node_timex_pps_jitter_total",
                    "Pulse per second count of jitter limit exceeded events.",
                ),
                counter(
                    "node_timex_pps_calibration_total",
                    "Pulse per second count of calibration intervals.",
                ),
                counter(
                    "node_timex_pps_error_total",
                    "Pulse per second count of calibration errors.",
                ),
                counter(
                    "node_timex_pps_stability_exceeded_total",
                    "Pulse per second count of stability limit exceeded events.",
                ),
                gauge("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset."),
                gauge(
                    "node_timex_sync_status",
                    "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
                ),
            ],
        }
    }
}

impl Collector for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        // No mode is set, so the kernel only answers and changes nothing.
        let mut timex = adjtime::Timex::new();
        let state = adjtime::adjtimex(&mut timex)
            .map_err(|error| read_error(&PathBuf::from("adjtimex(2)"), error))?;
        let timex = timex.0;
        let unit = if timex.status & STA_NANO == 0 { MICROSECONDS } else { NANOSECONDS };
        let values = [
            timex.offset as f64 / unit,
            1.0 + timex.freq as f64 / SCALED_PPM,
            timex.maxerror as f64 / MICROSECONDS,
            timex.esterror as f64 / MICROSECONDS,
            f64::from(timex.status),
            timex.constant as f64,
            timex.tick as f64 / MICROSECONDS,
            timex.ppsfreq as f64 / SCALED_PPM,
            timex.jitter as f64 / unit,
            f64::from(timex.shift),
            timex.stabil as f64 / SCALED_PPM,
            timex.jitcnt as f64,
            timex.calcnt as f64,
            timex.errcnt as f64,
            timex.stbcnt as f64,
            f64::from(timex.tai),
            f64::from(u8::from(state != TIME_ERROR)),
        ];
        for (metric, value) in self.metrics.iter_mut().zip(values) {
            metric.emit(out, value);
        }
        Ok(Outcome::Collected)
    }
}
