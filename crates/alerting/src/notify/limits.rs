//! How much is kept.

/// Limits of a notifier. Whoever runs into one is told which, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most alerts, those included that ended lately.
    pub max_alerts: usize,
    /// Most alerts of one `alertname`; 0 for no limit beside the other.
    pub max_alerts_per_name: usize,
    /// Most bytes of labels and annotations of one alert.
    pub max_alert_bytes: usize,
    /// Most groups. Alerts for which no group can be made are kept, but nobody is told.
    pub max_groups: usize,
    /// Most silences, those included that expired lately.
    pub max_silences: usize,
    /// Most bytes of one silence.
    pub max_silence_bytes: usize,
    /// Most entries of the notification log; beyond, those that would go first are dropped.
    pub max_log_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_alerts: 200_000,
            max_alerts_per_name: 0,
            max_alert_bytes: 64 << 10,
            max_groups: 100_000,
            max_silences: 10_000,
            max_silence_bytes: 64 << 10,
            max_log_entries: 500_000,
        }
    }
}
