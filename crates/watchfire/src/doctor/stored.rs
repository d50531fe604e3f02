//! What lies in the data directory already: damage, age, certificates. Only reads.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::finding::{Check, Finding, text};
use super::machine::{shell_word, size};

/// Own certificates are renewed long before; ones brought along by hand are not.
const CERTIFICATE_WARN_DAYS: i64 = 14;

/// Looks into `data`, at the system's time `now`.
pub(super) fn check(data: &Path, now: SystemTime) -> Vec<Finding> {
    let mut findings = vec![health(data)];
    findings.extend(clock(data, now));
    findings.extend(certificates(&data.join("tls"), now));
    findings
}

/// Number and size of the files below a directory; `None` if it cannot be listed.
fn census(directory: &Path) -> Option<(usize, u64)> {
    let mut total = (0, 0);
    for entry in std::fs::read_dir(directory).ok()? {
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let (files, bytes) = census(&entry.path()).unwrap_or_default();
            total = (total.0 + files, total.1 + bytes);
        } else {
            total = (total.0 + 1, total.1 + metadata.len());
        }
    }
    Some(total)
}

fn health(data: &Path) -> Finding {
    let check = Check::DataHealth;
    let shown = data.display();
    if !data.exists() {
        return Finding::skip(check, text("nothing is stored yet", "尚无数据"));
    }
    let Some((log_files, log_bytes)) = census(&data.join("log")) else {
        let is_unreadable = std::fs::read_dir(data).is_err();
        return if is_unreadable {
            Finding::skip(
                check,
                text(
                    format!("{shown} cannot be read by this user"),
                    format!("当前用户无法读取 {shown}"),
                ),
            )
            .command("sudo watchfire doctor --data ".to_owned() + &shell_word(&shown.to_string()))
        } else {
            Finding::skip(check, text("nothing is stored yet", "尚无数据"))
        };
    };
    let (blocks, block_bytes) = census(&data.join("blocks")).unwrap_or_default();
    let (damaged, damaged_bytes) = census(&data.join("quarantine")).unwrap_or_default();
    if damaged > 0 {
        let quarantine = data.join("quarantine").display().to_string();
        return Finding::warn(
            check,
            text(
                format!("{damaged} damaged files, {}, in {quarantine}", size(damaged_bytes)),
                format!("{quarantine} 中有 {damaged} 个损坏文件，共 {}", size(damaged_bytes)),
            ),
            text(
                "Bytes on the disk had changed. The rest is readable; answers that miss something say so.",
                "磁盘上的数据发生过损坏。其余数据可读；缺少数据的查询结果会注明。",
            ),
        )
        .fix(text(
            "Check the disk; when you have seen them, the files can be removed.",
            "请检查磁盘；查看之后可以删除这些文件。",
        ))
        .command(format!("sudo dmesg --level=err,warn | tail; ls -l {}", shell_word(&quarantine)));
    }
    Finding::ok(
        check,
        text(
            format!(
                "no damage: {blocks} files of blocks ({}), {log_files} of the log ({})",
                size(block_bytes),
                size(log_bytes)
            ),
            format!(
                "无损坏：块文件 {blocks} 个（{}），日志文件 {log_files} 个（{}）",
                size(block_bytes),
                size(log_bytes)
            ),
        ),
    )
}

/// The newest file's time against the system's: a clock that went back makes samples too new.
fn clock(data: &Path, now: SystemTime) -> Option<Finding> {
    const TOLERATED: Duration = Duration::from_secs(600);
    let newest = std::fs::read_dir(data.join("log"))
        .ok()?
        .filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok())
        .max()?;
    let ahead = newest.duration_since(now).ok().filter(|ahead| *ahead > TOLERATED)?;
    let minutes = ahead.as_secs() / 60;
    Some(
        Finding::fail(
            Check::Clock,
            text(
                format!("the newest stored data is {minutes} min ahead of the clock"),
                format!("最新的已存数据比系统时钟早走 {minutes} 分钟"),
            ),
            text(
                "The clock went back: stored samples lie in the future, and new ones look late.",
                "时钟被回拨：已存样本处于未来，新样本会显得过期。",
            ),
        )
        .fix(text("Set the clock.", "请校正时钟。"))
        .command("sudo timedatectl set-ntp true"),
    )
}

fn certificates(directory: &Path, now: SystemTime) -> Vec<Finding> {
    let check = Check::Certificates;
    let files: Vec<PathBuf> = std::fs::read_dir(directory)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    let mut files: Vec<PathBuf> =
        files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "pem")).collect();
    files.sort();
    let mut findings = Vec::new();
    let mut nearest: Option<(i64, String)> = None;
    for path in files {
        if let Some(finding) = open_key(&path) {
            findings.push(finding);
        }
        let Some(days) = days_left(&path, now) else { continue };
        let shown = path.display().to_string();
        if let Some(finding) = expiry(&shown, days) {
            findings.push(finding);
        }
        if nearest.as_ref().is_none_or(|(least, _)| days < *least) {
            nearest = Some((days, shown));
        }
    }
    match nearest {
        None => findings.push(Finding::skip(check, text("none stored yet", "尚无证书"))),
        Some((days, path)) if findings.is_empty() => findings.push(Finding::ok(
            check,
            text(
                format!("the first to expire is {path}, in {days} days"),
                format!("最先过期的是 {path}，还有 {days} 天"),
            ),
        )),
        Some(_) => {}
    }
    findings
}

/// Whole days until the first certificate of a file expires; negative afterwards. `None` if it
/// holds none.
fn days_left(path: &Path, now: SystemTime) -> Option<i64> {
    let pem = std::fs::read(path).ok()?;
    let now_s = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs().cast_signed();
    CertificateDer::pem_slice_iter(&pem)
        .filter_map(|certificate| {
            let certificate = certificate.ok()?;
            let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
            Some((parsed.validity().not_after.timestamp() - now_s).div_euclid(86_400))
        })
        .min()
}

fn expiry(path: &str, days: i64) -> Option<Finding> {
    let check = Check::Certificates;
    let fix = text(
        "Watchfire renews its own certificates while it runs; replace one you brought yourself.",
        "Watchfire 运行时会自动更新自己签发的证书；自带的证书请自行更换。",
    );
    if days < 0 {
        let ago = -days;
        return Some(
            Finding::fail(
                check,
                text(format!("{path} expired {ago} days ago"), format!("{path} 已过期 {ago} 天")),
                text("Clients refuse it.", "客户端会拒绝该证书。"),
            )
            .fix(fix),
        );
    }
    (days < CERTIFICATE_WARN_DAYS).then(|| {
        Finding::warn(
            check,
            text(format!("{path} expires in {days} days"), format!("{path} 将在 {days} 天后过期")),
            text("Afterwards clients refuse it.", "过期后客户端会拒绝该证书。"),
        )
        .fix(fix)
    })
}

/// A private key that others can read.
fn open_key(path: &Path) -> Option<Finding> {
    let pem = std::fs::read_to_string(path).ok().filter(|pem| pem.contains("PRIVATE KEY"))?;
    drop(pem);
    let mode = path.metadata().ok()?.mode();
    let shown = path.display().to_string();
    (mode & 0o077 != 0).then(|| {
        Finding::fail(
            Check::Certificates,
            text(
                format!("the private key {shown} can be read by others (mode {:o})", mode & 0o777),
                format!("其他用户能读取私钥 {shown}（权限 {:o}）", mode & 0o777),
            ),
            text("Whoever has it can pretend to be this server.", "得到它的人可以冒充这台服务器。"),
        )
        .command(format!("chmod 600 {}", shell_word(&shown)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn damage_is_told() {
        let data = tempfile::tempdir().expect("directory");
        assert_eq!(health(&data.path().join("none")).level, Level::Skip);
        assert_eq!(health(data.path()).level, Level::Skip);
        for directory in ["log", "blocks", "quarantine"] {
            std::fs::create_dir(data.path().join(directory)).expect("made");
        }
        assert_eq!(health(data.path()).level, Level::Ok);
        std::fs::write(data.path().join("quarantine/x"), "damaged").expect("written");
        let finding = health(data.path());
        assert_eq!(finding.level, Level::Warn);
        let seen = finding.seen.of(crate::language::Language::En).to_owned();
        assert!(seen.starts_with("1 damaged files, 7 B, in "), "{seen}");
    }

    #[test]
    fn a_clock_that_went_back_is_told() {
        let data = tempfile::tempdir().expect("directory");
        std::fs::create_dir(data.path().join("log")).expect("made");
        std::fs::write(data.path().join("log/1"), "").expect("written");
        let now = SystemTime::now();
        assert!(clock(data.path(), now).is_none());
        let back = now - Duration::from_secs(3_600);
        assert_eq!(clock(data.path(), back).expect("told").level, Level::Fail);
    }

    #[test]
    fn certificates_are_judged_by_their_days() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("server.pem");
        let levels = |now: SystemTime| -> Vec<Level> {
            certificates(directory.path(), now).iter().map(|finding| finding.level).collect()
        };
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(levels(now), [Level::Skip]);
        let mut parameters = rcgen::CertificateParams::new(vec!["h".to_owned()]).expect("valid");
        parameters.not_after = (now + 100 * day).into();
        let key = rcgen::KeyPair::generate().expect("a key");
        std::fs::write(&path, parameters.self_signed(&key).expect("signed").pem())
            .expect("written");
        assert_eq!(levels(now), [Level::Ok]);
        assert_eq!(levels(now + 95 * day), [Level::Warn]);
        assert_eq!(levels(now + 101 * day), [Level::Fail]);
        let key_path = directory.path().join("server-key.pem");
        std::fs::write(&key_path, key.serialize_pem()).expect("written");
        let mode = |mode| std::fs::set_permissions(&key_path, PermissionsExt::from_mode(mode));
        mode(0o644).expect("set");
        assert_eq!(levels(now), [Level::Fail]);
        mode(0o600).expect("set");
        assert_eq!(levels(now), [Level::Ok]);
    }
}
