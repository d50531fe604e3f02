//! The list of hosts.

use std::collections::HashMap;

use ratatui::style::{Modifier, Style};

use super::figures::{load, percent, some_bytes, sparkline};
use super::{Canvas, Look, columns, shortened, silence};
use crate::top::app::{App, Connection, Sort};
use crate::top::fleet::{Host, HostKey, Vital};

/// A column of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Line,
    Cpu,
    Memory,
    Load,
    Received,
    Sent,
    Read,
    Written,
    Filesystem,
    Waits,
}

impl Column {
    /// From left to right.
    const ALL: [Column; 10] = [
        Column::Line,
        Column::Cpu,
        Column::Memory,
        Column::Load,
        Column::Received,
        Column::Sent,
        Column::Read,
        Column::Written,
        Column::Filesystem,
        Column::Waits,
    ];
    /// Which goes first when there is too little room.
    const DROPPED: [Column; 8] = [
        Column::Waits,
        Column::Written,
        Column::Read,
        Column::Line,
        Column::Filesystem,
        Column::Sent,
        Column::Received,
        Column::Load,
    ];

    /// Its least width.
    fn width(self) -> u16 {
        match self {
            Column::Line => 9,
            Column::Cpu | Column::Memory | Column::Filesystem => 4,
            Column::Waits => 9,
            _ => 5,
        }
    }

    /// Which order of hosts it shows.
    fn sort(self) -> Option<Sort> {
        match self {
            Column::Line => None,
            Column::Cpu => Some(Sort::Cpu),
            Column::Memory => Some(Sort::Memory),
            Column::Load => Some(Sort::Load),
            Column::Received | Column::Sent => Some(Sort::Network),
            Column::Read | Column::Written => Some(Sort::Disk),
            Column::Filesystem => Some(Sort::Filesystem),
            Column::Waits => Some(Sort::Pressure),
        }
    }
}

/// Room of the host's name, and of each column.
struct Layout {
    name: u16,
    columns: Vec<(Column, u16)>,
}

const LEAST_NAME: u16 = 12;
/// A longer name is shortened rather than let columns go.
const MOST_NAME: u16 = 40;
/// The first so many of [`Column::DROPPED`] go for a whole name, the others only for its least.
const DROPPED_FOR_NAME: usize = 4;

impl Layout {
    /// `longest` is the width of the longest name.
    fn new(width: u16, longest: u16) -> Layout {
        let mut shown: Vec<Column> = Column::ALL.to_vec();
        let need = |shown: &[Column]| shown.iter().map(|column| column.width() + 1).sum::<u16>();
        let wanted = longest.clamp(LEAST_NAME, MOST_NAME);
        for (index, column) in Column::DROPPED.into_iter().enumerate() {
            let name = if index < DROPPED_FOR_NAME { wanted } else { LEAST_NAME };
            if need(&shown) + name + 2 > width {
                shown.retain(|one| *one != column);
            }
        }
        let spare = width.saturating_sub(need(&shown) + LEAST_NAME + 2);
        // Names first, as long as they are; then the line; what is left stays empty.
        let for_name = spare.min(wanted - LEAST_NAME);
        let for_line = if shown.contains(&Column::Line) { (spare - for_name).min(51) } else { 0 };
        let columns = shown.iter().map(|column| {
            (*column, column.width() + if *column == Column::Line { for_line } else { 0 })
        });
        Layout { name: LEAST_NAME + for_name, columns: columns.collect() }
    }
}

/// Rows of the list when nothing is cut off.
pub(super) fn natural_height(app: &App) -> u16 {
    u16::try_from(app.listed().len().max(2) + 1).unwrap_or(u16::MAX)
}

pub(super) fn draw(app: &mut App, look: &Look, canvas: &mut Canvas<'_>) {
    let height = canvas.area.height;
    let rows = usize::from(height.saturating_sub(1));
    app.rows = rows;
    let app = &*app;
    let listed = app.listed();
    let names = names(&listed);
    let longest = names.iter().map(|name| columns(name)).max().unwrap_or(0);
    let layout = Layout::new(canvas.area.width, longest);
    titles(app, look, &layout, canvas);
    if listed.is_empty() {
        return nothing(app, look, canvas);
    }
    let cursor = app.cursor(&listed);
    // The cursor stays in sight, and the list moves only when it must.
    let first = (cursor + 1).saturating_sub(rows);
    for (index, (_, host)) in listed.iter().enumerate().skip(first).take(rows) {
        let y = 1 + u16::try_from(index - first).unwrap_or(u16::MAX);
        row(app, look, &layout, &names[index], host, canvas, y);
        if look.interactive && index == cursor {
            canvas.row_style(y, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// What hosts are called: by their instance, with the job where several have the same.
fn names(listed: &[(&HostKey, &Host)]) -> Vec<String> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for (key, _) in listed {
        *count.entry(&key.instance).or_default() += 1;
    }
    let name = |(key, _): &(&HostKey, &Host)| match count[key.instance.as_str()] {
        1 => key.instance.clone(),
        _ => format!("{} {}", key.job, key.instance),
    };
    listed.iter().map(name).collect()
}

fn titles(app: &App, look: &Look, layout: &Layout, canvas: &mut Canvas<'_>) {
    let mark = |sort: Option<Sort>, title: &str| {
        if sort == Some(app.sort) {
            format!("{title}{}", look.glyphs.descending(app.reversed))
        } else {
            title.to_owned()
        }
    };
    let [name, titles @ ..] = &look.words.columns;
    canvas.put(1, 0, layout.name, &mark(Some(Sort::Name), name), look.title());
    if !app.filter.is_empty() && !app.editing_filter {
        let text = format!("/{}", app.filter);
        let x = 1 + columns(name) + 2;
        canvas.put(x, 0, (1 + layout.name).saturating_sub(x), &text, look.line());
    }
    let mut x = 1 + layout.name;
    let mut titled = Vec::new();
    for (column, width) in &layout.columns {
        let index = Column::ALL.iter().position(|one| one == column).unwrap_or(0);
        if let Some(title) = index.checked_sub(1).and_then(|index| titles.get(index)) {
            // One mark is enough where two columns are ordered together.
            let sort = column.sort().filter(|sort| !titled.contains(sort));
            titled.extend(sort);
            // A mark may take the space before the column.
            canvas.put_right(x, 0, *width + 1, &mark(sort, title), look.title());
        }
        x += 1 + width;
    }
}

fn row(
    app: &App,
    look: &Look,
    layout: &Layout,
    name: &str,
    host: &Host,
    canvas: &mut Canvas<'_>,
    y: u16,
) {
    let now_s = app.fleet.now_s;
    let is_silent = host.is_silent(now_s);
    let name_style = if is_silent { look.quiet() } else { Style::new() };
    canvas.put(1, y, layout.name, &shortened(name, layout.name), name_style);
    let mut x = 1 + layout.name;
    if is_silent {
        // Old figures would pass for new ones.
        canvas.put(x + 1, y, canvas.area.width, &silence(look, host.age_s(now_s)), look.alarm());
        return;
    }
    for (column, width) in &layout.columns {
        let (text, style) = cell(look, *column, *width, host);
        canvas.put_right(x + 1, y, *width, &text, style);
        x += 1 + width;
    }
}

fn cell(look: &Look, column: Column, width: u16, host: &Host) -> (String, Style) {
    let plain = Style::new();
    let share = |vital: Vital| {
        let share = host.get(vital);
        (percent(share), look.share(share))
    };
    match column {
        Column::Line => {
            let line = sparkline(&host.cpu_history, width.into(), Some(1.0), look.glyphs);
            (line, look.line())
        }
        Column::Cpu => share(Vital::Cpu),
        Column::Memory => share(Vital::Memory),
        Column::Filesystem => share(Vital::Filesystem),
        Column::Load => (load(host.get(Vital::Load)), plain),
        Column::Received => (some_bytes(host.get(Vital::NetworkIn)), plain),
        Column::Sent => (some_bytes(host.get(Vital::NetworkOut)), plain),
        Column::Read => (some_bytes(host.get(Vital::DiskRead)), plain),
        Column::Written => (some_bytes(host.get(Vital::DiskWrite)), plain),
        Column::Waits => match host.pressure() {
            // Less than half a percent is nobody's trouble, whatever it was that waited.
            Some((_, share)) if share < 0.005 => ("0%".to_owned(), plain),
            Some((what, share)) => {
                let text = format!("{} {}", look.words.pressure(what), percent(Some(share)));
                // Tasks that wait a third of the time are felt.
                (text, look.share(Some(share * 2.5)))
            }
            None => ("-".to_owned(), plain),
        },
    }
}

fn nothing(app: &App, look: &Look, canvas: &mut Canvas<'_>) {
    let width = canvas.area.width;
    if matches!(app.connection, Connection::Waiting) {
        canvas.put(2, 2, width, look.words.connecting, Style::new());
    } else if app.fleet.len() > 0 {
        canvas.put(2, 2, width, look.words.no_match, Style::new());
    } else if matches!(app.connection, Connection::Live) {
        for (y, line) in (1..).zip(look.words.no_hosts) {
            canvas.put(2, y, width, line, Style::new());
        }
    }
}
