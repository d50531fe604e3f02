//! Bad input and bad luck short of a crash: a clear answer that names the limit, nothing else
//! harmed.

mod bodies;
mod corpus;
mod corpus_lines;
mod corpus_read;
mod damage;
mod disk;
mod file_handles;
mod file_size;
mod labels;
mod refusals;
mod slow_peers;
mod start;
mod values;

use anyhow::{Result, ensure};

use crate::harness::{Group, Response};

/// The group `faults`.
pub(crate) const GROUP: Group = Group {
    name: "faults",
    tests: &[
        ("data-in-use", start::data_in_use),
        ("port-in-use", start::port_in_use),
        ("open-to-the-network", start::open_to_the_network),
        ("bad-configuration", start::bad_configuration),
        ("oversize", bodies::oversize),
        ("bombs", bodies::bombs),
        ("truncated", bodies::truncated),
        ("half-sent", bodies::half_sent),
        ("labels", labels::labels),
        ("nan", values::nan),
        ("stale", values::stale),
        ("timestamps", values::timestamps),
        ("slow-peers", slow_peers::slow_peers),
        ("file-handles", file_handles::file_handles),
        ("typed-queries", refusals::typed_queries),
        ("http2-refusals", refusals::http2_refusals),
        ("file-size-limit", file_size::file_size_limit),
        ("corpus", corpus::corpus),
        ("corpus-lines", corpus_lines::lines),
        ("corpus-scraped", corpus_read::scraped),
        ("corpus-configured", corpus_read::configured),
        ("full-disk", disk::full),
        ("failed-sync", disk::failed_sync),
        ("read-only-disk", disk::read_only),
        ("damage", damage::damage),
    ],
};

/// Checks that an answer has this status and that its text holds all of `words`.
fn expect(answer: &Response, status: u16, words: &[&str]) -> Result<()> {
    let text = answer.text();
    ensure!(answer.status == status, "answered {} instead of {status}: {text}", answer.status);
    for word in words {
        ensure!(text.contains(word), "the answer does not say {word:?}: {text}");
    }
    Ok(())
}
