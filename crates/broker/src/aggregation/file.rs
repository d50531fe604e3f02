//! The file of open windows: where a start begins to read the log.

use std::sync::Arc;

use anyhow::{Context, Result};
use blockstore::{BlobError, Disk, quarantine_file};
use catalog::LogPosition;

use settings::stream_aggregation::AggregationRule;

use super::AggregationConfig;
use super::state::{State, StateFileError};

const DIRECTORY: &str = "aggregation";
const PATH: &str = "aggregation/windows";
const NEXT_PATH: &str = "aggregation/windows.next";

/// The windows as a start finds them.
pub(crate) struct Opened {
    pub(super) state: State,
    pub(super) disk: Arc<dyn Disk>,
    /// Whether there was nothing, and the log before is of no rule.
    pub(super) is_new: bool,
}

impl Opened {
    /// Reads the file, or begins behind `end` of the log. `None` if there are no rules. When it
    /// returns there is a file, durably: what comes from now on is read again if need be.
    ///
    /// # Errors
    /// The disk cannot be used, or a newer program wrote the file.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        config: &AggregationConfig,
        end: LogPosition,
        now_ms: i64,
    ) -> Result<Option<Opened>> {
        if config.rules.is_empty() {
            if read(&**disk).context("look for open windows")?.is_some() {
                tracing::warn!(
                    "stream_aggregation has no rules any more: open windows are not written"
                );
                remove(&**disk).context("remove the open windows")?;
            }
            return Ok(None);
        }
        let fresh = |from| State::new(&config.rules, from, now_ms);
        let bytes = read(&**disk).context("read the open windows")?;
        let is_new = bytes.is_none();
        let state = match bytes {
            None => fresh(end),
            Some(bytes) => match State::decode(&bytes, &config.rules, end, now_ms) {
                Ok((state, 0)) => state,
                Ok((state, gone)) => {
                    tracing::warn!(
                        rules = gone,
                        "rules of stream_aggregation were changed or removed: their open windows \
                         are not written"
                    );
                    state
                }
                Err(newer @ StateFileError::Newer { .. }) => return Err(newer.into()),
                Err(error) => {
                    let saved_as = quarantine_file(&**disk, PATH).context("set windows aside")?;
                    tracing::error!(
                        %error, saved_as,
                        "open windows of stream_aggregation are lost but for what the log has"
                    );
                    // The oldest file of the log there is.
                    fresh(LogPosition::default())
                }
            },
        };
        let opened = Opened { state, disk: Arc::clone(disk), is_new };
        write(&**disk, &opened.state).context("write the open windows")?;
        Ok(Some(opened))
    }

    /// Begins behind `end` of the log, whatever file there is. When it returns there is one, durably.
    ///
    /// # Errors
    /// The disk takes nothing.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
        rules: &[AggregationRule],
        end: LogPosition,
        now_ms: i64,
    ) -> Result<Opened, BlobError> {
        let state = State::new(rules, end, now_ms);
        write(&**disk, &state)?;
        Ok(Opened { state, disk: Arc::clone(disk), is_new: true })
    }

    /// From where on the log is needed.
    pub(crate) fn through(&self) -> LogPosition {
        self.state.through
    }
}

/// Removes the file, durably.
pub(super) fn remove(disk: &dyn Disk) -> Result<(), BlobError> {
    disk.remove(PATH)?;
    disk.sync_directory(DIRECTORY)
}

fn read(disk: &dyn Disk) -> Result<Option<Vec<u8>>, BlobError> {
    let file = match disk.open(PATH) {
        Ok(file) => file,
        Err(BlobError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).unwrap_or(usize::MAX)];
    file.read_exact_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces the file, durably.
pub(super) fn write(disk: &dyn Disk, state: &State) -> Result<(), BlobError> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    disk.remove(NEXT_PATH)?;
    let mut file = disk.create(NEXT_PATH)?;
    file.append(&[&bytes])?;
    file.sync_data()?;
    disk.rename(NEXT_PATH, PATH)?;
    disk.sync_directory(DIRECTORY)
}
