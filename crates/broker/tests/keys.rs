//! The key space: durable when it says so, versions guard against lost updates.

mod support;

use std::sync::Arc;

use blockstore::MemoryDisk;
use broker::{CommitError, Expected};
use support::*;

clock!(KEYS, keys_ms);

#[test]
fn a_written_key_survives_a_power_cut_and_versions_guard_it() {
    let disk = Arc::new(MemoryDisk::new());
    let config = config("unused".as_ref(), keys_ms, NEVER_MS);
    let broker = open_on(&disk, config.clone());
    let first = broker.put_key("users/ann", b"1".to_vec(), Expected::Absent).expect("written");
    let error = broker.put_key("users/ann", b"2".to_vec(), Expected::Absent);
    assert!(matches!(error, Err(CommitError::Catalog(_))), "{error:?}");
    let second = broker.put_key("users/ann", b"2".to_vec(), Expected::Version(first));
    let second = second.expect("the version is right");
    assert!(second > first);
    broker.put_key("users/bob", b"3".to_vec(), Expected::Any).expect("written");
    broker.put_key("tokens/x", b"4".to_vec(), Expected::Any).expect("written");
    broker.put_key("tokens/y", b"5".to_vec(), Expected::Any).expect("written");
    broker.delete_key("tokens/x", Expected::Any).expect("deleted");
    broker.delete_key("tokens/x", Expected::Any).expect("absent is fine");
    let huge = broker.put_key("users/huge", vec![0; catalog::MAX_VALUE_BYTES + 1], Expected::Any);
    assert!(matches!(huge, Err(CommitError::Catalog(_))), "{huge:?}");
    // The power goes; no stop.
    let broker = open_on(&Arc::new(disk.crash(7)), config);
    let listed = |prefix| -> Vec<(String, Vec<u8>)> {
        broker.list_keys(prefix).into_iter().map(|(key, value)| (key, value.value)).collect()
    };
    let pair = |key: &str, value: &[u8]| (key.to_owned(), value.to_vec());
    assert_eq!(listed("users/"), [pair("users/ann", b"2"), pair("users/bob", b"3")]);
    assert_eq!(listed("tokens/"), [pair("tokens/y", b"5")]);
    let ann = broker.get_key("users/ann").expect("there");
    assert_eq!((ann.value.as_slice(), ann.version), (&b"2"[..], second));
    assert_eq!(broker.get_key("users/eve"), None);
    broker.stop();
    assert_eq!(broker.put_key("users/ann", Vec::new(), Expected::Any), Err(CommitError::Stopping));
    assert!(broker.get_key("users/ann").is_some(), "what is stored stays readable");
}

#[tokio::test]
async fn tasks_write_keys_without_blocking_a_thread() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = open_on(&disk, config("unused".as_ref(), keys_ms, NEVER_MS));
    let version = broker.put_key_async("a/b", b"1".to_vec(), Expected::Absent).await;
    let version = version.expect("written");
    broker.delete_key_async("a/b", Expected::Version(version)).await.expect("deleted");
    assert_eq!(broker.get_key("a/b"), None);
}
