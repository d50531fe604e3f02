//! Damaged bytes in every file of the data directory: a start succeeds, what is lost is counted
//! and named, what is not damaged can be read, and nothing is made up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::harness::random::{Random, mix};
use crate::harness::{Client, Launch, Scratch, Server, WriteBody, now_ms};

/// Damage is the same in each run.
const SEED: u64 = 20_240_601;
const LANES: usize = 2;
const SERIES: usize = 10;
const ROWS: usize = 40;
const DAY_MS: i64 = 86_400_000;

/// Samples that lie together in one place: a block, or a log file.
struct Family {
    name: &'static str,
    base_ms: i64,
    /// The log file that was written last: nothing behind it proves that its end is missing.
    is_last: bool,
    is_block: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipe {
    FlipBit,
    FlipBitAtStart,
    FlipBitAtEnd,
    ZeroPage,
    Truncate,
    Empty,
    Delete,
    Garbage,
    GarbageBehind,
}

/// Each with how often it is done to a file, at other places.
const RECIPES: [(Recipe, usize); 9] = [
    (Recipe::FlipBit, 8),
    (Recipe::FlipBitAtStart, 2),
    (Recipe::FlipBitAtEnd, 2),
    (Recipe::ZeroPage, 2),
    (Recipe::Truncate, 3),
    (Recipe::Empty, 1),
    (Recipe::Delete, 1),
    (Recipe::Garbage, 1),
    (Recipe::GarbageBehind, 1),
];

/// What the program shows where it lost something.
const SIGNS: [&str; 4] = [
    "watchfire_blockstore_log_damaged_ranges_total",
    "watchfire_blockstore_log_torn_bytes_total",
    "watchfire_blockstore_blocks_damaged_total",
    "watchfire_broker_recovery_unusable_frames",
];

pub(super) fn damage(scratch: &Scratch) -> Result<String> {
    let fixture = scratch.join("fixture");
    let families = build(&fixture)?;
    // Certificates and credentials are no stored data: who may do what is never guessed, so damage to
    // them stops the start, as docs/decisions/0011 says.
    let is_stored =
        |file: &PathBuf| !file.starts_with("tls") && file != Path::new("credentials.json");
    let files: Vec<PathBuf> = list(&fixture.join("data"))?.into_iter().filter(is_stored).collect();
    let recipes = || RECIPES.iter().flat_map(|&(recipe, times)| vec![recipe; times]);
    let cases: Vec<(usize, &PathBuf, Recipe)> = files
        .iter()
        .flat_map(|file| recipes().map(move |recipe| (file, recipe)))
        .enumerate()
        .map(|(number, (file, recipe))| (number, file, recipe))
        .collect();
    let lossy = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (cases, families, fixture) = (&cases, &families, &fixture);
                let directory = scratch.join(&format!("lane-{lane}"));
                scope.spawn(move || {
                    let own = cases.iter().filter(|(number, ..)| number % LANES == lane);
                    own.map(|&(number, file, recipe)| {
                        one(fixture, &directory, file, recipe, number, families).with_context(
                            || format!("{recipe:?} of {} (case {number})", file.display()),
                        )
                    })
                    .try_fold(0, |lossy, lost| Ok::<_, anyhow::Error>(lossy + usize::from(lost?)))
                })
            })
            .collect();
        lanes.into_iter().try_fold(0, |sum, lane| {
            Ok::<_, anyhow::Error>(sum + lane.join().map_err(|_| anyhow!("a lane panicked"))??)
        })
    })?;
    ensure!(lossy > 0, "no damage hit any data");
    Ok(format!(
        "{} damages in {} files, {lossy} with loss, all counted; 0 starts refused, 0 samples \
         changed",
        cases.len(),
        files.len()
    ))
}

/// Makes a data directory with two blocks and two log files, each with a family of its own.
fn build(fixture: &Path) -> Result<Vec<Family>> {
    fs::create_dir_all(fixture).context("make the fixture's directory")?;
    let now = now_ms();
    let family = |name, base_ms, is_block, is_last| Family { name, base_ms, is_block, is_last };
    let families = vec![
        family("old_block", now - 4 * DAY_MS, true, false),
        family("young_block", now - 2 * DAY_MS, true, false),
        family("closed_log", now - 60_000, false, false),
        family("open_log", now - 50_000, false, true),
    ];
    let data = fixture.join("data");
    let flushing = Launch::broker(&data).config("storage:\n  flush_interval: 100ms\n").start()?;
    for family in &families[..2] {
        family.write(flushing.client())?;
        until_flushed(&flushing)?;
    }
    flushing.kill()?;
    for family in &families[2..] {
        let server = Launch::broker(&data).start()?;
        family.write(server.client())?;
        server.kill()?;
    }
    Ok(families)
}

fn until_flushed(server: &Server) -> Result<()> {
    let begin = Instant::now();
    while server.client().metric("watchfire_broker_head_samples")? > 0.0 {
        ensure!(begin.elapsed() < Duration::from_secs(20), "no flush: {}", server.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Damages a copy of the fixture and looks at what the program makes of it. Yields whether
/// samples were lost.
fn one(
    fixture: &Path,
    directory: &Path,
    file: &Path,
    recipe: Recipe,
    number: usize,
    families: &[Family],
) -> Result<bool> {
    if directory.exists() {
        fs::remove_dir_all(directory).context("clear the lane's directory")?;
    }
    let data = directory.join("data");
    copy_tree(&fixture.join("data"), &data)?;
    apply(recipe, &data.join(file), &mut Random::new(SEED ^ mix(number as u64)))?;
    let launch = Launch::broker(&data);
    let server = launch.start().context("start")?;
    let lost = survey(server.client(), families)?;
    let lossy: Vec<(&Family, usize)> =
        families.iter().zip(lost.iter().copied()).filter(|(_, lost)| *lost > 0).collect();
    ensure!(lossy.len() <= 1, "damage in one place lost data of another: {lost:?}");
    for (family, count) in &lossy {
        let may_be_silent =
            family.is_last && matches!(recipe, Recipe::Truncate | Recipe::Empty | Recipe::ZeroPage);
        is_told(&server, file)
            .or_else(|error| if may_be_silent { Ok(()) } else { Err(error) })
            .with_context(|| format!("{count} samples of {} are lost silently", family.name))?;
    }
    let good = WriteBody::new().series(&[("__name__", "good")], &[(now_ms(), 1.0)]).snappy();
    let status = server.client().write(&good)?.status;
    ensure!(status == 204, "a write is answered {status}");
    server.stop()?;
    let again = launch.start().context("start again")?;
    let after = survey(again.client(), families).context("after another start")?;
    ensure!(after == lost, "another start changes what is lost from {lost:?} to {after:?}");
    again.kill()?;
    Ok(!lossy.is_empty())
}

/// Checks that a loss is counted and that the damaged place is named.
fn is_told(server: &Server, file: &Path) -> Result<()> {
    let mut signs = Vec::new();
    for name in SIGNS {
        signs.push(server.client().metric(name)?);
    }
    ensure!(signs.iter().sum::<f64>() > 0.0, "{SIGNS:?} are all 0: {}", server.stderr());
    let torn_only = signs[0] + signs[2] + signs[3] == 0.0;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let number = stem.trim_start_matches('0');
    ensure!(
        torn_only || server.stderr().contains(number),
        "standard error does not name {}: {}",
        file.display(),
        server.stderr()
    );
    Ok(())
}

/// How many samples of each family are missing. A query may fail that finds a block damaged; the
/// next must say what it can.
fn survey(client: Client, families: &[Family]) -> Result<Vec<usize>> {
    families
        .iter()
        .map(|family| {
            let begin = Instant::now();
            loop {
                match family.lost(client)? {
                    Some(lost) => return Ok(lost),
                    None if begin.elapsed() > Duration::from_secs(5) => {
                        bail!("queries of {} go on to fail", family.name)
                    }
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        })
        .collect()
}

impl Family {
    fn write(&self, client: Client) -> Result<()> {
        for row in 0..ROWS {
            let mut body = WriteBody::new();
            for series in 0..SERIES {
                let labels = [("__name__", self.name.to_owned()), ("series", series.to_string())];
                body = body.series(&labels, &[(self.time_ms(row), value(series, row))]);
            }
            let status = client.write(&body.snappy())?.status;
            ensure!(status == 204, "a write is answered {status}");
        }
        Ok(())
    }

    fn time_ms(&self, row: usize) -> i64 {
        self.base_ms + row as i64 * 100
    }

    /// Missing samples; `None` if the query failed because of damage. What is there must be what
    /// was sent.
    fn lost(&self, client: Client) -> Result<Option<usize>> {
        let at_ms = self.base_ms + 10_000;
        let time = format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000);
        let selector = format!("{}[20s]", self.name);
        let form = [("query", selector.as_str()), ("time", time.as_str())];
        let (status, answer) = client.envelope("/api/v1/query", &form)?;
        if matches!(status, 500 | 503) {
            ensure!(
                answer["error"].as_str().is_some_and(|text| text.contains("block")),
                "{answer}"
            );
            return Ok(None);
        }
        ensure!(status == 200, "answered {status}: {answer}");
        let mut found = 0;
        for row in answer["data"]["result"].as_array().context("result is an array")? {
            let series = row["metric"]["series"].as_str().and_then(|text| text.parse().ok());
            let series: usize = series.with_context(|| format!("invented: {}", row["metric"]))?;
            for sample in row["values"].as_array().context("values are an array")? {
                let t_ms = (sample[0].as_f64().unwrap_or_default() * 1_000.0).round() as i64;
                let at = usize::try_from((t_ms - self.base_ms) / 100).unwrap_or(usize::MAX);
                ensure!(at < ROWS && self.time_ms(at) == t_ms, "invented sample at {t_ms}");
                let stored: f64 = sample[1].as_str().unwrap_or_default().parse()?;
                let sent = value(series, at);
                ensure!(stored.to_bits() == sent.to_bits(), "{sent} became {stored} at {t_ms}");
                found += 1;
            }
        }
        let lost = SERIES * ROWS - found;
        let warned = answer["warnings"].as_array().is_some_and(|all| !all.is_empty());
        ensure!(lost == 0 || !self.is_block || warned, "a partial answer without a warning");
        Ok(Some(lost))
    }
}

fn value(series: usize, row: usize) -> f64 {
    (mix((series * ROWS + row) as u64) % 1_000_000) as f64 / 1_000.0
}

fn apply(recipe: Recipe, path: &Path, random: &mut Random) -> Result<()> {
    let mut bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let len = bytes.len();
    let mut flip = |from: usize, to: usize, bytes: &mut Vec<u8>| {
        if to > from {
            let at = from + random.below((to - from) as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
    };
    match recipe {
        Recipe::FlipBit => flip(0, len, &mut bytes),
        Recipe::FlipBitAtStart => flip(0, len.min(64), &mut bytes),
        Recipe::FlipBitAtEnd => flip(len.saturating_sub(64), len, &mut bytes),
        Recipe::ZeroPage => {
            let page = random.below(len as u64 / 4_096 + 1) as usize * 4_096;
            bytes[page.min(len)..(page + 4_096).min(len)].fill(0);
        }
        Recipe::Truncate => bytes.truncate(random.below(len as u64 + 1) as usize),
        Recipe::Empty => bytes.clear(),
        Recipe::Delete => return fs::remove_file(path).context("delete"),
        Recipe::Garbage => bytes.iter_mut().for_each(|byte| *byte = random.bits() as u8),
        Recipe::GarbageBehind => bytes.extend((0..500).map(|_| random.bits() as u8)),
    }
    fs::write(path, bytes).with_context(|| format!("damage {}", path.display()))
}

/// Files below `root`, as paths relative to it, in a fixed order.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path.strip_prefix(root).expect("found below it").to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for file in list(from)? {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().expect("a file lies in a directory"))?;
        fs::copy(from.join(&file), &target).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(())
}
