//! The page of one host.

use ratatui::style::Style;

use super::figures::{bar, bytes, duration, level, load, percent, some_bytes, sparkline};
use super::{Canvas, Look, columns, shortened, silence};
use crate::top::app::{App, Connection};
use crate::top::fleet::{HostKey, Pressure};
use crate::top::host::{HostDetail, HostHistory, ProcessOrder};
use crate::top::words::{MODES, Words};

/// Columns of the words before a line.
const LABEL: u16 = 8;
/// Columns of one CPU: number, bar, percentage, space.
const CPU_CELL: u16 = 19;
/// More rows of CPUs than this push the rest of the page away; then a CPU gets one character.
const MAX_CPU_ROWS: usize = 4;

/// Columns of the lists at the left, and of the processes at the right, which are left out where
/// there are fewer.
const LEAST_LISTS: u16 = 38;
const LEAST_PROCESSES: u16 = 32;

/// Rows of the page when nothing is cut off.
pub(super) fn natural_height(app: &App, key: &HostKey, width: u16) -> u16 {
    let Some(detail) = detail_of(app, key) else { return 3 };
    let lists = detail.interfaces.len() + detail.disks.len() + detail.filesystems.len() + 5;
    let rows = 5 + cpu_rows(detail, width) + lists.max(1 + detail.processes.len());
    u16::try_from(rows + usize::from(has_swap(detail))).unwrap_or(u16::MAX)
}

pub(super) fn draw(app: &App, key: &HostKey, look: &Look, canvas: &mut Canvas<'_>) {
    let width = canvas.area.width;
    let silent = app
        .fleet
        .get(key)
        .filter(|host| host.is_silent(app.fleet.now_s))
        .map(|host| silence(look, host.age_s(app.fleet.now_s)));
    let Some(detail) = detail_of(app, key) else {
        canvas.put(1, 0, width, &key.instance, look.title());
        let text = match app.connection {
            Connection::Live if app.fleet.get(key).is_none() => look.words.no_figures,
            _ => look.words.connecting,
        };
        canvas.put(2, 2, width, text, Style::new());
        return;
    };
    let none = HostHistory::default();
    let history = app.history.as_ref().filter(|(of, _)| of == key).map_or(&none, |(_, h)| h);
    title(key, detail, silent.as_deref(), look, canvas);
    cpu(detail, history, look, canvas, 1);
    let mut y = 2 + per_cpu(detail, look, canvas, 2);
    memory(detail, history, look, canvas, y);
    y += 1;
    if has_swap(detail) {
        swap(detail, look, canvas, y);
        y += 1;
    }
    waits(detail, look, canvas, y);
    y += 2;
    let left = (width / 2).max(LEAST_LISTS);
    if width < left + LEAST_PROCESSES {
        return lists(detail, history, look, canvas, y, width.saturating_sub(2));
    }
    lists(detail, history, look, canvas, y, left - 2);
    processes(app, detail, look, canvas, left + 1, y);
}

/// The figures of the host, once they have come and if there are any.
fn detail_of<'a>(app: &'a App, key: &HostKey) -> Option<&'a HostDetail> {
    let (of, detail) = app.detail.as_ref()?;
    (of == key && (!detail.cpus.is_empty() || detail.figure("load1").is_some())).then_some(detail)
}

fn has_swap(detail: &HostDetail) -> bool {
    detail.figure("swap_total").is_some_and(|total| total > 0.0)
}

fn title(
    key: &HostKey,
    detail: &HostDetail,
    silent: Option<&str>,
    look: &Look,
    canvas: &mut Canvas<'_>,
) {
    let words = look.words;
    let width = canvas.area.width;
    let mut facts = Vec::new();
    if !detail.system.is_empty() {
        facts.push(detail.system.clone());
    }
    if !detail.cpus.is_empty() {
        facts.push(format!("{} {}", detail.cpus.len(), words.cpus));
    }
    if let Some(uptime) = detail.figure("uptime") {
        facts.push(format!("{} {}", words.up, duration(uptime)));
    }
    let loads = ["load1", "load5", "load15"].map(|name| load(detail.figure(name)));
    facts.push(format!("{} {}", words.load, loads.join(" ")));
    let name = shortened(&key.instance, (width / 2).max(12));
    // The kernel is missed least.
    while facts.len() > 1 && columns(&name) + 4 + columns(&facts.join("  ")) > width {
        facts.remove(0);
    }
    let facts = facts.join("  ");
    canvas.put(1, 0, width, &name, look.title());
    let x = 3 + columns(&name);
    match silent {
        Some(silent) => canvas.put(x, 0, width, silent, look.alarm()),
        None => canvas.put(x, 0, width, &facts, Style::new()),
    }
}

fn cpu(detail: &HostDetail, history: &HostHistory, look: &Look, canvas: &mut Canvas<'_>, y: u16) {
    let width = canvas.area.width;
    let modes: Vec<String> = MODES
        .iter()
        .enumerate()
        .filter_map(|(index, mode)| {
            let share = *detail.modes.get(*mode)?;
            // User and system always; the others when they matter.
            (index < 2 || share >= 0.005)
                .then(|| format!("{} {}", look.words.mode(index), percent(Some(share)).trim()))
        })
        .collect();
    let modes = modes.join("  ");
    let line = line_columns(width);
    canvas.put(1, y, LABEL, look.words.cpu, look.title());
    let picture = sparkline(history.line("cpu"), line.into(), Some(1.0), look.glyphs);
    canvas.put(1 + LABEL, y, line, &picture, look.line());
    let busy = detail.busy();
    canvas.put(2 + LABEL + line, y, 4, &percent(busy), look.share(busy));
    canvas.put(8 + LABEL + line, y, width, &modes, Style::new());
}

/// Columns of the pictures after a label.
fn line_columns(width: u16) -> u16 {
    (width * 3 / 10).clamp(10, 60)
}

fn cpu_rows(detail: &HostDetail, width: u16) -> usize {
    let cpus = detail.cpus.len();
    if cpus < 2 {
        return 0;
    }
    let rows = cpus.div_ceil(usize::from((width.saturating_sub(1 + LABEL) / CPU_CELL).max(1)));
    if rows <= MAX_CPU_ROWS {
        return rows;
    }
    cpus.div_ceil(usize::from(width.saturating_sub(2 + LABEL).max(1)))
}

/// Yields the rows taken.
fn per_cpu(detail: &HostDetail, look: &Look, canvas: &mut Canvas<'_>, y: u16) -> u16 {
    let width = canvas.area.width;
    let rows = cpu_rows(detail, width);
    let in_cells = usize::from((width.saturating_sub(1 + LABEL) / CPU_CELL).max(1));
    let taken = u16::try_from(rows).unwrap_or(u16::MAX);
    if rows == 0 {
        return 0;
    }
    let as_characters = detail.cpus.len().div_ceil(in_cells) > MAX_CPU_ROWS;
    let per_row =
        if as_characters { usize::from(width.saturating_sub(2 + LABEL).max(1)) } else { in_cells };
    for (index, (number, share)) in detail.cpus.iter().enumerate() {
        let row = y + u16::try_from(index / per_row).unwrap_or(u16::MAX);
        let column = u16::try_from(index % per_row).unwrap_or(u16::MAX);
        let style = look.share(Some(*share));
        if as_characters {
            let character = level(*share, look.glyphs).to_string();
            canvas.put(1 + LABEL + column, row, 1, &character, style);
        } else {
            let x = 1 + LABEL + column * CPU_CELL;
            canvas.put_right(x, row, 2, number, look.quiet());
            canvas.put(x + 3, row, 10, &bar(*share, 10, look.glyphs), style);
            canvas.put(x + 14, row, 4, &percent(Some(*share)), Style::new());
        }
    }
    taken
}

fn memory(
    detail: &HostDetail,
    history: &HostHistory,
    look: &Look,
    canvas: &mut Canvas<'_>,
    y: u16,
) {
    let words = look.words;
    let (Some(total), Some(available)) =
        (detail.figure("memory_total"), detail.figure("memory_available"))
    else {
        return;
    };
    let used = total - available;
    let mut text = format!("{} {} {}", bytes(used), words.of, bytes(total));
    for (label, figure) in [(words.cached, "memory_cached"), (words.free, "memory_free")] {
        if let Some(value) = detail.figure(figure) {
            text.push_str(&format!("  {label} {}", bytes(value)));
        }
    }
    let share = (total > 0.0).then(|| used / total);
    let line = line_columns(canvas.area.width);
    canvas.put(1, y, LABEL, words.memory, look.title());
    let picture = sparkline(history.line("memory"), line.into(), Some(1.0), look.glyphs);
    canvas.put(1 + LABEL, y, line, &picture, look.line());
    canvas.put(2 + LABEL + line, y, 4, &percent(share), look.share(share));
    canvas.put(8 + LABEL + line, y, canvas.area.width, &text, Style::new());
}

fn swap(detail: &HostDetail, look: &Look, canvas: &mut Canvas<'_>, y: u16) {
    let (Some(total), Some(free)) = (detail.figure("swap_total"), detail.figure("swap_free"))
    else {
        return;
    };
    let share = (total - free) / total;
    let line = line_columns(canvas.area.width);
    let text = format!("{} {} {}", bytes(total - free), look.words.of, bytes(total));
    canvas.put(1, y, LABEL, look.words.swap, look.title());
    canvas.put(1 + LABEL, y, line, &bar(share, line.into(), look.glyphs), look.line());
    canvas.put(2 + LABEL + line, y, 4, &percent(Some(share)), look.share(Some(share)));
    canvas.put(8 + LABEL + line, y, canvas.area.width, &text, Style::new());
}

fn waits(detail: &HostDetail, look: &Look, canvas: &mut Canvas<'_>, y: u16) {
    canvas.put(1, y, LABEL, look.words.waits, look.title());
    let mut x = 1 + LABEL;
    for (what, figure) in [
        (Pressure::Cpu, "pressure_cpu"),
        (Pressure::Memory, "pressure_memory"),
        (Pressure::Io, "pressure_io"),
    ] {
        let share = detail.figure(figure);
        let name = look.words.pressure(what);
        canvas.put(x, y, 5, name, Style::new());
        x += columns(name);
        canvas.put(x, y, 4, &percent(share), look.share(share.map(|share| share * 2.5)));
        x += 7;
    }
}

/// A row of one of the lists: its name and its figures, right to left.
type Row = (String, Vec<(String, Style)>);

/// A list, its titles, and what it was over the last minutes.
struct Section {
    title: &'static str,
    titles: Vec<&'static str>,
    line: Vec<Option<f64>>,
    rows: Vec<Row>,
}

/// Network, disks and filesystems, one below the other.
fn lists(
    detail: &HostDetail,
    history: &HostHistory,
    look: &Look,
    canvas: &mut Canvas<'_>,
    top: u16,
    width: u16,
) {
    let sections = sections(detail, history, look);
    let available = usize::from(canvas.area.height.saturating_sub(top));
    let counts: Vec<usize> = sections.iter().map(|section| section.rows.len()).collect();
    let (shares, spaced) = share_rows(&counts, available);
    let mut y = top;
    for (Section { title, titles, line, rows }, share) in sections.into_iter().zip(shares) {
        if rows.is_empty() {
            continue;
        }
        canvas.put(1, y, width, title, look.title());
        let figures = u16::try_from(titles.len()).unwrap_or(0) * 6;
        let x = 2 + columns(title);
        let room = width.saturating_sub(x + figures + 1);
        canvas.put(x, y, room, &sparkline(&line, room.into(), None, look.glyphs), look.line());
        for (index, title) in titles.iter().rev().enumerate() {
            let right = 6 * u16::try_from(index + 1).unwrap_or(u16::MAX);
            canvas.put_right(1 + width.saturating_sub(right), y, 6, title, look.title());
        }
        y += 1;
        for (name, figures) in rows.iter().take(share) {
            let taken = u16::try_from(figures.len()).unwrap_or(0) * 6;
            let room = width.saturating_sub(taken + 1);
            canvas.put(1, y, room, &shortened(name, room), Style::new());
            for (index, (text, style)) in figures.iter().rev().enumerate() {
                let right = 6 * u16::try_from(index + 1).unwrap_or(u16::MAX);
                canvas.put_right(1 + width.saturating_sub(right), y, 6, text, *style);
            }
            y += 1;
        }
        y += u16::from(spaced);
    }
}

fn sections(detail: &HostDetail, history: &HostHistory, look: &Look) -> [Section; 3] {
    let words = look.words;
    [
        Section {
            title: words.network,
            titles: vec![words.received, words.sent],
            line: history.sum("network_in", "network_out"),
            rows: interface_rows(detail),
        },
        Section {
            title: words.disks,
            titles: vec![words.read, words.written, words.busy],
            line: history.sum("disk_read", "disk_write"),
            rows: disk_rows(detail, look),
        },
        Section {
            title: words.filesystems,
            titles: vec!["%", words.available],
            line: Vec::new(),
            rows: filesystem_rows(detail, look),
        },
    ]
}

/// Rows for each list of these lengths in `available` rows, titles counted, and whether there is
/// room for an empty row between: as even as possible, so that none hides another.
fn share_rows(lengths: &[usize], available: usize) -> (Vec<usize>, bool) {
    let titles = lengths.iter().filter(|length| **length > 0).count();
    let spaces = titles.saturating_sub(1);
    let spaced = lengths.iter().sum::<usize>() + titles + spaces <= available;
    let mut free = available.saturating_sub(titles);
    let mut shares = vec![0; lengths.len()];
    loop {
        let before = free;
        for (share, length) in shares.iter_mut().zip(lengths) {
            if free > 0 && *share < *length {
                *share += 1;
                free -= 1;
            }
        }
        if free == before {
            return (shares, spaced);
        }
    }
}

fn interface_rows(detail: &HostDetail) -> Vec<Row> {
    let row = |one: &crate::top::host::Interface| {
        let figures = [one.received, one.sent].map(|v| (some_bytes(v), Style::new()));
        (one.device.clone(), figures.to_vec())
    };
    detail.interfaces.iter().map(row).collect()
}

fn disk_rows(detail: &HostDetail, look: &Look) -> Vec<Row> {
    let row = |one: &crate::top::host::Disk| {
        let figures = vec![
            (some_bytes(one.read), Style::new()),
            (some_bytes(one.written), Style::new()),
            (percent(one.busy), look.share(one.busy)),
        ];
        (one.device.clone(), figures)
    };
    detail.disks.iter().map(row).collect()
}

fn filesystem_rows(detail: &HostDetail, look: &Look) -> Vec<Row> {
    let row = |one: &crate::top::host::Filesystem| {
        let share = Some(one.used);
        let figures =
            vec![(percent(share), look.share(share)), (bytes(one.available), Style::new())];
        (one.mountpoint.clone(), figures)
    };
    detail.filesystems.iter().map(row).collect()
}

fn processes(
    app: &App,
    detail: &HostDetail,
    look: &Look,
    canvas: &mut Canvas<'_>,
    x: u16,
    top: u16,
) {
    let words = look.words;
    let width = canvas.area.width.saturating_sub(x + 1);
    let name = width.saturating_sub(8 + 6 + 6);
    let mark = |order: ProcessOrder, words: &Words| {
        let mark = if order == app.process_order { look.glyphs.descending(false) } else { "" };
        format!("{}{mark}", words.process_order(order))
    };
    canvas.put(x, top, name, words.processes, look.title());
    canvas.put_right(x + name, top, 8, "PID", look.title());
    canvas.put_right(x + name + 8, top, 6, &mark(ProcessOrder::Cpu, words), look.title());
    canvas.put_right(x + name + 14, top, 6, &mark(ProcessOrder::Memory, words), look.title());
    if detail.processes.is_empty() {
        canvas.put(x, top + 1, width, words.no_processes, look.quiet());
    }
    for (y, process) in (top + 1..).zip(detail.processes(app.process_order)) {
        canvas.put(x, y, name, &shortened(&process.name, name), Style::new());
        canvas.put_right(x + name, y, 8, &process.pid, look.quiet());
        // 100 % is one core, as in `top` of procps.
        canvas.put_right(x + name + 8, y, 6, percent(process.cpu).trim(), Style::new());
        canvas.put_right(x + name + 14, y, 6, &some_bytes(process.memory), Style::new());
    }
}

#[cfg(test)]
mod tests {
    use super::share_rows;

    #[test]
    fn lists_share_rows_evenly() {
        assert_eq!(share_rows(&[2, 2, 1], 20), (vec![2, 2, 1], true));
        assert_eq!(share_rows(&[2, 2, 1], 8), (vec![2, 2, 1], false));
        assert_eq!(share_rows(&[9, 1, 9], 9), (vec![3, 1, 2], false));
        assert_eq!(share_rows(&[0, 5, 5], 6), (vec![0, 2, 2], false));
        assert_eq!(share_rows(&[4, 4, 4], 2), (vec![0, 0, 0], false));
    }
}
