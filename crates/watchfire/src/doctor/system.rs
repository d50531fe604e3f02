//! The kernel, the user this runs as, and the service manager.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::finding::{Check, Finding, text};
use super::machine::Machine;

/// Pressure metrics need this kernel.
const KERNEL_WANTED: (u32, u32) = (4, 20);
/// Older ones lack system calls that the runtime needs.
const KERNEL_NEEDED: (u32, u32) = (3, 17);
/// Where units may lie, and those of our packages.
const UNIT_DIRECTORIES: [&str; 3] =
    ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
const UNITS: [&str; 4] = [
    "watchfire.service",
    "watchfire-broker.service",
    "watchfire-agent.service",
    "watchfire-console.service",
];

/// Looks at all of them. `data` tells which user the program runs as, if it ever ran.
pub(super) fn check(machine: &Machine, data: Option<&Path>) -> Vec<Finding> {
    let user = rustix::process::geteuid().as_raw();
    vec![
        kernel(machine),
        entropy(machine),
        user_of(user, data.and_then(|data| data.metadata().ok()).map(|metadata| metadata.uid())),
        processes_visible(machine, user),
        service(machine),
    ]
}

fn kernel(machine: &Machine) -> Finding {
    let check = Check::Kernel;
    let release = machine.read("proc/sys/kernel/osrelease").unwrap_or_default();
    let seen = text(format!("Linux {release}"), format!("Linux {release}"));
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let Some(version) = numbers.next().zip(numbers.next()) else {
        return Finding::skip(check, text("its version cannot be read", "无法读取版本"));
    };
    if version < KERNEL_NEEDED {
        return Finding::fail(
            check,
            seen,
            text("It lacks system calls that are needed.", "缺少必需的系统调用。"),
        )
        .fix(text("Update the system.", "请升级系统。"));
    }
    if version < KERNEL_WANTED || !machine.exists("proc/pressure/cpu") {
        return Finding::warn(
            check,
            seen,
            text(
                "It does not measure pressure, so waits for CPU, memory and disk are not shown.",
                "未启用压力统计（PSI），因此不显示对 CPU、内存、磁盘的等待。",
            ),
        )
        .fix(text(
            "Use Linux 4.20 or later, and boot it with psi=1.",
            "请使用 Linux 4.20 以上，并以 psi=1 启动。",
        ));
    }
    Finding::ok(check, seen)
}

fn entropy(machine: &Machine) -> Finding {
    let check = Check::Entropy;
    let Some(bits) = machine.number("proc/sys/kernel/random/entropy_avail") else {
        return Finding::skip(check, text("cannot be read", "无法读取"));
    };
    let seen = text(format!("{bits} bits"), format!("{bits} 位"));
    // Kernels since 5.18 always say 256 once the generator is ready.
    if bits >= 128 {
        return Finding::ok(check, seen);
    }
    Finding::warn(
        check,
        seen,
        text(
            "Until the kernel has gathered enough, whatever makes keys waits.",
            "在内核收集到足够的熵之前，生成密钥的操作会等待。",
        ),
    )
    .fix(text(
        "Give a virtual machine a random device (virtio-rng), or install a source.",
        "请为虚拟机添加随机设备（virtio-rng），或安装熵源。",
    ))
    .command("sudo apt-get install rng-tools-debian")
}

fn user_of(user: u32, owner: Option<u32>) -> Finding {
    let check = Check::User;
    if let (0, Some(owner @ 1..)) = (user, owner) {
        // Only the doctor was called by root, to look into the service's directory.
        let (en, zh) = (format!("the data is user {owner}'s"), format!("数据属于用户 {owner}"));
        return Finding::ok(check, text(en, zh));
    }
    if user != 0 {
        return Finding::ok(check, text(format!("user {user}"), format!("用户 {user}")));
    }
    Finding::warn(
        check,
        text("root", "root"),
        text(
            "Watchfire does not need it; a fault would reach further.",
            "Watchfire 不需要 root；一旦出错影响更大。",
        ),
    )
    .fix(text(
        "Run it as the packaged service, which has a user of its own.",
        "请使用软件包自带的系统服务运行，它有专用用户。",
    ))
    .command("sudo systemctl enable --now watchfire")
}

/// Whether other users' processes can be seen, which `hidepid` prevents.
fn processes_visible(machine: &Machine, user: u32) -> Finding {
    let check = Check::ProcessesVisible;
    let mounts = machine.read("proc/self/mountinfo").unwrap_or_default();
    let hides = mounts.lines().filter(|line| line.contains(" - proc ")).any(|line| {
        let options = line.rsplit(' ').next().unwrap_or_default();
        options.split(',').any(|one| {
            one.strip_prefix("hidepid=").is_some_and(|value| value != "0" && value != "off")
        })
    });
    if !hides || user == 0 {
        return Finding::ok(check, text("all can be seen", "全部可见"));
    }
    Finding::warn(
        check,
        text("/proc is mounted with hidepid", "/proc 以 hidepid 挂载"),
        text("Only this user's processes are counted and named.", "只能统计当前用户的进程。"),
    )
    .fix(text(
        "The packaged unit of the agent has CAP_SYS_PTRACE for this; use it.",
        "软件包中的 agent 单元为此带有 CAP_SYS_PTRACE，请使用它。",
    ))
    .command("sudo systemctl enable --now watchfire-agent")
}

fn service(machine: &Machine) -> Finding {
    let check = Check::Service;
    if !machine.exists("run/systemd/system") {
        return Finding::skip(check, text("systemd does not run here", "此处未运行 systemd"));
    }
    let found: Vec<&str> = UNITS
        .into_iter()
        .filter(|unit| {
            UNIT_DIRECTORIES.iter().any(|directory| machine.exists(format!("{directory}/{unit}")))
        })
        .collect();
    if found.is_empty() {
        return Finding::warn(
            check,
            text("no unit of Watchfire is installed", "未安装 Watchfire 的单元文件"),
            text(
                "It does not start again after a restart of the machine.",
                "机器重启后不会自动启动。",
            ),
        )
        .fix(text(
            "Install the .deb, or run install.sh of the tarball.",
            "请安装 .deb，或运行压缩包中的 install.sh。",
        ))
        .command("sudo ./install.sh");
    }
    let enabled: Vec<&str> = found
        .iter()
        .copied()
        .filter(|unit| machine.exists(format!("etc/systemd/system/multi-user.target.wants/{unit}")))
        .collect();
    if enabled.is_empty() {
        let command = format!("sudo systemctl enable --now {}", found[0]);
        return Finding::warn(
            check,
            text(
                format!("installed and not enabled: {}", found.join(", ")),
                format!("已安装但未启用：{}", found.join("、")),
            ),
            text(
                "It does not start again after a restart of the machine.",
                "机器重启后不会自动启动。",
            ),
        )
        .command(command);
    }
    Finding::ok(
        check,
        text(format!("{} enabled", enabled.join(", ")), format!("已启用 {}", enabled.join("、"))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    #[test]
    fn kernels_are_judged_by_version_and_pressure() {
        let root = tempfile::tempdir().expect("directory");
        let machine = Machine::at(root.path());
        let level = |release: &str| {
            write(root.path(), "proc/sys/kernel/osrelease", release);
            kernel(&machine).level
        };
        assert_eq!(level("3.10.0-1160.el7.x86_64\n"), Level::Fail);
        assert_eq!(level("4.19.0-26-amd64\n"), Level::Warn);
        assert_eq!(level("6.1.0-37-amd64\n"), Level::Warn, "without pressure");
        assert_eq!(level("unknown\n"), Level::Skip);
        write(root.path(), "proc/pressure/cpu", "");
        assert_eq!(kernel(&machine).level, Level::Skip);
        write(root.path(), "proc/sys/kernel/osrelease", "6.18.44-fc-v669\n");
        assert_eq!(kernel(&machine).level, Level::Ok);
    }

    #[test]
    fn units_are_found_and_wanted() {
        let root = tempfile::tempdir().expect("directory");
        let machine = Machine::at(root.path());
        assert_eq!(service(&machine).level, Level::Skip);
        write(root.path(), "run/systemd/system/x", "");
        assert_eq!(service(&machine).level, Level::Warn);
        write(root.path(), "usr/lib/systemd/system/watchfire-agent.service", "");
        let finding = service(&machine);
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(
            finding.command.as_deref(),
            Some("sudo systemctl enable --now watchfire-agent.service")
        );
        let wants = "etc/systemd/system/multi-user.target.wants/watchfire-agent.service";
        write(root.path(), wants, "");
        assert_eq!(service(&machine).level, Level::Ok);
    }

    #[test]
    fn hidden_processes_and_little_entropy_are_told() {
        let root = tempfile::tempdir().expect("directory");
        let machine = Machine::at(root.path());
        assert_eq!(entropy(&machine).level, Level::Skip);
        write(root.path(), "proc/sys/kernel/random/entropy_avail", "12\n");
        assert_eq!(entropy(&machine).level, Level::Warn);
        let mount = |options: &str| format!("25 1 0:5 / /proc rw,nosuid - proc proc rw{options}\n");
        write(root.path(), "proc/self/mountinfo", &mount(""));
        assert_eq!(processes_visible(&machine, 1_000).level, Level::Ok);
        write(root.path(), "proc/self/mountinfo", &mount(",hidepid=invisible"));
        assert_eq!(processes_visible(&machine, 1_000).level, Level::Warn);
        assert_eq!(processes_visible(&machine, 0).level, Level::Ok);
        assert_eq!(user_of(0, None).level, Level::Warn);
        assert_eq!(user_of(0, Some(0)).level, Level::Warn);
        assert_eq!(user_of(0, Some(990)).level, Level::Ok);
        assert_eq!(user_of(7, None).level, Level::Ok);
    }
}
