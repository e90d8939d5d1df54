//! Attacks: undoing, with all capabilities in a user namespace of its own, what the host's mounts forbid.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::Invocation;
use harness::attack::{almighty, mount, with_users};
use harness::oci::{Bundle, Runtime};
use serde_json::json;

/// Mounts, in a mount namespace of its own, a read-only volume at `$1` with a writable device node in it and something
/// hidden under another mount; and a second one like it in the root file system `$2`. Then it executes the rest.
const HOST: &str = "set -e; for at in $1 $2/data; do mkdir -p $at; \
    mount -t tmpfs none $at; mkdir $at/sub; echo hidden >$at/sub/file; \
    mknod -m 666 $at/zero c 1 5; chmod 777 $at $at/sub; \
    mount -t tmpfs -o ro none $at/sub; mount -o remount,bind,ro,nosuid,nodev $at; done; \
    shift 2; exec \"$@\"";

/// Tries all that there is to undo. Says what it succeeded with.
const ATTACK: &str = "for at in /vol /data; do \
    mount -o remount,bind,rw,dev,suid $at 2>/dev/null && echo remounted $at; \
    mount -o remount,bind,rw,nosuid,nodev $at 2>/dev/null && echo made $at writable; \
    touch $at/written 2>/dev/null && echo wrote to $at; \
    mount -o remount,bind,ro,nosuid,dev $at 2>/dev/null && echo made $at dev; \
    head -c 1 $at/zero >/dev/null 2>&1 && echo opened $at/zero; \
    umount $at/sub 2>/dev/null && echo uncovered $at/sub; \
    umount -l $at/sub 2>/dev/null && echo uncovered $at/sub lazily; \
    mkdir -p /tmp/at; mount -o bind $at /tmp/at 2>/dev/null && ls /tmp/at/sub; \
    cat $at/sub/file 2>/dev/null; done; ls -d /vol/sub /data/sub";

/// Between that and the rest: a process in a user and a mount namespace of its own, which `$CONFIG` is told of.
const HOLDER: &str = "unshare --user --mount sleep 1000 & holder=$!; \
    until [ \"$(cat /proc/$holder/comm)\" = sleep ]; do sleep 0.01; done; \
    for ids in uid gid; do echo 0 100000 65536 >/proc/$holder/${ids}_map; done; \
    sed -i s/HOLDER/$holder/g $CONFIG; \"$@\"; code=$?; kill $holder; exit $code";

#[test]
fn what_the_hosts_mounts_forbid_stays_forbidden() {
    let (runtime, bundle, host) = attack();
    let said = runtime.on(host, &["run", "--bundle", bundle.text(), &runtime.id("box")]).ok();
    assert_eq!(said, "/data/sub\n/vol/sub");
}

/// Nor are they the container's to change that come into a mount namespace which its user namespace owns already.
#[test]
fn what_the_hosts_mounts_forbid_stays_forbidden_where_both_namespaces_are_joined() {
    let (runtime, bundle, host) = attack();
    let bundle = bundle.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        for (kind, file) in [("user", "user"), ("mount", "mnt")] {
            namespaces.retain(|namespace| namespace["type"] != kind);
            namespaces.push(json!({"type": kind, "path": format!("/proc/HOLDER/ns/{file}")}));
        }
    });
    let host = host.args(&["sh", "-c", HOLDER, "sh"]).env("CONFIG", bundle.config());
    let said = runtime.on(host, &["run", "--bundle", bundle.text(), &runtime.id("box")]).ok();
    assert_eq!(said, "/data/sub\n/vol/sub");
}

/// A container that attacks, and the host on which it is to be run.
fn attack() -> (Runtime, Bundle, Invocation) {
    let runtime = Runtime::new();
    let volume = runtime.scratch().join("vol");
    let bundle = Bundle::running(&["sh", "-c", ATTACK]).edit(|spec| {
        almighty(spec);
        spec["root"]["readonly"] = json!(false);
        mount(spec, "/vol", "bind", volume.to_str().unwrap(), &["rbind", "rw", "dev", "suid"]);
    });
    std::fs::create_dir_all(bundle.rootfs().join("data")).unwrap();
    with_users(&bundle);
    let host = Invocation::new("unshare").args(&["--mount", "sh", "-c", HOST, "sh"]);
    let host = host.arg(&volume).arg(bundle.rootfs());
    (runtime, bundle, host)
}
