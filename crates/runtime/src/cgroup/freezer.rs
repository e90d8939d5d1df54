//! Stopping a whole group and letting it go on: `pause` and `resume`.
//!
//! v2 has it in every group. v1 has a hierarchy for it, which a container of Dhow's own joins only when somebody
//! pauses it: it would cost every start.

use std::path::Path;
use std::time::{Duration, Instant};

use base::fs::At as _;
use rustix::fs::CWD;
use rustix::io::Errno;

use super::Error;
use super::files::{read_text, write_to};
use super::group::{Directory, Group};
use super::hierarchy::{Controller, Hierarchy};
use super::processes::processes;

/// How long a group may take to freeze. A process in an uninterruptible wait can take for ever.
const FREEZING: Duration = Duration::from_secs(10);

impl Group {
    /// Stops every process in it and below it, and waits until they stand still. Fine if they do already.
    ///
    /// # Errors
    /// Where that takes longer than ten seconds; the group then goes on.
    pub fn freeze(&self) -> Result<(), Error> {
        let directory = self.freezer(true)?;
        let frozen = if directory.v2 { freeze_v2(&directory.path) } else { self.freeze_v1(&directory.path) };
        frozen.inspect_err(|_| {
            // The cause is what counts. To be left half frozen helps nobody.
            thaw_at(&directory.path, directory.v2).ok();
        })
    }

    /// Lets it go on. Fine if it does.
    pub fn thaw(&self) -> Result<(), Error> {
        let Ok(directory) = self.freezer(false) else { return Ok(()) };
        match thaw_at(&directory.path, directory.v2) {
            Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            other => other.at("thaw the cgroup", &directory.path).map_err(Error::File),
        }
    }

    /// True where it is, or is about to be, frozen itself. (A group above it that is frozen is another matter: who
    /// froze that will thaw it.)
    pub fn frozen(&self) -> bool {
        self.freezer(false).is_ok_and(|directory| is_frozen_at(&directory.path))
    }

    pub(super) fn has_freezer(&self) -> bool {
        self.directories.iter().any(|d| d.v2 || d.controller == Some(Controller::Freezer))
    }

    pub(super) fn thaw_where_frozen(&self) {
        // Whoever kills is told if it did not help.
        if let Ok(directory) = self.freezer(false) {
            thaw_at(&directory.path, directory.v2).ok();
        }
    }

    /// Where it is frozen. On v1 the group may not be in that hierarchy yet; then it is made there if it shall be.
    fn freezer(&self, make: bool) -> Result<Directory, Error> {
        let joined = self.directories.iter().find(|d| d.v2 || d.controller == Some(Controller::Freezer));
        match joined {
            Some(directory) => Ok(directory.clone()),
            None if make => self.join_late(&Hierarchy::detect()?, Controller::Freezer, "pause"),
            None => self.late(&Hierarchy::detect()?, Controller::Freezer, "pause").map(|(_, d)| d),
        }
    }

    fn freeze_v1(&self, path: &Path) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZING;
        let state = path.join("freezer.state");
        let late = !self.has_freezer();
        let mut round = 0_u32;
        loop {
            if late {
                // Commands that were executed in the container since it was last paused are not there yet.
                self.gather(path)?;
            }
            write_to(CWD, &state, b"FROZEN").at("freeze the cgroup", path)?;
            match read_text(&state).as_deref().map(str::trim) {
                Some("FROZEN") if !late || self.gather(path)? == 0 => return Ok(()),
                // FREEZING: someone is being forked or waits for a device. Writing again starts another round, and
                // where forks keep coming, letting go for a moment helps.
                _ if Instant::now() < deadline => {
                    round += 1;
                    if round.is_multiple_of(50) {
                        thaw_at(path, false).ok();
                    }
                    if round.is_multiple_of(10) {
                        std::thread::sleep(Duration::from_millis(u64::from(round / 10).min(10)));
                    }
                }
                _ => return Err(Error::Restless { path: path.to_owned() }),
            }
        }
    }

    /// Moves the processes of the group that are not in this directory of it there, and says how many there were.
    pub(super) fn gather(&self, into: &Path) -> Result<usize, Error> {
        let file = into.join("cgroup.procs");
        let here = processes(into);
        let mut moved = 0;
        for pid in self.processes() {
            if !here.contains(&pid) {
                match write_to(CWD, &file, pid.to_string().as_bytes()) {
                    Ok(()) => moved += 1,
                    // It has ended.
                    Err(Errno::SRCH) => {}
                    Err(error) => {
                        return Err(error).at("move a process into the cgroup", into).map_err(Error::File);
                    }
                }
            }
        }
        Ok(moved)
    }
}

fn freeze_v2(path: &Path) -> Result<(), Error> {
    write_to(CWD, path.join("cgroup.freeze"), b"1").at("freeze the cgroup", path)?;
    let deadline = Instant::now() + FREEZING;
    let mut pause = Duration::from_micros(50);
    let events = path.join("cgroup.events");
    loop {
        let text = read_text(&events).unwrap_or_default();
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Restless { path: path.to_owned() });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn thaw_at(path: &Path, v2: bool) -> Result<(), Errno> {
    if v2 {
        write_to(CWD, path.join("cgroup.freeze"), b"0")
    } else {
        write_to(CWD, path.join("freezer.state"), b"THAWED")
    }
}

/// A group of v2 whose processes have been killed while it was frozen stays so: who is born into it would stop.
pub(super) fn forget_frozen(path: &Path) {
    if read_text(&path.join("cgroup.freeze")).is_some_and(|text| text.trim() == "1") {
        thaw_at(path, true).ok();
    }
}

/// In either version's hierarchy; false where it is none in which groups are frozen.
pub(super) fn is_frozen_at(path: &Path) -> bool {
    if let Some(text) = read_text(&path.join("cgroup.freeze")) {
        return text.trim() == "1";
    }
    read_text(&path.join("freezer.state")).is_some_and(|text| text.trim() != "THAWED")
        && read_text(&path.join("freezer.self_freezing")).is_none_or(|text| text.trim() != "0")
}
