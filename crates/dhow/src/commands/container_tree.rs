//! The rows of `ps --tree`: containers, below each its processes, and the containers that live in its namespaces.

use std::fmt::Write as _;
use std::time::Duration;

use base::Timestamp;
use engine::{Branch, ContainerSummary, TreeItem};
use unicode_width::UnicodeWidthStr;

use crate::branches::{Branches, cut};
use crate::commands::container_list;

const TITLES: [&str; 4] = ["CONTAINER / PID", "USER", "TIME", "COMMAND"];

/// How it is to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// With line drawing characters.
    pub(super) utf8: bool,
    /// Lines are cut there.
    pub(super) columns: Option<usize>,
}

enum Line {
    /// What is said of a container, across the columns.
    Container(String),
    /// The cells of a process, or of the titles.
    Cells([String; 4]),
}

/// All of it.
pub(super) fn draw(tree: &[Branch<TreeItem>], now: Timestamp, look: Look) -> String {
    let mut branches = Branches::new(look.utf8);
    let line = |branch: &Branch<TreeItem>| {
        let before = branches.next(branch.depth, branch.last);
        match &branch.item {
            TreeItem::Container(c) => Line::Container(format!("{before}{}  {}", c.name, about(c, now))),
            TreeItem::Process(p) => {
                let pid = format!("{before}{}", p.pid);
                Line::Cells([pid, p.user.clone(), processor_time(p.cpu), p.command.clone()])
            }
        }
    };
    let titles = Line::Cells(TITLES.map(str::to_owned));
    let lines: Vec<Line> = std::iter::once(titles).chain(tree.iter().map(line)).collect();
    let mut widths = [0; 3];
    for line in &lines {
        if let Line::Cells(cells) = line {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.width().max(*width);
            }
        }
    }
    let mut text = String::new();
    for line in &lines {
        let line = match line {
            Line::Container(line) => line.clone(),
            Line::Cells([pid, user, time, command]) => {
                let pad = |cell: &str, column: usize| " ".repeat(widths[column] - cell.width());
                // Times end below one another.
                let (after_pid, after_user, before_time) = (pad(pid, 0), pad(user, 1), pad(time, 2));
                format!("{pid}{after_pid}  {user}{after_user}  {before_time}{time}  {command}")
            }
        };
        let line = look.columns.map_or(line.clone(), |columns| cut(&line, columns, look.utf8));
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// `nginx (Up 3 seconds, pid and ipc of web)`.
fn about(c: &ContainerSummary, now: Timestamp) -> String {
    let mut words = container_list::status(c, now);
    let mut joins = c.joins.iter().peekable();
    while let Some(join) = joins.next() {
        write!(words, ", {}", join.namespace).ok();
        while let Some(also) = joins.next_if(|next| next.container == join.container) {
            write!(words, " and {}", also.namespace).ok();
        }
        write!(words, " of {}", join.container).ok();
    }
    format!("{} ({words})", c.image)
}

/// `[days-]hours:minutes:seconds`, as `ps` has it.
pub(crate) fn processor_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let time = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days == 0 { time } else { format!("{days}-{time}") }
}

#[cfg(test)]
mod tests {
    use base::{Digest, Id};
    use engine::{JoinSummary, Process};
    use state::container::Status;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn named(name: &str, joins: &[(&'static str, &str)]) -> TreeItem {
        let join = |(namespace, container): &(&'static str, &str)| JoinSummary {
            namespace,
            container: (*container).to_owned(),
        };
        TreeItem::Container(Box::new(ContainerSummary {
            id: "ab".repeat(32).parse::<Id>().unwrap(),
            name: name.into(),
            image: "nginx".into(),
            image_id: Digest::of(b"x"),
            command: Vec::new(),
            created: NOW,
            status: Status::Running,
            health: None,
            exit: None,
            started: Some(Timestamp(NOW.0 - 3_000_000_000)),
            ports: Vec::new(),
            exposed: Vec::new(),
            address: None,
            networks: vec!["bridge".into()],
            labels: [].into(),
            mounts: Vec::new(),
            joins: joins.iter().map(join).collect(),
        }))
    }

    fn process(pid: u32, command: &str) -> TreeItem {
        let cpu = Duration::from_secs(u64::from(pid));
        TreeItem::Process(Process { pid, parent: 1, user: "root".into(), cpu, command: command.into() })
    }

    fn tree() -> Vec<Branch<TreeItem>> {
        let branch = |depth, last, item| Branch { depth, last, item };
        vec![
            branch(0, true, named("web", &[])),
            branch(1, false, process(100, "nginx: master process")),
            branch(2, true, process(90_061, "nginx: worker process")),
            branch(1, true, named("debug", &[("pid", "web"), ("ipc", "web")])),
            branch(2, true, process(7, "sh")),
            branch(0, true, named("other", &[("pid", "a"), ("ipc", "b")])),
        ]
    }

    #[test]
    fn a_tree_of_containers_and_processes() {
        let text = draw(&tree(), NOW, Look { utf8: true, columns: None });
        insta::assert_snapshot!(text);
    }

    #[test]
    fn without_line_drawing_in_a_narrow_window() {
        let text = draw(&tree(), NOW, Look { utf8: false, columns: Some(40) });
        insta::assert_snapshot!(text);
    }
}
