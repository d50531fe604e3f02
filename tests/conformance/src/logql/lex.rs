//! Texts and their tokens.

use anyhow::Context;

use super::table::{Case, same};

pub(super) fn check(case: &Case) -> anyhow::Result<Option<Result<(), String>>> {
    let input = case.text("input").context("a case has no input")?;
    let want: Vec<&str> = case.value["tokens"]
        .as_array()
        .context("a case has no tokens")?
        .iter()
        .filter_map(|token| token.as_str())
        .collect();
    let got: Vec<String> =
        ::logql::syntax::tokens(input).into_iter().map(|(name, _)| name).collect();
    Ok(Some(same("tokens", &got.join(" "), &want.join(" "))))
}
