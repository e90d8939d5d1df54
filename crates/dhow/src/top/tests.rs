//! Of the model, and of what is drawn of it.

use std::time::Duration;

use engine::{Branch, ContainerLoad, Process};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use state::container::Status;

use super::draw::{Look, draw};
use super::keys::Key;
use super::model::{Action, MINUTE, Model, Panes, Wish};
use super::watch::{Container, Detail, Sample};

fn container(name: &str, cpu_percent: f64, memory: u64, moved: u64) -> Container {
    let load = ContainerLoad {
        cpu_percent,
        memory,
        memory_limit: 1 << 30,
        received: moved,
        block_written: moved / 2,
        pids: 2,
        ..ContainerLoad::default()
    };
    let digit = format!("{:02x}", name.bytes().next().unwrap());
    Container {
        id: digit.repeat(32).parse().unwrap(),
        name: name.to_owned(),
        image: format!("{name}-image"),
        status: Status::Running,
        about: "Up 3 seconds".to_owned(),
        load: Some(load),
    }
}

fn sample(containers: Vec<Container>) -> Sample {
    Sample { elapsed: Duration::from_secs(1), containers }
}

fn three(second: u64) -> Sample {
    sample(vec![
        container("web", 12.34, 64 << 20, second * 1_200_000),
        container("db", 80.0, 512 << 20, 0),
        container("cache", 0.1, 3 << 20, 500 * second),
    ])
}

fn model() -> Model {
    let mut model = Model::default();
    for second in 0..3 {
        model.take_sample(three(second));
    }
    model
}

fn names(model: &Model) -> Vec<&str> {
    model.rows().iter().map(|c| c.name.as_str()).collect()
}

fn selected(model: &Model) -> &str {
    let rows = model.rows();
    rows.get(model.position(&rows)).map_or("", |c| &c.name)
}

fn type_in(model: &mut Model, keys: &str) -> Wish {
    keys.chars().map(|c| model.press(Key::Char(c))).last().unwrap()
}

#[test]
fn keys_sort_and_turn_round() {
    let mut model = model();
    assert_eq!(names(&model), ["db", "web", "cache"]);
    for (key, order) in [
        ("c", ["cache", "web", "db"]),
        ("m", ["db", "web", "cache"]),
        ("n", ["cache", "db", "web"]),
        ("n", ["web", "db", "cache"]),
        ("i", ["web", "cache", "db"]),
        ("b", ["web", "cache", "db"]),
        ("p", ["cache", "db", "web"]),
    ] {
        type_in(&mut model, key);
        assert_eq!(names(&model), order, "{key}");
    }
}

#[test]
fn the_selection_stays_with_its_container() {
    let mut model = model();
    assert_eq!(selected(&model), "db");
    assert_eq!(model.press(Key::Down), Wish::Detail);
    assert_eq!(selected(&model), "web");
    type_in(&mut model, "n");
    assert_eq!((names(&model)[2], selected(&model)), ("web", "web"));
    model.press(Key::Down);
    assert_eq!(selected(&model), "web", "there is none below");
    model.press(Key::Home);
    assert_eq!(selected(&model), "cache");
    model.press(Key::End);
    assert_eq!(selected(&model), "web");
    // When it goes, the neighbour is.
    model.take_sample(sample(three(4).containers.split_off(1)));
    assert_eq!(selected(&model), "db");
    model.take_sample(sample(Vec::new()));
    assert_eq!((selected(&model), model.selected()), ("", None));
    assert_eq!(model.press(Key::Up), Wish::Detail);
    type_in(&mut model, "s");
    assert_eq!(model.question, None, "there is nobody to stop");
}

#[test]
fn typing_filters() {
    let mut model = model();
    type_in(&mut model, "/WEB");
    assert_eq!((names(&model), selected(&model)), (vec!["web"], "web"));
    model.press(Key::Backspace);
    model.press(Key::Char('x'));
    assert!(names(&model).is_empty());
    model.press(Key::Escape);
    assert_eq!(names(&model).len(), 3);
    // It stays behind a return, when letters are commands again.
    type_in(&mut model, "/c");
    assert_eq!(names(&model), ["cache"]);
    model.press(Key::Enter);
    assert_eq!(type_in(&mut model, "q"), Wish::Quit);
    model.press(Key::Escape);
    assert_eq!(names(&model).len(), 3);
    // By image, and by the id's beginning.
    type_in(&mut model, "/db-im");
    assert_eq!(names(&model), ["db"]);
    model.press(Key::Escape);
    type_in(&mut model, "/7777");
    assert_eq!(names(&model), ["web"]);
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut model = model();
    let db = model.rows()[0].id.clone();
    for (key, action) in
        [("s", Action::Stop), ("k", Action::Kill), ("r", Action::Restart), (" ", Action::Pause)]
    {
        for no in [Key::Char('n'), Key::Enter, Key::Escape, Key::Char('q'), Key::Down] {
            assert_eq!(type_in(&mut model, key), Wish::Nothing);
            assert!(model.question.is_some());
            assert_eq!((model.press(no), &model.question), (Wish::Nothing, &None));
        }
        type_in(&mut model, key);
        // Meanwhile the order changes: it is still about the one whose name was said.
        model.take_sample(sample(vec![container("web", 99.0, 1, 0), container("db", 1.0, 1, 0)]));
        assert_eq!(type_in(&mut model, "y"), Wish::Act(action, db.clone(), "db".to_owned()));
        model.take_sample(three(5));
    }
    let paused = Container { status: Status::Paused, ..container("db", 0.0, 1, 0) };
    model.take_sample(sample(vec![paused]));
    type_in(&mut model, " ");
    assert_eq!(type_in(&mut model, "y"), Wish::Act(Action::Unpause, db, "db".to_owned()));
}

#[test]
fn keys_of_the_screen() {
    let mut model = model();
    assert_eq!(type_in(&mut model, "q"), Wish::Quit);
    for (key, wish) in
        [(Key::Interrupt, Wish::Quit), (Key::Suspend, Wish::Suspend), (Key::Redraw, Wish::Redraw)]
    {
        type_in(&mut model, "/");
        assert_eq!(model.press(key), wish, "even while something is typed");
    }
    model.press(Key::Escape);
    assert_eq!((type_in(&mut model, "a"), model.all), (Wish::Sample, true));
    type_in(&mut model, "?");
    assert!(model.help);
    assert_eq!((type_in(&mut model, "s"), model.help, &model.question), (Wish::Nothing, false, &None));
    let panes: Vec<Panes> = (0..4)
        .map(|_| {
            model.press(Key::Tab);
            model.panes
        })
        .collect();
    assert_eq!(panes, [Panes::Log, Panes::Processes, Panes::None, Panes::Both]);
}

#[test]
fn a_minute_is_kept_and_rates_are_per_second() {
    let mut model = Model::default();
    for second in 0..100 {
        let web = container("web", second as f64, 1, 3000 * second);
        model.take_sample(Sample { elapsed: Duration::from_secs(2), containers: vec![web] });
    }
    let history = model.history(&model.containers[0].id).unwrap();
    assert_eq!(
        (history.cpu.len(), history.cpu.front(), history.cpu.back()),
        (MINUTE, Some(&40.0), Some(&99.0))
    );
    assert_eq!(history.rates.map(f64::to_bits), [1500.0, 0.0, 0.0, 750.0].map(f64::to_bits));
    // One that was started again has counters that begin anew.
    model.take_sample(sample(vec![container("web", 0.0, 1, 0)]));
    let rates = model.history(&model.containers[0].id).unwrap().rates;
    assert_eq!(rates.map(f64::to_bits), [0; 4]);
    model.take_sample(sample(vec![Container { load: None, ..container("web", 0.0, 1, 0) }]));
    assert!(model.history(&model.containers[0].id).is_none());
}

#[test]
fn notices_go_and_details_of_others_are_not_taken() {
    let mut model = model();
    model.say("stopped web", false);
    for _ in 0..5 {
        model.take_sample(three(9));
        assert!(model.notice.is_some());
    }
    model.take_sample(three(9));
    assert_eq!(model.notice, None);
    let web = model.rows()[1].id.clone();
    model.take_detail(Detail { id: Some(web), log: vec!["late".to_owned()], processes: Vec::new() });
    assert!(model.detail.log.is_empty());
}

fn detailed() -> Model {
    let mut model = model();
    let process = |pid, command: &str| Process {
        pid,
        parent: 1,
        user: "root".to_owned(),
        cpu: Duration::from_secs(61),
        command: command.to_owned(),
    };
    let processes = vec![
        Branch { depth: 0, last: true, item: process(100, "postgres") },
        Branch {
            depth: 1,
            last: true,
            item: process(101, "postgres: walwriter with a long title of its own"),
        },
    ];
    let log =
        (1..30).map(|n| format!("line {n} of what the database says, which is longer than a pane")).collect();
    model.take_detail(Detail { id: model.selected().cloned(), log, processes });
    model
}

fn drawn(model: &mut Model, width: u16, height: u16, look: Look) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(model, look, frame)).unwrap();
    terminal.backend().to_string()
}

const PLAIN: Look = Look { utf8: false };
const FINE: Look = Look { utf8: true };

#[test]
fn a_usual_terminal() {
    insta::assert_snapshot!(drawn(&mut detailed(), 80, 24, FINE));
}

#[test]
fn a_wide_terminal() {
    insta::assert_snapshot!(drawn(&mut detailed(), 150, 20, FINE));
}

#[test]
fn a_small_terminal_without_line_drawing() {
    insta::assert_snapshot!(drawn(&mut detailed(), 40, 10, PLAIN));
}

#[test]
fn help_and_questions_in_a_small_terminal() {
    let mut model = detailed();
    type_in(&mut model, "?");
    let help = drawn(&mut model, 40, 10, PLAIN);
    model.press(Key::Escape);
    type_in(&mut model, "k");
    insta::assert_snapshot!(help + &drawn(&mut model, 40, 10, PLAIN));
}

#[test]
fn what_does_not_run_and_what_went_wrong() {
    let mut model = detailed();
    let states =
        [(Status::Exited, "Exited (137) 5 minutes ago"), (Status::Restarting, "Restarting (1) 1 second ago")];
    let mut containers = three(4).containers;
    for (container, (status, about)) in containers.iter_mut().zip(states) {
        container.status = status;
        about.clone_into(&mut container.about);
        container.load = None;
    }
    containers[2].status = Status::Paused;
    model.take_sample(sample(containers));
    type_in(&mut model, "/e");
    model.say("cannot stop web: it does not want to", true);
    insta::assert_snapshot!(drawn(&mut model, 100, 12, FINE));
}

#[test]
fn no_size_is_too_small() {
    let mut model = detailed();
    for width in 1..50 {
        for height in 1..12 {
            drawn(&mut model, width, height, FINE);
        }
    }
    let mut nothing = Model::default();
    drawn(&mut nothing, 80, 24, FINE);
    assert!(drawn(&mut nothing, 80, 24, FINE).contains("no container runs"));
}
