//! Limits of new series: the one that is over is refused and named, others are stored.

use anyhow::{Result, ensure};

use crate::harness::{Client, Launch, Response, Scratch, WriteBody, now_ms};

pub(super) fn limits(scratch: &Scratch) -> Result<String> {
    let active = "limits:\n  max_active_series: 3\n";
    let answer = refuse(&scratch.join("active"), active)?;
    check(&answer, 400, &["limits.max_active_series is 3", "one=\"2\""])?;
    let values = "limits:\n  max_values_per_label: 2\n";
    let answer = refuse(&scratch.join("values"), values)?;
    check(
        &answer,
        400,
        &["label \"one\" has 2 values", "limits.max_values_per_label", "one=\"2\""],
    )?;
    // Ten seconds' worth may come at once.
    let pace = "limits:\n  max_new_series_per_second: 1\n";
    let (stored, answer) = pace_of(&scratch.join("pace"), pace)?;
    ensure!((10..=13).contains(&stored), "{stored} series were taken at once");
    check(&answer, 429, &["limits.max_new_series_per_second (1)", "nothing of the request"])?;
    ensure!(answer.header("retry-after") == Some("10"), "429 without Retry-After");
    Ok(format!("3 limits named; {stored} new series at once where one a second may come"))
}

fn check(answer: &Response, status: u16, words: &[&str]) -> Result<()> {
    // As JSON writes it.
    let text = answer.text().replace("\\\"", "\"");
    ensure!(answer.status == status, "answered {} instead of {status}: {text}", answer.status);
    for word in words {
        ensure!(text.contains(word), "the answer does not say {word:?}: {text}");
    }
    Ok(())
}

/// Writes one series and two of another metric, then more of these: the first must go on.
fn refuse(data: &std::path::Path, config: &str) -> Result<Response> {
    std::fs::create_dir_all(data)?;
    let server = Launch::broker(&data.join("data")).config(config).start()?;
    let client = server.client();
    let known = |value| [("__name__", "known"), ("job", value)];
    let answer = client.write(&body(&[&known("a")]))?;
    ensure!(answer.status == 204, "{}", answer.text());
    let numbered = |n| [("__name__", "counted"), ("one", n)];
    let answer = client.write(&body(&[&numbered("0"), &numbered("1")]))?;
    ensure!(answer.status == 204, "{}", answer.text());
    let answer = client.write(&body(&[&numbered("2"), &known("a"), &numbered("0")]))?;
    let samples = |selector| count(client, selector);
    ensure!(samples("count_over_time(known[1h])")? == "2", "the known series did not go on");
    ensure!(samples("count_over_time(counted{one=\"0\"}[1h])")? == "2", "nor did another one");
    ensure!(samples("count(counted)")? == "2", "the refused series is stored");
    server.stop()?;
    Ok(answer)
}

fn pace_of(data: &std::path::Path, config: &str) -> Result<(usize, Response)> {
    std::fs::create_dir_all(data)?;
    let server = Launch::broker(&data.join("data")).config(config).start()?;
    let client = server.client();
    for number in 0..100 {
        let number_text = number.to_string();
        let answer = client.write(&body(&[&[("__name__", "new"), ("n", &number_text)]]))?;
        if answer.status != 204 {
            server.stop()?;
            return Ok((number, answer));
        }
    }
    anyhow::bail!("100 new series at once were all taken")
}

fn body(series: &[&[(&str, &str)]]) -> Vec<u8> {
    let now = now_ms();
    series.iter().fold(WriteBody::new(), |body, labels| body.series(labels, &[(now, 1.0)])).snappy()
}

fn count(client: Client, query: &str) -> Result<String> {
    let found = client.data("/api/v1/query", &[("query", query)])?;
    Ok(found["result"][0]["value"][1].as_str().unwrap_or("none").to_owned())
}
