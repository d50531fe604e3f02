//! `syslog:`.

use std::net::SocketAddr;

use anyhow::{Result, anyhow, bail, ensure};
use broker::SyslogIntake;
use model::{Labels, TenantName};

use super::keys::Syslog;
use super::line_listen;
use crate::cli::ServeArguments;

/// Longest message unless something else is configured: eight times what RFC 5424 wants everybody to take.
const DEFAULT_MESSAGE_BYTES: usize = 64 << 10;

/// Where syslog is taken and what is made of it.
#[derive(Debug, Clone)]
pub(crate) struct SyslogConfig {
    pub(crate) udp_listen: Option<SocketAddr>,
    pub(crate) tcp_listen: Option<SocketAddr>,
    pub(crate) tls_listen: Option<SocketAddr>,
    pub(crate) max_message_bytes: usize,
    pub(crate) intake: SyslogIntake,
}

pub(super) fn settings(keys: &Syslog, arguments: &ServeArguments) -> Result<SyslogConfig> {
    let listen =
        |key, in_file: &Option<String>, flag| line_listen(key, in_file.as_deref(), flag, arguments);
    let udp_listen = listen("syslog.udp_listen", &keys.udp_listen, arguments.syslog_udp_listen)?;
    let tcp_listen = listen("syslog.tcp_listen", &keys.tcp_listen, arguments.syslog_tcp_listen)?;
    let tls_listen = listen("syslog.tls_listen", &keys.tls_listen, arguments.syslog_tls_listen)?;
    let offset_seconds = match &keys.utc_offset {
        None => 0,
        Some(text) => offset(text).ok_or_else(|| {
            anyhow!("syslog.utc_offset: {text:?} is not an offset such as +08:00 or -03:30")
        })?,
    };
    let labels: Vec<(String, String)> = keys.labels.clone().into_iter().collect();
    if let Err(error) = Labels::from_pairs(labels.iter().map(|(n, v)| (n.as_str(), v.as_str()))) {
        bail!("syslog.labels: {error}");
    }
    for (name, value) in &labels {
        ensure!(!value.is_empty(), "syslog.labels.{name}: an empty value is none; leave it out");
    }
    let tenant = match &keys.tenant {
        None => TenantName::DEFAULT,
        Some(name) => TenantName::parse(name).map_err(|error| anyhow!("syslog.tenant: {error}"))?,
    };
    Ok(SyslogConfig {
        udp_listen,
        tcp_listen,
        tls_listen,
        max_message_bytes: keys.max_message_bytes.unwrap_or(DEFAULT_MESSAGE_BYTES),
        intake: SyslogIntake { tenant, offset_seconds, labels },
    })
}

/// Seconds of `+08:00`.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |part: &str, below: i32| {
        let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i32>().ok().filter(|number| is_number && *number < below)
    };
    Some(sign * (number(hours, 15)? * 3_600 + number(minutes, 60)? * 60))
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn keys_have_their_effect_and_mistakes_are_named() {
        let config = load(
            "syslog:\n  udp_listen: 127.0.0.1:514\n  utc_offset: -03:30\n  labels: {site: a}\n  tenant: t\n",
        );
        let syslog = config.expect("valid").syslog;
        assert_eq!(syslog.udp_listen.map(|address| address.port()), Some(514));
        assert_eq!((syslog.tcp_listen, syslog.max_message_bytes), (None, 65_536));
        assert_eq!(syslog.intake.offset_seconds, -12_600);
        assert_eq!(syslog.intake.labels, [("site".to_owned(), "a".to_owned())]);
        assert_eq!(syslog.intake.tenant.as_str(), "t");
        for (bad, named) in [
            ("utc_offset: \"8\"", "syslog.utc_offset"),
            ("utc_offset: +15:00", "syslog.utc_offset"),
            ("tcp_listen: 0.0.0.0:514", "--insecure-no-auth"),
            ("labels: {a: \"\"}", "syslog.labels"),
            ("tenant: a|b", "syslog.tenant"),
            ("max_message_bytes: 10", "syslog.max_message_bytes"),
        ] {
            let error = format!("{:#}", load(&format!("syslog:\n  {bad}\n")).expect_err(bad));
            assert!(error.contains(named), "{error}");
        }
    }
}
