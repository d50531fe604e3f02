//! Lines that look like those of real programs: made up from seeds, the same in each run.

use std::fmt::Write;

/// Streams of each form: as many hosts.
pub(super) const STREAMS: u64 = 20;
/// One line of so many has the rare word.
pub(super) const RARE: u64 = 50_000;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// Access log of nginx, format "combined" with request time
    Nginx,
    /// What services in Go write: key=value pairs
    Logfmt,
    /// What services in Java write: an object with identifiers of request, trace and user
    Json,
    /// Messages of sshd, cron, the kernel and others, as syslog writes them
    Syslog,
}

impl Form {
    pub(super) const ALL: [Form; 4] = [Form::Nginx, Form::Logfmt, Form::Json, Form::Syslog];

    pub(super) fn name(self) -> &'static str {
        match self {
            Form::Nginx => "nginx",
            Form::Logfmt => "logfmt",
            Form::Json => "json",
            Form::Syslog => "syslog",
        }
    }

    /// Appends line number `n`, whose time is `t_ns`.
    pub(super) fn write(self, n: u64, t_ns: i64, out: &mut String) {
        match self {
            Form::Nginx => nginx(n, t_ns, out),
            Form::Logfmt => logfmt(n, t_ns, out),
            Form::Json => json(n, t_ns, out),
            Form::Syslog => syslog(n, t_ns, out),
        }
        .expect("memory takes it");
    }
}

/// Of the request that line `n` of the JSON form tells of.
pub(super) fn request_id(n: u64) -> String {
    format!("{:016x}{:016x}", mixed(n ^ 0xa5a5), mixed(n ^ 0x5a5a_0000))
}

/// The user whom line `n` of the JSON form is about.
pub(super) fn user(n: u64) -> u64 {
    skewed(mixed(n ^ 0x77), 2_000_000)
}

fn nginx(n: u64, t_ns: i64, out: &mut String) -> std::fmt::Result {
    let (r, s) = (mixed(n), mixed(n ^ 0x1234_5678));
    // Few addresses ask often.
    let client = mixed(skewed(r, 200_000));
    let [a, b, c, d, ..] = client.to_le_bytes();
    let path = PATHS[skewed(s, PATHS.len() as u64) as usize];
    let status = STATUSES[skewed(s >> 20, STATUSES.len() as u64) as usize];
    let agent = AGENTS[(client >> 40) as usize % AGENTS.len()];
    write!(out, "{}.{b}.{c}.{d} - - [", a % 223 + 1)?;
    let time = Civil::of(t_ns);
    write!(out, "{:02}/{}/{}", time.day, MONTHS[time.month as usize - 1], time.year)?;
    write!(out, ":{:02}:{:02}:{:02} +0000] \"", time.hour, time.minute, time.second)?;
    match path.split_once("{}") {
        Some((before, behind)) => {
            write!(out, "GET {before}{}{behind} HTTP/1.1\" ", skewed(s >> 7, 50_000))?;
        }
        None => write!(out, "{} {path} HTTP/1.1\" ", if r % 9 == 0 { "POST" } else { "GET" })?,
    }
    let bytes = if status == 304 { 0 } else { 180 + skewed(r >> 11, 40_000) };
    let referrer = if s % 3 == 0 { "-" } else { "https://shop.example.com/products" };
    write!(out, "{status} {bytes} \"{referrer}\" \"{agent}\" 0.{:03}", skewed(r >> 23, 900))
}

fn logfmt(n: u64, t_ns: i64, out: &mut String) -> std::fmt::Result {
    let r = mixed(n);
    let level = level(n);
    out.push_str("ts=");
    Civil::of(t_ns).write_rfc3339(out)?;
    let tenant = 1 + skewed(r >> 9, 60);
    let ms = 1 + skewed(r >> 17, 4_000);
    match skewed(r, 4) {
        0 => write!(
            out,
            " level={level} caller=http.go:{} component=gateway org_id={tenant} msg=\"request handled\" method=GET route={} status={} duration={}.{:03}ms",
            [181, 194, 203][(r % 3) as usize],
            ROUTES[(r >> 30) as usize % ROUTES.len()],
            STATUSES[skewed(r >> 40, STATUSES.len() as u64) as usize],
            ms,
            r % 1_000,
        ),
        1 => write!(
            out,
            " level={level} caller=metrics.go:159 component=querier org_id={tenant} latency={} query_type={} length={}h step={}s duration={}.{:02}s status=200 limit=1000 returned_lines={} throughput={}MB total_bytes={}kB",
            if ms > 2_000 { "slow" } else { "fast" },
            ["metric", "limited", "filter"][(r % 3) as usize],
            1 + r % 24,
            [15, 30, 60][(r >> 5) as usize % 3],
            ms / 1_000,
            r % 100,
            skewed(r >> 33, 1_000),
            1 + skewed(r >> 21, 400),
            skewed(r >> 13, 90_000),
        ),
        2 => write!(
            out,
            " level={level} caller=flush.go:{} component=ingester msg=\"flushing stream\" org_id={tenant} total_entries={} total_size=\"{} kB\" age={}m{}s reason={}",
            [301, 344][(r % 2) as usize],
            skewed(r >> 8, 9_000),
            skewed(r >> 12, 1_500),
            r % 60,
            (r >> 6) % 60,
            ["idle", "full", "max_age"][(r >> 50) as usize % 3],
        ),
        _ => write!(
            out,
            " level={level} caller=table_manager.go:136 component=compactor msg=\"table uploaded\" table=index_{} took={ms}ms retries={}",
            19_000 + r % 30,
            skewed(r >> 44, 4),
        ),
    }
}

fn json(n: u64, t_ns: i64, out: &mut String) -> std::fmt::Result {
    let r = mixed(n);
    // A trace has about seven lines.
    let trace = n / 7;
    out.push_str("{\"time\":\"");
    Civil::of(t_ns).write_rfc3339(out)?;
    let logger = ["cart.CartService", "orders.OrderController", "payment.Gateway", "stock.Sync"]
        [skewed(r, 4) as usize];
    write!(
        out,
        "\",\"level\":\"{}\",\"logger\":\"com.example.shop.{logger}\",\"thread\":\"http-nio-8080-exec-{}\",\"trace_id\":\"{:016x}{:016x}\",\"request_id\":\"{}\",\"user_id\":\"u-{}\",",
        level(n),
        r % 50,
        mixed(trace),
        mixed(trace ^ 0xffff),
        request_id(n),
        user(n),
    )?;
    if n % RARE == RARE / 2 {
        return out.write_str("\"message\":\"circuit breaker opened for inventory-backend\"}");
    }
    write!(
        out,
        "\"message\":\"{}\",\"duration_ms\":{},\"items\":{},\"total\":\"{}.{:02}\"}}",
        [
            "order placed",
            "cart updated",
            "payment authorised by provider",
            "stock level synchronised",
        ][skewed(r >> 4, 4) as usize],
        skewed(r >> 14, 3_000),
        1 + r % 12,
        skewed(r >> 24, 600),
        r % 100,
    )
}

fn syslog(n: u64, t_ns: i64, out: &mut String) -> std::fmt::Result {
    let r = mixed(n);
    let time = Civil::of(t_ns);
    write!(out, "{} {:>2} ", MONTHS[time.month as usize - 1], time.day)?;
    write!(out, "{:02}:{:02}:{:02} host-{:02} ", time.hour, time.minute, time.second, n % STREAMS)?;
    let pid = 600 + skewed(r >> 3, 30_000);
    match skewed(r, 6) {
        0 => write!(
            out,
            "sshd[{pid}]: Failed password for invalid user {} from {}.{}.{}.{} port {} ssh2",
            USERS[(r >> 11) as usize % USERS.len()],
            r >> 56,
            (r >> 48) & 255,
            (r >> 40) & 255,
            (r >> 32) & 255,
            1_024 + (r >> 13) % 60_000,
        ),
        1 => {
            write!(out, "CRON[{pid}]: (root) CMD (   cd / && run-parts --report /etc/cron.hourly)")
        }
        2 => write!(
            out,
            "systemd[1]: Started Session {} of user {}.",
            r % 90_000,
            USERS[(r >> 17) as usize % USERS.len()]
        ),
        3 => write!(
            out,
            "kernel: [{}.{:06}] [UFW BLOCK] IN=eth0 OUT= SRC={}.{}.{}.{} DST=10.0.0.{} LEN=40 TTL={} ID={} PROTO=TCP SPT={} DPT={} WINDOW=1024 SYN",
            n / 500,
            r % 1_000_000,
            r >> 56,
            (r >> 48) & 255,
            (r >> 40) & 255,
            (r >> 32) & 255,
            n % STREAMS,
            40 + r % 200,
            (r >> 9) % 65_536,
            1_024 + (r >> 21) % 60_000,
            [22, 23, 80, 443, 3_389, 8_080][(r >> 37) as usize % 6],
        ),
        4 => write!(
            out,
            "dhclient[{}]: DHCPACK of 10.0.0.{} from 10.0.0.1",
            700 + n % STREAMS,
            n % STREAMS
        ),
        _ => write!(
            out,
            "sshd[{pid}]: pam_unix(sshd:session): session opened for user {}(uid={}) by (uid=0)",
            USERS[(r >> 29) as usize % USERS.len()],
            1_000 + r % 20
        ),
    }
}

/// As often as in programs that are well.
fn level(n: u64) -> &'static str {
    match mixed(n ^ 0x1e7e1) % 200 {
        0 => "error",
        1..=5 => "warn",
        6..=30 => "debug",
        _ => "info",
    }
}

/// A number below `end`; small ones are much more frequent.
fn skewed(r: u64, end: u64) -> u64 {
    let share = (r % (1 << 20)) as f64 / f64::from(1 << 20);
    ((share * share * share) * end as f64) as u64
}

fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1656_67b1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A moment as people write it, in UTC.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
}

impl Civil {
    fn of(t_ns: i64) -> Civil {
        let seconds = t_ns.div_euclid(1_000_000_000);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 0000-03-01, in eras of 400 years: Howard Hinnant, "chrono-compatible low-level date
        // algorithms".
        let z = days + 719_468;
        let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Civil {
            year: year + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * shifted + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            microsecond: t_ns.rem_euclid(1_000_000_000) / 1_000,
        }
    }

    fn write_rfc3339(&self, out: &mut String) -> std::fmt::Result {
        let Civil { year, month, day, hour, minute, second, microsecond } = self;
        write!(
            out,
            "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z"
        )
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const STATUSES: [u16; 8] = [200, 200, 304, 301, 404, 302, 500, 502];
const PATHS: [&str; 12] = [
    "/",
    "/products/{}",
    "/static/app.4f2a1c.js",
    "/static/site.91bb02.css",
    "/api/v1/cart",
    "/api/v1/products?page={}",
    "/images/products/{}.webp",
    "/login",
    "/api/v1/orders/{}",
    "/search?q=shoes&page={}",
    "/robots.txt",
    "/wp-login.php",
];
const ROUTES: [&str; 6] = [
    "api_v1_push",
    "loki_api_v1_query_range",
    "loki_api_v1_labels",
    "ready",
    "metrics",
    "loki_api_v1_series",
];
const USERS: [&str; 10] =
    ["admin", "root", "test", "ubuntu", "oracle", "postgres", "git", "deploy", "pi", "guest"];
const AGENTS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    "curl/8.5.0",
    "kube-probe/1.30",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_do() {
        let written = |t_ns| {
            let mut out = String::new();
            Civil::of(t_ns).write_rfc3339(&mut out).expect("memory takes it");
            out
        };
        assert_eq!(written(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(written(1_709_210_096_123_456_789), "2024-02-29T12:34:56.123456Z");
        assert_eq!(written(1_735_689_599_999_999_999), "2024-12-31T23:59:59.999999Z");
    }

    #[test]
    fn lines_are_single_and_the_same_again() {
        for form in Form::ALL {
            for n in [0, 1, 77, RARE / 2, 1 << 33] {
                let (mut one, mut again) = (String::new(), String::new());
                form.write(n, 1_709_210_096_000_000_000, &mut one);
                form.write(n, 1_709_210_096_000_000_000, &mut again);
                assert!(one == again && one.len() > 30 && !one.contains('\n'), "{one}");
            }
        }
        assert!((0..100_000).all(|r| skewed(mixed(r), 7) < 7));
    }
}
