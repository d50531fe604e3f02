//! What the user looks at, and how keys change it.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::fetch::Update;
use super::fleet::{Fleet, Host, HostKey, Vital};
use super::host::{HostDetail, HostHistory, ProcessOrder};

/// The order of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// Busiest CPU first
    Cpu,
    /// Most memory used first
    Memory,
    /// Highest load first
    Load,
    /// Most network traffic first
    Network,
    /// Most disk traffic first
    Disk,
    /// Fullest filesystem first
    Filesystem,
    /// Longest waits first
    Pressure,
    /// By name
    Name,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Cpu => Sort::Memory,
            Sort::Memory => Sort::Load,
            Sort::Load => Sort::Network,
            Sort::Network => Sort::Disk,
            Sort::Disk => Sort::Filesystem,
            Sort::Filesystem => Sort::Pressure,
            Sort::Pressure => Sort::Name,
            Sort::Name => Sort::Cpu,
        }
    }

    fn figure(self, host: &Host) -> Option<f64> {
        match self {
            Sort::Cpu => host.get(Vital::Cpu),
            Sort::Memory => host.get(Vital::Memory),
            Sort::Load => host.get(Vital::Load),
            Sort::Network => host.network(),
            Sort::Disk => host.disk(),
            Sort::Filesystem => host.get(Vital::Filesystem),
            Sort::Pressure => host.pressure().map(|(_, share)| share),
            Sort::Name => None,
        }
    }
}

/// Which page is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// All hosts.
    List,
    /// One host.
    Host(HostKey),
}

/// How the server is.
#[derive(Debug, Clone)]
pub(crate) enum Connection {
    /// No answer yet.
    Waiting,
    /// The last question was answered.
    Live,
    /// The last question was not answered.
    Lost {
        /// Why.
        error: String,
        /// When it is asked again.
        retry_at: Instant,
    },
}

/// Everything the screen depends on.
#[derive(Debug)]
pub(crate) struct App {
    /// Where the figures come from.
    pub(crate) url: String,
    /// All hosts.
    pub(crate) fleet: Fleet,
    /// The host shown, when its figures are here.
    pub(crate) detail: Option<(HostKey, HostDetail)>,
    /// The same over the last minutes.
    pub(crate) history: Option<(HostKey, HostHistory)>,
    /// The page shown.
    pub(crate) page: Page,
    /// The host the cursor is on.
    pub(crate) selected: Option<HostKey>,
    /// Order of hosts.
    pub(crate) sort: Sort,
    /// Whether that order is turned around.
    pub(crate) reversed: bool,
    /// Order of processes.
    pub(crate) process_order: ProcessOrder,
    /// Only hosts whose name contains this, in any case, are listed.
    pub(crate) filter: String,
    /// Whether keys go to the filter.
    pub(crate) editing_filter: bool,
    /// Whether the keys are explained.
    pub(crate) help: bool,
    /// Whether the picture stands still.
    pub(crate) paused: bool,
    /// How the server is.
    pub(crate) connection: Connection,
    /// How many hosts fit on the screen, for page keys.
    pub(crate) rows: usize,
}

/// What a key asks of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Draw again.
    Draw,
    /// End.
    Quit,
}

impl App {
    /// The start: the list, busiest host first, nothing known.
    pub(crate) fn new(url: String, sort: Sort, filter: String) -> App {
        App {
            url,
            fleet: Fleet::default(),
            detail: None,
            history: None,
            page: Page::List,
            selected: None,
            sort,
            reversed: false,
            process_order: ProcessOrder::Cpu,
            filter,
            editing_filter: false,
            help: false,
            paused: false,
            connection: Connection::Waiting,
            rows: 10,
        }
    }

    /// The hosts that pass the filter, in order.
    pub(crate) fn listed(&self) -> Vec<(&HostKey, &Host)> {
        let filter = self.filter.to_lowercase();
        let mut hosts: Vec<_> = self
            .fleet
            .iter()
            .filter(|(key, _)| key.instance.to_lowercase().contains(&filter))
            .collect();
        // The fleet comes by name, and the sort keeps that among equals.
        hosts.sort_by(|(_, a), (_, b)| match (self.sort.figure(a), self.sort.figure(b)) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
        if self.reversed {
            hosts.reverse();
        }
        hosts
    }

    /// Position of the cursor among the listed hosts.
    pub(crate) fn cursor(&self, listed: &[(&HostKey, &Host)]) -> usize {
        let at = |selected: &HostKey| listed.iter().position(|(key, _)| *key == selected);
        self.selected.as_ref().and_then(at).unwrap_or(0)
    }

    /// Takes in what the server said.
    pub(crate) fn update(&mut self, update: Update, now: Instant) {
        match super::fetch::absorb(&mut self.fleet, update) {
            Some(Update::Host(key, detail)) => self.detail = Some((key, *detail)),
            Some(Update::HostHistory(key, history)) => self.history = Some((key, history)),
            Some(Update::Complete) => self.connection = Connection::Live,
            Some(Update::Lost { error, retry }) => {
                self.connection = Connection::Lost { error, retry_at: now + retry };
            }
            _ => {}
        }
    }

    /// Does what a key says.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Wish::Quit;
        }
        if self.editing_filter {
            self.edit_filter(key.code);
        } else if self.help {
            self.help = false;
        } else {
            match (&self.page, key.code) {
                (_, KeyCode::Char('q' | 'Q')) => return Wish::Quit,
                (_, KeyCode::Char('?' | 'h') | KeyCode::F(1)) => self.help = true,
                (_, KeyCode::Char(' ')) => self.paused = !self.paused,
                (Page::List, code) => self.list_key(code),
                (Page::Host(_), code) => self.host_key(code),
            }
        }
        Wish::Draw
    }

    fn edit_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.editing_filter = false,
            KeyCode::Esc => {
                self.editing_filter = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn list_key(&mut self, code: KeyCode) {
        let page = self.rows.max(1).cast_signed();
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.editing_filter = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => {
                let listed = self.listed();
                if let Some((key, _)) = listed.get(self.cursor(&listed)) {
                    self.page = Page::Host((*key).clone());
                }
            }
            _ => {}
        }
    }

    fn host_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.page = Page::List,
            KeyCode::Char('s') => {
                self.process_order = match self.process_order {
                    ProcessOrder::Cpu => ProcessOrder::Memory,
                    ProcessOrder::Memory => ProcessOrder::Cpu,
                };
            }
            KeyCode::Up | KeyCode::Char('k') => self.neighbour(-1),
            KeyCode::Down | KeyCode::Char('j') => self.neighbour(1),
            _ => {}
        }
    }

    /// Shows the next host of the list's order.
    fn neighbour(&mut self, by: isize) {
        if let Page::Host(key) = &self.page {
            self.selected = Some(key.clone());
        }
        self.step(by);
        if let Some(key) = &self.selected {
            self.page = Page::Host(key.clone());
        }
    }

    fn step(&mut self, by: isize) {
        let listed = self.listed();
        let last = listed.len().saturating_sub(1);
        let index = self.cursor(&listed).saturating_add_signed(by).min(last);
        self.selected = listed.get(index).map(|(key, _)| (*key).clone());
    }

    /// The host whose page is shown.
    pub(crate) fn shown(&self) -> Option<&HostKey> {
        match &self.page {
            Page::List => None,
            Page::Host(key) => Some(key),
        }
    }

    /// Time until the server is asked again, when it is lost.
    pub(crate) fn retry_in(&self, now: Instant) -> Option<Duration> {
        match &self.connection {
            Connection::Lost { retry_at, .. } => Some(retry_at.saturating_duration_since(now)),
            _ => None,
        }
    }
}
