//! The columns of `ps -ef`, read from `/proc`: `UID PID PPID C STIME TTY TIME CMD`.

use std::collections::BTreeMap;
use std::path::Path;

use base::{Timestamp, fs};
use jiff::tz::TimeZone;

pub(super) const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// What `/proc` counts time in: `USER_HZ`, a hundred on every machine that there is a Dhow for.
const TICKS: u64 = 100;
/// Wider names are cut, as `ps` does it.
const USER: usize = 8;

/// A row for each of these processes that is still there.
pub(super) fn read(pids: &[u32]) -> Vec<(u32, Vec<String>)> {
    let machine = Machine::look();
    let row = |&pid: &u32| {
        let dir = Path::new("/proc").join(pid.to_string());
        let text = |name| fs::read(&dir.join(name)).ok();
        let stat = Stat::parse(&text("stat")?)?;
        let user = effective_user(&text("status")?)?;
        Some((pid, machine.row(pid, user, &stat, &text("cmdline")?)))
    };
    pids.iter().filter_map(row).collect()
}

/// What is the same for all rows.
struct Machine {
    users: BTreeMap<u32, String>,
    /// Seconds since 1970.
    booted: u64,
    now: Timestamp,
    zone: TimeZone,
}

impl Machine {
    fn look() -> Self {
        let booted = fs::read(Path::new("/proc/stat")).unwrap_or_default();
        let booted = String::from_utf8_lossy(&booted)
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
            .unwrap_or_default();
        Self { users: users(), booted, now: Timestamp::now(), zone: TimeZone::system() }
    }

    fn row(&self, pid: u32, user: u32, stat: &Stat, command: &[u8]) -> Vec<String> {
        let started = self.booted + stat.started / TICKS;
        let now = (self.now.0.unsigned_abs() / 1_000_000_000).max(started);
        let used = stat.used / TICKS;
        let busy = if now > started { used * 100 / (now - started) } else { 0 };
        vec![
            self.users.get(&user).map_or_else(|| user.to_string(), |name| cut(name)),
            pid.to_string(),
            stat.parent.to_string(),
            busy.min(99).to_string(),
            self.start_time(started, now),
            terminal(stat.terminal),
            duration(used),
            command_line(stat, command),
        ]
    }

    /// The hour, or of another day that, or of another year that.
    fn start_time(&self, started: u64, now: u64) -> String {
        let zoned = |seconds: u64| {
            let time = jiff::Timestamp::from_second(seconds as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            time.to_zoned(self.zone.clone())
        };
        let (started, now) = (zoned(started), zoned(now));
        let format = if started.year() != now.year() {
            "%Y"
        } else if started.day_of_year() == now.day_of_year() {
            "%H:%M"
        } else {
            "%b%d"
        };
        started.strftime(format).to_string()
    }
}

/// Names of the host's users, from its own file alone: the static program asks no name service.
fn users() -> BTreeMap<u32, String> {
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

fn cut(name: &str) -> String {
    if name.chars().count() <= USER {
        return name.to_owned();
    }
    name.chars().take(USER - 1).chain("+".chars()).collect()
}

/// `/proc/PID/stat`, as far as it is shown.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: u8,
    parent: u32,
    terminal: u32,
    /// Ticks of processors' time.
    used: u64,
    /// Ticks after boot.
    started: u64,
}

impl Stat {
    /// The name is the process's own choice, parentheses and spaces included: it ends at the last one.
    fn parse(bytes: &[u8]) -> Option<Self> {
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

/// The kernel's number of a terminal (`new_encode_dev`) as its name below `/dev`.
fn terminal(number: u32) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        _ => "?".to_owned(),
    }
}

/// `[days-]hours:minutes:seconds`.
fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let time = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days == 0 { time } else { format!("{days}-{time}") }
}

/// The words of the command, one space between them; of a process that has none, its name.
fn command_line(stat: &Stat, command: &[u8]) -> String {
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "42 (a) b (c) S 7 42 42 34817 42 4194560 1 2 3 4 250 50 0 0 20 0 1 0 12345 0 0";

    #[test]
    fn a_stat_is_read_whatever_the_name() {
        let stat = Stat::parse(STAT.as_bytes()).unwrap();
        assert_eq!(stat.name, "a) b (c");
        assert_eq!((stat.state, stat.parent, stat.used, stat.started), (b'S', 7, 300, 12345));
        assert_eq!(terminal(stat.terminal), "pts/1");
        assert_eq!(Stat::parse(b"42 (a"), None);
    }

    #[test]
    fn rows_look_like_those_of_ps() {
        let users = BTreeMap::from([(0, "root".to_owned()), (100, "systemd-network".to_owned())]);
        let now = Timestamp(1_000_400 * 1_000_000_000);
        let machine = Machine { users, booted: 1_000_000, now, zone: TimeZone::UTC };
        let stat = Stat::parse(STAT.as_bytes()).unwrap();
        let row = machine.row(42, 100, &stat, b"sleep\0 1\0\x1b[2J\n\0");
        assert_eq!(row, ["systemd+", "42", "7", "1", "13:48", "pts/1", "00:00:03", "sleep 1 ?[2J?"]);
        assert_eq!(machine.row(42, 0, &stat, b"")[7], "[a) b (c]");
        assert_eq!(machine.row(42, 12, &stat, b"")[0], "12");
        assert_eq!(machine.start_time(1_000_000, 1_100_000), "Jan12");
        assert_eq!(machine.start_time(1_000_000, 101_000_000), "1970");
        assert_eq!((duration(59), duration(90_061)), ("00:00:59".to_owned(), "1-01:01:01".to_owned()));
        assert_eq!(terminal(0), "?");
    }

    proptest! {
        #[test]
        fn any_stat_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300),
                                       fields in proptest::collection::vec(any::<i64>(), 0..30)) {
            Stat::parse(&bytes);
            let fields: Vec<String> = fields.iter().map(i64::to_string).collect();
            if let Some(stat) = Stat::parse(format!("1 (x) S {}", fields.join(" ")).as_bytes()) {
                let machine = Machine { users: BTreeMap::new(), booted: 1, now: Timestamp(0), zone: TimeZone::UTC };
                prop_assert_eq!(machine.row(1, 1, &stat, &bytes).len(), TITLES.len());
            }
        }
    }
}
