//! What the system grants: open files, memory, CPU.

use rustix::process::{Resource, getrlimit};

use super::finding::{Check, Finding, text};
use super::machine::{Machine, size};

/// Half of the files are for connections, half for the store.
const FILES_WARN: u64 = 4_096;
const FILES_FAIL: u64 = 256;
const MEMORY_WARN: u64 = 512 << 20;
const MEMORY_FAIL: u64 = 128 << 20;
/// A configured limit below this is hardly meant.
const LIMIT_WARN: u64 = 128 << 20;

/// Looks at all of them; `memory_limit` is `memory.limit_bytes`, where that is configured.
pub(super) fn check(machine: &Machine, memory_limit: Option<u64>) -> Vec<Finding> {
    // The program raises the soft limit to the hard one by itself.
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    vec![
        open_files(files),
        memory(machine, memory_limit),
        cpu(machine),
        swap(machine),
        huge_pages(machine),
    ]
}

fn open_files(limit: u64) -> Finding {
    let check = Check::OpenFiles;
    let shown = if limit == u64::MAX { "∞".to_owned() } else { limit.to_string() };
    let seen = text(format!("limit {shown}"), format!("上限 {shown}"));
    if limit >= FILES_WARN {
        return Finding::ok(check, seen);
    }
    let level = if limit < FILES_FAIL { Finding::fail } else { Finding::warn };
    level(
        check,
        seen,
        text(
            "Connections and blocks are open files; only half of the limit is given to connections.",
            "连接和数据块都占用打开的文件；其中只有一半可用于连接。",
        ),
    )
    .fix(text("Raise it: LimitNOFILE=65536 in the unit, or in this shell:", "请提高：单元文件中设置 LimitNOFILE=65536，或在 shell 中："))
    .command("ulimit -n 65536")
}

fn memory(machine: &Machine, configured: Option<u64>) -> Finding {
    let check = Check::Memory;
    let Some(total) = machine.meminfo("MemTotal") else {
        return Finding::skip(
            check,
            text("/proc/meminfo cannot be read", "无法读取 /proc/meminfo"),
        );
    };
    let limit = machine
        .cgroup("memory", "memory.max", "memory.limit_in_bytes")
        .iter()
        .filter_map(|value| value.parse::<u64>().ok())
        .min()
        .filter(|limit| *limit < total);
    let usable = limit.unwrap_or(total);
    let seen = match limit {
        Some(limit) => text(
            format!("{} allowed by the control group, of {}", size(limit), size(total)),
            format!("控制组允许 {}，整机 {}", size(limit), size(total)),
        ),
        None => text(size(total), size(total)),
    };
    // What is left is for the kernel's buffers and for what grows between two measurements.
    if let Some(configured) = configured.filter(|bytes| *bytes > usable / 10 * 9) {
        return Finding::warn(
            check,
            text(
                format!("memory.limit_bytes is {}, usable are {}", size(configured), size(usable)),
                format!("memory.limit_bytes 为 {}，可用内存为 {}", size(configured), size(usable)),
            ),
            text(
                "The kernel kills the process before it notices that memory is short.",
                "进程还没发现内存不足就会被内核终止。",
            ),
        )
        .fix(text(
            "Leave memory.limit_bytes out, which means three quarters, or lower it.",
            "请去掉 memory.limit_bytes（默认为四分之三），或调低它。",
        ));
    }
    if let Some(configured) = configured.filter(|bytes| *bytes < LIMIT_WARN) {
        return Finding::warn(
            check,
            text(
                format!("memory.limit_bytes is {}", size(configured)),
                format!("memory.limit_bytes 为 {}", size(configured)),
            ),
            text(
                "It is enough for some 100,000 series; further ones are refused.",
                "只够大约 10 万条时间序列；更多的会被拒绝。",
            ),
        )
        .fix(text("Raise it, or leave it out.", "请调高，或去掉它。"));
    }
    if usable >= MEMORY_WARN {
        return Finding::ok(check, seen);
    }
    let level = if usable < MEMORY_FAIL { Finding::fail } else { Finding::warn };
    let why = text(
        "Fresh samples are kept in memory; the kernel kills a process that needs more than it may.",
        "最近的样本保存在内存中；超出限额的进程会被内核终止。",
    );
    let finding = level(check, seen, why);
    if limit.is_some() {
        finding.fix(text(
            "Raise the limit of the container, or MemoryMax of the unit.",
            "请提高容器的内存限制，或单元文件的 MemoryMax。",
        ))
    } else {
        finding.fix(text(
            "Run only the agent here, and the broker where there is more.",
            "请在本机只运行 agent，把 broker 放到内存更大的机器上。",
        ))
    }
}

fn cpu(machine: &Machine) -> Finding {
    let check = Check::Cpu;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let quota = machine
        .cgroup("cpu", "cpu.max", "cpu.cfs_quota_us")
        .iter()
        .filter_map(|value| cores_of(value))
        .reduce(f64::min);
    let Some(quota) = quota else {
        return Finding::ok(check, text(format!("{cores} CPUs"), format!("{cores} 个 CPU")));
    };
    let seen = text(
        format!("{quota:.2} CPUs allowed by the control group, of {cores}"),
        format!("控制组允许 {quota:.2} 个 CPU，整机 {cores} 个"),
    );
    if quota >= 0.5 {
        return Finding::ok(check, seen);
    }
    Finding::warn(
        check,
        seen,
        text(
            "The process is halted in most of each tenth of a second: seconds of this host arrive late.",
            "进程在每 0.1 秒的大部分时间里被暂停：本机每秒的采样会迟到。",
        ),
    )
    .fix(text("Raise the limit of the container, or CPUQuota of the unit.", "请提高容器的 CPU 限制，或单元文件的 CPUQuota。"))
}

/// Cores of `cpu.max` (`50000 100000`), or of a quota of v1 with the usual period of 100 ms.
fn cores_of(value: &str) -> Option<f64> {
    let mut numbers = value.split_ascii_whitespace();
    let quota: f64 = numbers.next()?.parse().ok().filter(|quota| *quota > 0.0)?;
    let period: f64 = numbers.next().map_or(Some(100_000.0), |period| period.parse().ok())?;
    (period > 0.0).then(|| quota / period)
}

fn swap(machine: &Machine) -> Finding {
    let check = Check::Swap;
    let (Some(total), Some(free)) = (machine.meminfo("SwapTotal"), machine.meminfo("SwapFree"))
    else {
        return Finding::skip(
            check,
            text("/proc/meminfo cannot be read", "无法读取 /proc/meminfo"),
        );
    };
    let used = total.saturating_sub(free);
    if total == 0 {
        return Finding::ok(check, text("none", "无"));
    }
    let seen = text(
        format!("{} of {} used", size(used), size(total)),
        format!("已用 {}，共 {}", size(used), size(total)),
    );
    if used < total / 2 {
        return Finding::ok(check, seen);
    }
    Finding::warn(
        check,
        seen,
        text(
            "Memory that was swapped out is slow: queries and flushes wait for the disk.",
            "被换出的内存很慢：查询与落盘都要等待磁盘。",
        ),
    )
    .fix(text("See what uses the memory.", "请查看内存被谁占用。"))
    .command("ps -eo pid,rss,comm --sort=-rss | head")
}

fn huge_pages(machine: &Machine) -> Finding {
    let check = Check::HugePages;
    let Some(modes) = machine.read("sys/kernel/mm/transparent_hugepage/enabled") else {
        return Finding::ok(check, text("not in this kernel", "此内核不支持"));
    };
    let mode = modes.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
    if mode != "always" {
        return Finding::ok(check, text(mode.clone(), mode));
    }
    Finding::warn(
        check,
        text("always", "always"),
        text(
            "Memory grows in steps of 2 MiB, and compaction halts the process now and then.",
            "内存以 2 MiB 为单位增长，内存规整会不时暂停进程。",
        ),
    )
    .fix(text("Let programs ask for them.", "请改为由程序自行申请。"))
    .command("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::doctor::finding::Level;

    fn machine_of(root: &Path, files: &[(&str, &str)]) -> Machine {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        Machine::at(root)
    }

    #[test]
    fn limits_are_judged() {
        assert_eq!(open_files(u64::MAX).level, Level::Ok);
        assert_eq!(open_files(1_024).level, Level::Warn);
        assert_eq!(open_files(100).level, Level::Fail);
        let root = tempfile::tempdir().expect("directory");
        let empty = Machine::at(root.path());
        assert_eq!(memory(&empty, None).level, Level::Skip);
        assert_eq!(swap(&empty).level, Level::Skip);
        assert_eq!(huge_pages(&empty).level, Level::Ok);
        let machine = machine_of(
            root.path(),
            &[
                (
                    "proc/meminfo",
                    "MemTotal:       16000000 kB\nSwapTotal: 1000 kB\nSwapFree: 100 kB\n",
                ),
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "67108864\n"),
                ("sys/fs/cgroup/cpu.max", "20000 100000\n"),
                ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ],
        );
        assert_eq!(memory(&machine, None).level, Level::Fail);
        assert_eq!(memory(&machine, Some(64 << 20)).level, Level::Warn);
        std::fs::write(root.path().join("sys/fs/cgroup/memory.max"), "1073741824\n").expect("set");
        assert_eq!(memory(&machine, None).level, Level::Ok);
        assert_eq!(memory(&machine, Some(512 << 20)).level, Level::Ok);
        assert_eq!(memory(&machine, Some(1 << 30)).level, Level::Warn);
        assert_eq!(memory(&machine, Some(100 << 20)).level, Level::Warn);
        assert_eq!(cpu(&machine).level, Level::Warn);
        assert_eq!(swap(&machine).level, Level::Warn);
        assert_eq!(huge_pages(&machine).level, Level::Warn);
    }

    #[test]
    fn quotas_are_read() {
        assert_eq!(cores_of("max 100000"), None);
        assert_eq!(cores_of("150000 100000"), Some(1.5));
        assert_eq!(cores_of("-1"), None);
        assert_eq!(cores_of("25000"), Some(0.25));
        assert_eq!(cores_of("1 0"), None);
    }
}
