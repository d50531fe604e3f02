//! The payload of a log frame that holds an agent's mark and the samples or lines of its batch, as
//! `docs/formats/log.md` draws it.

use bytes::Bytes;
use catalog::{Command, Mark};
use codec::varint::{put_bytes, take_prefixed};

/// Appends the command that moves the mark; the samples or lines, if there are any, are put behind it.
pub(crate) fn put_mark(mark: &Command, out: &mut Vec<u8>) {
    let mut command = Vec::with_capacity(128);
    mark.encode(&mut command);
    put_bytes(out, &command);
}

/// The mark, and the payload of samples or lines behind it, empty if there are none.
///
/// # Errors
/// What is wrong with the mark.
pub(crate) fn split(payload: &Bytes) -> Result<(Mark, Bytes), String> {
    let mut rest = &payload[..];
    let command = take_prefixed(&mut rest).map_err(|error| error.to_string())?;
    match Command::decode(command) {
        Ok(Command::Mark(mark)) => Ok((mark, payload.slice_ref(rest))),
        Ok(_) => Err("the command of an agent's batch is no mark".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
