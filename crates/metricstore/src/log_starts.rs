//! When the floats of a log payload began at zero, which stands behind everything else.

use codec::CodecError;
use codec::varint::{put_i64, put_u64, take_i64, take_u64};

use crate::rows::ShardRows;

/// Appends the starts of the floats of all shards, as runs of equal ones: those of one process are
/// alike.
pub(crate) fn encode(shards: &[ShardRows], out: &mut Vec<u8>) {
    let starts = shards.iter().flat_map(|rows| (0..rows.ordinals.len()).map(|i| rows.start_ms(i)));
    let (mut run, mut current, mut before) = (0_u64, 0_i64, 0_i64);
    let mut put_run = |run: u64, start_ms: i64| {
        if run > 0 {
            put_u64(out, run);
            put_i64(out, start_ms.wrapping_sub(before));
            before = start_ms;
        }
    };
    for start_ms in starts {
        if start_ms != current {
            put_run(run, current);
            (run, current) = (0, start_ms);
        }
        run += 1;
    }
    put_run(run, current);
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
