//! Trees that want more than to be copied.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn links_lead_nowhere_out_of_the_context() {
    let trees = Trees::with(&["a"]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    for (name, target) in [
        ("shadow", PathBuf::from("/etc/shadow")),
        ("up", PathBuf::from("../../../../../../../../etc/shadow")),
        ("out", outside.path().to_owned()),
        ("proc", PathBuf::from("/proc/self/root/etc/shadow")),
        ("loop", PathBuf::from("loop")),
    ] {
        symlink(target, trees.from.join(name)).unwrap();
        assert!(trees.apply(&copy(&[name], "/t")).is_err(), "{name}");
        assert!(trees.digest(&copy(&[name], "/t")).is_err(), "{name}");
    }
    assert!(trees.apply(&copy(&["out/secret"], "/t")).is_err());
    assert!(trees.apply(&copy(&["out/*"], "/t/")).is_ok());
    // Copied with their directory they are what they say, and nothing else.
    trees.apply(&copy(&["."], "/all")).unwrap();
    assert!(trees.stat("all/shadow").is_symlink());
    assert_eq!(trees.there(), ["all/", "all/a", "all/loop", "all/out", "all/proc", "all/shadow", "all/up"]);
}

#[test]
fn links_lead_nowhere_out_of_the_target() {
    let trees = Trees::with(&["a", "d/b"]);
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), trees.to.join("out")).unwrap();
    symlink("../../../../../../../../../../../../tmp", trees.to.join("up")).unwrap();
    symlink(outside.path().join("made"), trees.to.join("file")).unwrap();
    for change in [
        copy(&["a"], "/out/"),
        copy(&["d"], "/out/x"),
        copy(&["a"], "/file"),
        copy(&["a"], "/up/../../../here"),
        Change::MakeDirectory { target: "/out/w".to_owned(), owner: None },
        Change::Write { target: "/out/h".to_owned(), content: Vec::new(), owner: None, mode: None },
    ] {
        trees.apply(&change).unwrap();
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(trees.to.join("here").exists());
    // A tree is not copied through a link in it.
    symlink("/etc", trees.to.join("l")).unwrap();
    trees.add("e/l/passwd");
    assert!(trees.apply(&copy(&["e"], "/")).is_err());
}

#[test]
fn users_are_not_the_hosts() {
    let trees = Trees::with(&["a"]);
    fs::create_dir(trees.to.join("etc")).unwrap();
    symlink("/../../../../../../etc/passwd", trees.to.join("etc/passwd")).unwrap();
    let change = Change::Copy(graph::Copy { owner: Some("daemon".to_owned()), ..copy_of(&["a"], "/t") });
    assert!(trees.apply(&change).is_err(), "a loop");
    fs::remove_file(trees.to.join("etc/passwd")).unwrap();
    make_fifo(&trees.to.join("etc/passwd"));
    trees.apply(&change).unwrap();
    assert_eq!(trees.stat("t").uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn what_is_no_file_is_copied_and_never_opened() {
    let trees = Trees::with(&["d/a"]);
    make_fifo(&trees.from.join("d/fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(trees.from.join("d/socket")).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let has_device = rustix::fs::mknodat(
        CWD,
        trees.from.join("d/null"),
        FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        device,
    )
    .is_ok();
    if has_device {
        set_mode(&trees.from.join("d/null"), 0o666);
    }
    for change in [copy(&["d"], "/t"), copy(&["d/fifo"], "/f"), copy(&["d/socket"], "/s")] {
        trees.digest(&change).unwrap();
        trees.apply(&change).unwrap();
        trees.apply(&change).unwrap();
    }
    assert_eq!(trees.stat("f").mode(), 0o010_640);
    assert_eq!(trees.stat("t/fifo").mode(), 0o010_640);
    if has_device {
        assert_eq!((trees.stat("t/null").rdev(), trees.stat("t/null").mode()), (device, 0o020_666));
    }
    assert!(!trees.to.join("t/socket").exists() && !trees.to.join("s").exists());
}

#[test]
fn archives_do_not_leave_the_target() {
    let trees = Trees::new();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), trees.to.join("link")).unwrap();
    let python = r"
import io, sys, tarfile
def file(tar, name):
    info = tarfile.TarInfo(name)
    info.size = 1
    tar.addfile(info, io.BytesIO(b'x'))
def link(tar, name, to, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    tar.addfile(info)
with tarfile.open(sys.argv[1] + '/up.tar', 'w') as tar:
    file(tar, '../up')
with tarfile.open(sys.argv[1] + '/through.tar', 'w') as tar:
    file(tar, 'link/through')
    link(tar, 'own', sys.argv[2])
    file(tar, 'own/through')
with tarfile.open(sys.argv[1] + '/hard.tar', 'w') as tar:
    link(tar, 'hard', '../../../../../../etc/passwd', tarfile.LNKTYPE)
";
    let made = std::process::Command::new("python3")
        .args(["-c", python, trees.from.to_str().unwrap(), outside.path().to_str().unwrap()])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let add = |source: &str| Change::Copy(graph::Copy { unpack: true, ..copy_of(&[source], "/") });
    assert!(trees.apply(&add("up.tar")).is_err());
    assert!(trees.apply(&add("hard.tar")).is_err());
    trees.apply(&add("through.tar")).ok();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn trees_without_end_are_an_error() {
    let trees = Trees::new();
    let mut at = open(&trees.from);
    for _ in 0..400 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    for result in [trees.apply(&copy(&["."], "/")), trees.digest(&copy(&["."], "/")).map(drop)] {
        assert!(result.unwrap_err().to_string().contains("deeper"));
    }
}

/// Somebody swaps files, directories, links and FIFOs for each other while they are copied.
#[test]
fn who_changes_the_context_meanwhile_leads_nowhere() {
    let trees = Trees::with(&["d/x/f", "d/y"]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "secret").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (x, y) = (trees.from.join("d/x"), trees.from.join("d/y"));
            while !done.load(Ordering::Relaxed) {
                fs::rename(&x, trees.from.join("away")).ok();
                symlink(outside.path(), &x).ok();
                fs::remove_file(&y).ok();
                make_fifo(&y);
                std::thread::yield_now();
                fs::remove_file(&x).ok();
                fs::rename(trees.from.join("away"), &x).ok();
                fs::remove_file(&y).ok();
                symlink(outside.path().join("f"), &y).ok();
                fs::remove_file(&y).ok();
                fs::write(&y, "d/y").ok();
            }
        });
        for round in 0..300 {
            let change = copy(&["d"], &format!("/{round}"));
            // That it failed is fine.
            trees.digest(&change).ok();
            trees.apply(&change).ok();
            trees.apply(&copy(&["d/x/f"], &format!("/{round}f"))).ok();
        }
        done.store(true, Ordering::Relaxed);
    });
    for name in trees.there() {
        let path = trees.to.join(&name);
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_file() {
            assert_ne!(fs::read(&path).unwrap(), b"secret", "{name}");
        }
    }
}
