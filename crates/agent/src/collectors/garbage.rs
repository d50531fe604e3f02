//! Whatever stands in a file, no survey panics over it.
//!
//! The files are those of Node Exporter's fake host, which lies beside the repository and is no
//! part of it; without it nothing is tested.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{COLLECTORS, Made, make};
use crate::collector_settings::CollectorSettings;
use crate::config::AgentConfig;
use crate::reading::Reading;
use crate::survey::Survey;

fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target, files);
        } else {
            std::fs::copy(&path, &target).expect("copied");
            files.push(target);
        }
    }
}

/// Every survey, over the host below `root`, with every option that makes it read more.
fn surveys(root: &Path) -> Vec<Box<dyn Survey>> {
    let pattern = |text: &str| Some(text.try_into().expect("valid"));
    let mut settings = CollectorSettings::default();
    settings.bcache.priority_stats = true;
    settings.pcidevice.names = true;
    settings.pcidevice.idsfile = Some(root.join("pci.ids"));
    settings.cpu_info.flags_include = pattern(".");
    settings.sysctl.include = vec!["kernel.threads-max".to_owned(), "fs.file-nr:a,,b".to_owned()];
    settings.sysctl.include_info = vec!["kernel.seccomp.actions_avail".to_owned()];
    let config = AgentConfig {
        proc_root: root.join("proc"),
        sys_root: root.join("sys"),
        root_fs: root.to_owned(),
        textfile_directories: vec![root.join("textfile/*")],
        collectors: settings,
        ..AgentConfig::default()
    };
    let made = COLLECTORS.iter().map(|info| make(info, &config));
    made.filter_map(|made| match made {
        Made::Survey(survey) => Some(survey),
        Made::InPass(_) => None,
    })
    .collect()
}

#[test]
fn no_bytes_stop_a_survey() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/conformance/host-metrics/node-exporter-fixtures/collector/fixtures");
    if !fixtures.is_dir() {
        return;
    }
    let root = tempfile::tempdir().expect("temporary directory");
    let mut files = Vec::new();
    copy(&fixtures, root.path(), &mut files);
    files.sort();
    let garbage = proptest::collection::vec(any::<u8>(), 0..24);
    let edits = proptest::collection::vec(
        (any::<proptest::sample::Index>(), any::<u16>(), garbage),
        1..200,
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(6));
    let tested = runner.run(&edits, |edits| {
        let mut before = Vec::new();
        for (file, at, garbage) in edits {
            let file = file.get(&files);
            let mut bytes = std::fs::read(file).expect("read");
            before.push((file, bytes.clone()));
            // Cut somewhere, then anything.
            bytes.truncate(usize::from(at) % (bytes.len() + 1));
            bytes.extend(garbage);
            std::fs::write(file, bytes).expect("write");
        }
        let mut reading = Reading::default();
        for survey in &mut surveys(root.path()) {
            reading.clear();
            // It may find nothing and say so.
            let _ = survey.read(&mut reading);
        }
        for (file, bytes) in before.into_iter().rev() {
            std::fs::write(file, bytes).expect("restore");
        }
        Ok(())
    });
    tested.expect("no survey panics");
}
