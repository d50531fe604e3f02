//! What a check found, in both languages.

use serde::Serialize;

use crate::language::Language;

/// Text in both languages, written where it is needed so that neither can be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// English.
    en: String,
    /// 中文.
    zh: String,
}

/// A text in English and in Chinese.
pub(super) fn text(en: impl Into<String>, zh: impl Into<String>) -> Text {
    Text { en: en.into(), zh: zh.into() }
}

impl Text {
    /// The text in one language.
    pub(crate) fn of(&self, language: Language) -> &str {
        match language {
            Language::En => &self.en,
            Language::Zh => &self.zh,
        }
    }
}

/// How bad it is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Skip,
    /// Works, but not as well or as safely as it could.
    Warn,
    /// Will not work, or data is in danger.
    Fail,
}

/// Everything that is looked at. The names are part of the interface (`--json`) and listed in
/// `docs/operating/doctor.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Configuration,
    DataDirectory,
    DiskSpace,
    Inodes,
    SyncLatency,
    Filesystem,
    DataHealth,
    Certificates,
    Clock,
    ClockSync,
    ClockOffset,
    Ports,
    OpenFiles,
    Memory,
    Cpu,
    Swap,
    HugePages,
    Kernel,
    Entropy,
    User,
    ProcessesVisible,
    Server,
    Brokers,
    Proxies,
    Service,
}

impl Check {
    /// Every one, in the order in which they are told.
    #[cfg(test)]
    pub(crate) const ALL: [Check; 25] = [
        Check::Configuration,
        Check::DataDirectory,
        Check::DiskSpace,
        Check::Inodes,
        Check::SyncLatency,
        Check::Filesystem,
        Check::DataHealth,
        Check::Certificates,
        Check::Clock,
        Check::ClockSync,
        Check::ClockOffset,
        Check::Ports,
        Check::OpenFiles,
        Check::Memory,
        Check::Cpu,
        Check::Swap,
        Check::HugePages,
        Check::Kernel,
        Check::Entropy,
        Check::User,
        Check::ProcessesVisible,
        Check::Server,
        Check::Brokers,
        Check::Proxies,
        Check::Service,
    ];

    /// Its name for programs.
    pub(crate) fn id(self) -> &'static str {
        self.names().0
    }

    /// Its name for people.
    pub(crate) fn name(self, language: Language) -> &'static str {
        let (_, en, zh) = self.names();
        match language {
            Language::En => en,
            Language::Zh => zh,
        }
    }

    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Check::Configuration => ("configuration", "configuration", "配置文件"),
            Check::DataDirectory => ("data_directory", "data directory", "数据目录"),
            Check::DiskSpace => ("disk_space", "disk space", "磁盘空间"),
            Check::Inodes => ("inodes", "inodes", "inode"),
            Check::SyncLatency => ("sync_latency", "sync latency", "落盘延迟"),
            Check::Filesystem => ("filesystem", "filesystem", "文件系统"),
            Check::DataHealth => ("data_health", "stored data", "已存数据"),
            Check::Certificates => ("certificates", "certificates", "证书"),
            Check::Clock => ("clock", "clock", "时钟"),
            Check::ClockSync => ("clock_sync", "clock sync", "时钟同步"),
            Check::ClockOffset => ("clock_offset", "clock offset", "时钟偏差"),
            Check::Ports => ("ports", "ports", "端口"),
            Check::OpenFiles => ("open_files", "open files", "打开文件数"),
            Check::Memory => ("memory", "memory", "内存"),
            Check::Cpu => ("cpu", "CPU", "CPU"),
            Check::Swap => ("swap", "swap", "交换空间"),
            Check::HugePages => ("huge_pages", "huge pages", "透明大页"),
            Check::Kernel => ("kernel", "kernel", "内核"),
            Check::Entropy => ("entropy", "entropy", "熵"),
            Check::User => ("user", "user", "运行用户"),
            Check::ProcessesVisible => ("processes_visible", "processes", "进程可见性"),
            Check::Server => ("server", "server", "服务器"),
            Check::Brokers => ("brokers", "brokers", "broker"),
            Check::Proxies => ("proxies", "proxies", "代理"),
            Check::Service => ("service", "service", "系统服务"),
        }
    }
}

/// One result.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: Check,
    /// How it is.
    pub(crate) level: Level,
    /// What was seen.
    pub(crate) seen: Text,
    /// Why that matters.
    pub(crate) why: Option<Text>,
    /// What to do.
    pub(crate) fix: Option<Text>,
    /// A command that does it.
    pub(crate) command: Option<String>,
}

impl Finding {
    fn new(check: Check, level: Level, seen: Text) -> Finding {
        Finding { check, level, seen, why: None, fix: None, command: None }
    }

    /// As it should be.
    pub(super) fn ok(check: Check, seen: Text) -> Finding {
        Finding::new(check, Level::Ok, seen)
    }

    /// Could not be looked at.
    pub(super) fn skip(check: Check, seen: Text) -> Finding {
        Finding::new(check, Level::Skip, seen)
    }

    /// Could be better; say why it matters.
    pub(super) fn warn(check: Check, seen: Text, why: Text) -> Finding {
        Finding { why: Some(why), ..Finding::new(check, Level::Warn, seen) }
    }

    /// Will not work; say why.
    pub(super) fn fail(check: Check, seen: Text, why: Text) -> Finding {
        Finding { why: Some(why), ..Finding::new(check, Level::Fail, seen) }
    }

    /// With the remedy.
    pub(super) fn fix(self, fix: Text) -> Finding {
        Finding { fix: Some(fix), ..self }
    }

    /// With the command that remedies it.
    pub(super) fn command(self, command: impl Into<String>) -> Finding {
        Finding { command: Some(command.into()), ..self }
    }
}
