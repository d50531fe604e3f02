//! Durations as texts.

use anyhow::{Context, Result, ensure};

/// A duration that is longer than none.
pub(super) fn duration_ms(key: &str, text: Option<&str>) -> Result<Option<i64>> {
    let ms = duration_or_none_ms(key, text)?;
    ensure!(ms != Some(0), "{key}: {:?} is no time at all; give more", text.unwrap_or_default());
    Ok(ms)
}

/// A duration, which may be `0s`.
pub(super) fn duration_or_none_ms(key: &str, text: Option<&str>) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    let ms = promql::parse_duration(text)
        .ok()
        .filter(|ms| *ms >= 0)
        .with_context(|| format!("{key}: {text:?} is not a duration such as 15d, 1h30m or 10s"))?;
    Ok(Some(ms))
}
