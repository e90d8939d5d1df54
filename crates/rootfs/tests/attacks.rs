//! Archives that broke other engines, and what they try here. Wants root.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Header, Scratch, Tar};

/// Unpacks what must be refused, and checks that nothing came of it.
#[track_caller]
fn refused(tar: Tar, why: &str) {
    let scratch = Scratch::new();
    let error = scratch.unpack(&tar.end()).unwrap_err();
    assert!(error.contains(why), "{error}");
    assert!(!error.contains('\n') && error.len() < 1000, "{error}");
    scratch.check(0);
}

#[test]
fn names_that_lead_out() {
    for name in ["../evil", "a/../../evil", "/../evil", "..", "a/.."] {
        refused(Tar::default().file(name, "x"), "it contains `..`");
        refused(
            Tar::default().add(Header { pax: &[("path", name.as_bytes())], ..Header::default() }, b""),
            "`..`",
        );
    }
    let scratch = Scratch::new();
    let root = scratch.unpack(&Tar::default().file("/etc/evil", "x").file("//b", "x").end()).unwrap();
    assert!(root.join("etc/evil").exists() && root.join("b").exists());
    scratch.check(1);
}

#[test]
fn whiteouts_that_lead_out() {
    refused(Tar::default().file("../.wh.outside", ""), "`..`");
    refused(Tar::default().file(".wh...", ""), "whiteout of nothing");
    refused(Tar::default().file("a/.wh..", ""), "whiteout of nothing");
    refused(Tar::default().file(".wh.", ""), "whiteout of nothing");
    refused(Tar::default().file(".wh.a/b", ""), "below a whiteout");
    // Through a symlink of the same layer: it says nothing.
    let scratch = Scratch::new();
    let tar =
        Tar::default().symlink("link", "../../outside").dir("outside").file("link/.wh.secret", "").end();
    let root = scratch.unpack(&tar).unwrap();
    assert_eq!(std::fs::read_dir(root.join("outside")).unwrap().count(), 0);
    scratch.check(1);
}

/// CVE-2026-17106, CVE-2025-47290, CVE-2021-32760: a link, then something written, changed or linked through it.
#[test]
fn writing_through_links() {
    let scratch = Scratch::new();
    let outside = scratch.dir.path().join("outside");
    let outside = outside.to_str().unwrap();
    for target in [outside, "../../outside", "../../../../../../../../../tmp"] {
        for (name, last) in
            [("link/secret", b'0'), ("link/evil", b'0'), ("link/dir", b'5'), ("link/fifo", b'6')]
        {
            let tar = Tar::default().symlink("link", target);
            let tar =
                tar.add(Header { name: name.as_bytes(), kind: last, mode: 0o4777, ..Header::default() }, b"");
            // The link leads to nothing in this layer: whether that is refused or made inside, never outside.
            scratch.unpack(&tar.end()).unwrap_err();
            scratch.check(0);
        }
    }
    // A link in the place of the last component is replaced, not followed: also by a directory.
    let tar = Tar::default()
        .symlink("file", &format!("{outside}/secret"))
        .file("file", "x")
        .symlink("dir", outside)
        .add(Header { name: b"dir", kind: b'5', mode: 0o777, uid: 5, ..Header::default() }, b"")
        .symlink("again", &format!("{outside}/secret"))
        .hard_link("again", "file");
    let root = scratch.unpack(&tar.end()).unwrap();
    assert_eq!(std::fs::read(root.join("file")).unwrap(), b"x");
    assert!(root.join("dir").symlink_metadata().unwrap().is_dir());
    scratch.check(1);
}

#[test]
fn hard_links_that_lead_out() {
    let scratch = Scratch::new();
    let secret = scratch.dir.path().join("outside/secret");
    for target in [secret.to_str().unwrap(), "/etc/passwd", "nowhere", "a/b/c"] {
        let error = scratch.unpack(&Tar::default().hard_link("link", target).end()).unwrap_err();
        assert!(error.contains("which this layer does not have"), "{error}");
    }
    refused(Tar::default().hard_link("link", "../../outside/secret"), "it contains `..`");
    refused(Tar::default().dir("dir").hard_link("link", "dir"), "is a directory");
    refused(Tar::default().dir("dir").hard_link("link", "."), "is a directory");
    refused(Tar::default().file(".wh.x", "").hard_link("link", "x"), "does not have");
    // To a symlink: a second name of the symlink, not of what it leads to.
    let tar = Tar::default().symlink("s", secret.to_str().unwrap()).hard_link("h", "s").file("h", "evil");
    scratch.unpack(&tar.end()).unwrap();
    // Through a symlink.
    let tar =
        Tar::default().symlink("s", secret.parent().unwrap().to_str().unwrap()).hard_link("h", "s/secret");
    scratch.unpack(&tar.end()).unwrap_err();
    // Replacing the directory that holds the target.
    let tar = Tar::default().file("d/x", "").hard_link("d", "d/x");
    assert!(scratch.unpack(&tar.end()).unwrap_err().contains("does not have"));
    scratch.check(1);
}

/// CVE-2021-29136: the root itself is replaced.
#[test]
fn the_root_is_only_a_directory() {
    for name in [".", "./", "/", ".//."] {
        refused(Tar::default().symlink(name, "/"), "the root of the layer");
        refused(Tar::default().file(name, "x"), "the root of the layer");
    }
    refused(Tar::default().file("a", "").hard_link(".", "a"), "directory");
}

#[test]
fn loops_of_links_end() {
    refused(Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", ""), "symbolic links");
    refused(Tar::default().symlink("a", "a/a").file("a/x", ""), "symbolic links");
}

#[test]
fn numbers_that_wrap() {
    let pax = |key: &'static str, value: &'static [u8]| {
        Tar::default().add(Header { name: b"f", pax: &[(key, value)], ..Header::default() }, b"")
    };
    refused(pax("uid", b"4294967296"), "impossible user id");
    refused(pax("uid", b"4294967295"), "impossible user id");
    refused(pax("gid", b"-1"), "impossible group id");
    refused(pax("size", b"18446744073709551615"), "more than 549755813888 bytes");
    refused(pax("size", b"18446744073709551616"), "impossible size");
    refused(pax("size", b"1x"), "impossible size");
    refused(pax("mtime", b"99999999999999999999"), "impossible time");
    refused(pax("path", b"a\0b"), "impossible name");
    let device = Header { name: b"d", kind: b'3', device: (1 << 12, 0), ..Header::default() };
    refused(Tar::default().add(device, b""), "no device 4096:0");
    // A size in base 256 that would wrap to nothing.
    let mut tar = Tar::default().file("f", "").0;
    tar[124..136].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar[..512].iter().map(|&b| u32::from(b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refused(Tar(tar), "impossible size");
}

/// Where does an entry end? As Go's reader has it: links and directories have no content, whatever they say.
#[test]
fn sizes_of_what_has_no_content_are_ignored() {
    let scratch = Scratch::new();
    let mut tar = Tar::default();
    for (name, kind) in [(b"l", b'2'), (b"d", b'5'), (b"p", b'6')] {
        tar = tar
            .add(Header { name, kind, link: b"t", mode: 0o755, size: Some(512), ..Header::default() }, b"");
    }
    let root = scratch.unpack(&tar.file("last", "x").end()).unwrap();
    assert!(root.join("last").exists());
}

#[test]
fn sparse_maps_that_lie() {
    let sparse = |map: &'static [u8], real: &'static [u8], content: &[u8]| {
        Tar::default().add(
            Header {
                name: b"f",
                pax: &[("GNU.sparse.map", map), ("GNU.sparse.size", real), ("GNU.sparse.numblocks", b"1")],
                ..Header::default()
            },
            content,
        )
    };
    refused(sparse(b"0,9223372036854775807", b"9223372036854775807", b"x"), "impossible sparse map");
    refused(sparse(b"18446744073709551615,2", b"4", b"xx"), "impossible sparse map");
    refused(sparse(b"0,1", b"9223372036854775807", b"x"), "more than 549755813888 bytes");
    refused(sparse(b"0,1,0,1", b"4", b"xx"), "impossible sparse map");
    refused(sparse(b"0,1", b"4", b"xx"), "impossible sparse map");
    refused(sparse(b"0,1", b"x", b"x"), "impossible sparse map");
    let scratch = Scratch::new();
    let root = scratch.unpack(&sparse(b"3,2,10,1", b"12", b"abc").end()).unwrap();
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"\0\0\0ab\0\0\0\0\0c\0");
}

#[test]
fn headers_without_end() {
    // Extended headers larger than any, and GNU sparse extensions that go on and on.
    let big = vec![b'x'; 2 << 20];
    refused(
        Tar::default().add(Header { name: b"f", pax: &[("comment", &big)], ..Header::default() }, b""),
        "more than 1048576 bytes of extended headers",
    );
    let mut tar = Tar::default().add(Header { name: b"f", kind: b'S', ..Header::default() }, b"").0;
    tar[257..265].copy_from_slice(b"ustar  \0");
    tar[482] = 1;
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar[..512].iter().map(|&b| u32::from(b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut more = [0; 512];
    more[504] = 1;
    for _ in 0..40_000 {
        tar.extend_from_slice(&more);
    }
    refused(Tar(tar), "larger than 8 MiB");
    let name = vec![b'n'; 4096];
    refused(
        Tar::default().add(Header { pax: &[("path", &name)], ..Header::default() }, b""),
        "a name of more than 4095 bytes",
    );
    let name = [b'n'; 256];
    refused(Tar::default().add(Header { pax: &[("path", &name)], ..Header::default() }, b""), "too long");
}

#[test]
fn names_cannot_write_on_the_terminal() {
    let scratch = Scratch::new();
    let tar = Tar::default().file("\x1b[31m\nred/..", "x").end();
    let error = scratch.unpack(&tar).unwrap_err();
    assert!(!error.chars().any(char::is_control), "{error}");
}

#[test]
fn depth_beyond_descriptors_and_paths() {
    // Each link leads to the end of the last chain: 2,000 levels, more than any path or descriptor table has.
    let chain = vec!["d"; 100].join("/");
    let mut tar = Tar::default();
    let mut at = String::new();
    for i in 0..20 {
        let name = format!("{at}{chain}");
        tar = tar.add(
            Header { kind: b'5', mode: 0o755, pax: &[("path", name.as_bytes())], ..Header::default() },
            b"",
        );
        let link = format!("l{i}");
        tar = tar.add(
            Header {
                name: link.as_bytes(),
                kind: b'2',
                pax: &[("linkpath", name.as_bytes())],
                ..Header::default()
            },
            b"",
        );
        at = format!("{link}/");
    }
    let tar = tar.end();
    let scratch = Scratch::new();
    // The kernel may find that these are too many links on one way: then it is refused, and cleaned up.
    if scratch.unpack(&tar).is_ok() {
        scratch.store.remove(&base::Digest::of(&tar)).unwrap();
    }
    scratch.check(0);
}

/// A million of them in the soak.
#[test]
fn soak_a_great_many_tiny_files() {
    let files = if std::env::var_os("DHOW_SOAK").is_some() { 1_000_000 } else { 20_000 };
    let mut tar = Tar::default();
    for i in 0..files {
        tar = tar.file(&format!("{}/{}/{i}", i % 10, i / 10 % 100), "");
    }
    let tar = tar.end();
    let scratch = Scratch::new();
    scratch.unpack(&tar).unwrap();
    scratch.store.remove(&base::Digest::of(&tar)).unwrap();
    scratch.check(0);
}
