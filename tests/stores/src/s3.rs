//! S3 as moto speaks it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use objects::{Credentials, StoreOptions};
use rustix::process::Signal;
use settings::Secret;

use crate::contract;
use crate::harness::peer::Peer;
use crate::harness::ports::free_ports;
use crate::harness::{Group, Scratch, impatient, open, options, run};
use crate::peers::{certificates, moto, moto_with};
use crate::writer::{self, Writer};

pub(crate) const GROUP: Group = Group {
    name: "s3",
    tests: &[
        ("contract", contract),
        ("tls", tls),
        ("remedies", remedies),
        ("credentials", credentials),
        ("frozen", frozen),
        ("kill", kill),
    ],
};

fn url(moto: &Peer, bucket: &str) -> String {
    format!("s3://{bucket}/some/prefix?endpoint=http://127.0.0.1:{}", moto.port())
}

fn known() -> Credentials {
    Credentials::none()
        .with("AWS_ACCESS_KEY_ID", Secret::new("AKIDCANARY"))
        .with("AWS_SECRET_ACCESS_KEY", Secret::new("secret-canary"))
}

fn contract(scratch: &Scratch) -> Result<String> {
    let moto = moto(scratch, &[])?;
    let options = StoreOptions { credentials: known(), ..options() };
    run(async { contract::check(&open(&url(&moto, "bucket"), options).await?).await })?;
    Ok("holds".to_owned())
}

/// Over TLS, by an authority that the URL names and the system does not know.
fn tls(scratch: &Scratch) -> Result<String> {
    certificates(scratch)?;
    let moto = moto_with(scratch, &[], &["-s", "-c", "cert.pem", "-k", "key.pem"])?;
    run(async {
        let url = format!("s3://bucket/p?endpoint=https://127.0.0.1:{}", moto.port());
        let options = StoreOptions { credentials: known(), ..impatient() };
        let trusting = format!("{url}&ca_file={}", scratch.join("ca.pem").display());
        let store = open(&trusting, options.clone()).await?;
        store.put("k", contract::body(1, 99_999).into()).await?;
        ensure!(store.get("k").await? == contract::body(1, 99_999));
        let error = open(&url, options).await?.get("k").await.err();
        let error = error.context("a stranger is trusted")?;
        ensure!(error.to_string().contains("certificate"), "{error}");
        Ok(())
    })?;
    Ok("trusted by ca_file, not without".to_owned())
}

fn remedies(scratch: &Scratch) -> Result<String> {
    let moto = moto(scratch, &[])?;
    let options = StoreOptions { credentials: known(), ..impatient() };
    let nobody = free_ports(1)?[0];
    run(async {
        for (url, kind, part) in [
            (url(&moto, "absent"), "bucket", "create the bucket"),
            (
                format!("s3://b?endpoint=http://127.0.0.1:{nobody}"),
                "unreachable",
                "whether it runs",
            ),
        ] {
            let store = open(&url, options.clone()).await?;
            let error = store.probe("x").await.err().context("it works all the same")?;
            let told = error.to_string();
            ensure!(error.kind() == kind && told.contains(part), "{}: {told}", error.kind());
            ensure!(!told.contains("canary") && !told.contains("CANARY"), "{told}");
        }
        let url = "s3://b?endpoint=http://169.254.169.254";
        let error =
            open(url, options.clone()).await.err().context("a metadata service is a store")?;
        let told = format!("{error:#}");
        ensure!(told.contains("credentials of this machine"), "{told}");
        Ok(())
    })?;
    Ok("3 told".to_owned())
}

/// Wrong ones, and none at all on a machine that has none.
fn credentials(scratch: &Scratch) -> Result<String> {
    let moto = moto(scratch, &[("INITIAL_NO_AUTH_ACTION_COUNT", "0")])?;
    run(async {
        let nobody = format!("http://127.0.0.1:{}", free_ports(1)?[0]);
        let none = Credentials::none().with("AWS_METADATA_ENDPOINT", Secret::new(nobody));
        for (credentials, part) in
            [(known(), "InvalidAccessKeyId"), (none, "no credentials were given")]
        {
            let options = StoreOptions { credentials, ..options() };
            let store = open(&url(&moto, "bucket"), options).await?;
            let error = store.put("k", vec![1].into()).await.err().context("it was taken")?;
            let told = error.to_string();
            ensure!(error.kind() == "credentials", "{}: {told}", error.kind());
            ensure!(told.contains(part) && told.contains("renew the credentials"), "{told}");
            ensure!(!told.contains("secret-canary"), "{told}");
        }
        Ok(())
    })?;
    Ok("wrong ones and none are told".to_owned())
}

/// A store that stands still for a while costs time and nothing else; for longer, the write is
/// unknown, and appears.
fn frozen(scratch: &Scratch) -> Result<String> {
    let moto = moto(scratch, &[])?;
    let options = StoreOptions { credentials: known(), ..options() };
    run(async {
        let store = open(&url(&moto, "bucket"), options.clone()).await?;
        store.put("before", vec![1; 9].into()).await?;
        moto.signal(Signal::STOP)?;
        let put = tokio::spawn({
            let store = store.clone();
            async move { store.put("through", vec![2; 9].into()).await }
        });
        tokio::time::sleep(Duration::from_secs(4)).await;
        moto.signal(Signal::CONT)?;
        put.await?.context("4 s are within the deadline")?;
        let hurried = StoreOptions { write_deadline: Duration::from_secs(2), ..options };
        let hurried = open(&url(&moto, "bucket"), hurried).await?;
        moto.signal(Signal::STOP)?;
        let outcome = hurried.put("late", vec![3; 9].into()).await;
        moto.signal(Signal::CONT)?;
        let error = outcome.err().context("a frozen store confirmed")?;
        ensure!(error.kind() == "unknown", "{}: {error}", error.kind());
        // The request lay in its socket; whether moto serves it although the other side has hung up
        // is its affair. Both are allowed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let is_there = store.get("late").await.is_ok();
        Ok(format!("4 s survived, 2 s told as unknown, appeared later: {is_there}"))
    })
}

fn kill(scratch: &Scratch) -> Result<String> {
    let moto = moto(scratch, &[])?;
    let url = url(&moto, "bucket");
    let options = StoreOptions { credentials: known(), ..options() };
    let (mut confirmed, mut orphans) = (Vec::new(), 0);
    for _ in 0..4 {
        let writer = Writer::start_with(
            &url,
            &[("AWS_ACCESS_KEY_ID", "AKIDCANARY"), ("AWS_SECRET_ACCESS_KEY", "secret-canary")],
        )?;
        std::thread::sleep(Duration::from_millis(1_000));
        confirmed.extend(writer.kill()?);
        orphans = run(async {
            let store = open(&url, options.clone()).await?;
            writer::check(&store, &confirmed).await
        })?;
    }
    ensure!(confirmed.len() > 20, "only {} objects were confirmed", confirmed.len());
    Ok(format!("4 kills, {} confirmed, 0 lost, 0 torn, {orphans} orphans", confirmed.len()))
}
