//! Ceph's gateway as the store: a kill, and credentials that end while brokers run.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::site::{Place, Site, until_taken};
use crate::harness::ceph::{ACCESS_KEY, Ceph, SECRET_KEY, USER};
use crate::harness::random::Random;
use crate::harness::{Client, Scratch, WriteBody, free_address, now_ms};

/// Until the gateway and the brokers go by what the gateway was told.
const SOON: Duration = Duration::from_secs(30);

pub(super) fn kill_and_ended_credentials(scratch: &Scratch) -> Result<String> {
    let begin = Instant::now();
    let ceph = Ceph::start(scratch)?;
    let started = begin.elapsed();
    let place = || -> Result<Place> {
        let mut place = Place::here(free_address()?)?;
        place.environment =
            vec![("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        Ok(place)
    };
    let places: Vec<Place> = (0..3).map(|_| place()).collect::<Result<_>>()?;
    let mut site = Site::start_at(scratch, Random::seed(), ceph.url("wf"), &places)?;
    let took = site.write_while(|members| {
        sleep(Duration::from_secs(1));
        members[0].kill()?;
        let took = until_taken(members[1].client(), 1.0)?;
        sleep(Duration::from_secs(1));
        members[0].start_again()?;
        Ok(took)
    })?;
    site.check_counts_soon().context("after a kill")?;

    // The key ends under three brokers that run.
    ceph.admin(&format!("key rm --uid {USER} --access-key {ACCESS_KEY}"))?;
    let client = site.members[1].client();
    let said = until_refused(client, &["InvalidAccessKeyId", "renew the credentials"])?;
    ensure!(!said.contains(SECRET_KEY), "{said}");
    // All is answered; but for a block that a broker had not opened yet: that lacks, and is told.
    match site.check_counts_soon() {
        Err(error) if format!("{error:#}").contains("cannot be read from the store for now") => {}
        answered => answered.context("what is in memory is answered")?,
    }
    let status = client.get_data("/api/v1/status/cluster")?;
    let is_told = |finding: &serde_json::Value| {
        finding["code"] == "store_errors" && finding["values"]["kind"] == "credentials"
    };
    let told = status["findings"].as_array().context("findings")?.iter().any(is_told);
    ensure!(told, "the state of the cluster says nothing of it: {}", status["findings"]);
    // One that starts now is told as well; with credentials that count everything is there.
    site.members[2].stop()?;
    let said = site.members[2].refused_again(SOON)?;
    ensure!(said.contains("renew the credentials"), "{said}");
    ceph.admin(&format!(
        "key create --uid {USER} --access-key {ACCESS_KEY} --secret-key {SECRET_KEY}"
    ))?;
    until_taken(client, 2.0)?;
    site.members[2].start_again()?;
    site.write_while(|_| {
        sleep(Duration::from_secs(1));
        Ok(())
    })?;
    site.check()?;
    Ok(format!(
        "{} samples, 0 lost, 0 doubled; the store started in {:.1} s, writes resumed {:.1} s after a kill; \
         credentials that ended told, and taken again",
        site.acknowledged_samples(),
        started.as_secs_f64(),
        took.as_secs_f64()
    ))
}

/// Writes until that is refused with these words; yields what is said. For a moment the gateway says `AccessDenied`
/// of a key that it has just lost.
fn until_refused(client: Client, words: &[&str]) -> Result<String> {
    let begin = Instant::now();
    loop {
        let body = WriteBody::new().series(&[("__name__", "probe")], &[(now_ms(), 1.0)]).snappy();
        let answer = client.write(&body)?;
        let (status, said) = (answer.status, answer.text());
        if status == 503 && words.iter().all(|words| said.contains(words)) {
            return Ok(said);
        }
        ensure!(begin.elapsed() < SOON, "writes are still answered {status}: {said}");
        sleep(Duration::from_millis(100));
    }
}
