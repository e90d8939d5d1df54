//! The host's `ps` with options of the user's: its lines, but for those of other processes.

use std::io;
use std::process::{Command, Stdio};

use base::failure::kind_of_io;
use base::{Failure, Kind};

use super::Processes;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A column that is called PID need not be one.
    #[error("specifying `{0}={1}` is not allowed: which line is whose is told by the column PID")]
    Disguise(String, String),
    #[error("cannot run the host's ps")]
    Run(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("couldn't find PID field in ps output")]
    NoPid,
    #[error("unexpected pid `{0}` in ps output")]
    Pid(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Run(e) => kind_of_io(e),
            Self::Pid(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Run(e) if e.kind() == io::ErrorKind::NotFound => vec![
                "install ps on this host (the package procps)".to_owned(),
                "leave the options out: without them ps is not needed".to_owned(),
            ],
            Self::NoPid => vec!["add pid to the columns: -o pid,…".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Runs `ps` with these options, for the processes `pids`.
pub(super) fn ps(options: &[String], pids: &[u32]) -> Result<Processes, Error> {
    let whole = options.join(" ");
    refuse_disguise(&whole)?;
    let words: Vec<&str> = whole.split_ascii_whitespace().collect();
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    let run =
        |words: &[&str]| Command::new("ps").args(words).stdin(Stdio::null()).output().map_err(Error::Run);
    let narrow = format!("-q{}", list.join(","));
    let mut output = run(&[&words[..], &[&narrow]].concat())?;
    if !output.status.success() {
        // Some options do not go with -q.
        output = run(&words)?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().filter(|line| !line.is_empty());
        return Err(Error::Refused(first.unwrap_or("ps failed without a word").to_owned()));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

/// `-o user=PID` would call a column PID that is none.
fn refuse_disguise(options: &str) -> Result<(), Error> {
    for (at, _) in options.match_indices('=') {
        let name = options[..at].rsplit(|c: char| c.is_whitespace() || c == ',').next().unwrap_or_default();
        let value = options[at + 1..].split_ascii_whitespace().next().unwrap_or_default();
        if value.starts_with("PID") && name.strip_prefix("-o").unwrap_or(name) != "pid" {
            return Err(Error::Disguise(name.to_owned(), value.to_owned()));
        }
    }
    Ok(())
}

/// The lines of these processes; also those of their threads, which have a hyphen for a number and follow them.
fn select(output: &str, pids: &[u32]) -> Result<Processes, Error> {
    let mut lines = output.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let column = titles.iter().position(|title| *title == "PID").ok_or(Error::NoPid)?;
    let mut rows = Vec::new();
    let mut ours = false;
    for line in lines {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(pid) = cells.get(column) else { continue };
        if *pid != "-" {
            let pid: u32 = pid.parse().map_err(|_| Error::Pid((*pid).to_owned()))?;
            ours = pids.contains(&pid);
        }
        if ours {
            rows.push(row(&cells, titles.len()));
        }
    }
    Ok(Processes { titles: titles.into_iter().map(str::to_owned).collect(), rows })
}

/// As many cells as there are titles: what hangs over belongs to the last.
fn row(cells: &[&str], columns: usize) -> Vec<String> {
    let (first, last) = cells.split_at(cells.len().min(columns.saturating_sub(1)));
    let mut row: Vec<String> = first.iter().map(|&cell| cell.to_owned()).collect();
    row.push(last.join(" "));
    row.resize(columns, String::new());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_others_are_left_out_and_threads_go_with_their_process() {
        let output = "USER   PID CMD\nroot     1 init all\napp     12 sleep  1\napp      - -\n\nroot    13 x\nroot   - -\n";
        let table = select(output, &[12]).unwrap();
        assert_eq!(table.titles, ["USER", "PID", "CMD"]);
        assert_eq!(table.rows, [["app", "12", "sleep 1"], ["app", "-", "-"]]);
        assert_eq!(select(output, &[2]).unwrap().rows, [[""; 3]; 0]);
        assert!(matches!(select("USER CMD\nroot x\n", &[1]), Err(Error::NoPid)));
        assert!(matches!(select("PID\nx\n", &[1]), Err(Error::Pid(_))));
        assert!(matches!(select("", &[1]), Err(Error::NoPid)));
    }

    #[test]
    fn no_other_column_is_called_pid() {
        for good in ["-o pid,cmd", "aux", "-o pid=PID,cmd", "-eo pid=PID", "-o user=USER,pid", "-opid=PID"] {
            refuse_disguise(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in ["-o ppid=PID", "-e -o uid= PID", "-o pid=PID -o ppid=PIDS", "-oppid=PID"] {
            assert!(refuse_disguise(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_output_is_read_or_refused(text in "(PID|-|[0-9]{1,3}|[a-z ]|\n){0,60}") {
            if let Ok(table) = select(&format!("A PID B\n{text}"), &[1, 2, 3]) {
                for row in table.rows {
                    prop_assert_eq!(row.len(), 3);
                }
            }
        }
    }
}
