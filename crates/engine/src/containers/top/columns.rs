//! The columns of `ps -ef`, read from `/proc`: `UID PID PPID C STIME TTY TIME CMD`.

use std::collections::BTreeMap;
use std::path::Path;

use base::{Timestamp, fs};
use jiff::tz::TimeZone;

use super::process::{Facts, Stat, TICKS, command_line, user_name, users};

pub(super) const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// A row for each of these processes that is still there.
pub(super) fn read(pids: &[u32]) -> Vec<(u32, Vec<String>)> {
    let machine = Machine::look();
    let row = |facts: Facts| (facts.pid, machine.row(facts.pid, facts.user, &facts.stat, &facts.command));
    pids.iter().filter_map(|&pid| Facts::read(pid)).map(row).collect()
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
            user_name(&self.users, user),
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

#[cfg(test)]
mod tests {
    use super::super::process::tests::STAT;
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!((terminal(stat.terminal), terminal(0)), ("pts/1".to_owned(), "?".to_owned()));
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
