//! User namespaces: with maps of root's and of an ordinary user's, and joined with others. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use base::{Failure, Kind};
use oci::runtime::{Capabilities, IdMapping, Linux, Namespace, NamespaceKind, User};
use runtime::hooks;
use runtime::{Bundle, Held, Manner, RootSource, Running};
use scratch::{Scratch, pipe, run, stdio, wait};

/// An ordinary user: nobody, who is in every `/etc/passwd`.
const NOBODY: u32 = 65534;

const KINDS: [NamespaceKind; 6] = [
    NamespaceKind::User,
    NamespaceKind::Mount,
    NamespaceKind::Pid,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Network,
];

fn linux(bundle: &mut Bundle) -> &mut Linux {
    bundle.spec.linux.as_mut().unwrap()
}

fn map(list: &[(u32, u32, u32)]) -> Vec<IdMapping> {
    let line = |&(container_id, host_id, size)| IdMapping { container_id, host_id, size };
    list.iter().map(line).collect()
}

/// A bundle with a user namespace, on a directory that belongs to its root.
fn bundle(scratch: &Scratch, args: &[&str], ids: &[(u32, u32, u32)]) -> Bundle {
    let mut bundle = scratch.bundle(args);
    bundle.root = RootSource::Directory(scratch.path("lower"));
    let root = ids.iter().find(|(inside, ..)| *inside == 0).map(|(_, outside, _)| *outside);
    for below in ["lower", "lower/tmp", "lower/proc", "lower/dev", "lower/sys"] {
        chown(scratch.path(below), root, root).unwrap();
    }
    bundle.spec.mounts.retain(|m| matches!(m.destination.to_str(), Some("/proc" | "/sys")));
    let linux = linux(&mut bundle);
    linux.masked_paths = Vec::new();
    linux.readonly_paths = vec!["/proc/sys".into()];
    linux.namespaces = KINDS.map(|kind| Namespace { kind, path: None }).to_vec();
    linux.uid_mappings = map(ids);
    linux.gid_mappings = map(ids);
    let process = bundle.spec.process.as_mut().unwrap();
    process.user = User::default();
    process.oom_score_adj = Some(500);
    process.capabilities = Some(Capabilities {
        bounding: vec!["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into()],
        ..Capabilities::default()
    });
    bundle
}

const IDS: [(u32, u32, u32); 2] = [(0, 100_000, 1000), (1000, 200_000, 1000)];

const SHOW: &str = "busybox tr -s ' ' </proc/self/uid_map; busybox tr -s ' ' </proc/self/gid_map; \
                    busybox id -u; busybox hostname; busybox cat /proc/self/oom_score_adj; busybox echo $$";

fn text(bundle: &Bundle) -> String {
    let (code, text) = run(bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!(code, 0, "{text}");
    text
}

#[test]
fn ids_are_mapped_and_the_builder_is_root() {
    let scratch = Scratch::new("user-map");
    let script = format!("{SHOW}; busybox touch /tmp/mine; busybox stat -c %u /tmp/mine");
    let bundle = bundle(&scratch, &["sh", "-c", &script], &IDS);
    let maps = " 0 100000 1000\n 1000 200000 1000\n";
    assert_eq!(text(&bundle), format!("{maps}{maps}0\ninside\n500\n1\n0\n"));
    let made = fs::metadata(scratch.path("lower/tmp/mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 100_000);
}

#[test]
fn a_user_of_it_is_another_outside() {
    let scratch = Scratch::new("user-user");
    let mut bundle = bundle(&scratch, &["sh", "-c", "busybox id -u; busybox id -g; busybox sleep 100"], &IDS);
    let process = bundle.spec.process.as_mut().unwrap();
    process.user = User { uid: 1001, gid: 1002, additional_gids: vec![7], ..User::default() };
    let (read, write) = pipe();
    let running = runtime::launch(runtime::plan(&bundle).unwrap(), stdio(write), &mut |_| Ok(())).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    end(&running);
    assert!(status.contains("Uid:\t200001\t200001\t200001\t200001\n"), "{status}");
    assert!(status.contains("Gid:\t200002\t") && status.contains("Groups:\t100007 "), "{status}");
    drop(read);
}

#[test]
fn maps_that_make_no_sense_or_have_no_namespace_are_refused() {
    let scratch = Scratch::new("user-bad");
    let error = |change: fn(&mut Linux)| {
        let mut bundle = bundle(&scratch, &["sh"], &IDS);
        change(linux(&mut bundle));
        let error = runtime::plan(&bundle).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        error.to_string()
    };
    assert!(error(|l| l.uid_mappings = map(&[(1, 5, 5)])).contains("container's 0"));
    assert!(error(|l| l.gid_mappings = map(&[(0, 5, 5), (2, 90, 1)])).contains("overlaps"));
    assert!(error(|l| l.gid_mappings.clear()).contains("needs them"));
    assert!(error(|l| l.namespaces.retain(|n| n.kind != NamespaceKind::User)).contains("no user namespace"));
}

#[test]
fn a_map_that_the_kernel_refuses_leaves_nothing() {
    let scratch = Scratch::new("user-refused");
    let bundle = bundle(&scratch, &["sh"], &IDS);
    // In a user namespace of two ids there are no others to map.
    let exe = own_program(&scratch);
    let output = Command::new("unshare")
        .args(["-r", "-m", "--"])
        .arg(exe)
        .args(["--exact", "as_another", "--ignored", "--nocapture"])
        .env("BUNDLE", serde_json::to_string(&bundle).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("uid_map: Operation not permitted"), "{text}");
    assert!(text.contains("no children"), "{text}");
}

#[test]
fn an_existing_one_is_joined_with_others_made_or_joined() {
    let scratch = Scratch::new("user-join");
    let holder = bundle(&scratch, &["busybox", "sleep", "100"], &IDS);
    let running = runtime::launch(runtime::plan(&holder).unwrap(), stdio(pipe().1), &mut |_| Ok(())).unwrap();
    let path = |name: &str| Some(PathBuf::from(format!("/proc/{}/ns/{name}", running.pid)));
    let link = |name: &str| fs::read_link(path(name).unwrap()).unwrap().display().to_string();
    let script = "for n in user net pid ipc; do busybox readlink /proc/self/ns/$n; done; \
                  busybox id -u; busybox cat /proc/self/oom_score_adj; busybox tr '\\0' _ </proc/1/cmdline";
    for joined in
        [&[NamespaceKind::User][..], &[NamespaceKind::User, NamespaceKind::Network, NamespaceKind::Pid]]
    {
        let mut bundle = bundle(&scratch, &["sh", "-c", script], &IDS);
        for namespace in &mut linux(&mut bundle).namespaces {
            if joined.contains(&namespace.kind) {
                namespace.path = path(match namespace.kind {
                    NamespaceKind::User => "user",
                    NamespaceKind::Network => "net",
                    _ => "pid",
                });
            }
        }
        let text = text(&bundle);
        let lines: Vec<_> = text.lines().collect();
        let all = joined.len() > 1;
        assert_eq!(lines[0], link("user"));
        assert_eq!(lines[1] == link("net"), all, "{lines:?}");
        assert_eq!(lines[2] == link("pid"), all, "{lines:?}");
        assert_ne!(lines[3], link("ipc"));
        assert_eq!(lines[4..6], ["0", "500"]);
        assert_eq!(lines[6] == "busybox_sleep_100_", all, "{lines:?}");
    }
    end(&running);
}

#[test]
fn a_new_one_goes_with_a_network_of_the_hosts() {
    let scratch = Scratch::new("user-net");
    let mut holder = Command::new("unshare").args(["-n", "sleep", "100"]).spawn().unwrap();
    let path = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    while fs::read_link(&path).unwrap() == ours {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut bundle = bundle(
        &scratch,
        &["sh", "-c", "busybox readlink /proc/self/ns/net; busybox readlink /proc/self/ns/user"],
        &IDS,
    );
    // A sysfs shows the network, whose owner must be the one who mounts it.
    bundle.spec.mounts.retain(|m| m.destination.to_str() == Some("/proc"));
    for namespace in &mut linux(&mut bundle).namespaces {
        if namespace.kind == NamespaceKind::Network {
            namespace.path = Some(path.clone());
        }
    }
    let text = text(&bundle);
    let theirs = fs::read_link(&path).unwrap().display().to_string();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let user = fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
    assert!(text.starts_with(&theirs) && !text.contains(&user), "{text}");
}

#[test]
fn one_that_is_held_takes_hooks_and_starts() {
    let scratch = Scratch::new("user-held");
    let mut bundle = bundle(&scratch, &["sh", "-c", "busybox cat /tmp/hook"], &IDS);
    bundle.manner = Manner { tied: false, ..Manner::default() };
    let plan = runtime::plan(&bundle).unwrap().held(Held::listen(&scratch.path("socket")).unwrap());
    let (mut read, write) = pipe();
    let running = runtime::launch(plan, stdio(write), &mut |_| Ok(())).unwrap();
    let hook = oci::runtime::Hook {
        path: "/bin/busybox".into(),
        args: ["sh", "-c", "(busybox id -u; busybox hostname; busybox ls /) >/tmp/hook"]
            .map(str::to_owned)
            .to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        timeout: None,
    };
    hooks::run(&hook, b"{}", Some(hooks::Inside::of(std::os::fd::AsFd::as_fd(&running.pidfd)))).unwrap();
    Held::connect(&scratch.path("socket")).unwrap().go().unwrap();
    assert_eq!(scratch::read_all(&mut read), "0\ninside\nbin\ndev\netc\nproc\nsys\ntmp\n");
    assert_eq!(wait(&running), 0);
}

#[test]
fn clocks_can_be_set_in_it() {
    let scratch = Scratch::new("user-time");
    let mut bundle = bundle(&scratch, &["busybox", "cat", "/proc/uptime"], &IDS);
    linux(&mut bundle).namespaces.push(Namespace { kind: NamespaceKind::Time, path: None });
    let offset = oci::runtime::TimeOffset { secs: 5_000_000, nanosecs: 0 };
    linux(&mut bundle).time_offsets.insert("boottime".to_owned(), offset);
    let text = text(&bundle);
    assert!(text.split('.').next().unwrap().parse::<u64>().unwrap() > 5_000_000, "{text}");
}

/// What [`nobody`] runs.
#[test]
#[ignore = "run by others, as another user"]
fn as_another() {
    let Ok(bundle) = std::env::var("BUNDLE") else { return };
    let bundle: Bundle = serde_json::from_str(&bundle).unwrap();
    match run(&bundle) {
        Ok((code, text)) => println!("code {code}\n{text}"),
        Err(e) => println!("{:?}: {}", e.kind(), base::failure::chain(&*e)),
    }
    if rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_err() {
        println!("no children");
    }
}

/// This test's own program where everybody may execute it.
fn own_program(scratch: &Scratch) -> PathBuf {
    let copy = scratch.path("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    copy
}

/// Runs a bundle as an ordinary user, who has these lines in `/etc/subuid` and `/etc/subgid`.
fn nobody(scratch: &Scratch, bundle: &Bundle, ranges: &str, path: &str) -> String {
    let exe = own_program(scratch);
    fs::write(scratch.path("ranges"), ranges).unwrap();
    for below in ["m", "lower", "lower/tmp", "lower/proc", "lower/dev", "lower/sys"] {
        chown(scratch.path(below), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let script = format!(
        "for f in uid gid; do touch /etc/sub$f; mount --bind {0} /etc/sub$f; done; \
         exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {1} --exact as_another --ignored --nocapture",
        scratch.path("ranges").display(),
        exe.display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("BUNDLE", serde_json::to_string(bundle).unwrap())
        .env("PATH", path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn rootless(scratch: &Scratch, ids: &[(u32, u32, u32)]) -> Bundle {
    bundle(
        scratch,
        &["sh", "-c", &format!("{SHOW}; busybox touch /tmp/mine; busybox cat /proc/self/setgroups")],
        ids,
    )
}

const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

#[test]
fn an_ordinary_user_maps_themselves() {
    let scratch = Scratch::new("user-self");
    let text = nobody(&scratch, &rootless(&scratch, &[(0, NOBODY, 1)]), "", PATH);
    let map = format!(" 0 {NOBODY} 1\n");
    assert!(text.contains(&format!("code 0\n{map}{map}0\ninside\n500\n1\ndeny\n")), "{text}");
}

#[test]
fn an_ordinary_user_has_a_range_mapped() {
    let scratch = Scratch::new("user-range");
    let bundle = rootless(&scratch, &[(0, NOBODY, 1), (1, 300_000, 100)]);
    let text = nobody(&scratch, &bundle, "nobody:300000:100\n", PATH);
    let map = format!(" 0 {NOBODY} 1\n 1 300000 100\n");
    assert!(text.contains(&format!("code 0\n{map}{map}0\ninside\n500\n1\nallow\n")), "{text}");
    let text = nobody(&scratch, &bundle, "nobody:400000:100\n", PATH);
    assert!(text.contains("newuidmap refused to map the ids") && text.contains("no children"), "{text}");
}

#[test]
fn without_the_programs_an_ordinary_user_hears_what_is_missing() {
    let scratch = Scratch::new("user-none");
    let bundle = rootless(&scratch, &[(0, NOBODY, 1), (1, 300_000, 100)]);
    // All of the script's own programs, and no others.
    let path = scratch.path("path");
    fs::create_dir(&path).unwrap();
    for name in ["unshare", "setpriv", "mount", "touch", "sh"] {
        let place =
            ["/usr/bin", "/bin"].iter().map(|d| PathBuf::from(d).join(name)).find(|p| p.exists()).unwrap();
        symlink(place, path.join(name)).unwrap();
    }
    let text = nobody(&scratch, &bundle, "nobody:300000:100\n", path.to_str().unwrap());
    assert!(text.contains("there is no `newuidmap` along the PATH"), "{text}");
}

fn end(running: &Running) {
    rustix::process::pidfd_send_signal(&running.pidfd, rustix::process::Signal::KILL).ok();
    wait(running);
}

/// What a process of root without the right to trace, as a container in the host's PID namespace has them, can learn of
/// another; with that right it is all.
fn look_into(pid: u32, rights: &str) -> String {
    let script =
        "readlink /proc/$1/root /proc/$1/cwd /proc/$1/exe /proc/$1/fd/*; cat /proc/$1/environ | wc -c";
    let bounding = format!("--bounding-set=-all,+chown,+dac_override,+fowner,+kill,+sys_chroot{rights}");
    let looked = Command::new("setpriv")
        .args([&bounding, "--inh-caps=-all", "sh", "-c", script, "sh", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8(looked.stdout).unwrap()
}

#[derive(Default)]
struct Looks {
    without: Vec<String>,
    with: Vec<String>,
}

impl Looks {
    fn look(&mut self, pid: u32) {
        self.without.push(look_into(pid, ""));
        self.with.push(look_into(pid, ",+sys_ptrace"));
    }
}

impl runtime::Steps for Looks {
    fn born(&mut self, pid: u32, _: std::os::fd::BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self.look(pid);
        Ok(())
    }

    fn mounted(&mut self, pid: u32, _: std::os::fd::BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self.look(pid);
        Ok(())
    }
}

/// The owner of a user namespace has all rights over it, whatever rights they have otherwise.
#[test]
fn nobody_looks_into_a_start_who_may_not_trace() {
    let scratch = Scratch::new("user-trace");
    let mut bundle = bundle(&scratch, &["sh", "-c", ":"], &IDS);
    // In the end it is held: there too it must not be.
    bundle.manner = Manner { tied: false, ..Manner::default() };
    let socket = Held::listen(&scratch.path("socket")).unwrap();
    let plan = runtime::plan(&bundle).unwrap().held(socket).with_mounted_step();
    let (_read, write) = pipe();
    let mut looks = Looks::default();
    let running = runtime::launch(plan, stdio(write), &mut looks).unwrap();
    looks.look(running.pid);
    assert_eq!(looks.without, ["0\n"; 3]);
    assert!(looks.with.iter().all(|seen| seen.lines().count() > 3), "{:?}", looks.with);
    Held::connect(&scratch.path("socket")).unwrap().go().unwrap();
    assert_eq!(wait(&running), 0);
}

/// What is mounted is what the plan found: the container's mount namespace, where the copies are made, may have something
/// else at the same path.
#[test]
fn a_source_that_is_another_one_by_now_is_not_mounted() {
    let scratch = Scratch::new("user-source");
    let source = scratch.path("source");
    fs::create_dir(&source).unwrap();
    let mut bundle = bundle(&scratch, &["busybox", "ls", "/mnt"], &IDS);
    fs::create_dir(scratch.path("lower/mnt")).unwrap();
    bundle.spec.mounts.push(oci::runtime::Mount {
        destination: "/mnt".into(),
        source: Some(source.clone()),
        options: vec!["rbind".to_owned()],
        ..Default::default()
    });
    fs::write(source.join("file"), "").unwrap();
    assert_eq!(text(&bundle), "file\n");
    let plan = runtime::plan(&bundle).unwrap();
    fs::rename(&source, scratch.path("moved")).unwrap();
    fs::create_dir(&source).unwrap();
    let (_read, write) = pipe();
    let error = runtime::launch(plan, stdio(write), &mut |_| Ok(())).map(|_| ()).unwrap_err();
    let words = base::failure::chain(&error);
    assert!(words.starts_with("cannot mount on /mnt: "), "{words}");
}

/// The held process cannot tell whom its user namespace does not know from each other.
#[test]
fn nobody_else_starts_a_held_command() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let scratch = Scratch::new("user-stranger");
    for below in ["", "lower"] {
        fs::set_permissions(scratch.path(below), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut bundle = bundle(&scratch, &["busybox", "echo", "ran"], &IDS);
    bundle.manner = Manner { tied: false, ..Manner::default() };
    let path = scratch.path("socket");
    // As a careless caller's umask would leave it.
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let socket = Held::listen(&path).unwrap();
    rustix::process::umask(before);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let (mut read, write) = pipe();
    let plan = runtime::plan(&bundle).unwrap().held(socket);
    let running = runtime::launch(plan, stdio(write), &mut |_| Ok(())).unwrap();
    // A user of the host that the container does not know, and one that it does.
    for user in [1234, 100_000] {
        // The ids of a thread are its own, and it takes them with it.
        let tried = std::thread::scope(|scope| {
            let stranger = scope.spawn(|| {
                let (uid, gid) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(user));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                Held::connect(&path).map(Held::go)
            });
            stranger.join().unwrap()
        });
        let error = tried.map(|_| ()).unwrap_err();
        assert!(base::failure::chain(&error).contains("Permission denied"), "{user}: {error}");
    }
    assert_eq!(rustix::io::ioctl_fionread(&read).unwrap(), 0, "it runs");
    Held::connect(&path).unwrap().go().unwrap();
    assert_eq!(scratch::read_all(&mut read), "ran\n");
    assert_eq!(wait(&running), 0);
}

/// CVE-2023-25809: without a cgroup namespace v2 cannot be mounted anew, and groups of the host that belong to the
/// container's ids are not for it to write to, whether the specification has the mount read-only or not.
#[test]
fn groups_that_are_given_to_its_ids_are_not_within_reach() {
    let top = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
    let top = top.iter().find(|top| top.join("cgroup.procs").exists()).unwrap();
    let given = top.join(format!("dhow-test-given-{}", std::process::id()));
    fs::create_dir(&given).unwrap();
    chown(&given, Some(100_000), Some(100_000)).unwrap();
    let scratch = Scratch::new("user-groups");
    let script = "busybox find /sys/fs/cgroup -name 'dhow-test-given-*' -exec busybox mkdir {}/owned ';' -print; \
        busybox ls /sys/fs/cgroup/cgroup.procs; \
        busybox grep ' /sys/fs/cgroup ' /proc/self/mountinfo | busybox cut -d' ' -f6";
    let mut bundle = bundle(&scratch, &["sh", "-c", script], &IDS);
    bundle.cgroup =
        Some(runtime::cgroup::Location::Path(format!("/dhow-test-own-{}", std::process::id()).into()));
    bundle.spec.mounts.push(oci::runtime::Mount {
        destination: "/sys/fs/cgroup".into(),
        kind: Some("cgroup2".to_owned()),
        source: Some("cgroup".into()),
        options: vec!["nosuid".to_owned(), "noexec".to_owned(), "nodev".to_owned()],
        ..Default::default()
    });
    let ran = run_in_group(&bundle);
    let owned = given.join("owned").exists();
    fs::remove_dir(given.join("owned")).ok();
    fs::remove_dir(&given).unwrap();
    assert!(!owned, "{ran}");
    assert!(ran.ends_with("/sys/fs/cgroup/cgroup.procs\nro,nosuid,nodev,noexec,relatime\n"), "{ran}");
}

/// What it says; the group is removed.
fn run_in_group(bundle: &Bundle) -> String {
    let (mut read, write) = pipe();
    let plan = runtime::plan(bundle).unwrap();
    let running =
        runtime::launch(plan, stdio(write), &mut |_| Ok(())).map_err(|e| base::failure::chain(&e)).unwrap();
    let text = scratch::read_all(&mut read);
    wait(&running);
    running.group.as_ref().unwrap().remove().unwrap();
    text
}
