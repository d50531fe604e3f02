//! The picture: a header, the page, and the keys.

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::app::{App, Connection, Page};
use super::words::Words;

pub(crate) mod figures;
mod host;
mod list;

use figures::{Glyphs, duration};

/// How the picture is made, whatever it shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// The language.
    pub(crate) words: &'static Words,
    /// The characters of bars.
    pub(crate) glyphs: Glyphs,
    /// Whether colours are used; without them, what matters is bold.
    pub(crate) color: bool,
    /// Whether there are keys to press and a cursor.
    pub(crate) interactive: bool,
}

impl Look {
    fn title(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn quiet(&self) -> Style {
        if self.color { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }

    fn alarm(&self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.color { style.fg(Color::Red) } else { style }
    }

    fn line(&self) -> Style {
        if self.color { Style::new().fg(Color::Cyan) } else { Style::new() }
    }

    /// The style of a share of a resource: calm, worth a look, alarming.
    fn share(&self, share: Option<f64>) -> Style {
        match share {
            Some(share) if share >= 0.9 => self.alarm(),
            Some(share) if share >= 0.7 && self.color => Style::new().fg(Color::Yellow),
            Some(_) if self.color => Style::new().fg(Color::Green),
            _ => Style::new(),
        }
    }
}

/// A place in the buffer to write to. Nothing is ever written outside of it.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl Canvas<'_> {
    /// Writes `text` at a column and row of the area, in at most `width` columns. Control
    /// characters, which a label may hold, are left out by the buffer.
    fn put(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        if y >= self.area.height || x >= self.area.width {
            return;
        }
        let width = width.min(self.area.width - x);
        self.buffer.set_stringn(self.area.x + x, self.area.y + y, text, width.into(), style);
    }

    /// The same at the right end of `width` columns.
    fn put_right(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) {
        let missing = width.saturating_sub(columns(text));
        self.put(x + missing, y, width - missing, text, style);
    }

    fn row_style(&mut self, y: u16, style: Style) {
        if y < self.area.height {
            let row = Rect::new(self.area.x, self.area.y + y, self.area.width, 1);
            self.buffer.set_style(row, style);
        }
    }
}

/// Columns a text takes; a Chinese character takes two.
fn columns(text: &str) -> u16 {
    u16::try_from(Line::raw(text).width()).unwrap_or(u16::MAX)
}

/// `text` in at most `width` columns, its end replaced by an ellipsis where it is longer.
fn shortened(text: &str, width: u16) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut taken = 1;
    for c in text.chars() {
        let mut bytes = [0; 4];
        taken += columns(c.encode_utf8(&mut bytes));
        if taken > width {
            break;
        }
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// Draws everything. `now` is compared with the time of the next attempt.
pub(crate) fn draw(app: &mut App, look: &Look, area: Rect, buffer: &mut Buffer, now: Instant) {
    let mut canvas = Canvas { buffer, area };
    header(app, look, &mut canvas);
    let mut top = 1;
    if let Connection::Lost { error, .. } = &app.connection {
        let seconds = app.retry_in(now).map_or(0, |wait| wait.as_secs_f64().ceil() as u64);
        let again = format!("{} {seconds} s", look.words.again_in);
        let room = area.width.saturating_sub(columns(&again) + columns(look.words.lost) + 6);
        let text = format!(" {}: {}; {again}", look.words.lost, shortened(error, room));
        canvas.put(0, 1, area.width, &text, look.alarm().add_modifier(Modifier::REVERSED));
        canvas.row_style(1, look.alarm().add_modifier(Modifier::REVERSED));
        top = 2;
    }
    let bottom = u16::from(look.interactive);
    let body = Rect {
        x: area.x,
        y: area.y + top.min(area.height),
        width: area.width,
        height: area.height.saturating_sub(top + bottom),
    };
    {
        let mut canvas = Canvas { buffer: canvas.buffer, area: body };
        if app.help {
            help(look, &mut canvas);
        } else if let Page::Host(key) = app.page.clone() {
            host::draw(app, &key, look, &mut canvas);
        } else {
            list::draw(app, look, &mut canvas);
        }
    }
    if look.interactive && area.height > 1 {
        footer(app, look, &mut canvas);
    }
}

/// Rows the picture needs when nothing is to be cut off.
pub(crate) fn natural_height(app: &App, width: u16) -> u16 {
    let banner = u16::from(matches!(app.connection, Connection::Lost { .. }));
    let body = match &app.page {
        Page::List => list::natural_height(app),
        Page::Host(key) => host::natural_height(app, key, width),
    };
    1 + banner + body
}

fn header(app: &App, look: &Look, canvas: &mut Canvas<'_>) {
    let words = look.words;
    let width = canvas.area.width;
    let mut right = String::new();
    if app.paused {
        right.push_str(words.paused);
        right.push_str("  ");
    }
    right.push_str(&clock(app.fleet.now_s));
    let count = app.fleet.len();
    let mut left = format!(" Watchfire  {count} {}", words.hosts[usize::from(count != 1)]);
    let silent = app.fleet.silent();
    if silent > 0 {
        left.push_str(&format!(", {silent} {}", words.silent));
    }
    left.push_str(&format!("  {}", app.url));
    let room = width.saturating_sub(columns(&right) + 3);
    canvas.put(0, 0, room, &shortened(&left, room), look.title());
    canvas.put_right(0, 0, width.saturating_sub(1), &right, look.title());
}

/// The server's time of day.
fn clock(now_s: f64) -> String {
    if now_s <= 0.0 {
        return "--:--:-- UTC".to_owned();
    }
    let s = now_s as u64 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", s / 3_600, s / 60 % 60, s % 60)
}

fn footer(app: &App, look: &Look, canvas: &mut Canvas<'_>) {
    let y = canvas.area.height - 1;
    let width = canvas.area.width;
    if app.editing_filter {
        let text = format!(" {}: {}_", look.words.filter, app.filter);
        canvas.put(0, y, width, &text, look.title());
        return;
    }
    let keys = match app.page {
        Page::List => look.words.list_keys,
        Page::Host(_) => look.words.host_keys,
    };
    canvas.put(1, y, width.saturating_sub(1), keys, look.quiet());
}

fn help(look: &Look, canvas: &mut Canvas<'_>) {
    let width = canvas.area.width;
    let key_columns = look.words.help.iter().map(|(key, _)| columns(key)).max().unwrap_or(0);
    let mut y = 1;
    for (key, what) in look.words.help {
        canvas.put(2, y, key_columns, key, look.title());
        canvas.put(4 + key_columns, y, width, what, Style::new());
        y += 1;
    }
    y += 1;
    for line in look.words.legend {
        canvas.put(2, y, width, line, look.quiet());
        y += 1;
    }
}

/// `silent 25s`.
fn silence(look: &Look, age_s: f64) -> String {
    format!("{} {}", look.words.silent, duration(age_s))
}
