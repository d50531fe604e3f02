use super::finding::Level;
use super::*;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    doctor: DoctorArguments,
}

fn examined(words: &[&str]) -> Vec<Finding> {
    let words = ["doctor", "--url", "http://127.0.0.1:1"].into_iter().chain(words.iter().copied());
    let arguments = Arguments::try_parse_from(words).expect("valid").doctor;
    examine(&arguments, &Machine::this())
}

#[test]
fn this_machine_is_told_in_both_languages() {
    let data = tempfile::tempdir().expect("directory");
    let data = data.path().display().to_string();
    let findings = examined(&["--data", &data, "--listen", "127.0.0.1:0"]);
    let checked = |check: Check| findings.iter().any(|finding| finding.check == check);
    for check in [Check::DiskSpace, Check::SyncLatency, Check::Memory, Check::Kernel, Check::Ports]
    {
        assert!(checked(check), "{check:?} is missing");
    }
    for language in [Language::En, Language::Zh] {
        let printed = report::as_text(&findings, language, false);
        assert!(!printed.contains('\x1b'), "{printed}");
        for finding in &findings {
            assert!(printed.contains(finding.seen.of(language)), "{finding:?}");
            if finding.level >= Level::Warn {
                assert!(finding.why.is_some(), "{finding:?} does not say why");
            }
        }
        let json: serde_json::Value =
            serde_json::from_str(&report::as_json(&findings, language)).expect("JSON");
        assert_eq!(json["checks"].as_array().map(Vec::len), Some(findings.len()));
        assert_eq!(json["exit_code"], report::Counts::of(&findings).exit_code());
    }
    assert!(report::as_text(&findings, Language::En, true).contains("\x1b[32m"));
}

#[test]
fn a_configuration_that_is_wrong_is_a_failure() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("watchfire.yml");
    std::fs::write(&path, "storage:\n  retentoin: 3d\n").expect("written");
    let findings = examined(&["--config", &path.display().to_string()]);
    let finding = &findings[0];
    assert_eq!((finding.check, finding.level), (Check::Configuration, Level::Fail));
    assert!(finding.seen.of(Language::Zh).contains("retentoin"), "{finding:?}");
    assert_eq!(report::Counts::of(&findings).exit_code(), 2);
}

#[test]
fn the_exit_code_is_that_of_the_worst() {
    let seen = || text("seen", "看到");
    let ok = Finding::ok(Check::Cpu, seen());
    let skip = Finding::skip(Check::Cpu, seen());
    let warn = Finding::warn(Check::Cpu, seen(), seen());
    let fail = Finding::fail(Check::Cpu, seen(), seen());
    let code = |findings: &[Finding]| report::Counts::of(findings).exit_code();
    assert_eq!(code(&[ok.clone(), skip.clone()]), 0);
    assert_eq!(code(&[ok.clone(), warn.clone()]), 1);
    assert_eq!(code(&[fail, warn, ok]), 2);
}

#[test]
fn the_documents_name_every_check() {
    let document = include_str!("../../../../docs/operating/doctor.md");
    for check in Check::ALL {
        let row = format!("| `{}` |", check.id());
        assert!(document.contains(&row), "docs/operating/doctor.md lacks {row}");
    }
}
