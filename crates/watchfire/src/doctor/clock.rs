//! Whether the clock is right, and kept right.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::finding::{Check, Finding, text};
use super::machine::Machine;

/// A clock before this has never been set: the program did not exist.
const EARLIEST_S: u64 = 1_767_225_600; // 2026-01-01
/// How long a program that is asked may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at the clock itself.
pub(super) fn check(machine: &Machine, now: SystemTime) -> Vec<Finding> {
    vec![sane(now), synchronised(machine)]
}

fn sane(now: SystemTime) -> Finding {
    let check = Check::Clock;
    let now_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let shown = model::rfc3339(now_s.cast_signed().saturating_mul(1_000));
    if now_s >= EARLIEST_S {
        return Finding::ok(check, text(shown.clone(), shown));
    }
    Finding::fail(
        check,
        text(format!("the clock says {shown}"), format!("时钟显示 {shown}")),
        text(
            "It has never been set; every sample gets a wrong time.",
            "时钟从未校准；所有样本的时间都会出错。",
        ),
    )
    .command("sudo timedatectl set-ntp true")
}

/// Who says that the clock is kept, or is not.
enum Synchronised {
    Yes(&'static str),
    No(&'static str),
    Unknown,
}

fn synchronised(machine: &Machine) -> Finding {
    let check = Check::ClockSync;
    match ask(machine) {
        Synchronised::Yes(by) => Finding::ok(
            check,
            text(format!("synchronised, says {by}"), format!("已同步（依据 {by}）")),
        ),
        Synchronised::No(by) => Finding::warn(
            check,
            text(format!("not synchronised, says {by}"), format!("未同步（依据 {by}）")),
            text(
                "Clocks of several hosts drift apart: graphs shift, and samples more than 10 min ahead are refused.",
                "多台主机的时钟会逐渐偏离：图表错位，超前 10 分钟以上的样本会被拒绝。",
            ),
        )
        .fix(text("Switch on time synchronisation.", "请开启时间同步。"))
        .command("sudo timedatectl set-ntp true || sudo apt-get install chrony"),
        Synchronised::Unknown => Finding::skip(
            check,
            text(
                "neither systemd-timesyncd, timedatectl nor chrony can be asked here",
                "此处无法查询 systemd-timesyncd、timedatectl 或 chrony",
            ),
        ),
    }
}

fn ask(machine: &Machine) -> Synchronised {
    if machine.exists("run/systemd/timesync/synchronized") {
        return Synchronised::Yes("systemd-timesyncd");
    }
    // timedated answers with the kernel's own word (adjtimex), whoever keeps the clock.
    if machine.exists("run/systemd/system")
        && let Some(answer) =
            output("timedatectl", &["show", "--property=NTPSynchronized", "--value"])
    {
        match answer.trim() {
            "yes" => return Synchronised::Yes("timedatectl"),
            "no" => return Synchronised::No("timedatectl"),
            _ => {}
        }
    }
    if let Some(answer) = output("chronyc", &["-n", "tracking"]) {
        for line in answer.lines() {
            if let Some(status) = line.strip_prefix("Leap status") {
                return if status.contains("Not synchronised") {
                    Synchronised::No("chrony")
                } else {
                    Synchronised::Yes("chrony")
                };
            }
        }
    }
    Synchronised::Unknown
}

/// What a program prints, if it is there, ends well and in time.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take()?, &mut text).ok()?;
    status.success().then_some(text)
}

/// Seconds since the epoch of a `Date` header, such as `Sat, 21 Nov 2026 05:22:05 GMT`.
pub(super) fn date_s(header: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = header.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = 1 + MONTHS.iter().position(|one| one == month)?;
    model::parse_rfc3339_ms(&format!("{year}-{month:02}-{day}T{time}Z")).map(|ms| ms / 1_000)
}

/// Compares with the `Date` of an answer of a server; the answer took `took`.
pub(super) fn offset(date_s: i64, now_s: i64, took: Duration) -> Finding {
    let check = Check::ClockOffset;
    let difference = now_s - date_s;
    // `Date` has whole seconds, and the answer was under way.
    let uncertain = 1 + took.as_secs().cast_signed();
    let seen = text(
        format!("{difference} s from the server's clock (± {uncertain} s)"),
        format!("与服务器时钟相差 {difference} 秒（±{uncertain} 秒）"),
    );
    let beyond = difference.abs() - uncertain;
    let why = text(
        "Samples get this host's time: graphs shift, and more than 10 min ahead they are refused.",
        "样本使用本机时间：图表会错位，超前 10 分钟以上会被拒绝。",
    );
    let level = match beyond {
        i64::MIN..=2 => return Finding::ok(check, seen),
        3..=599 => Finding::warn,
        _ => Finding::fail,
    };
    level(check, seen, why)
        .fix(text("Synchronise both clocks.", "请同步两端时钟。"))
        .command("sudo timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn clocks_are_judged() {
        assert_eq!(sane(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)).level, Level::Fail);
        assert_eq!(sane(SystemTime::now()).level, Level::Ok);
        assert_eq!(date_s("Sat, 21 Nov 2026 05:22:05 GMT"), Some(1_795_238_525));
        assert_eq!(date_s("yesterday"), None);
        let level =
            |difference: i64| offset(1_000, 1_000 + difference, Duration::from_millis(300)).level;
        assert_eq!(level(0), Level::Ok);
        assert_eq!(level(-3), Level::Ok);
        assert_eq!(level(30), Level::Warn);
        assert_eq!(level(-4_000), Level::Fail);
    }

    #[test]
    fn timesyncd_leaves_a_file_when_it_has_synchronised() {
        let root = tempfile::tempdir().expect("directory");
        std::fs::create_dir_all(root.path().join("run/systemd/timesync")).expect("made");
        std::fs::write(root.path().join("run/systemd/timesync/synchronized"), "").expect("written");
        assert_eq!(synchronised(&Machine::at(root.path())).level, Level::Ok);
    }

    #[test]
    fn programs_that_fail_or_hang_say_nothing() {
        assert_eq!(output("true", &[]).as_deref(), Some(""));
        assert_eq!(output("false", &[]), None);
        assert_eq!(output("/no/such/program", &[]), None);
    }
}
