//! The page that shows how the collection of lines goes, in the reader's language; it works without scripts, so that an
//! agent, which has no console, can show it.

use std::cmp::Reverse;
use std::fmt::Write as _;

use agent::logs::{
    CollectionStatus, LookStatus, PassedOver, PatternStatus, Progress, SourceStatus,
};

/// Sources that the page lists; JSON has all.
const LISTED: usize = 1_000;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#f4f5f7;--surface:#fff;--border:#dde1e7;--text:#19202a;--muted:#525e6e;--bar:#137a42;--warn:#8f5406;--warn-bg:#fbf0da}
@media(prefers-color-scheme:dark){:root{--bg:#0d1015;--surface:#14181f;--border:#252c37;--text:#e5e9ef;--muted:#a3adbb;--bar:#4cc38a;--warn:#e3ac44;--warn-bg:#2e2410}}
body{margin:0 auto;max-width:1280px;padding:24px 20px 48px;background:var(--bg);color:var(--text);font:14px/1.45 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:8px 20px}h1{margin:0;font-size:20px}h2{margin:28px 0 8px;font-size:15px}
header a{color:var(--muted)}.note{padding:8px 12px;border-radius:6px;background:var(--warn-bg);color:var(--warn)}.muted{color:var(--muted)}
.scroll{overflow-x:auto;border:1px solid var(--border);border-radius:8px;background:var(--surface)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{color:var(--muted);font-weight:500;text-align:left}
th,td{padding:6px 12px;border-bottom:1px solid var(--border);white-space:nowrap}tr:last-child td{border-bottom:0}
td.wide{white-space:normal;overflow-wrap:anywhere;min-width:220px}td.n,th.n{text-align:right}
progress{width:90px;height:8px;vertical-align:middle;accent-color:var(--bar)}.bad{color:var(--warn)}";

/// What the page says.
struct Words {
    lang: &'static str,
    other: [&'static str; 2],
    title: &'static str,
    nothing: &'static str,
    sources: &'static str,
    behind: &'static str,
    pending: &'static str,
    waiting: &'static str,
    of_sources: [&'static str; 7],
    state: fn(Progress) -> &'static str,
    more_sources: &'static str,
    passed_over: &'static str,
    of_passed_over: [&'static str; 2],
    more: &'static str,
    patterns: &'static str,
    of_patterns: [&'static str; 3],
}

const EN: Words = Words {
    lang: "en",
    other: ["zh", "中文"],
    title: "Collected logs",
    nothing: "This process collects no logs. Name files in logs.files of --config, or start with --promtail-config or \
              --alloy-config.",
    sources: "Sources",
    behind: "not read yet",
    pending: "batches that no broker has yet",
    waiting: "Nothing is read now: the spool of lines is full or cannot be written. Nothing is lost; reading goes on \
              when a broker takes lines again.",
    of_sources: ["Source", "State", "Read", "Size", "Behind", "Lines", "Fault"],
    state: Progress::as_str,
    more_sources: "sources more, none of them further behind",
    passed_over: "Not collected",
    of_passed_over: ["File", "Why"],
    more: "more",
    patterns: "Patterns",
    of_patterns: ["Pattern", "Files", "Why none"],
};

const ZH: Words = Words {
    lang: "zh-CN",
    other: ["en", "English"],
    title: "日志采集",
    nothing: "此进程不采集日志。请在 --config 的 logs.files 中写明文件，或以 --promtail-config、--alloy-config 启动。",
    sources: "来源",
    behind: "尚未读取",
    pending: "尚未送达 broker 的批次",
    waiting: "目前没有读取：日志缓存已满或无法写入。不会丢失任何内容；broker 恢复接收后继续读取。",
    of_sources: ["来源", "状态", "已读", "大小", "落后", "行数", "故障"],
    state: |state| match state {
        Progress::Reading => "读取中",
        Progress::Limited => "限速中",
        Progress::Moved => "已移走",
        Progress::Failing => "读取失败",
        Progress::Ended => "已结束",
    },
    more_sources: "个其余来源，均不比以上更落后",
    passed_over: "未采集",
    of_passed_over: ["文件", "原因"],
    more: "个其余文件",
    patterns: "路径模式",
    of_patterns: ["模式", "文件数", "没有文件的原因"],
};

/// The page, in the language that `lang` names, or else the one that the browser prefers.
pub(super) fn page(
    collection: Option<&CollectionStatus>,
    lang: Option<&str>,
    accepted: Option<&str>,
) -> String {
    let wanted = lang.or(accepted).unwrap_or_default();
    let words = if wanted.starts_with("zh") { &ZH } else { &EN };
    let Words { lang, title, other: [code, name], .. } = words;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"{lang}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"10\">\
         <title>{title} · Watchfire</title><style>{STYLE}</style></head><body>\n\
         <header><h1>{title}</h1><a href=\"?lang={code}\" hreflang=\"{code}\">{name}</a></header>\n"
    );
    match collection {
        None => _ = writeln!(out, "<p>{}</p>", words.nothing),
        Some(status) => write_status(status, words, &mut out),
    }
    out.push_str("</body></html>\n");
    out
}

/// What stands in a cell.
enum Cell {
    Text(String),
    /// A text that may be long.
    Wide(String),
    Number(String),
    /// How much of something is done, drawn, with the amount.
    Share(u64, u64, String),
    Fault(String),
}

fn write_status(status: &CollectionStatus, words: &Words, out: &mut String) {
    let mut sources = status.sources();
    let _ = writeln!(
        out,
        "<p class=\"muted\">{}: {} · {}: {} · {}: {}</p>",
        words.sources,
        sources.len(),
        words.behind,
        bytes(status.lag_bytes()),
        words.pending,
        status.pending_batches()
    );
    if status.is_waiting() {
        let _ = writeln!(out, "<p class=\"note\" role=\"alert\">{}</p>", words.waiting);
    }
    sources.sort_by_key(|source| Reverse(source.lag_bytes));
    let more = sources.len().saturating_sub(LISTED);
    sources.truncate(LISTED);
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |source: &SourceStatus| {
        let size = |size: u64| if source.size_bytes == 0 { String::new() } else { bytes(size) };
        let read = match source.size_bytes {
            0 => Cell::Number(String::new()),
            whole => Cell::Share(source.read.min(whole), whole, bytes(source.read)),
        };
        vec![
            Cell::Wide(source.name.clone()),
            Cell::Text((words.state)(source.state).to_owned()),
            read,
            Cell::Number(size(source.size_bytes)),
            Cell::Number(size(source.lag_bytes)),
            Cell::Number(source.lines.to_string()),
            Cell::Fault(source.error.clone().unwrap_or_default()),
        ]
    };
    table(None, &words.of_sources, sources.iter().map(row), out);
    if more > 0 {
        let _ = writeln!(out, "<p class=\"muted\">{more} {}</p>", words.more_sources);
    }
    let LookStatus { patterns, passed_over, more_passed_over } = status.looked();
    let row = |passed: &PassedOver| {
        vec![Cell::Wide(passed.path.clone()), Cell::Wide(passed.reason.clone())]
    };
    table(Some(words.passed_over), &words.of_passed_over, passed_over.iter().map(row), out);
    if more_passed_over > 0 {
        let _ = writeln!(out, "<p class=\"muted\">{more_passed_over} {}</p>", words.more);
    }
    let row = |pattern: &PatternStatus| {
        let reason = pattern.reason.clone().unwrap_or_default();
        vec![
            Cell::Wide(pattern.pattern.clone()),
            Cell::Number(pattern.files.to_string()),
            Cell::Fault(reason),
        ]
    };
    table(Some(words.patterns), &words.of_patterns, patterns.iter().map(row), out);
}

fn table(
    title: Option<&str>,
    head: &[&str],
    rows: impl Iterator<Item = Vec<Cell>>,
    out: &mut String,
) {
    let mut rows = rows.peekable();
    let Some(first) = rows.peek() else { return };
    let is_number: Vec<bool> =
        first.iter().map(|cell| matches!(cell, Cell::Number(_) | Cell::Share(..))).collect();
    if let Some(title) = title {
        let _ = writeln!(out, "<h2>{title}</h2>");
    }
    out.push_str("<div class=\"scroll\"><table><tr>");
    for (name, is_number) in head.iter().zip(is_number) {
        let class = if is_number { " class=\"n\"" } else { "" };
        let _ = write!(out, "<th{class}>{name}</th>");
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            write_cell(&cell, out);
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn write_cell(cell: &Cell, out: &mut String) {
    let (class, text) = match cell {
        Cell::Text(text) => ("", text),
        Cell::Wide(text) => (" class=\"wide\"", text),
        Cell::Number(text) | Cell::Share(_, _, text) => (" class=\"n\"", text),
        Cell::Fault(text) => (" class=\"wide bad\"", text),
    };
    let _ = write!(out, "<td{class}>");
    if let Cell::Share(part, whole, _) = cell {
        let _ = write!(out, "<progress value=\"{part}\" max=\"{whole}\"></progress> ");
    }
    escape(text, out);
    out.push_str("</td>");
}

/// `1.5 MiB`
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (count as f64, "B");
    for larger in units {
        if amount < 1_024.0 {
            break;
        }
        (amount, unit) = (amount / 1_024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") }
}

/// Names of files may have any characters.
fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_no_markup() {
        let mut out = String::new();
        let row = || vec![Cell::Wide("/var/<script>&\".log".to_owned())];
        table(Some("Sources"), &["source"], [row()].into_iter(), &mut out);
        assert!(out.contains(">/var/&lt;script&gt;&amp;&quot;.log</td>"), "{out}");
        table(Some("Nothing"), &["source"], std::iter::empty(), &mut out);
        assert!(!out.contains("Nothing"));
    }

    #[test]
    fn the_page_is_in_the_language_of_its_reader() {
        let starts = |lang, accepted| {
            let page = page(None, lang, accepted);
            let at = page.find("lang=\"").expect("a language") + 6;
            page[at..].chars().take(2).collect::<String>()
        };
        assert_eq!(starts(None, None), "en");
        assert_eq!(starts(None, Some("zh-CN,zh;q=0.9,en;q=0.8")), "zh");
        assert_eq!(starts(Some("en"), Some("zh-CN")), "en");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([0, 1_023, 1_536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
