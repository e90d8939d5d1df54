//! What `/proc` says of a process, whatever that says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use base::fs;

/// What `/proc` counts time in: `USER_HZ`, a hundred on every machine that there is a Dhow for.
pub(super) const TICKS: u64 = 100;
/// Wider names are cut, as `ps` does it.
const USER: usize = 8;

/// A process that is still there.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) pid: u32,
    pub(super) stat: Stat,
    /// Its effective user.
    pub(super) user: u32,
    /// Its words, a zero behind each.
    pub(super) command: Vec<u8>,
}

impl Facts {
    /// None where it has gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let dir = Path::new("/proc").join(pid.to_string());
        let text = |name| fs::read(&dir.join(name)).ok();
        let stat = Stat::parse(&text("stat")?)?;
        let user = effective_user(&text("status")?)?;
        Some(Self { pid, stat, user, command: text("cmdline")? })
    }
}

/// Names of the host's users, from its own file alone: the static program asks no name service.
pub(super) fn users() -> BTreeMap<u32, String> {
    let text = fs::read(Path::new("/etc/passwd")).unwrap_or_default();
    let mut users = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1))
            && let Ok(id) = id.parse()
        {
            users.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// A user's name, cut as `ps` cuts it; of one without a name, the number.
pub(super) fn user_name(users: &BTreeMap<u32, String>, user: u32) -> String {
    match users.get(&user) {
        None => user.to_string(),
        Some(name) if name.chars().count() <= USER => name.clone(),
        Some(name) => name.chars().take(USER - 1).chain("+".chars()).collect(),
    }
}

/// `/proc/PID/stat`, as far as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    name: String,
    state: u8,
    pub(super) parent: u32,
    pub(super) terminal: u32,
    /// Ticks of processors' time.
    pub(super) used: u64,
    /// Ticks after boot.
    pub(super) started: u64,
}

impl Stat {
    /// The name is the process's own choice, parentheses and spaces included: it ends at the last one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&b| b == b'(')?;
        let close = bytes.iter().rposition(|&b| b == b')')?;
        let name = printable(bytes.get(open + 1..close)?);
        let rest = std::str::from_utf8(&bytes[close + 1..]).ok()?;
        // The first of them is field 3 of proc_pid_stat(5).
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        Some(Self {
            name,
            state: *fields.first()?.as_bytes().first()?,
            parent: u32::try_from(number(4)?).ok()?,
            terminal: number(7)? as u32,
            used: number(14)?.unsigned_abs().saturating_add(number(15)?.unsigned_abs()),
            started: number(22)?.unsigned_abs(),
        })
    }
}

/// The second number of `Uid:` in `/proc/PID/status`.
fn effective_user(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The words of the command, one space between them; of a process that has none, its name.
pub(super) fn command_line(stat: &Stat, command: &[u8]) -> String {
    let words: Vec<u8> = command.iter().map(|&b| if b == 0 { b' ' } else { b }).collect();
    let text = printable(&words);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match (text.is_empty(), stat.state) {
        (_, b'Z') => format!("[{}] <defunct>", stat.name),
        (true, _) => format!("[{}]", stat.name),
        (false, _) => text,
    }
}

/// What a process says of itself does nothing to a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const STAT: &str =
        "42 (a) b (c) S 7 42 42 34817 42 4194560 1 2 3 4 250 50 0 0 20 0 1 0 12345 0 0";

    #[test]
    fn a_stat_is_read_whatever_the_name() {
        let stat = Stat::parse(STAT.as_bytes()).unwrap();
        assert_eq!(stat.name, "a) b (c");
        assert_eq!((stat.state, stat.parent, stat.used, stat.started), (b'S', 7, 300, 12345));
        assert_eq!(Stat::parse(b"42 (a"), None);
    }

    #[test]
    fn names_are_cut_as_ps_cuts_them() {
        let users = BTreeMap::from([(0, "root".to_owned()), (100, "systemd-network".to_owned())]);
        let names = [0, 12, 100].map(|user| user_name(&users, user));
        assert_eq!(names, ["root", "12", "systemd+"]);
    }

    proptest! {
        #[test]
        fn any_stat_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(stat) = Stat::parse(&bytes) {
                let line = command_line(&stat, &bytes);
                prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
