//! The language in which a subcommand speaks to a person.

use clap::ValueEnum;

/// A language of which all texts exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// English
    En,
    /// 中文
    Zh,
}

impl Language {
    /// The language of the environment, as POSIX orders its variables; English unless it is
    /// Chinese.
    pub(crate) fn of_environment() -> Language {
        Language::of_locale(&locale("LC_MESSAGES"))
    }

    fn of_locale(locale: &str) -> Language {
        if locale.starts_with("zh") { Language::Zh } else { Language::En }
    }
}

/// Whether the environment names a character set other than UTF-8. One that names none is taken
/// for UTF-8: so are terminals today, and containers set no locale.
pub(crate) fn is_ascii_only() -> bool {
    let locale = locale("LC_CTYPE").to_ascii_lowercase();
    !locale.is_empty() && !locale.contains("utf-8") && !locale.contains("utf8")
}

/// The first of `LC_ALL`, the category and `LANG` that is set and not empty.
fn locale(category: &str) -> String {
    ["LC_ALL", category, "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_locales_are_chinese() {
        for (locale, language) in [
            ("zh_CN.UTF-8", Language::Zh),
            ("zh", Language::Zh),
            ("en_US.UTF-8", Language::En),
            ("C", Language::En),
            ("", Language::En),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }
}
