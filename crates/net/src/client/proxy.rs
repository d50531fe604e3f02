//! Which requests go through which proxy, by the rules of Go's `golang.org/x/net/http/httpproxy`.

use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, Uri};
use settings::Secret;
use settings::prometheus::ProxyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::Stream;
use super::connector::describe;
use super::error::ClientError;

/// Largest head of a proxy's answer to CONNECT.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The proxies of one client and what goes around them.
#[derive(Debug, Default)]
pub(super) struct ProxyRules {
    /// For `http://` and for `https://`.
    proxies: [Option<Proxy>; 2],
    /// `None`: everything goes through the proxy, this host too.
    exceptions: Option<Vec<Exception>>,
    /// Sent with CONNECT.
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One proxy.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_https: bool,
    /// `Proxy-Authorization`, from name and password in the proxy's URL.
    pub(super) authorization: Option<HeaderValue>,
}

/// One entry of `no_proxy`.
#[derive(Debug, Clone, PartialEq)]
enum Exception {
    All,
    Network { address: IpAddr, bits: u8, port: Option<u16> },
    Domain { suffix: String, itself: bool, port: Option<u16> },
}

impl ProxyRules {
    /// # Errors
    /// [`ClientError::Config`] for a proxy that cannot be used.
    pub(super) fn new(config: &ProxyConfig) -> Result<Self, ClientError> {
        let mut rules = ProxyRules::default();
        if config.proxy_from_environment {
            let variable = |names: [&str; 2]| {
                names.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
            };
            for (slot, names) in
                [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"]].iter().enumerate()
            {
                rules.proxies[slot] = variable(*names).map(|url| Proxy::parse(&url)).transpose()?;
            }
            let exceptions = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
            rules.exceptions = Some(parse_exceptions(&exceptions));
        } else if let Some(url) = &config.proxy_url {
            let proxy = Proxy::parse(url.reveal())?;
            rules.proxies = [Some(proxy.clone()), Some(proxy)];
            if !config.no_proxy.is_empty() {
                rules.exceptions = Some(parse_exceptions(&config.no_proxy));
            }
        }
        for (name, values) in &config.proxy_connect_header {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| {
                ClientError::Config(format!("proxy_connect_header: {name:?} is no header name"))
            })?;
            for value in values {
                rules.headers.push((name.clone(), secret_value(&name, value)?));
            }
        }
        Ok(rules)
    }

    /// The proxy for requests to `host`, if they take one.
    pub(super) fn proxy_for(&self, is_https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = self.proxies[usize::from(is_https)].as_ref()?;
        let goes_around =
            self.exceptions.as_ref().is_some_and(|list| goes_around(list, host, port));
        (!goes_around).then_some(proxy)
    }

    /// Asks the proxy for a tunnel to `host`; what is returned speaks with the host itself.
    pub(super) async fn tunnel(
        &self,
        proxy: &Proxy,
        mut stream: Box<dyn Stream>,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Stream>, ClientError> {
        let mut head =
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        let authorization =
            proxy.authorization.as_ref().map(|value| (&http::header::PROXY_AUTHORIZATION, value));
        for (name, value) in self.headers.iter().map(|(n, v)| (n, v)).chain(authorization) {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let broken = |error: std::io::Error| {
            ClientError::Unreachable(format!(
                "the proxy {}:{} broke off: {}",
                proxy.host,
                proxy.port,
                describe(&error)
            ))
        };
        stream.write_all(&head).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let status = read_head(&mut stream).await.map_err(broken)?;
        let accepted = status.split(' ').nth(1).is_some_and(|code| code == "200");
        if !accepted {
            return Err(ClientError::Unreachable(format!(
                "the proxy {}:{} refuses a tunnel to {host}:{port}: {status}",
                proxy.host, proxy.port
            )));
        }
        Ok(stream)
    }
}

/// Reads a head byte by byte, since what follows it belongs to the tunnel; yields its first line.
async fn read_head(stream: &mut Box<dyn Stream>) -> std::io::Result<String> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD_BYTES {
            return Err(std::io::Error::other("its answer does not end"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

impl Proxy {
    fn parse(url: &str) -> Result<Self, ClientError> {
        // In the environment a bare host and port is common.
        let with_scheme =
            if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        // The URL may hold a password, so errors show nothing of it.
        let unusable = |reason: &str| ClientError::Config(format!("proxy_url: {reason}"));
        let (uri, userinfo) = super::request::split_userinfo(&with_scheme)
            .map_err(|_| unusable("it is no URL; write http://HOST:PORT"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(unusable("only http:// and https:// proxies are supported")),
        };
        let host = uri.host().ok_or_else(|| unusable("it names no host"))?.to_owned();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let authorization = userinfo.map(|userinfo| basic(&userinfo.name, &userinfo.password));
        Ok(Proxy { host, port, is_https, authorization })
    }
}

/// `Basic …` of a name and a password, marked so that nothing prints it.
pub(super) fn basic(name: &str, password: &str) -> HeaderValue {
    let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
    let mut value =
        HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

/// A header value that is not shown, also not in the error.
pub(super) fn secret_value(name: &HeaderName, value: &Secret) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::try_from(value.reveal()).map_err(|_| {
        ClientError::Config(format!(
            "the value of the header {name} holds control characters, which no header may"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn goes_around(exceptions: &[Exception], host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
    let address: Option<IpAddr> = bare.parse().ok();
    if bare == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    exceptions.iter().any(|exception| match exception {
        Exception::All => true,
        Exception::Network { address: network, bits, port: only } => {
            only.is_none_or(|only| only == port)
                && address.is_some_and(|address| is_within(address, *network, *bits))
        }
        Exception::Domain { suffix, itself, port: only } => {
            only.is_none_or(|only| only == port)
                && (bare.ends_with(suffix.as_str()) || (*itself && bare == &suffix[1..]))
        }
    })
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - u32::from(bits.min(32));
            (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let shift = 128 - u32::from(bits.min(128));
            (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn parse_exceptions(list: &str) -> Vec<Exception> {
    list.split(',').filter_map(|entry| parse_exception(entry.trim())).collect()
}

/// One entry; what cannot be understood excepts nothing, as in Go.
fn parse_exception(entry: &str) -> Option<Exception> {
    let entry = entry.to_ascii_lowercase();
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Exception::All);
    }
    if let Some((address, bits)) = entry.split_once('/')
        && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
    {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= longest).then_some(Exception::Network { address, bits, port: None });
    }
    let whole = |address: IpAddr, port| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Exception::Network { address, bits, port }
    };
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(whole(address, None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), Some(port.parse::<u16>().ok()?)),
        None => (entry, None),
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(whole(address, port));
    }
    // A name counts for itself and what is below it; with a leading dot only for the latter.
    let name = bare.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(bare);
    let itself = !name.starts_with('.');
    let suffix = if itself { format!(".{name}") } else { name.to_owned() };
    (suffix.len() > 1).then_some(Exception::Domain { suffix, itself, port })
}

/// `Proxy-Authorization` for a request that is handed to the proxy itself.
impl ProxyRules {
    pub(super) fn authorization(&self, uri: &Uri) -> Option<&HeaderValue> {
        let is_plain = uri.scheme_str() == Some("http");
        let proxy = self.proxy_for(false, uri.host()?, uri.port_u16().unwrap_or(80));
        proxy.filter(|_| is_plain)?.authorization.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_those_of_go() {
        let list = parse_exceptions(
            "foo.com, .bar.com,*.baz.com, 192.168.0.0/16,10.1.2.3:81, [::1]:443, x.org:8080,fd00::/8",
        );
        for (host, port, expected) in [
            ("foo.com", 80, true),
            ("a.foo.com", 80, true),
            ("afoo.com", 80, false),
            ("bar.com", 80, false),
            ("a.bar.com", 80, true),
            ("baz.com", 80, false),
            ("a.BAZ.com", 80, true),
            ("192.168.3.4", 80, true),
            ("192.169.3.4", 80, false),
            ("10.1.2.3", 81, true),
            ("10.1.2.3", 80, false),
            ("x.org", 8080, true),
            ("x.org", 80, false),
            ("[fd00::1]", 80, true),
            ("localhost", 80, true),
            ("127.0.0.9", 80, true),
        ] {
            assert_eq!(goes_around(&list, host, port), expected, "{host}:{port}");
        }
        assert_eq!(parse_exceptions("*"), [Exception::All]);
        assert!(parse_exceptions(",1.2.3.4/99,x:port").is_empty());
    }

    #[test]
    fn without_exceptions_everything_takes_the_proxy() {
        let proxy = Proxy::parse("http://u:p%40@proxy:3128").expect("a URL");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        assert_eq!(proxy.authorization, Some(basic("u", "p@")));
        let rules = ProxyRules { proxies: [Some(proxy), None], ..ProxyRules::default() };
        assert!(rules.proxy_for(false, "localhost", 80).is_some());
        assert!(rules.proxy_for(true, "localhost", 443).is_none());
        assert!(Proxy::parse("socks5://h:1").is_err());
    }
}
