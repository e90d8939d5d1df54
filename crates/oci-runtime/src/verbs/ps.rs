//! `ps`: the processes in a container, as the host's ps(1) shows them.

use std::process::{Command as Program, Stdio};

use crate::arguments::{Command, Parsed, value};
use crate::error::{Doing as _, Error};
use crate::globals::Globals;
use crate::report::answer;
use crate::store::Store;

pub(crate) const COMMAND: Command = Command {
    name: "ps",
    about: "show the processes in a container",
    usage: "[command options] <container-id> [ps options]\n\n   The options of ps(1) must leave its column PID (default: -ef).",
    flags: &[value(&["format", "f"], "table or json (default: \"table\")")],
    arguments: (1, usize::MAX),
    in_order: true,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let format = flags.text("format")?.unwrap_or("table");
    if !["table", "json"].contains(&format) {
        return Err(Error::Usage("invalid format option".to_owned()));
    }
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let record = container.record()?;
    let mut pids = match record.group()? {
        Some(group) => group.processes(),
        None if record.lives() => vec![record.pid],
        None => Vec::new(),
    };
    pids.sort_unstable();
    if format == "json" {
        return answer(&format!("{}\n", serde_json::Value::from(pids))).map(|()| 0);
    }
    let mut ps = Program::new("ps");
    if flags.arguments.len() > 1 {
        ps.args(&flags.arguments[1..]);
    } else {
        ps.arg("-ef");
    }
    let output = ps.stdin(Stdio::null()).output().doing("run ps(1)")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::State(format!("ps(1): {}: {}", output.status, said.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    answer(&only(&text, &pids)?).map(|()| 0)
}

/// The lines of these processes, and the head.
fn only(text: &str, pids: &[u32]) -> Result<String, Error> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_ascii_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::State("couldn't find PID field in ps output".to_owned()))?;
    let mut kept = format!("{head}\n");
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|field| field.parse().ok());
        if pid.is_some_and(|pid: u32| pids.binary_search(&pid).is_ok()) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_own_lines_are_kept() {
        let text = "UID   PID  PPID CMD\nroot  1    0 init\nroot  23   1 sleep 42\nme 42 23 x\n";
        assert_eq!(only(text, &[23, 99]).unwrap(), "UID   PID  PPID CMD\nroot  23   1 sleep 42\n");
        assert!(only("COMMAND\nx\n", &[1]).is_err());
    }
}
