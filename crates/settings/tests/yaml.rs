//! YAML: what is refused, where, and that nothing panics or grows.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use serde::Deserialize;
use settings::yaml::Document;
use settings::{DurationValue, SizeValue};

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct File {
    data: Option<String>,
    storage: Storage,
    names: Vec<String>,
    labels: BTreeMap<String, String>,
    mode: Mode,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Storage {
    retention: Option<DurationValue>,
    size: Option<SizeValue>,
    count: Option<u16>,
    on: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Fast,
    Safe,
}

fn read(text: &str) -> Result<File, String> {
    let document = Document::parse("w.yml", text.as_bytes()).map_err(|faults| faults.render())?;
    document.deserialize().map_err(|faults| faults.render())
}

#[test]
fn any_type_is_read_from_it() {
    let file = read(
        "data: /d # where\nstorage:\n  retention: 15d\n  size: 32MB\n  count: 0x10\n  on: yes\n\
         names: [a, 'b']\nlabels: {x: 1, y: true}\nmode: safe\n",
    )
    .expect("valid");
    assert_eq!(file.data.as_deref(), Some("/d"));
    assert_eq!(file.storage.retention.expect("set").0.as_secs(), 15 * 86_400);
    assert_eq!(file.storage.size, Some(SizeValue(32 << 20)));
    assert_eq!((file.storage.count, file.storage.on), (Some(16), true));
    assert_eq!(file.names, ["a", "b"]);
    assert_eq!(file.labels["y"], "true");
    assert_eq!(file.mode, Mode::Safe);
    for empty in ["", "# nothing\n", "---\n", "storage:\nnames:\nlabels: ~\ndata: null\n"] {
        assert_eq!(read(empty).expect(empty), File::default());
    }
}

#[test]
fn every_fault_has_its_place_and_its_remedy() {
    for (text, place, said) in [
        ("storage:\n  retentoin: 3d\n", "w.yml:2:3: error: unknown key `retentoin`", "`retention`"),
        ("colour: red\n", "w.yml:1:1: error: unknown key `colour`", "known here: data, storage"),
        ("storage:\n  retention: soon\n", "w.yml:2:14: error: not a valid duration", "15d"),
        ("storage:\n  retention: \"15d \"\n", "w.yml:2:14: error: ", "did you mean 15d?"),
        ("storage:\n  size: 32mb\n", "w.yml:2:9: error: units: unknown unit mb", "32MB"),
        ("storage:\n  count: 70000\n", "w.yml:2:10: error: expected a whole number", "65535"),
        ("storage:\n  on: maybe\n", "w.yml:2:7: error: expected true or false", "`maybe`"),
        ("storage: 3\n", "w.yml:1:10: error: expected a mapping", "`3`"),
        ("names: a\n", "w.yml:1:8: error: expected a list", "`a`"),
        ("names:\n  - [a]\n", "w.yml:2:5: error: expected a text, found a list", ""),
        ("mode: sfe\n", "w.yml:1:7: error: unknown value `sfe`", "did you mean `safe`?"),
        ("key: value\nkey: value", "w.yml:2:1: error: the key `key` is already set", ""),
        ("\t- x", "w.yml:1:2: error: expected a mapping", "found a list"),
        ("storage:\n\tcount: 1\n", "w.yml:2:", "indent with spaces"),
        ("!!python/object:os.system x", "w.yml:1:", "cannot decode"),
        ("%YAML 9.9\n---\na", "w.yml:1:1: error: ", "YAML"),
        ("? ", "w.yml:1:", "error"),
        ("data: [", "w.yml:1:", "error"),
        ("data: *nope\n", "w.yml:1:7: error: ", "anchor"),
        ("data: \"\\xq\"\n", "w.yml:1:", "error"),
        ("a: &a [*a]\n", "w.yml:1:", "contains itself"),
        ("\\\r\\", "w.yml:1:1: error: expected a mapping", ""),
    ] {
        let shown = read(text).expect_err(text);
        assert!(shown.starts_with(place), "{text:?}\n{shown}");
        assert!(shown.contains(said) && shown.contains('^'), "{text:?}\n{shown}");
    }
    let shown = Document::parse("w.yml", b"a: \xff\n").expect_err("no UTF-8").render();
    assert!(shown.starts_with("w.yml:1:4: error: yaml: invalid UTF-8"), "{shown}");
    Document::parse("w.yml", b"\xef\xbb\xbfdata: x\n").expect("a byte order mark is skipped");
}

#[test]
fn a_place_is_found_by_its_path() {
    let text = "storage:\n  size: 1MB\njobs:\n  - name: a\n  - name: b\n";
    let document = Document::parse("w.yml", text.as_bytes()).expect("valid");
    for (path, place) in [
        ("storage.size", "w.yml:2:9: no"),
        ("jobs[1].name", "w.yml:5:11: no"),
        ("storage.absent", "w.yml:2:3: no"),
        ("absent", "w.yml:1:1: no"),
    ] {
        assert_eq!(document.fault(path, "no", None).to_string(), place, "{path}");
    }
    for (error, shown) in [
        ("storage.size: too small: at least 1", "w.yml:2:9: too small: at least 1"),
        ("jobs[0].name: taken", "w.yml:4:11: taken"),
        ("port: absent here", "w.yml: port: absent here"),
    ] {
        assert_eq!(document.locate(error).to_string(), shown);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bomb is known by the time it takes")]
fn bombs_are_refused_fast() {
    let mut aliases = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let before = char::from(b'a' + level - 1);
        let name = char::from(b'a' + level);
        let items = vec![format!("*{before}"); 10].join(", ");
        aliases.push_str(&format!("{name}: &{name} [{items}]\n"));
    }
    let deep = "[".repeat(100_000);
    let deep_block: String = (0..5_000).map(|level| format!("{}- \n", " ".repeat(level))).collect();
    let keys: String = (0..200_000).map(|key| format!("k{key}: v\n")).collect();
    let started = Instant::now();
    for (text, said) in [
        (&aliases, "excessive aliasing"),
        (&deep, ""),
        (&deep_block, ""),
        (&keys, "unknown key `k0`"),
    ] {
        let shown = read(text).expect_err("a bomb");
        assert!(shown.contains(said), "{shown}");
        assert!(shown.len() < 2_000, "{}", shown.len());
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        match Document::parse("w.yml", &bytes).and_then(|document| document.deserialize::<File>()) {
            Ok(file) => drop(file),
            Err(faults) => drop(faults.render()),
        }
    }

    #[test]
    fn yaml_like_text_never_panics(text in "[-:?&*!|>%@`\"'#{}\\[\\],\\\\ \n\ta-c0é測]{0,80}") {
        match Document::parse("w.yml", text.as_bytes()) {
            Ok(document) => {
                if let Err(faults) = document.deserialize::<File>() {
                    faults.render();
                }
                document.deserialize::<serde_json::Value>().ok();
            }
            Err(faults) => drop(faults.render()),
        }
    }

    /// JSON is YAML, so both readers must agree on every value.
    #[test]
    fn json_means_the_same(labels in prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,8}", 0..5)) {
        let json = serde_json::json!({"labels": labels}).to_string();
        let file = read(&json).map_err(TestCaseError::fail)?;
        prop_assert_eq!(file.labels, labels);
    }
}
