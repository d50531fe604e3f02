//! A member that is told something by a program which came after this one ends, and says why.

use std::sync::Arc;
use std::time::Duration;

use blockstore::MemoryDisk;
use bytes::Bytes;
use catalog::{CatalogError, Command, FORMAT_VERSION, Outcome, State};
use codec::varint;
use consensus::{
    Call, Consensus, ConsensusConfig, Failure, Member, Observer, Transport, TransportError,
};
use parking_lot::Mutex;

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _: &Command, _: &Result<Outcome, CatalogError>, _: &State) {}

    fn replaced(&self, _: &State) {}
}

impl Transport for Nobody {
    fn call(&self, _: u64, _: &Member, _: Bytes, _: Duration) -> Call {
        Box::pin(async { Err(TransportError::Unreached("nobody is there".to_owned())) })
    }
}

/// One entry in term 9 of a leader with the number 2, whose command says that it has `version`.
fn append(version: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, number: u64| varint::put_u64(out, number);
    number(&mut out, 0);
    out.push(1);
    number(&mut out, 9);
    number(&mut out, 3);
    // A vote that is granted; nothing before the entry, nothing agreed upon; one entry, the first.
    out.extend_from_slice(&[1, 0, 0, 1]);
    number(&mut out, 9);
    number(&mut out, 1);
    // A proposal: kind, place, command.
    out.extend_from_slice(&[1, 0, 0, 0, 0]);
    let mut sealed = vec![version, 2, 1];
    sealed.extend_from_slice(&codec::checksum(&sealed).to_le_bytes());
    varint::put_bytes(&mut out, &sealed);
    out
}

#[tokio::test]
async fn a_member_that_is_too_old_ends_and_keeps_nothing_of_what_it_cannot_read() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let on_failure = Arc::new(move |failure: &Failure<'_>| hears.lock().push(failure.to_string()));
    let disk = Arc::new(MemoryDisk::new());
    let config = ConsensusConfig::new(1, Member::default());
    let started = Consensus::start(disk, config, Arc::new(Nobody), Arc::new(Nobody), on_failure);
    let member = Box::pin(started).await.expect("an empty disk");
    let mut damaged = append(FORMAT_VERSION + 1);
    *damaged.last_mut().expect("a checksum") ^= 1;
    member.answer(&damaged).await;
    assert_eq!(told.lock().len(), 0, "a damaged request is no newer program");
    member.answer(&append(FORMAT_VERSION + 1)).await;
    assert_eq!(member.status().last_index, 0);
    let told = told.lock().clone();
    let words = format!("in version {} and this program reads up to", FORMAT_VERSION + 1);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&words) && told[0].contains("version of the others"), "{told:?}");
}
