//! What a start takes from elsewhere: the namespaces of other containers, and limits that were changed meanwhile.
//!
//! A request names the containers. Which process has their namespaces is known only now, and is another one after each
//! of their own starts.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use base::{Failure, Id, Kind, fs};
use monitor::{JOINED, Join, Request};
use oci::runtime::NamespaceKind;
use runtime::Bundle;
use state::container::{Live, file};

use crate::launch::{Result, boxed};

/// A container whose namespaces cannot be joined.
#[derive(Debug, thiserror::Error)]
#[error("cannot join the {} namespace of container {}: it does not run", name(*.kind), .container.short())]
struct NotRunning {
    kind: NamespaceKind,
    container: Id,
}

impl Failure for NotRunning {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        vec![format!("start it first: dhow start {}", self.container.short())]
    }
}

fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Ipc => "IPC",
        NamespaceKind::Network => "network",
        _ => "PID",
    }
}

/// Whether its processes are in somebody else's PID namespace, and so outlive its first one.
pub(crate) fn shares_processes(request: &Request) -> bool {
    let linux = request.bundle.spec.linux.as_ref();
    !linux.is_some_and(|l| l.namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none()))
}

/// Processes whose namespaces are joined.
#[derive(Debug, Default)]
pub(crate) struct Joined(Vec<(Join, u32)>);

/// What is started, for the first time or `again`.
pub(crate) fn bundle(request: &Request, again: bool) -> Result<(Cow<'_, Bundle>, Joined)> {
    let mut bundle = Cow::Borrowed(&request.bundle);
    if again {
        let path = request.instance.live(&request.id).join(file::RESOURCES);
        let changed = fs::read_if_exists(&path).map_err(boxed)?;
        // What cannot be read would be our own mistake: the limits that it began with are better than none.
        if let Some(resources) = changed.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            bundle.to_mut().spec.linux.get_or_insert_default().resources = Some(resources);
        }
    }
    let mut joined = Joined::default();
    for join in &request.joins {
        let pid = pid_of(request, join)?;
        let bundle = bundle.to_mut();
        let linux = bundle.spec.linux.get_or_insert_default();
        for namespace in linux.namespaces.iter_mut().filter(|n| n.kind == join.kind) {
            namespace.path = namespace.path.as_deref().map(|path| told(path, pid));
        }
        if join.kind == NamespaceKind::Ipc {
            for mount in &mut bundle.spec.mounts {
                mount.source = mount.source.as_deref().map(|path| told(path, pid));
            }
        }
        joined.0.push((join.clone(), pid));
    }
    Ok((bundle, joined))
}

/// The networks of what is started: where it is `again`, those that it was connected to meanwhile count as well.
pub(crate) fn network<'a>(
    request: &'a Request,
    again: bool,
    bundle: &mut Cow<'_, Bundle>,
) -> Result<Cow<'a, network::Plan>> {
    if !again {
        return Ok(Cow::Borrowed(&request.network));
    }
    let now = request.network.by_now(&request.instance, &request.id).map_err(boxed)?;
    if now.has_ipv6() && !request.network.has_ipv6() {
        bundle.to_mut().spec.linux.get_or_insert_default().sysctl.remove(network::DISABLE_IPV6);
    }
    Ok(Cow::Owned(now))
}

/// `/proc/joined/ns/ipc`, with the process instead.
fn told(path: &Path, pid: u32) -> PathBuf {
    match path.strip_prefix(Path::new("/proc").join(JOINED)) {
        Ok(rest) => Path::new("/proc").join(pid.to_string()).join(rest),
        Err(_) => path.to_owned(),
    }
}

fn pid_of(request: &Request, join: &Join) -> Result<u32> {
    let gone = || boxed(NotRunning { kind: join.kind, container: join.container.clone() });
    let path = request.instance.live(&join.container).join(file::LIVE);
    let bytes = fs::read_if_exists(&path).map_err(boxed)?.ok_or_else(gone)?;
    let live: Live = serde_json::from_slice(&bytes).map_err(|_| gone())?;
    if live.pid == 0 || live.restarting { Err(gone()) } else { Ok(live.pid) }
}

impl Joined {
    /// Makes sure, now that what is joined has been opened, that the numbers were those containers' processes all the
    /// time: one that has ended may have left its number to anybody.
    pub(crate) fn check(&self) -> Result<()> {
        for (join, pid) in &self.0 {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if !groups.contains(join.container.as_str()) {
                return Err(boxed(NotRunning { kind: join.kind, container: join.container.clone() }));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_placeholder_is_replaced() {
        assert_eq!(told(Path::new("/proc/joined/ns/ipc"), 7), Path::new("/proc/7/ns/ipc"));
        assert_eq!(told(Path::new("/proc/joined/root/dev/shm"), 7), Path::new("/proc/7/root/dev/shm"));
        assert_eq!(told(Path::new("/srv/joined"), 7), Path::new("/srv/joined"));
        assert_eq!(told(Path::new("/proc/joinedx/ns"), 7), Path::new("/proc/joinedx/ns"));
    }
}
