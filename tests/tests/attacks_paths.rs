//! Attacks: symlinks in an image at every path that the runtime touches.
//!
//! What they lead to exists outside, with everything in it that a runtime would look for; whether a container with such
//! an image starts is not the question, but that nothing is made, changed or mounted out there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

use harness::attack::{Outside, mount, unmount, with_users};
use harness::oci::{Bundle, Runtime};
use harness::{Output, Terminal, eventually};
use serde_json::{Value, json};

/// The paths in a root that a start touches: mount points, devices, links, masks, the working directory, accounts.
const TOUCHED: [&str; 29] = [
    "dev",
    "dev/pts",
    "dev/console",
    "dev/null",
    "dev/ptmx",
    "dev/tty",
    "dev/fd",
    "dev/core",
    "dev/stdin",
    "dev/shm",
    "dev/mqueue",
    "dev/kmsg",
    "proc",
    "proc/self",
    "proc/kcore",
    "proc/sys",
    "sys",
    "sys/fs",
    "sys/fs/cgroup",
    "sys/firmware",
    "etc",
    "etc/passwd",
    "etc/group",
    "etc/masked",
    "etc/readonly",
    "mnt",
    "mnt/nested",
    "mnt/nested/file",
    "srv",
];

/// A bundle whose configuration touches all of them.
fn touching(args: &[&str]) -> Bundle {
    let bundle = Bundle::running(args);
    let volume = bundle.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o777)).unwrap();
    bundle.edit(|spec| {
        spec["process"]["cwd"] = json!("/srv/made/here");
        spec["process"]["env"] = json!(["PATH=/bin"]);
        for (list, path) in [("maskedPaths", "/etc/masked"), ("readonlyPaths", "/etc/readonly")] {
            spec["linux"][list].as_array_mut().unwrap().push(json!(path));
        }
        let device = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "uid": 7, "gid": 7});
        spec["linux"]["devices"] = json!([device]);
        mount(spec, "/mnt", "tmpfs", "tmpfs", &["nosuid"]);
        mount(spec, "/mnt/nested", "bind", volume.to_str().unwrap(), &["bind", "rw"]);
        mount(spec, "/mnt/nested/file", "bind", "/etc/hostname", &["bind", "ro"]);
        mount(spec, "/etc/deep/target", "bind", "/etc/hostname", &["bind", "ro"]);
    })
}

/// Puts a symlink at `path`, whatever is there.
fn plant(bundle: &Bundle, path: &str, target: &Path) {
    let place = bundle.rootfs().join(path);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    if place.is_dir() && !place.is_symlink() {
        std::fs::remove_dir_all(&place).unwrap();
    } else {
        std::fs::remove_file(&place).ok();
    }
    symlink(target, &place).unwrap();
}

/// The same place by an absolute path, and by one that climbs.
fn ways_to(outside: &Path) -> [std::path::PathBuf; 2] {
    [outside.to_owned(), Path::new(&"../".repeat(30)).join(outside.strip_prefix("/").unwrap())]
}

/// Runs a container with each of the symlinks. `change` says what it is like.
fn try_all(terminal: bool, users: bool, change: impl Fn(&mut Value)) {
    let runtime = Runtime::new();
    let outside = Outside::new(runtime.scratch());
    let mut started = 0;
    for path in TOUCHED {
        for target in ways_to(outside.path()) {
            let bundle = touching(&["true"]).edit(&change);
            plant(&bundle, path, &target);
            let led = std::fs::canonicalize(bundle.rootfs().join(path)).unwrap();
            assert_eq!(led, outside.path(), "on the host {path} leads outside");
            if users {
                with_users(&bundle);
            }
            let id = runtime.id("box");
            let args = ["run", "--bundle", bundle.text(), &id];
            let (code, said) = if terminal {
                let mut terminal = Terminal::of(|setting| runtime.on(setting, &args));
                (terminal.wait(), terminal.screen())
            } else {
                let output = runtime.run(&args);
                (output.code, output.stderr)
            };
            started += usize::from(code == 0);
            println!("{path}: {code} {said}");
            outside.assert_untouched(&format!("{path} -> {}", target.display()));
        }
    }
    // Some are refused; most lead somewhere inside, and do no harm.
    assert!(started > 20, "only {started} of these started: nothing was tried");
}

/// CVE-2026-41579, CVE-2026-47766, CVE-2019-16884, CVE-2024-5154, CVE-2024-9341, GHSA-q6r4-3wmg-fwcq and their kin.
#[test]
fn symlinks_in_an_image_do_not_lead_out_of_it() {
    try_all(false, false, |_| {});
}

/// CVE-2025-52565: and with a terminal, whose other end becomes /dev/console.
#[test]
fn nor_with_a_terminal() {
    try_all(true, false, |spec| spec["process"]["terminal"] = json!(true));
}

/// Where the image's own /dev is filled, not a tmpfs of ours.
#[test]
fn nor_where_dev_is_the_images() {
    try_all(false, false, |spec| unmount(spec, "/dev"));
}

/// Where nodes cannot be made and the host's are bound over files.
#[test]
fn nor_in_a_user_namespace() {
    try_all(false, true, |spec| unmount(spec, "/dev"));
}

/// CVE-2025-31133: masks are made of /dev/null, and the image's is a symlink to a file of the kernel.
#[test]
fn a_mask_is_never_what_the_image_calls_null() {
    let core_pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for users in [false, true] {
        for target in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/comm"] {
            let runtime = Runtime::new();
            // What is shown below the mask must not be writable, whatever is under it.
            let script = "for f in /proc/keys /etc/masked; do \
                          echo owned > $f; stat -c '%F %t:%T' $f; done";
            let bundle = Bundle::running(&["sh", "-c", script]).edit(|spec| {
                unmount(spec, "/dev");
                spec["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/etc/masked"));
            });
            std::fs::write(bundle.rootfs().join("etc/masked"), "secret").unwrap();
            plant(&bundle, "dev/null", Path::new(target));
            if users {
                with_users(&bundle);
            }
            let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
            let shown: Vec<&str> = output.stdout.lines().collect();
            assert!(
                output.code != 0 && shown.is_empty() || shown == ["character special file 1:3"; 2],
                "{target}: {output:#?}"
            );
            let after = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
            assert_eq!(after, core_pattern);
        }
        // With an image's null that is one, they are what they should be.
        let runtime = Runtime::new();
        let bundle = Bundle::running(&["stat", "-c", "%F %t:%T", "/proc/keys"]);
        if users {
            with_users(&bundle);
        }
        let shown = runtime.ok(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
        assert_eq!(shown, "character special file 1:3");
    }
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-52881: /proc is a volume, a symlink or a tmpfs, and what is
/// written there, labels and kernel settings, goes nowhere or to a file of the attacker's choice.
#[test]
fn proc_is_the_kernels_or_nothing() {
    let runtime = Runtime::new();
    let outside = Outside::new(runtime.scratch());
    let id = &runtime.id("box");
    let refused = |what: &str, bundle: &Bundle| -> Output {
        bundle.change(|spec| {
            spec["linux"]["sysctl"] = json!({"kernel.domainname": "owned"});
            spec["process"]["oomScoreAdj"] = json!(500);
        });
        let output = runtime.run(&["run", "--bundle", bundle.text(), id]);
        assert_ne!(output.code, 0, "{what}: {output:#?}");
        outside.assert_untouched(what);
        output
    };
    let bundle = || Bundle::running(&["true"]);
    for (kind, source, options) in [
        ("bind", outside.text(), &["rbind"][..]),
        ("tmpfs", "tmpfs", &["nosuid"]),
        ("none", outside.text(), &["bind"]),
    ] {
        // Over ours, and in place of ours.
        let over = bundle().edit(|spec| mount(spec, "/proc", kind, source, options));
        let said = refused("over proc", &over).stderr;
        assert!(said.contains("/proc"), "{said}");
        let instead = bundle().edit(|spec| {
            unmount(spec, "/proc");
            mount(spec, "/proc", kind, source, options);
        });
        refused("instead of proc", &instead);
        // And on a part of it, by whatever way.
        for place in ["/proc/sys", "/proc/self/attr", "/proc/1", "/link/sys", "/tmp/../proc/sys/kernel"] {
            let part = bundle().edit(|spec| mount(spec, place, kind, source, options));
            symlink("proc", part.rootfs().join("link")).unwrap();
            refused(place, &part);
        }
    }
    // The image has a symlink there: into a volume, where the attacker has prepared the files.
    for target in ["/volume", "volume", "../../volume"] {
        let led = bundle().edit(|spec| {
            spec["mounts"].as_array_mut().unwrap().insert(
                0,
                json!({"destination": "/volume", "type": "bind", "source": outside.path(), "options": ["bind"]}),
            );
        });
        plant(&led, "proc", Path::new(target));
        refused(target, &led);
    }
    // Without any of that the same settings are made.
    let fine = Bundle::running(&["cat", "/proc/sys/kernel/domainname", "/proc/self/oom_score_adj"]);
    fine.change(|spec| {
        spec["linux"]["sysctl"] = json!({"kernel.domainname": "fine"});
        spec["process"]["oomScoreAdj"] = json!(500);
    });
    assert_eq!(runtime.ok(&["run", "--bundle", fine.text(), id]), "fine\n500");
}

/// CVE-2025-52565: the image's /dev/console, or its /dev/pts/0, is something else.
#[test]
fn the_console_is_the_terminal() {
    for (path, target) in [
        ("dev/console", "/proc/sys/kernel/core_pattern"),
        ("dev/pts", "/proc/sys"),
        ("dev/pts/0", "/proc/sys/kernel/core_pattern"),
        ("dev/ptmx", "/proc/sysrq-trigger"),
    ] {
        for image in [false, true] {
            let runtime = Runtime::new();
            let script = "stat -L -c %F /dev/console; stat -c '%t:%T' /dev/console $(tty)";
            let bundle = Bundle::running(&["sh", "-c", script]).edit(|spec| {
                spec["process"]["terminal"] = json!(true);
                if image {
                    unmount(spec, "/dev");
                }
            });
            plant(&bundle, path, Path::new(target));
            let id = runtime.id("box");
            let args = ["run", "--bundle", bundle.text(), &id];
            let mut terminal = Terminal::of(|setting| runtime.on(setting, &args));
            if terminal.wait() != 0 {
                continue;
            }
            let said = eventually("its words", || Some(terminal.screen()).filter(|s| s.lines().count() == 3));
            let lines: Vec<&str> = said.lines().map(str::trim).collect();
            assert!(lines[0] == "character special file" && lines[1] == lines[2], "{path} {image}: {said}");
        }
    }
}

/// CVE-2024-9676, CVE-2026-47262, CVE-2025-4437: accounts that are a FIFO, a device, a loop, huge, or not the image's.
#[test]
fn accounts_are_read_with_care() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let bundle = Bundle::running(&["sh", "-c", "echo $HOME"]);
    // Nothing says where the home is: the files are read.
    bundle.change(|spec| {
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["process"]["user"] = json!({"uid": 7, "gid": 7});
    });
    let passwd = bundle.rootfs().join("etc/passwd");
    let run = || runtime.command(&["run", "--bundle", bundle.text(), id]).limit(20).output();
    std::fs::write(&passwd, "a:x:7:7::/found:/bin/sh\n").unwrap();
    assert_eq!(run().stdout, "/found\n", "it is read at all");
    let replace = |make: &dyn Fn(&Path)| {
        for name in ["passwd", "group"] {
            let path = bundle.rootfs().join("etc").join(name);
            std::fs::remove_file(&path).unwrap();
            make(&path);
        }
    };
    let node = |path: &Path, kind, number| {
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o666.into(), number).unwrap();
    };
    use rustix::fs::FileType;
    let outside = runtime.scratch().join("hosts-passwd");
    std::fs::write(&outside, "a:x:7:7::/stolen:/bin/sh\n").unwrap();
    let huge = "b:x:8:8::/b:/bin/sh\n".repeat(3_000_000);
    type Make<'a> = dyn Fn(&Path) + 'a;
    let makers: [(&str, &Make<'_>); 7] = [
        ("FIFO", &|path| node(path, FileType::Fifo, 0)),
        ("zero", &|path| node(path, FileType::CharacterDevice, rustix::fs::makedev(1, 5))),
        ("loop", &|path| symlink(path.file_name().unwrap(), path).unwrap()),
        ("link out", &|path| symlink(&outside, path).unwrap()),
        ("climbing link out", &|path| symlink(&ways_to(&outside)[1], path).unwrap()),
        ("magic link", &|path| symlink("/proc/self/fd/0", path).unwrap()),
        ("huge", &|path| std::fs::write(path, &huge).unwrap()),
    ];
    let sleeping = runtime.id("sleeping");
    bundle.change(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    runtime.start_detached(&bundle, &sleeping);
    bundle.change(|spec| spec["process"]["args"] = json!(["sh", "-c", "echo $HOME"]));
    for (what, make) in makers {
        replace(make);
        let exec = runtime.command(&["exec", &sleeping, "sh", "-c", "echo $HOME"]).limit(20).output();
        for output in [run(), exec] {
            assert_eq!((output.code, &*output.stdout), (0, "/\n"), "{what}: {output:#?}");
        }
    }
    assert!(!outside.metadata().unwrap().file_type().is_fifo());
}
