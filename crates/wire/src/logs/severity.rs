//! Severities of syslog, which the journal uses as well.

/// The word for a severity of 0 to 7, as syslog's own programs write it. Source: RFC 5424, table 2.
pub(super) fn word(severity: u8) -> &'static str {
    match severity {
        0 => "emerg",
        1 => "alert",
        2 => "crit",
        3 => "err",
        4 => "warning",
        5 => "notice",
        6 => "info",
        _ => "debug",
    }
}

/// The same as a level of lines: there are fewer of them.
pub(super) fn level(severity: u8) -> &'static str {
    match severity {
        0 | 1 => "fatal",
        2 => "critical",
        3 => "error",
        4 => "warn",
        5 | 6 => "info",
        _ => "debug",
    }
}
