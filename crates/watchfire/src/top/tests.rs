//! Pictures of recorded answers. `UPDATE_EXPECT=1` renews them.

use std::time::{Duration, Instant};

use expect_test::{ExpectFile, expect_file};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::app::Wish;
use super::fetch::Update;
use super::fleet::{Grid, HostKey};
use super::host::{HostDetail, HostHistory};
use super::*;
use crate::http_client::prometheus::{Data, Element, Series};

/// The recorded fleet: an overloaded database, a name in Chinese, one with an escape sequence,
/// one host gone for minutes, and two collected each second.
fn recorded() -> App {
    let mut app = App::new("http://127.0.0.1:9595".to_owned(), Sort::Cpu, String::new());
    let now = Instant::now();
    app.update(Update::Heard(elements(include_str!("testdata/heard.json"))), now);
    app.update(Update::Fleet(elements(include_str!("testdata/fleet.json"))), now);
    let series = series(include_str!("testdata/fleet_history.json"));
    let grid = grid(&series);
    app.update(Update::FleetHistory(series, grid), now);
    app.update(Update::Complete, now);
    app
}

/// The same on the page of the database.
fn on_a_host() -> App {
    let mut app = recorded();
    let key = HostKey { instance: "db-primary.prod.example.net".into(), job: "node".into() };
    let detail = HostDetail::new(&elements(include_str!("testdata/host.json")));
    app.update(Update::Host(key.clone(), Box::new(detail)), Instant::now());
    let series = series(include_str!("testdata/host_history.json"));
    let history = HostHistory::new(&series, &grid(&series));
    app.update(Update::HostHistory(key.clone(), history), Instant::now());
    app.page = Page::Host(key);
    app
}

fn data(json: &str) -> Data {
    #[derive(serde::Deserialize)]
    struct Recorded {
        data: Data,
    }
    serde_json::from_str::<Recorded>(json).expect("a recorded answer").data
}

fn elements(json: &str) -> Vec<Element> {
    match data(json) {
        Data::Vector(elements) => elements,
        other => panic!("{other:?} is no vector"),
    }
}

fn series(json: &str) -> Vec<Series> {
    match data(json) {
        Data::Matrix(series) => series,
        other => panic!("{other:?} is no matrix"),
    }
}

fn grid(series: &[Series]) -> Grid {
    let times = series.iter().flat_map(|one| &one.values).map(|point| point.0);
    Grid::before(times.fold(0.0, f64::max))
}

fn look(language: Language) -> Look {
    Look { words: Words::of(language), glyphs: Glyphs::Blocks, color: true, interactive: true }
}

fn check(app: &mut App, look: &Look, width: u16, height: u16, expected: ExpectFile) {
    expected.assert_eq(&picture(app, look, width, height, Instant::now()));
}

fn press(app: &mut App, keys: &[KeyCode]) {
    for code in keys {
        assert_eq!(app.key(KeyEvent::new(*code, KeyModifiers::NONE)), Wish::Draw, "{code:?}");
    }
}

#[test]
fn the_list_in_80_columns() {
    let english = look(Language::En);
    check(&mut recorded(), &english, 80, 24, expect_file!["testdata/list.txt"]);
    let chinese = look(Language::Zh);
    check(&mut recorded(), &chinese, 80, 24, expect_file!["testdata/list.zh.txt"]);
    check(&mut recorded(), &english, 132, 12, expect_file!["testdata/list-wide.txt"]);
    check(&mut recorded(), &english, 40, 12, expect_file!["testdata/list-narrow.txt"]);
    let ascii = Look { glyphs: Glyphs::Ascii, ..english };
    check(&mut recorded(), &ascii, 80, 12, expect_file!["testdata/list-ascii.txt"]);
}

#[test]
fn a_host_in_80_columns() {
    let english = look(Language::En);
    check(&mut on_a_host(), &english, 80, 24, expect_file!["testdata/host.txt"]);
    check(&mut on_a_host(), &look(Language::Zh), 80, 24, expect_file!["testdata/host.zh.txt"]);
    check(&mut on_a_host(), &english, 160, 30, expect_file!["testdata/host-wide.txt"]);
    check(&mut on_a_host(), &english, 50, 16, expect_file!["testdata/host-small.txt"]);
    let mut app = on_a_host();
    if let Some((_, detail)) = &mut app.detail {
        detail.cpus.truncate(6);
        detail.cpus[1].1 = 1.0;
    }
    check(&mut app, &english, 80, 10, expect_file!["testdata/host-few-cpus.txt"]);
}

#[test]
fn help_and_trouble() {
    let english = look(Language::En);
    let mut app = recorded();
    press(&mut app, &[KeyCode::Char('?')]);
    check(&mut app, &english, 80, 24, expect_file!["testdata/help.txt"]);
    check(&mut app, &look(Language::Zh), 80, 24, expect_file!["testdata/help.zh.txt"]);
    press(&mut app, &[KeyCode::Char('x')]);
    assert!(!app.help, "any key ends the help");
    let error = "connect to 127.0.0.1:9595: is Watchfire \
                 running there? Start it with `watchfire`: Connection refused (os error 111)";
    let lost = Update::Lost { error: error.to_owned(), retry: Duration::from_secs(4) };
    app.update(lost, Instant::now() + Duration::from_secs(3_600));
    app.paused = true;
    let text = picture(&mut app, &english, 80, 12, Instant::now() + Duration::from_secs(3_600));
    expect_file!["testdata/lost.txt"].assert_eq(&text);
    app.update(Update::Complete, Instant::now());
    assert!(app.retry_in(Instant::now()).is_none());
}

#[test]
fn nothing_to_show_says_what_to_do() {
    let english = look(Language::En);
    let mut app = App::new("http://h:1".to_owned(), Sort::Cpu, String::new());
    let waiting = picture(&mut app, &english, 80, 6, Instant::now());
    assert!(waiting.contains("asking …"), "{waiting}");
    app.update(Update::Complete, Instant::now());
    let empty = picture(&mut app, &english, 80, 6, Instant::now());
    assert!(empty.contains("Start `watchfire`"), "{empty}");
    let mut app = recorded();
    press(&mut app, &"/zzz".chars().map(KeyCode::Char).collect::<Vec<_>>());
    let filtered = picture(&mut app, &english, 80, 6, Instant::now());
    assert!(
        filtered.contains("No host matches") && filtered.contains("filter: zzz_"),
        "{filtered}"
    );
}

#[test]
fn keys_do_what_the_help_says() {
    let names = |app: &App| -> Vec<String> {
        app.listed().iter().map(|(key, _)| key.instance.clone()).collect()
    };
    let mut app = recorded();
    assert_eq!(names(&app)[..2], ["db-primary.prod.example.net", "批处理-1"]);
    press(&mut app, &[KeyCode::Char('s')]);
    assert_eq!(names(&app)[..2], ["db-primary.prod.example.net", "cache-1"], "by memory");
    press(&mut app, &[KeyCode::Char('r')]);
    assert_eq!(names(&app).last().map(String::as_str), Some("db-primary.prod.example.net"));
    let mut app = recorded();
    app.sort = Sort::Name;
    press(&mut app, &"/WEB".chars().map(KeyCode::Char).collect::<Vec<_>>());
    assert_eq!(names(&app), ["web-1", "web-2"]);
    press(&mut app, &[KeyCode::Enter, KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
    assert_eq!(app.shown().map(|key| key.instance.as_str()), Some("web-2"));
    press(&mut app, &[KeyCode::Up]);
    assert_eq!(app.shown().map(|key| key.instance.as_str()), Some("web-1"));
    press(&mut app, &[KeyCode::Esc, KeyCode::Esc, KeyCode::Char(' ')]);
    assert_eq!((app.shown(), app.filter.as_str(), app.paused), (None, "", true));
    press(&mut app, &[KeyCode::End, KeyCode::PageUp, KeyCode::Home]);
    assert_eq!(
        app.selected.as_ref().map(|key| key.instance.as_str()),
        names(&app).first().map(String::as_str)
    );
    let quit = app.key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE));
    assert_eq!(quit, Wish::Quit);
    press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('q')]);
    let quit = app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!((app.filter.as_str(), quit), ("q", Wish::Quit));
}

#[test]
fn the_cursor_stays_in_sight() {
    let mut app = recorded();
    app.sort = Sort::Name;
    for _ in 0..app.fleet.len() {
        let text = picture(&mut app, &look(Language::En), 80, 5, Instant::now());
        let listed = app.listed();
        let name = listed[app.cursor(&listed)].0.instance.clone();
        // Names are shortened, and lose their control characters.
        let start: String = name.chars().take(5).collect();
        assert!(text.contains(&start), "{start} is not in\n{text}");
        press(&mut app, &[KeyCode::Down]);
    }
}

#[test]
fn any_size_can_be_drawn() {
    for (mut app, name) in [(recorded(), "list"), (on_a_host(), "host")] {
        for width in (0..60).chain([79, 80, 81, 119, 200, 500]) {
            for height in [0, 1, 2, 3, 5, 10, 24, 60, 1_000] {
                let text = picture(&mut app, &look(Language::Zh), width, height, Instant::now());
                assert_eq!(text.lines().count(), usize::from(height), "{name} {width}x{height}");
            }
        }
    }
}

#[test]
fn without_colour_nothing_is_coloured() {
    let plain = Look { color: false, ..look(Language::En) };
    for mut app in [recorded(), on_a_host()] {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
        let now = Instant::now();
        terminal
            .draw(|frame| draw::draw(&mut app, &plain, frame.area(), frame.buffer_mut(), now))
            .expect("drawn");
        for cell in terminal.backend().buffer().content() {
            assert!(matches!((cell.fg, cell.bg), (Color::Reset, Color::Reset)), "{cell:?}");
        }
    }
}

#[test]
fn texts_fit_80_columns() {
    for language in [Language::En, Language::Zh] {
        let words = Words::of(language);
        let keys = words.help.iter().map(|(key, _)| width_of(key)).max().unwrap_or(0);
        for (_, what) in words.help {
            assert!(4 + keys + width_of(what) <= 80, "{what}");
        }
        let lines = [words.list_keys, words.host_keys].into_iter();
        for line in lines.chain(words.legend.iter().copied()).chain(words.no_hosts) {
            assert!(width_of(line) <= 78, "{line}");
        }
    }
}

fn width_of(text: &str) -> usize {
    ratatui::text::Line::raw(text).width()
}

#[test]
fn a_host_is_silent_after_three_samples() {
    let element = |of: &str, value: &str, t: f64| Element {
        metric: [("instance", "h"), ("job", "j"), (expressions::OF, of)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        value: (t, value.to_owned()),
    };
    let key = HostKey { instance: "h".into(), job: "j".into() };
    for (per_minute, silent_after_s) in [("60", 5.0), ("4", 45.0), ("1", 180.0)] {
        let mut fleet = fleet::Fleet::default();
        fleet.absorb(&[
            element("heard", "1000", 1_000.0),
            element("per_minute", per_minute, 1_000.0),
        ]);
        let host = fleet.get(&key).expect("a host");
        assert!(!host.is_silent(1_000.0 + silent_after_s), "{per_minute}");
        assert!(host.is_silent(1_000.5 + silent_after_s), "{per_minute}");
        // Fewer samples within the minute, as it dies, do not make it slow.
        fleet.absorb(&[element("heard", "1000", 1_050.0), element("per_minute", "1", 1_050.0)]);
        let host = fleet.get(&key).expect("a host");
        assert!(host.is_silent(1_001.0 + silent_after_s));
        fleet.absorb(&[element("cpu", "0.5", 5_000.0)]);
        assert_eq!(fleet.len(), 0, "an hour later it is forgotten");
    }
}
