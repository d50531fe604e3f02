//! When the floats of a log payload began at zero, which stands behind everything else.

use codec::CodecError;
use codec::varint::{put_runs, take_i64, take_u64};

use crate::rows::ShardRows;

/// Appends the starts of the floats of all shards, as runs of equal ones: those of one process are
/// alike.
pub(crate) fn encode(shards: &[ShardRows], out: &mut Vec<u8>) {
    let starts = shards.iter().flat_map(|rows| (0..rows.ordinals.len()).map(|i| rows.start_ms(i)));
    put_runs(out, starts);
}

/// Takes what [`encode`] wrote of `rows` floats.
pub(crate) fn decode(input: &mut &[u8], rows: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    // The rows themselves took bytes, so a run cannot make more of them.
    let mut start_ms = 0_i64;
    while out.len() < rows {
        let run = take_u64(input)?;
        start_ms = start_ms.wrapping_add(take_i64(input)?);
        if run == 0 || run > (rows - out.len()) as u64 {
            let field = "run of starts";
            return Err(CodecError::Invalid { offset: 0, field, found: run });
        }
        out.resize(out.len() + run as usize, start_ms);
    }
    Ok(())
}
