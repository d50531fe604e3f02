//! The payload of a log frame that holds what is aggregated, as `docs/formats/log.md` draws it.

use bytes::Bytes;
use catalog::{Command, Mark};
use codec::varint::{put_bytes, put_i64, take_i64, take_prefixed};

/// What a frame of the log holds besides samples to be stored.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The mark of the agent whose batch it is.
    pub(crate) mark: Option<Mark>,
    /// What is aggregated, a payload of samples of its own.
    pub(crate) input: Bytes,
    /// What is stored as it is, possibly nothing.
    pub(crate) samples: Bytes,
}

/// Appends mark and input; samples to be stored are put behind them.
pub(crate) fn put(mark: Option<&Command>, input: &[u8], out: &mut Vec<u8>) {
    let mut command = Vec::new();
    if let Some(mark) = mark {
        mark.encode(&mut command);
    }
    put_bytes(out, &command);
    put_bytes(out, input);
}

/// The parts of a payload.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn split(payload: &Bytes) -> Result<Parts, String> {
    let mut rest = &payload[..];
    let command = take_prefixed(&mut rest).map_err(|error| error.to_string())?;
    let mark = match command {
        [] => None,
        command => match Command::decode(command) {
            Ok(Command::Mark(mark)) => Some(mark),
            Ok(_) => return Err("the command of an aggregated batch is no mark".to_owned()),
            Err(error) => return Err(error.to_string()),
        },
    };
    let input = take_prefixed(&mut rest).map_err(|error| error.to_string())?;
    let input = payload.slice_ref(input);
    Ok(Parts { mark, input, samples: payload.slice_ref(rest) })
}

/// Appends the end of windows.
pub(crate) fn put_end(end_ms: i64, out: &mut Vec<u8>) {
    put_i64(out, end_ms);
}

/// The time at which windows end.
///
/// # Errors
/// The payload is none.
pub(crate) fn end_of(payload: &[u8]) -> Result<i64, String> {
    let mut rest = payload;
    match take_i64(&mut rest) {
        Ok(end_ms) if rest.is_empty() => Ok(end_ms),
        Ok(_) => Err("bytes behind the end of a window".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
