//! The end of a container: what it held is given back. First what others may be waiting for (its names, address,
//! ports, its record), then, when the door has been told, what takes time.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use base::fs;
use monitor::Request;
use runtime::cgroup::{self, Group, Hierarchy};
use state::claim;
use state::container::Exit;
use state::exit::{self, Kept};
use state::lock::Lock;

use crate::notes;

/// How long bridge, table and groups stay when nobody uses them: the next container may come at once, and making
/// them costs more than its start.
const GRACE: Duration = Duration::from_secs(2);

/// How often, and how long apart, it is tried to become the one who waits.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(20);

/// What cannot be removed in so many rounds is stuck, and no reason for a process to stay: commands try again.
const ROUNDS: u32 = 5;

/// Records the end (or, with `--rm`, takes the container out of sight with one rename), releases its claims, and
/// takes the live directory away. Each step is tried whatever became of the one before; what fails is left for the
/// reconciler, which does the same for monitors that died.
pub(crate) fn quickly(request: &Request, name: &str, end: &Exit) {
    let instance = &request.instance;
    let dir = instance.container(&request.id);
    if request.auto_remove {
        fs::rename(&dir, &instance.removing().join(request.id.as_str())).ok();
        claim::release(&instance.container_names(), name, request.id.as_str()).ok();
    }
    let kept = if request.auto_remove { Ok(Kept::InPlace) } else { exit::write(instance, &request.id, end) };
    request.network.release(instance, &request.id).ok();
    if matches!(kept, Ok(Kept::Live)) {
        // The next command finds it abandoned, and our word of its end in it.
        return;
    }
    // A name with a dot is no container's: one rename, and it does not run any more.
    let live = instance.live(&request.id);
    fs::rename(&live, &instance.live_containers().join(format!(".{}", request.id))).ok();
}

/// Removes what nobody waits for, and at last, if nobody uses them any more, what all containers share.
pub(crate) fn slowly(request: &Request, group: Option<Group>, live: OwnedFd) {
    let instance = &request.instance;
    // First: who starts the container again waits for the directory to go, and claims its volumes anew.
    volumes(request);
    // Where a process hangs in the group, the directory stays: the next command finds it and tries again.
    if group.is_none_or(|group| group.remove().is_ok()) {
        fs::remove_dir_all(&instance.live_containers().join(format!(".{}", request.id))).ok();
    }
    if request.auto_remove {
        fs::remove_dir_all(&instance.removing().join(request.id.as_str())).ok();
    }
    // From here on we own nothing.
    drop(live);
    sweep(request);
}

/// Unmounts volumes that nobody runs with any more, and with `--rm` removes those that were the container's alone. Its record
/// goes after them: as long as that is there, whoever finishes the removal for us knows of them.
fn volumes(request: &Request) {
    if request.volumes.is_empty() {
        return;
    }
    let store = volume::Store::open(&request.instance);
    for volume in request.volumes.iter().filter(|volume| volume.mounted) {
        store.release(&volume.name, &request.id).ok();
    }
    notes::volumes(request, "unmount");
    if request.auto_remove {
        for volume in request.volumes.iter().filter(|volume| volume.anonymous) {
            store.remove_with_container(&volume.name).ok();
        }
    }
}

/// One monitor of many that end waits, and looks whether bridge, table and parent groups are unused. The others
/// leave at once and rely on it: it looks once more after it has let go of the lock, so that who came while it held
/// it is never the last without a sweep.
fn sweep(request: &Request) {
    let instance = &request.instance;
    let dir = instance.run();
    for _ in 0..ROUNDS {
        let Some(lock) = lock_patiently(dir) else { return };
        sleep(GRACE);
        let swept = network::sweep(instance).unwrap_or(false) & sweep_groups(&instance.global_name());
        drop(lock);
        if swept || !is_unused(request) {
            return;
        }
    }
}

/// The lock, if no other monitor has it: one that has keeps it for [`GRACE`], a command that only looks for an instant.
fn lock_patiently(dir: &Path) -> Option<Lock> {
    for _ in 0..LOOKS {
        match Lock::try_exclusive(dir) {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) => sleep(LOOK),
            Err(_) => return None,
        }
    }
    None
}

fn sweep_groups(parent: &str) -> bool {
    let Ok(hierarchy) = Hierarchy::detect() else { return true };
    cgroup::sweep_parent(&hierarchy, parent).unwrap_or(false)
}

/// Whether no container is live.
fn is_unused(request: &Request) -> bool {
    fs::names(&request.instance.live_containers()).is_ok_and(|names| names.is_empty())
}
