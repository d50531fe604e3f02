//! The texts of `top` in two languages.

use super::fleet::Pressure;
use super::host::ProcessOrder;
use crate::language::Language;

/// Every text of the screen. Column titles are at most as wide as their columns.
#[derive(Debug)]
pub(crate) struct Words {
    /// After the number of hosts: of one, and of any other number.
    pub(crate) hosts: [&'static str; 2],
    /// After the number of silent hosts, and before the time a host has been silent.
    pub(crate) silent: &'static str,
    /// While the picture stands still.
    pub(crate) paused: &'static str,
    /// Before the first answer.
    pub(crate) connecting: &'static str,
    /// Before the error when the server is lost.
    pub(crate) lost: &'static str,
    /// Before the seconds until the next attempt.
    pub(crate) again_in: &'static str,
    /// Two lines when there is no host.
    pub(crate) no_hosts: [&'static str; 2],
    /// When no host passes the filter.
    pub(crate) no_match: &'static str,
    /// When a host has no figures.
    pub(crate) no_figures: &'static str,
    /// Before the filter.
    pub(crate) filter: &'static str,
    /// Titles of the list: host, CPU, memory, load, received, sent, read, written, filesystem,
    /// waits.
    pub(crate) columns: [&'static str; 10],
    /// Keys of the list, at the bottom.
    pub(crate) list_keys: &'static str,
    /// Keys of a host's page, at the bottom.
    pub(crate) host_keys: &'static str,
    /// All keys and what they do.
    pub(crate) help: &'static [(&'static str, &'static str)],
    /// What the figures mean.
    pub(crate) legend: &'static [&'static str],
    /// Titles of a host's page.
    pub(crate) cpu: &'static str,
    pub(crate) memory: &'static str,
    pub(crate) swap: &'static str,
    pub(crate) waits: &'static str,
    pub(crate) load: &'static str,
    pub(crate) up: &'static str,
    pub(crate) cpus: &'static str,
    pub(crate) of: &'static str,
    pub(crate) cached: &'static str,
    pub(crate) free: &'static str,
    pub(crate) network: &'static str,
    pub(crate) received: &'static str,
    pub(crate) sent: &'static str,
    pub(crate) disks: &'static str,
    pub(crate) read: &'static str,
    pub(crate) written: &'static str,
    pub(crate) busy: &'static str,
    pub(crate) filesystems: &'static str,
    pub(crate) available: &'static str,
    pub(crate) processes: &'static str,
    pub(crate) by_cpu: &'static str,
    pub(crate) by_memory: &'static str,
    pub(crate) no_processes: &'static str,
    pressures: [&'static str; 3],
    modes: [&'static str; 5],
}

/// The modes of CPU time that are named on a host's page, as the exporter calls them.
pub(crate) const MODES: [&str; 5] = ["user", "system", "iowait", "irq", "steal"];

impl Words {
    /// The texts of a language.
    pub(crate) fn of(language: Language) -> &'static Words {
        match language {
            Language::En => &ENGLISH,
            Language::Zh => &CHINESE,
        }
    }

    /// A resource that was waited for, in three columns.
    pub(crate) fn pressure(&self, pressure: Pressure) -> &'static str {
        self.pressures[pressure as usize]
    }

    /// A mode of [`MODES`].
    pub(crate) fn mode(&self, index: usize) -> &'static str {
        self.modes[index]
    }

    /// What processes are ordered by.
    pub(crate) fn process_order(&self, order: ProcessOrder) -> &'static str {
        match order {
            ProcessOrder::Cpu => self.by_cpu,
            ProcessOrder::Memory => self.by_memory,
        }
    }
}

static ENGLISH: Words = Words {
    hosts: ["host", "hosts"],
    silent: "silent",
    paused: "PAUSED",
    connecting: "asking …",
    lost: "No answer",
    again_in: "asking again in",
    no_hosts: [
        "No host has sent anything within the hour.",
        "Start `watchfire` or `watchfire agent` on one, or scrape a node exporter.",
    ],
    no_match: "No host matches the filter; Esc clears it.",
    no_figures: "This host has sent nothing lately.",
    filter: "filter",
    columns: ["HOST", "CPU", "MEM", "LOAD", "RECV", "SENT", "READ", "WRIT", "DISK", "WAITS"],
    list_keys: "↑↓ select  Enter details  s sort  / filter  Space pause  ? help  q quit",
    host_keys: "Esc back  ↑↓ other host  s sort processes  Space pause  ? help  q quit",
    help: &[
        ("↑ ↓  k j", "select a host; on its page, show the next one"),
        ("PgUp PgDn Home End", "select further away"),
        ("Enter →", "show the host's details"),
        ("Esc ←", "back to the list; clear the filter"),
        ("s", "order by the next column; on a host's page, its processes"),
        ("r", "turn the order around"),
        ("/", "list only hosts whose name contains the text"),
        ("Space", "stop and go on"),
        ("q", "quit"),
    ],
    legend: &[
        "CPU, MEM, DISK: share in use; DISK is the fullest filesystem",
        "RECV, SENT, READ, WRIT: bytes per second",
        "WAITS: what tasks waited for most, and the share of time (kernel pressure)",
        "The line before CPU shows the last five minutes",
    ],
    cpu: "CPU",
    memory: "Memory",
    swap: "Swap",
    waits: "Waits",
    load: "load",
    up: "up",
    cpus: "CPUs",
    of: "of",
    cached: "cached",
    free: "free",
    network: "NETWORK",
    received: "RECV",
    sent: "SENT",
    disks: "DISKS",
    read: "READ",
    written: "WRIT",
    busy: "BUSY",
    filesystems: "FILESYSTEMS",
    available: "FREE",
    processes: "PROCESSES",
    by_cpu: "CPU",
    by_memory: "MEM",
    no_processes: "the host names no processes",
    pressures: ["cpu", "mem", "io"],
    modes: ["user", "system", "iowait", "irq", "steal"],
};

static CHINESE: Words = Words {
    hosts: ["台主机", "台主机"],
    silent: "失联",
    paused: "已暂停",
    connecting: "正在查询 …",
    lost: "没有应答",
    again_in: "重试倒计时",
    no_hosts: [
        "一小时内没有任何主机上报数据。",
        "请在主机上启动 `watchfire` 或 `watchfire agent`，或抓取 node exporter。",
    ],
    no_match: "没有主机符合过滤条件；按 Esc 清除。",
    no_figures: "该主机近期没有上报数据。",
    filter: "过滤",
    columns: ["主机", "CPU", "内存", "负载", "接收", "发送", "读取", "写入", "磁盘", "等待"],
    list_keys: "↑↓ 选择  Enter 详情  s 排序  / 过滤  空格 暂停  ? 帮助  q 退出",
    host_keys: "Esc 返回  ↑↓ 其他主机  s 进程排序  空格 暂停  ? 帮助  q 退出",
    help: &[
        ("↑ ↓  k j", "选择主机；在详情页切换到下一台"),
        ("PgUp PgDn Home End", "翻页选择"),
        ("Enter →", "查看主机详情"),
        ("Esc ←", "返回列表；清除过滤"),
        ("s", "按下一列排序；在详情页为进程排序"),
        ("r", "反转顺序"),
        ("/", "只列出名称包含该文字的主机"),
        ("空格", "暂停与继续"),
        ("q", "退出"),
    ],
    legend: &[
        "CPU、内存、磁盘：使用率；磁盘取最满的文件系统",
        "接收、发送、读取、写入：每秒字节数",
        "等待：任务等待最多的资源及其时间占比（内核 PSI）",
        "CPU 前的曲线是最近五分钟",
    ],
    cpu: "CPU",
    memory: "内存",
    swap: "交换",
    waits: "等待",
    load: "负载",
    up: "已运行",
    cpus: "个 CPU",
    of: "/",
    cached: "缓存",
    free: "空闲",
    network: "网络",
    received: "接收",
    sent: "发送",
    disks: "磁盘",
    read: "读取",
    written: "写入",
    busy: "繁忙",
    filesystems: "文件系统",
    available: "可用",
    processes: "进程",
    by_cpu: "CPU",
    by_memory: "内存",
    no_processes: "该主机没有上报进程",
    pressures: ["CPU", "内存", "IO"],
    modes: ["用户", "系统", "等待IO", "中断", "被占用"],
};
