//! S3 as Ceph's gateway speaks it: credentials that are checked and end, and quotas.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use objects::{Credentials, StoreOptions};
use settings::Secret;

use crate::contract::{self, body};
use crate::harness::ceph::{ACCESS_KEY, Ceph, SECRET_KEY, USER};
use crate::harness::{Group, Scratch, impatient, open, options, run};

pub(crate) const GROUP: Group =
    Group { name: "ceph", tests: &[("contract-and-remedies", contract_and_remedies)] };

/// Until the gateway goes by what it was told.
const SOON: Duration = Duration::from_secs(20);

fn credentials(access: &str, secret: &str) -> Credentials {
    Credentials::none()
        .with("AWS_ACCESS_KEY_ID", Secret::new(access))
        .with("AWS_SECRET_ACCESS_KEY", Secret::new(secret))
}

/// Writes until that is refused as it should be; yields what was told.
async fn refused(ceph: &Ceph, options: &StoreOptions, kind: &str) -> Result<String> {
    let begin = std::time::Instant::now();
    loop {
        let store = open(&ceph.url("refused"), options.clone()).await?;
        let told = store.put("k", body(1, 1 << 20).into()).await;
        match told {
            Err(error) if error.kind() == kind => return Ok(error.to_string()),
            told => ensure!(begin.elapsed() < SOON, "{kind}: {told:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One start of Ceph for both.
fn contract_and_remedies(scratch: &Scratch) -> Result<String> {
    let begin = std::time::Instant::now();
    let ceph = Ceph::start(scratch)?;
    let started = begin.elapsed();
    let with = |access: &str, secret: &str| StoreOptions {
        credentials: credentials(access, secret),
        ..impatient()
    };
    let known = with(ACCESS_KEY, SECRET_KEY);
    run(async {
        let patient = StoreOptions { credentials: known.credentials.clone(), ..options() };
        contract::check(&open(&ceph.url("some/prefix"), patient).await?).await?;
        let secret = with(ACCESS_KEY, "other-canary");
        let told = refused(&ceph, &secret, "credentials").await.context("wrong secret")?;
        ensure!(told.contains("SignatureDoesNotMatch") && !told.contains("canary"), "{told}");
        // A key that was good once and ended.
        ceph.admin(&format!("key create --uid {USER} --access-key SECOND --secret-key second"))?;
        let second = with("SECOND", "second");
        open(&ceph.url("p"), second.clone()).await?.put("k", vec![1].into()).await?;
        ceph.admin(&format!("key rm --uid {USER} --access-key SECOND"))?;
        let told = refused(&ceph, &second, "credentials").await.context("a key that ended")?;
        ensure!(told.contains("renew the credentials"), "{told}");
        // Less than what is written.
        let quota = format!("--uid {USER} --quota-scope=user");
        ceph.admin(&format!("quota set {quota} --max-size=4096"))?;
        ceph.admin(&format!("quota enable {quota}"))?;
        let told = refused(&ceph, &known, "full").await.context("over its quota")?;
        ensure!(told.contains("QuotaExceeded") && told.contains("raise its quota"), "{told}");
        Ok(())
    })?;
    Ok(format!(
        "started in {:.1} s, the contract holds; a wrong and an ended key and a quota told",
        started.as_secs_f64()
    ))
}
