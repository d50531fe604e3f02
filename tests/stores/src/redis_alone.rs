//! One Redis.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use objects::{Credentials, Purpose, StoreError, StoreOptions};
use settings::Secret;

use crate::contract::{self, body};
use crate::harness::peer::Host;
use crate::harness::ports::free_ports;
use crate::harness::redis::{PASSWORD, redis, redis_cli};
use crate::harness::{Group, Scratch, impatient, open, options, run};
use crate::peers::certificates;
use crate::writer::{self, Writer};

pub(crate) const GROUP: Group = Group {
    name: "redis",
    tests: &[
        ("contract", contract),
        ("tls", tls),
        ("times-to-live", times_to_live),
        ("remedies", remedies),
        ("damage", damage),
        ("outage", outage),
        ("kill", kill),
    ],
};

fn contract(scratch: &Scratch) -> Result<String> {
    let peer =
        redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &["--requirepass", PASSWORD])?;
    let url = format!("redis://127.0.0.1:{}/some/prefix", peer.port());
    let credentials = Credentials::none().with("REDIS_PASSWORD", Secret::new(PASSWORD));
    let truth = StoreOptions {
        purpose: Purpose::Truth,
        accept_weaker_durability: true,
        credentials,
        ..options()
    };
    run(async { contract::check(&open(&url, truth).await?).await })?;
    let left = redis_cli(peer.address, &["dbsize"])?;
    ensure!(left == "0", "{left} keys are left");
    Ok("holds".to_owned())
}

/// Over TLS, by an authority that the URL names and the system does not know.
fn tls(scratch: &Scratch) -> Result<String> {
    certificates(scratch)?;
    let path = |name: &str| scratch.join(name).display().to_string();
    let (port, ca) = (free_ports(1)?[0], path("ca.pem"));
    let (cert, key, port_text) = (path("cert.pem"), path("key.pem"), port.to_string());
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let mut arguments = vec!["--tls-port", &port_text, "--port", "0", "--tls-auth-clients", "no"];
    arguments.extend(files);
    let _peer = redis(scratch, &Host::here(), "redis", port, &arguments)?;
    run(async {
        let url = format!("rediss://127.0.0.1:{port}/p");
        let store = open(&format!("{url}?ca_file={ca}"), impatient()).await?;
        store.put("k", body(1, 99_999).into()).await?;
        ensure!(store.get("k").await? == body(1, 99_999));
        let stranger = open(&url, impatient()).await?;
        let error = stranger.get("k").await.err().context("a stranger is trusted")?;
        ensure!(error.to_string().contains("certificate"), "{error}");
        Ok(())
    })?;
    Ok("trusted by ca_file, not without".to_owned())
}

fn times_to_live(scratch: &Scratch) -> Result<String> {
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &[])?;
    let url = |rest: &str| format!("redis://127.0.0.1:{}/{rest}", peer.port());
    run(async {
        let retention = Some(Duration::from_secs(7_200));
        let of_retention = StoreOptions { retention, ..options() };
        for (prefix, options, seconds) in [
            ("a?ttl=600", of_retention.clone(), 600),
            ("b", of_retention.clone(), 7_200),
            ("c?ttl=0", of_retention, -1),
            ("d", options(), -1),
        ] {
            let store = open(&url(prefix), options).await?;
            store.put("k", body(1, (1 << 20) + 5).into()).await?;
            let prefix = &prefix[..1];
            for key in [
                format!("{{{prefix}/k}}"),
                format!("{{{prefix}/k}}/0"),
                format!("{{{prefix}/k}}/1"),
            ] {
                let ttl: i64 = redis_cli(peer.address, &["ttl", &key])?.parse()?;
                ensure!(
                    (seconds - 5..=seconds).contains(&ttl),
                    "{key}: {ttl} s instead of {seconds}"
                );
            }
        }
        // Kept longer, or shorter, than it was written for.
        for (written, now, seconds) in [("g?ttl=600", "g", 7_200), ("h?ttl=600", "h?ttl=0", -1)] {
            let store = open(&url(written), options()).await?;
            for (key, len) in [("k", (1 << 20) + 5), ("empty", 0)] {
                store.put(key, body(1, len).into()).await?;
            }
            let of_retention = StoreOptions { retention, ..options() };
            let store = open(&url(now), of_retention).await?;
            for key in ["k", "empty"] {
                store.renew(key).await?;
            }
            let prefix = &now[..1];
            for key in ["k}", "k}/0", "k}/1", "empty}"] {
                let key = format!("{{{prefix}/{key}");
                let ttl: i64 = redis_cli(peer.address, &["ttl", &key])?.parse()?;
                ensure!(
                    (seconds - 5..=seconds).contains(&ttl),
                    "{key}: {ttl} s after it was renewed"
                );
            }
            let absent = store.renew("absent").await;
            ensure!(matches!(absent, Err(StoreError::NotFound { .. })), "{absent:?}");
            redis_cli(peer.address, &["del", &format!("{{{prefix}/k}}/1")])?;
            let cut = store.renew("k").await;
            ensure!(matches!(cut, Err(StoreError::Damaged { .. })), "{cut:?}");
        }
        let store = open(&url("e?ttl=1"), options()).await?;
        store.put("k", vec![1].into()).await?;
        let begin = Instant::now();
        while store.get("k").await.is_ok() {
            ensure!(begin.elapsed() < Duration::from_secs(5), "it stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(matches!(store.get("k").await, Err(StoreError::NotFound { .. })));
        // What is never finished is forgotten after a day.
        let store = open(&url("f"), options()).await?;
        let mut upload = store.upload("k").await?;
        upload.part(body(2, 1_000).into()).await?;
        let ttl: i64 = redis_cli(peer.address, &["ttl", "{f/k}/0"])?.parse()?;
        ensure!((86_000..=86_400).contains(&ttl), "an unfinished part lives {ttl} s");
        upload.finish().await?;
        let ttl = redis_cli(peer.address, &["ttl", "{f/k}/0"])?;
        ensure!(ttl == "-1", "a finished part lives {ttl} s");
        Ok(())
    })?;
    Ok("of the URL, of the retention, none, of what is not finished".to_owned())
}

fn remedies(scratch: &Scratch) -> Result<String> {
    let limits = ["--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru"];
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &limits)?;
    let plain = format!("redis://127.0.0.1:{}/p", peer.port());
    let set = |name: &str, value: &str| redis_cli(peer.address, &["config", "set", name, value]);
    run(async {
        let truth =
            StoreOptions { purpose: Purpose::Truth, accept_weaker_durability: true, ..impatient() };
        let told = |store: objects::Store| async move {
            let outcome = store.put("k", body(1, 9).into()).await;
            outcome.err().context("it was taken").map(|error| (error.kind(), error.to_string()))
        };
        let (kind, text) = told(open(&plain, truth.clone()).await?).await?;
        ensure!(kind == "settings" && text.contains("noeviction"), "{text}");
        open(&plain, impatient()).await?.put("k", body(1, 9).into()).await?;
        set("maxmemory-policy", "noeviction")?;
        let store = open(&plain, truth.clone()).await?;
        let mut full = None;
        for number in 0..30 {
            if let Err(error) = store.put(&format!("{number}"), body(number, 1 << 20).into()).await
            {
                full = Some(error);
                break;
            }
        }
        let full = full.context("30 MiB fit into 20 MiB")?;
        ensure!(full.kind() == "full" && full.to_string().contains("OOM"), "{full}");
        // Its part still went in, and its manifest did not: it must not stay for good.
        let keys = redis_cli(peer.address, &["keys", "{p/*}/*"])?;
        for part in keys.lines() {
            let (manifest, _) = part.rsplit_once('/').context("a part has a number")?;
            let is_there = redis_cli(peer.address, &["exists", manifest])? == "1";
            let ttl = redis_cli(peer.address, &["ttl", part])?;
            ensure!(is_there || ttl != "-1", "{part} stays for good and belongs to nothing");
        }
        set("maxmemory", "0")?;
        // What others left, without a manifest, goes with the object.
        redis_cli(peer.address, &["set", "{p/left}/0", "x"])?;
        redis_cli(peer.address, &["set", "{p/left}/1", "x"])?;
        store.delete("left").await?;
        let left = redis_cli(peer.address, &["keys", "{p/left}*"])?;
        ensure!(left.is_empty(), "{left} are left");
        let wait = format!("redis://127.0.0.1:{}/p?wait=1", peer.port());
        // Longer than replicas are waited for.
        let write_deadline = Duration::from_secs(6);
        let patient = StoreOptions { write_deadline, ..truth.clone() };
        let (kind, text) = told(open(&wait, patient).await?).await?;
        ensure!(kind == "unknown" && text.contains("0 replicas confirmed"), "{kind}: {text}");
        let cluster = format!("redis+cluster://127.0.0.1:{}/p", peer.port());
        let (kind, text) = told(open(&cluster, truth.clone()).await?).await?;
        ensure!(text.contains("cluster support disabled"), "{kind}: {text}");
        set("requirepass", "other")?;
        for login in ["", "canary@", "user:canary@"] {
            let url = plain.replace("redis://", &format!("redis://{login}"));
            let (kind, text) = told(open(&url, truth.clone()).await?).await?;
            ensure!(kind == "credentials" && !text.contains("canary"), "{login}: {kind}: {text}");
        }
        Ok(())
    })?;
    Ok("eviction, memory, replicas, no cluster, no password, wrong password".to_owned())
}

fn damage(scratch: &Scratch) -> Result<String> {
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &[])?;
    let cli = |arguments: &[&str]| redis_cli(peer.address, arguments);
    run(async {
        let store = open(&format!("redis://127.0.0.1:{}/p", peer.port()), options()).await?;
        let whole = body(1, (2 << 20) + 77);
        let is_damaged = async |range: std::ops::Range<u64>| {
            matches!(store.get_range("k", range).await, Err(StoreError::Damaged { .. }))
        };
        store.put("k", whole.clone().into()).await?;
        cli(&["setrange", "{p/k}/1", "1000", "x"])?;
        ensure!(matches!(store.get("k").await, Err(StoreError::Damaged { .. })), "served changed");
        ensure!(is_damaged(1 << 20..(1 << 20) + 1).await, "a part of a changed part was served");
        ensure!(store.get_range("k", 0..9).await? == whole[..9], "what is whole is served");
        cli(&["del", "{p/k}/1"])?;
        ensure!(is_damaged(1 << 20..(1 << 20) + 1).await, "a part that is gone was served");
        cli(&["setrange", "{p/k}", "9", "x"])?;
        ensure!(is_damaged(0..9).await, "an object with a changed manifest was served");
        store.delete("k").await?;
        ensure!(matches!(store.get("k").await, Err(StoreError::NotFound { .. })));
        Ok(())
    })?;
    Ok("changed and missing parts, changed manifest".to_owned())
}

/// A Redis that is killed and comes back, with what it had written to its own log.
fn outage(scratch: &Scratch) -> Result<String> {
    let port = free_ports(1)?[0];
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut peer = redis(scratch, &Host::here(), "redis", port, &durable)?;
    run(async {
        let store = open(&format!("redis://127.0.0.1:{port}/p"), options()).await?;
        store.put("before", body(1, 99).into()).await?;
        peer.kill()?;
        let hurried = open(&format!("redis://127.0.0.1:{port}/p"), impatient()).await?;
        let error = hurried.put("k", body(1, 9).into()).await.err().context("nobody took it")?;
        ensure!(error.kind() == "unreachable", "{}: {error}", error.kind());
        let put = tokio::spawn({
            let store = store.clone();
            async move { store.put("through", body(2, 99).into()).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let again = redis(scratch, &Host::here(), "redis", port, &durable)?;
        put.await?.context("2 s are within the deadline")?;
        for (key, seed) in [("before", 1), ("through", 2)] {
            ensure!(store.get(key).await? == body(seed, 99), "{key} is lost");
        }
        drop(again);
        Ok(())
    })?;
    Ok("told, and 2 s survived".to_owned())
}

fn kill(scratch: &Scratch) -> Result<String> {
    let peer = redis(scratch, &Host::here(), "redis", free_ports(1)?[0], &[])?;
    let url = format!("redis://127.0.0.1:{}/p", peer.port());
    let (mut confirmed, mut orphans) = (Vec::new(), 0);
    for _ in 0..6 {
        let writer = Writer::start(&url)?;
        std::thread::sleep(Duration::from_millis(300));
        confirmed.extend(writer.kill()?);
        let check = async { writer::check(&open(&url, options()).await?, &confirmed).await };
        orphans = run(check)?;
    }
    ensure!(confirmed.len() > 20, "only {} objects were confirmed", confirmed.len());
    Ok(format!("6 kills, {} confirmed, 0 lost, 0 torn, {orphans} orphans", confirmed.len()))
}
