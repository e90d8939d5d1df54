//! What a dead owner left is put right by whoever comes next.
//!
//! | found | what it means | what is done |
//! |---|---|---|
//! | live directory abandoned, with request.json | the monitor was killed | kill what lives in the cgroup, release the network, write exit.json (137) or remove the container |
//! | live directory abandoned, without it | the command was killed before it had a monitor | remove what was half made |
//! | no live directory, no exit.json, but the root has been mounted | the machine was rebooted | write exit.json (255), as Docker does |
//! | no live directory, `--rm` | the same, or killed between create and start (not if it was made by `create`) | remove the container |
//! | live directory abandoned, with exit.json | the disk was full when it ended | move exit.json to where it belongs; nothing, as long as it is full |
//! | a container without a (whole) record | the power was cut while it was made | remove it |
//! | a claim of a name by an id that has neither | killed while it made or removed a container | release the claim |
//!
//! Everything is done under the container's own lock and looked at again under it, so any number of commands
//! may do it at once; each step may be repeated.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs;
use base::{Id, Kind, Timestamp};
use monitor::Request;
use runtime::cgroup::{self, Group, Hierarchy};
use state::claim;
use state::container::{Exit, FORMAT, Live, Record, file};
use state::lock::Lock;

use crate::Engine;
use crate::containers::ownership::{Held, Owner, held, held_at};
use crate::containers::records;
use crate::error::Result;

/// SIGKILL's exit code: what a container whose monitor died has got.
const KILLED: i32 = 137;
/// What Docker reports of containers that a reboot ended.
const LOST: i32 = 255;
/// How long a killed cgroup may take to empty.
const DYING: Duration = Duration::from_secs(10);

impl Engine {
    /// Puts right whatever dead commands, dead monitors and reboots have left, in all containers.
    pub fn reconcile(&self) -> Result<()> {
        self.reconcile_live(|_| true)?;
        self.sweep()
    }

    /// The same for what was started, of the containers that `chosen` chooses.
    pub(crate) fn reconcile_live(&self, chosen: impl Fn(&Id) -> bool) -> Result<()> {
        for name in fs::names(&self.instance.live_containers())? {
            if let Ok(id) = name.parse::<Id>()
                && chosen(&id)
                && self.settled(&id)? == Held::Abandoned
            {
                bear_full_disk(self.reconcile_abandoned(&id))?;
            }
        }
        Ok(())
    }

    /// The same for all that is no container's.
    pub(crate) fn sweep(&self) -> Result<()> {
        // Whoever had it may have been killed.
        fs::create_dir_all(&self.instance.spare(), 0o700).ok();
        self.sweep_released()?;
        self.sweep_half_made()?;
        self.volume_store().sweep();
        self.sweep_names()?;
        self.sweep_removing();
        self.settle_layers();
        self.sweep_unused();
        self.see_to_spools();
        Ok(())
    }

    /// Bridge, table and parent groups that outlived their last user, because the monitor that waited to remove
    /// them was killed. That monitor holds the lock of RUN; where it lives, this is its business.
    pub(crate) fn sweep_unused(&self) {
        let unused = std::fs::read_dir(self.instance.live_containers())
            .is_ok_and(|mut entries| entries.next().is_none());
        // Looked at, not taken: a monitor that found it taken would leave, and rely on us to outlive it.
        if unused && matches!(state::lock::held(self.instance.run()), Ok(Held::Abandoned)) {
            self.sweep_shared();
        }
    }

    /// Puts one container right, if it has to be.
    pub(crate) fn reconcile_one(&self, id: &Id) -> Result<()> {
        bear_full_disk(match self.settled(id)? {
            Held::Owned => Ok(()),
            Held::Abandoned => self.reconcile_abandoned(id),
            Held::Absent => self.reconcile_rebooted(id),
        })
    }

    /// Whether somebody owns the container, not counting an owner who is being killed: `kill -9` returns before
    /// its target is gone, and whoever looks then must not be told that all is well.
    fn settled(&self, id: &Id) -> Result<Held> {
        let now = held(&self.instance, id)?;
        if now == Held::Owned
            && let Ok(Some(live)) = records::live(&self.instance, id)
            && is_being_killed(&live)
        {
            self.await_release(id)?;
            return Ok(held(&self.instance, id)?);
        }
        Ok(now)
    }

    /// A container without a live directory: had it run when the machine went down?
    pub(crate) fn reconcile_rebooted(&self, id: &Id) -> Result<()> {
        let dir = self.instance.container(id);
        let unsettled = || -> Result<bool> {
            let Some(record) = records::record(&self.instance, id)? else { return Ok(dir.exists()) };
            let ran = || has_been_mounted(&dir);
            if record.options.auto_remove {
                return Ok(!record.waits || ran());
            }
            Ok(records::exit(&self.instance, id)?.is_none() && ran())
        };
        if !unsettled()? {
            return Ok(());
        }
        let Some(owner) = Owner::take(&self.instance, id)? else { return Ok(()) };
        // Looked at again now that nobody else acts: it may have ended in order meanwhile.
        if !unsettled()? {
            return Ok(());
        }
        let Some(record) = records::record(&self.instance, id)? else {
            return self.remove_half_made(id, None);
        };
        let group = Group::existing(&Hierarchy::detect()?, &self.location(&record));
        // After a reboot there is none; but somebody may have taken RUN away.
        group.kill()?;
        remove_group(&group)?;
        if record.options.auto_remove {
            return self.remove_files(&record.id, &record.name, owner);
        }
        self.write_exit(id, LOST, None, "the machine was restarted while it ran")
    }

    fn reconcile_abandoned(&self, id: &Id) -> Result<()> {
        let Some(owner) = Owner::take(&self.instance, id)? else { return Ok(()) };
        let request = self.release_held(id, &owner)?;
        match records::record(&self.instance, id)? {
            None => {
                self.remove_half_made(id, request.as_ref().map(|r| &*r.name))?;
                drop(owner);
            }
            Some(record) if record.options.auto_remove => self.remove_files(id, &record.name, owner)?,
            Some(record) => {
                self.record_end(&record, request.is_some())?;
                drop(owner);
            }
        }
        self.sweep_shared();
        Ok(())
    }

    /// Ends what still runs of a container whose monitor died, and gives back what that held. The request tells
    /// what; where there is none, nothing was ever started.
    pub(crate) fn release_held(&self, id: &Id, owner: &Owner) -> Result<Option<Request>> {
        let request = read_request(owner.live());
        let group = self.group_of(id, request.as_ref())?;
        group.kill()?;
        remove_group(&group)?;
        if let Some(request) = &request {
            request.network.release(&self.instance, id)?;
            self.release_volumes(request)?;
        }
        Ok(request)
    }

    /// The cgroup of a container that was started so.
    fn group_of(&self, id: &Id, request: Option<&Request>) -> Result<Group> {
        let asked = request.and_then(|request| request.bundle.cgroup.clone());
        let location = asked.unwrap_or_else(|| self.placement(id).into());
        Ok(Group::existing(&Hierarchy::detect()?, &location))
    }

    /// Live directories that a monitor had renamed out of sight, to clean up at leisure, when it was killed.
    pub(crate) fn sweep_released(&self) -> Result<()> {
        for (path, id) in hidden(&self.instance.live_containers()) {
            let Ok(Some(_lock)) = Lock::try_exclusive(&path) else { continue };
            let request = read_request(&path);
            remove_group(&self.group_of(&id, request.as_ref())?)?;
            if let Some(request) = request {
                self.release_volumes(&request)?;
            }
            fs::remove_dir_all(&path)?;
            self.sweep_shared();
        }
        Ok(())
    }

    fn release_volumes(&self, request: &Request) -> Result<()> {
        for volume in request.volumes.iter().filter(|volume| volume.mounted) {
            self.volume_store().release(&volume.name, &request.id)?;
        }
        Ok(())
    }

    /// Bridge, table and parent groups go with their last user. Where a monitor does not see to that, we do.
    pub(crate) fn sweep_shared(&self) {
        // Somebody may use them again by now; then they stay, and that is no error.
        network::sweep_now(&self.instance).ok();
        if let Ok(hierarchy) = Hierarchy::detect() {
            cgroup::sweep_parent(&hierarchy, &self.instance.global_name()).ok();
        }
    }

    fn record_end(&self, record: &Record, had_monitor: bool) -> Result<()> {
        state::exit::settle(&self.instance, &record.id)?;
        state::exit::forget_torn(&self.instance, &record.id);
        let live = records::live(&self.instance, &record.id)?;
        let exit = records::exit(&self.instance, &record.id)?;
        let started = live.map(|l| l.started);
        // The monitor may have written the end before it was killed.
        let written = exit.is_some_and(|e| started.is_none_or(|s| e.started == Some(s)));
        if had_monitor && !written {
            self.write_exit(&record.id, KILLED, started, "its monitor was killed")?;
        }
        Ok(())
    }

    /// Removes a container that its maker never finished, and its claim of a name.
    fn remove_half_made(&self, id: &Id, name: Option<&str>) -> Result<()> {
        let names = self.instance.container_names();
        let candidates = match name {
            Some(name) => vec![name.to_owned()],
            None => fs::names(&names)?,
        };
        for name in candidates {
            claim::release(&names, &name, id.as_str())?;
        }
        let hidden = self.instance.containers().join(format!(".{id}"));
        self.remove_volumes_of_half_made(&hidden)?;
        fs::remove_dir_all(&hidden)?;
        // A power cut can leave it in its place, but without a record.
        fs::remove_dir_all(&self.instance.container(id))?;
        Ok(())
    }

    /// Directories of containers whose makers were killed before anybody could see them.
    fn sweep_half_made(&self) -> Result<()> {
        for (_, id) in hidden(&self.instance.containers()) {
            if held(&self.instance, &id)? != Held::Owned
                && let Some(_owner) = Owner::take(&self.instance, &id)?
            {
                self.remove_half_made(&id, None)?;
            }
        }
        Ok(())
    }

    /// Claims of names whose makers or removers were killed in the middle. More names than containers tell that
    /// there may be some: only then are they all looked at.
    fn sweep_names(&self) -> Result<()> {
        let dir = self.instance.container_names();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            match name.strip_prefix('.') {
                None => names.push(name),
                // A claim that was never made: `.<id>.<name>`.
                Some(rest) => {
                    let owner = rest.split('.').next().and_then(|id| id.parse::<Id>().ok());
                    if let Some(id) = owner
                        && held(&self.instance, &id)? != Held::Owned
                    {
                        fs::remove_file(&entry.path())?;
                    }
                }
            }
        }
        if names.len() > records::all(&self.instance)?.len() {
            for name in names {
                self.reconcile_name(&name)?;
            }
        }
        Ok(())
    }

    /// Releases the claim of a name whose holder is no container and is not being made. True if it is free now.
    pub(crate) fn reconcile_name(&self, name: &str) -> Result<bool> {
        let names = self.instance.container_names();
        let Some(owner) = claim::owner(&names, name)? else { return Ok(true) };
        let Ok(id) = owner.parse::<Id>() else {
            // An empty claim is a torn one, from a power cut: nobody's.
            fs::remove_file(&names.join(name))?;
            return Ok(true);
        };
        self.reconcile_one(&id)?;
        if records::exists(&self.instance, &id) {
            return self.release_other_name(name, &id);
        }
        let Some(_owner) = Owner::take(&self.instance, &id)? else { return Ok(false) };
        if records::exists(&self.instance, &id) {
            return Ok(false);
        }
        claim::release(&names, name, id.as_str())?;
        Ok(true)
    }

    /// Releases a claim of a container that has another name: whoever renamed it was killed. True if it did.
    fn release_other_name(&self, name: &str, id: &Id) -> Result<bool> {
        let is_other = || -> Result<bool> {
            Ok(records::record(&self.instance, id)?.is_some_and(|record| record.name != name))
        };
        if !is_other()? {
            return Ok(false);
        }
        // Who renames it right now has claimed the new name, and not written it yet: waited for.
        let _renamed = Lock::exclusive(&self.instance.container(id))?;
        if !is_other()? {
            return Ok(false);
        }
        claim::release(&self.instance.container_names(), name, id.as_str())?;
        Ok(true)
    }

    /// Removes a container's files: gone for everybody at once, deleted after. The owner's live directory
    /// goes last.
    pub(crate) fn remove_files(&self, id: &Id, name: &str, owner: Owner) -> Result<()> {
        let removing = self.instance.removing().join(id.as_str());
        match fs::rename(&self.instance.container(id), &removing) {
            Err(e) if e.is_not_found() => {}
            // A leftover of the same name: finish it first.
            Err(e) if e.source.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                self.finish_removal(&removing)?;
                fs::rename(&self.instance.container(id), &removing)?;
            }
            other => other?,
        }
        claim::release(&self.instance.container_names(), name, id.as_str())?;
        self.finish_removal(&removing)?;
        // How it ended is nobody's concern any more.
        fs::remove_file(&owner.live().join(file::EXIT))?;
        drop(owner);
        self.wake_shipper(Some(id));
        Ok(())
    }

    /// Writes how a run ended, in words of ours. The caller owns the container.
    pub(crate) fn write_exit(
        &self,
        id: &Id,
        code: i32,
        started: Option<Timestamp>,
        error: &str,
    ) -> Result<()> {
        let exit = Exit {
            format: FORMAT,
            code,
            oom_killed: false,
            started,
            finished: Timestamp::now(),
            error: Some(error.to_owned()),
            stopped: false,
            restarts: 0,
            health: None,
        };
        state::exit::write(&self.instance, id, &exit)?;
        Ok(())
    }

    /// Finishes removals that somebody was killed in. Errors wait for the next who comes.
    pub(crate) fn sweep_removing(&self) {
        for entry in std::fs::read_dir(self.instance.removing()).into_iter().flatten().flatten() {
            // A monitor that is still at it holds the lock; two at once would do no harm, only work twice.
            let mut released = std::ffi::OsString::from(".");
            released.push(entry.file_name());
            let released = self.instance.live_containers().join(released);
            if !held_at(&released).is_ok_and(|h| h == Held::Owned) {
                self.finish_removal(&entry.path()).ok();
            }
        }
    }
}

/// A request that a killed command has half written counts as none: then nothing was acted on.
/// What its monitor was told, where a container has a live directory.
pub(crate) fn read_request(live: &Path) -> Option<Request> {
    let bytes = fs::read_if_exists(&live.join(file::REQUEST)).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Whether the monitor has been killed and is not gone yet: it executes nothing any more.
pub(crate) fn is_being_killed(live: &Live) -> bool {
    // Cheaper than `status`, which is five times as long.
    let stat = fs::read_if_exists(Path::new(&format!("/proc/{}/stat", live.monitor_pid)));
    matches!(stat, Ok(Some(stat)) if is_ending(&stat) == Some(true))
}

/// Whether a process of this `stat` (proc_pid_stat(5)) is on its way out, or SIGKILL is pending for it.
fn is_ending(stat: &[u8]) -> Option<bool> {
    /// The flag `PF_EXITING` of the kernel's `sched.h`.
    const EXITING: u64 = 4;
    // The name, which is in brackets, may have any character in it.
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
    // The field after the name is the third; flags is the ninth, pending signals are the thirty-first.
    let flags: u64 = fields.nth(6)?.parse().ok()?;
    let pending: u64 = fields.nth(21)?.parse().ok()?;
    let kill = 1 << (crate::containers::signal::KILL - 1);
    Some(flags & EXITING != 0 || pending & kill != 0)
}

/// The directories named `.ID`: being made, or being removed.
fn hidden(dir: &Path) -> Vec<(PathBuf, Id)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let id_of = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix('.')?.parse::<Id>().ok();
    entries.filter_map(|entry| Some((entry.path(), id_of(&entry.file_name())?))).collect()
}

/// Overlayfs makes a directory in its working directory when it is mounted first, and leaves it.
fn has_been_mounted(dir: &Path) -> bool {
    dir.join(file::WORK).join("work").exists()
}

/// A killed process leaves its cgroup only when it is reaped.
fn remove_group(group: &Group) -> Result<()> {
    let deadline = Instant::now() + DYING;
    loop {
        match group.remove() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            other => return Ok(other?),
        }
    }
}

/// What cannot be put right because a disk is full stays as it is. It is no reason to refuse what was asked for: that
/// may be what makes room.
pub(crate) fn bear_full_disk(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == Kind::Exhausted => Ok(()),
        other => other,
    }
}

/// A record that could not be put into words.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a record")]
pub(crate) struct Encode(#[source] pub serde_json::Error);

impl base::Failure for Encode {
    fn kind(&self) -> base::Kind {
        base::Kind::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::is_ending;

    #[test]
    fn a_process_that_is_killed_is_known_by_its_stat() {
        let stat = |name: &str, flags: u64, pending: u64| {
            format!("7 ({name}) S 1 7 7 0 -1 {flags} {} {pending} 0 0 0\n", ["0"; 21].join(" "))
        };
        for name in ["dhow-monitor", "a) R 1", ""] {
            assert_eq!(is_ending(stat(name, 0x40_0100, 0).as_bytes()), Some(false), "{name}");
            assert_eq!(is_ending(stat(name, 0x40_0104, 0).as_bytes()), Some(true), "{name}");
            assert_eq!(is_ending(stat(name, 0x40_0100, 0x100).as_bytes()), Some(true), "{name}");
            assert_eq!(is_ending(stat(name, 0, 0x200).as_bytes()), Some(false), "{name}: another signal");
        }
        for torn in ["", "7", "7 (x)", "7 (x) S 1 7"] {
            assert_eq!(is_ending(torn.as_bytes()), None, "{torn:?}");
        }
        let ours = std::fs::read("/proc/self/stat").unwrap();
        assert_eq!(is_ending(&ours), Some(false));
    }

    #[test]
    fn a_real_one_that_is_killed_is_ending() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = || std::fs::read(format!("/proc/{}/stat", child.id())).unwrap();
        assert_eq!(is_ending(&stat()), Some(false));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(is_ending(&stat()), Some(true), "killed, and not yet waited for");
        child.wait().unwrap();
    }
}
