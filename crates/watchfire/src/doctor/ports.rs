//! The ports Watchfire listens on: free, or held by whom.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::finding::{Check, Finding, Level, text};
use super::machine::Machine;
use crate::config::{Config, SideListen};

/// Who holds a port.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    name: String,
    /// Whether it runs on the data directory at hand.
    is_on_data: bool,
}

/// What Watchfire listens on besides the address for users.
struct Side {
    listen: SideListen,
    flag: &'static str,
    /// Who cannot connect without it.
    without: [&'static str; 2],
}

/// Tries to listen for a moment on every address that a start with this configuration would take.
pub(super) fn check(machine: &Machine, data: &Path, config: &Config) -> Vec<Finding> {
    let named = |address| SideListen { address, is_named: true };
    let mut sides = vec![
        Side {
            listen: config.peer_listen,
            flag: "--peer-listen",
            without: [
                "agents and consoles of other hosts cannot connect",
                "但其他主机的 agent 与 console 无法连接",
            ],
        },
        Side {
            listen: config.otlp_grpc_listen,
            flag: "--otlp-grpc-listen",
            without: [
                "OTLP over gRPC has to go to the port of the API",
                "OTLP gRPC 须改用 API 端口",
            ],
        },
        Side {
            listen: config.otlp_http_listen,
            flag: "--otlp-http-listen",
            without: [
                "OTLP over HTTP has to go to the port of the API",
                "OTLP HTTP 须改用 API 端口",
            ],
        },
    ];
    for (address, flag) in [
        (config.graphite_listen, "--graphite-listen"),
        (config.opentsdb_listen, "--opentsdb-listen"),
        (config.syslog.tcp_listen, "--syslog-tcp-listen"),
        (config.syslog.tls_listen, "--syslog-tls-listen"),
    ] {
        let side = |address| Side { listen: named(address), flag, without: ["", ""] };
        sides.extend(address.map(side));
    }
    let mut findings = vec![port(machine, data, config.listen, "--listen")];
    findings.extend(sides.iter().map(|side| side_port(machine, data, side)));
    findings
}

fn side_port(machine: &Machine, data: &Path, side: &Side) -> Finding {
    let mut finding = port(machine, data, side.listen.address, side.flag);
    if !side.listen.is_named && finding.level == Level::Fail {
        let [english, chinese] = side.without;
        // Nobody asked for it, so the start goes on without it.
        finding.level = Level::Warn;
        finding.why = Some(text(
            format!("Watchfire starts without it; {english}."),
            format!("Watchfire 仍会启动，{chinese}。"),
        ));
        finding.fix = Some(text(
            format!("Stop that program, or choose another address with {}.", side.flag),
            format!("请停止该程序，或用 {} 选择其他地址。", side.flag),
        ));
    }
    finding
}

fn port(machine: &Machine, data: &Path, address: SocketAddr, flag: &str) -> Finding {
    let check = Check::Ports;
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, text(format!("{address} is free"), format!("{address} 空闲"))),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            held(address, holder(machine, data, address.port()), flag)
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::fail(
            check,
            text(format!("{address} may not be used"), format!("{address} 无权使用")),
            text("Ports below 1024 need a capability.", "1024 以下的端口需要特权。"),
        )
        .fix(text(
            format!("Choose a higher port with {flag}, or allow it."),
            format!("请用 {flag} 选择更大的端口，或授予权限。"),
        ))
        .command("sudo setcap cap_net_bind_service=+ep \"$(command -v watchfire)\""),
        Err(error) => Finding::fail(
            check,
            text(
                format!("{address} cannot be used: {error}"),
                format!("{address} 不可用：{error}"),
            ),
            text("Watchfire could not start.", "Watchfire 将无法启动。"),
        )
        .fix(text(
            format!("Name an address of this machine with {flag}."),
            format!("请用 {flag} 指定本机的地址。"),
        )),
    }
}

fn held(address: SocketAddr, holder: Option<Holder>, flag: &str) -> Finding {
    let check = Check::Ports;
    let command = format!("sudo ss -ltnp 'sport = :{}'", address.port());
    match holder {
        Some(Holder { pid, is_on_data: true, .. }) => Finding::ok(
            check,
            text(
                format!("{address} is held by the running watchfire, process {pid}"),
                format!("{address} 由正在运行的 watchfire 占用，进程 {pid}"),
            ),
        ),
        Some(Holder { pid, name, .. }) if name == "watchfire" => Finding::fail(
            check,
            text(
                format!("{address} is held by a watchfire with another --data, process {pid}"),
                format!("{address} 被使用另一个 --data 的 watchfire 占用，进程 {pid}"),
            ),
            text("A second one could not start.", "第二个 Watchfire 将无法启动。"),
        )
        .fix(text(
            "Choose another address, or name the --data of the one that runs.",
            "请选择其他地址，或指定正在运行者的 --data。",
        ))
        .command(command),
        Some(Holder { pid, name, .. }) => Finding::fail(
            check,
            text(
                format!("{address} is held by {name}, process {pid}"),
                format!("{address} 被 {name} 占用，进程 {pid}"),
            ),
            text("Watchfire could not start.", "Watchfire 将无法启动。"),
        )
        .fix(text(
            format!("Stop that program, or choose another address with {flag}."),
            format!("请停止该程序，或用 {flag} 选择其他地址。"),
        ))
        .command(command),
        None => Finding::warn(
            check,
            text(
                format!("{address} is held by a process this user cannot see"),
                format!("{address} 被当前用户看不到的进程占用"),
            ),
            text(
                "If that is not Watchfire, Watchfire could not start.",
                "若不是 Watchfire，Watchfire 将无法启动。",
            ),
        )
        .fix(text("See who it is.", "请查看是谁占用。"))
        .command(command),
    }
}

/// The process that listens on `port`, on any address, if this user may see it.
fn holder(machine: &Machine, data: &Path, port: u16) -> Option<Holder> {
    // Files are shown by their whole paths; a directory that does not exist is nobody's.
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let mut inodes = HashSet::new();
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = machine.read(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listening(line, port)));
    }
    if inodes.is_empty() {
        return None;
    }
    for entry in std::fs::read_dir(machine.path("proc")).ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        let targets: Vec<_> = targets.collect();
        let listens = targets.iter().any(|target| {
            let inode = target.to_str().and_then(|target| {
                target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            });
            inode.is_some_and(|inode: u64| inodes.contains(&inode))
        });
        if listens {
            let name = machine.read(format!("proc/{pid}/comm")).unwrap_or_default();
            let is_on_data = targets.iter().any(|target| target.starts_with(&data));
            return Some(Holder { pid, name, is_on_data });
        }
    }
    None
}

/// The inode of a socket in the table's line, if it listens on `port`.
fn listening(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
    if is_it { fields.get(9)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_a_port_is_named() {
        // An address of this test's own: others may take the port once it is free again.
        let listener = TcpListener::bind("127.0.0.77:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let machine = Machine::this();
        let data = tempfile::tempdir().expect("a directory");
        let holder = || holder(&machine, data.path(), address.port()).expect("this process");
        assert_eq!((holder().pid, holder().is_on_data), (std::process::id(), false));
        let port = |address| port(&machine, data.path(), address, "--listen");
        assert_eq!(port(address).level, Level::Fail);
        let lock = std::fs::File::create(data.path().join("lock")).expect("create");
        assert_eq!((holder().is_on_data, port(address).level), (true, Level::Ok));
        drop(lock);
        let cli = |words: &[&str]| {
            let words = ["watchfire", "--listen", "127.0.0.1:0"].iter().chain(words);
            <crate::cli::Cli as clap::Parser>::try_parse_from(words).expect("valid flags")
        };
        // Every address is looked at, by the flag it is chosen with.
        let text = address.to_string();
        for (at, flag, count) in [
            (1, "--peer-listen", 4),
            (2, "--otlp-grpc-listen", 4),
            (3, "--otlp-http-listen", 4),
            (4, "--graphite-listen", 5),
            (4, "--opentsdb-listen", 5),
        ] {
            let mut config = Config::load(&cli(&[flag, &text]).serve).expect("valid");
            let found = check(&machine, data.path(), &config);
            assert_eq!((found.len(), found[at].level), (count, Level::Fail), "{flag}");
            let fix = found[at].fix.as_ref().expect("a remedy");
            assert!(format!("{fix:?}").contains(flag), "{fix:?}");
            for side in [
                &mut config.peer_listen,
                &mut config.otlp_grpc_listen,
                &mut config.otlp_http_listen,
            ] {
                side.is_named = false;
            }
            if at < 4 {
                assert_eq!(check(&machine, data.path(), &config)[at].level, Level::Warn, "{flag}");
            }
        }
        drop(listener);
        // A process that another test starts holds a copy until it has become its program.
        let free = || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            port(address).level == Level::Ok
        };
        assert!((0..200).any(|_| free()));
        let other = Holder { pid: 7, name: "watchfire".to_owned(), is_on_data: false };
        assert_eq!(held(address, Some(other), "--listen").level, Level::Fail);
        assert_eq!(held(address, None, "--listen").level, Level::Warn);
        let foreign = "192.0.2.1:1".parse().expect("an address of nobody");
        assert_eq!(port(foreign).level, Level::Fail);
    }

    #[test]
    fn only_listening_sockets_count() {
        let line = |state: &str| {
            format!(
                "  0: 0100007F:257B 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0"
            )
        };
        assert_eq!(listening(&line("0A"), 9_595), Some(4_711));
        assert_eq!(listening(&line("01"), 9_595), None);
        assert_eq!(listening(&line("0A"), 9_596), None);
        assert_eq!(listening("garbage", 1), None);
    }
}
