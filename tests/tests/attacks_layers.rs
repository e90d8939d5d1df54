//! Layers that broke other engines' unpackers: each is refused with a clear word and leaves nothing, or is harmless.
//! What unpacks them sees a machine that it can write to nowhere but in its own directories, and beside these lies what
//! must stay as it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::Read;

use harness::attack::Outside;
use harness::entry::{Entry, GNU, V7};
use harness::image::Image;
use harness::tar::Tar;
use harness::{Dhow, Invocation, bin_dir, layout, soak};
use serde_json::json;

/// Executes the rest of its arguments where nothing but the directory `$0` can be written to.
const CONFINED: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro / && exec \"$@\"";

/// An instance that is attacked.
struct Victim {
    dhow: Dhow,
    outside: Outside,
    before: Vec<String>,
}

impl Victim {
    fn new(config: &str) -> Self {
        let dhow = Dhow::empty("layers");
        std::fs::write(dhow.config(), config).unwrap();
        let outside = Outside::new(dhow.scratch());
        let victim = Self { dhow, outside, before: Vec::new() };
        // What there is after an image has come and gone.
        victim.load(Tar::new().file("x", 0o644, "x").finish(), &[]).ok();
        victim.dhow.ok(&["rmi", "attack"]);
        Self { before: victim.dhow.listing(), ..victim }
    }

    fn load(&self, layer: Vec<u8>, program: &[&str]) -> Invocation {
        let directory = self.dhow.scratch().join("layout");
        std::fs::remove_dir_all(&directory).ok();
        let image = Image { name: "attack:latest".to_owned(), layers: vec![layer], config: json!({}) };
        layout::write(&image, &directory, program);
        let unshare = Invocation::new("unshare").args(&["--mount", "sh", "-euc", CONFINED]);
        let args = ["load", "--quiet", "--input", directory.to_str().unwrap()];
        self.dhow.on(unshare.arg(self.dhow.scratch()), &args)
    }

    /// It must be refused, for this reason.
    #[track_caller]
    fn refuses(&self, why: &str, layer: Tar) {
        self.refuses_packed(why, layer.finish(), &[]);
    }

    #[track_caller]
    fn refuses_packed(&self, why: &str, layer: Vec<u8>, program: &[&str]) {
        let output = self.load(layer, program).output();
        assert_eq!(output.code, 1, "{why}: {output:?}");
        assert!(output.stderr.contains(why), "{why}: {output:?}");
        let text = &output.stderr;
        assert!(text.len() < 1500 && !text.chars().any(|c| c.is_control() && c != '\n'), "{output:?}");
        self.check(why);
    }

    /// It may be unpacked; then nothing of it lies elsewhere than inside. Else what was said.
    #[track_caller]
    fn bears(&self, what: &str, layer: Tar) -> Result<(), String> {
        let output = self.load(layer.finish(), &[]).output();
        assert!(!output.stderr.contains("Read-only"), "{what}: {output:?}");
        if output.code == 0 {
            self.dhow.ok(&["rmi", "attack"]);
        }
        self.check(what);
        if output.code == 0 { Ok(()) } else { Err(output.stderr) }
    }

    #[track_caller]
    fn check(&self, what: &str) {
        self.outside.assert_untouched(what);
        assert_eq!(self.dhow.listing(), self.before, "{what}: something is left");
    }
}

fn file(name: &[u8]) -> Entry<'_> {
    Entry { name, content: b"evil", ..Entry::default() }
}

fn symlink<'a>(name: &'a [u8], link: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: b'2', mode: 0o777, link, ..Entry::default() }
}

fn hard_link<'a>(name: &'a [u8], link: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: b'1', link, ..Entry::default() }
}

fn dir(name: &[u8]) -> Entry<'_> {
    Entry { name, kind: b'5', mode: 0o777, uid: 666, ..Entry::default() }
}

#[test]
fn names_and_links_that_lead_out() {
    let victim = Victim::new("");
    let outside = victim.outside.text().to_owned();
    let up = "../".repeat(20);
    for name in ["../evil", "a/../../evil", "/../evil", "..", "a/..", "./../../outside/evil"] {
        victim.refuses("contains `..`", Tar::new().with(&file(name.as_bytes())));
    }
    for name in ["../evil", "a/.."] {
        victim.refuses(
            "contains `..`",
            Tar::new().with(&Entry { pax: &[("path", name.as_bytes())], ..file(b"x") }),
        );
        victim.refuses("contains `..`", Tar::new().with_gnu_names(&file(name.as_bytes())));
        victim.refuses("contains `..`", Tar::new().with(&file(b"x")).with(&hard_link(b"y", name.as_bytes())));
    }
    victim.bears("an absolute name", Tar::new().with(&file(format!("{outside}/evil").as_bytes()))).unwrap();
    for target in [format!("{outside}/passwd"), "/etc/passwd".to_owned(), "nowhere".to_owned()] {
        let layer = Tar::new().with(&hard_link(b"link", target.as_bytes()));
        victim.refuses("which this layer does not have", layer);
    }
    // A symlink, and something through it: written, made, linked, taken away.
    for target in [format!("{up}{outside}"), "../../../outside".to_owned()] {
        let target = target.as_bytes();
        for entry in [
            file(b"link/passwd"),
            file(b"link/evil"),
            dir(b"link/deep"),
            Entry { kind: b'6', content: b"", ..file(b"link/fifo") },
            Entry { kind: b'3', device: (1, 3), content: b"", ..file(b"link/device") },
            symlink(b"link/symlink", b"/etc"),
            hard_link(b"stolen", b"link/passwd"),
        ] {
            victim
                .bears("through a link", Tar::new().with(&symlink(b"link", target)).with(&entry))
                .unwrap_err();
        }
        for name in [&b"link/.wh.passwd"[..], b"link/.wh..wh..opq", b"link/deep/.wh.er"] {
            victim
                .bears(
                    "a whiteout through a link",
                    Tar::new().with(&symlink(b"link", target)).with(&file(name)),
                )
                .unwrap();
        }
        // In the place of a link: it is replaced, and neither followed nor changed.
        for entry in [file(b"link"), dir(b"link"), Entry { mode: 0o4777, uid: 666, ..file(b"link") }] {
            let layer = Tar::new().with(&symlink(b"link", target)).with(&entry);
            victim.bears("in the place of a link", layer).unwrap();
        }
        let layer = Tar::new().with(&symlink(b"s", target)).with(&hard_link(b"h", b"s")).with(&dir(b"h"));
        victim.bears("a second name of a link", layer).unwrap();
        // A directory that was there becomes a link, between two files in it.
        let layer = Tar::new()
            .with(&dir(b"d"))
            .with(&file(b"d/1"))
            .with(&symlink(b"d", target))
            .with(&file(b"d/passwd"));
        victim.bears("a directory becomes a link", layer).unwrap_err();
    }
    victim.refuses(
        "symbolic links",
        Tar::new().with(&symlink(b"a", b"b")).with(&symlink(b"b", b"a")).with(&file(b"a/x")),
    );
}

#[test]
fn whiteouts_and_the_root() {
    let victim = Victim::new("");
    victim.refuses("contains `..`", Tar::new().with(&file(b"../.wh.outside")));
    victim.refuses("contains `..`", Tar::new().with(&file(b"../outside/.wh..wh..opq")));
    for name in [&b".wh."[..], b".wh..", b"a/.wh...", b".wh.//"] {
        victim.refuses("whiteout of nothing", Tar::new().with(&file(name)));
    }
    victim.refuses("below a whiteout", Tar::new().with(&file(b".wh.a/b")));
    victim.bears("AUFS's own", Tar::new().with(&file(b".wh..wh.plnk/1.2"))).unwrap();
    // CVE-2021-29136: another root.
    for name in [&b"."[..], b"./", b"/", b".//."] {
        victim.refuses("the root of the layer", Tar::new().with(&symlink(name, b"/")));
        victim.refuses("the root of the layer", Tar::new().with(&file(name)));
        victim.bears("the root's mode", Tar::new().with(&dir(name))).unwrap();
    }
    // Whiteouts as overlay has them are a device that archives can have too.
    let device = Entry { kind: b'3', device: (0, 0), content: b"", ..file(b"w") };
    victim.bears("the kernel's own whiteout", Tar::new().with(&device).with(&file(b"w/x"))).unwrap();
}

#[test]
fn devices_attributes_and_rights() {
    let victim = Victim::new("");
    let device =
        |kind, device| Tar::new().with(&Entry { kind, device, mode: 0o666, content: b"", ..file(b"disk") });
    victim.bears("a disk", device(b'4', (254, 0))).unwrap();
    victim.bears("memory", device(b'3', (1, 1))).unwrap();
    victim.refuses("no device 4096:0", device(b'3', (4096, 0)));
    let attribute = |name, value| Tar::new().with(&Entry { pax: &[(name, value)], ..dir(b"d") });
    for name in
        ["trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.overlay.dhow", "security.selinux"]
    {
        let key = format!("SCHILY.xattr.{name}");
        let layer = Tar::new().with(&Entry { pax: &[(&key, b"/etc")], ..dir(b"d") });
        victim.bears(name, layer).unwrap();
    }
    victim.refuses("cannot set the attribute", attribute("SCHILY.xattr.security.capability", b"short"));
    victim.refuses("impossible attribute", attribute("LIBARCHIVE.xattr.user.x", b"*"));
    let keys: Vec<String> = (0..3000).map(|i| format!("SCHILY.xattr.user.{i}")).collect();
    let many: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"value"[..])).collect();
    // A file system of its own may have room for all of them.
    victim.bears("many attributes", Tar::new().with(&Entry { pax: &many, ..file(b"f") })).ok();
    let big = vec![b'x'; 2 << 20];
    victim.refuses(
        "`max_metadata`",
        Tar::new().with(&Entry { pax: &[("SCHILY.xattr.user.big", &big)], ..file(b"f") }),
    );
}

#[test]
fn numbers_and_sizes_that_lie() {
    let victim = Victim::new("");
    let pax = |key, value| Tar::new().with(&Entry { pax: &[(key, value)], ..file(b"f") });
    victim.refuses("impossible user id", pax("uid", b"4294967296"));
    victim.refuses("impossible user id", pax("uid", b"4294967295"));
    victim.refuses("impossible group id", pax("gid", b"-1"));
    victim.refuses("impossible size", pax("size", b"18446744073709551616"));
    victim.refuses("`max_size`", pax("size", b"9223372036854775807"));
    victim.refuses("ends too early", pax("size", b"1000000"));
    victim.refuses("impossible time", pax("mtime", b"1e9"));
    victim.refuses("impossible name", pax("path", b"a\0b"));
    victim.refuses("a name of more than 4095 bytes", pax("path", &[b'n'; 4096]));
    victim.refuses("a name of more than 4095 bytes", Tar::new().with_gnu_names(&file(&[b'n'; 5000])));
    victim.refuses("too long", pax("path", &[b'n'; 256]));
    victim.refuses(
        "a name of more than 4095 bytes",
        Tar::new().with(&Entry { pax: &[("linkpath", &[b'n'; 4096])], ..symlink(b"s", b"x") }),
    );
    victim.refuses("impossible user id", Tar::new().with(&Entry { magic: GNU, uid: u64::MAX, ..file(b"f") }));
    victim.refuses(
        "invalid entry size",
        Tar::new().with(&Entry { magic: GNU, size: Some(u64::MAX), ..file(b"f") }),
    );
    victim.bears("names in no encoding", Tar::new().with(&file(b"\xff\xfe/\x80\x1b[31m\n"))).unwrap();
    victim.refuses("contains `..`", Tar::new().with(&file(b"\x1b[31m\nred/../x")));
    let sparse = |map, real| {
        let pax = &[("GNU.sparse.map", map), ("GNU.sparse.size", real), ("GNU.sparse.numblocks", &b"1"[..])];
        Tar::new().with(&Entry { pax, ..file(b"f") })
    };
    victim.bears("a sparse file", sparse(b"10,4", b"1000")).unwrap();
    victim.refuses("impossible sparse map", sparse(b"0,4", b"3"));
    victim.refuses("impossible sparse map", sparse(b"2,2,0,2", b"10"));
    victim.refuses("impossible sparse map", sparse(b"18446744073709551615,4", b"10"));
    victim.refuses("`max_size`", sparse(b"0,4", b"9223372036854775807"));
    let mut sums = Tar::new().with(&file(b"f")).finish();
    sums[0] ^= 1;
    victim.refuses_packed("malformed", sums, &[]);
    victim.refuses("type 0x56", Tar::new().with(&Entry { kind: b'V', magic: V7, ..file(b"volume") }));
    victim
        .bears("a file over and over", {
            let names = [
                file(b"f"),
                symlink(b"f", b"/etc/passwd"),
                dir(b"f"),
                file(b"f/in"),
                hard_link(b"g", b"f/in"),
            ];
            (0..200).fold(Tar::new(), |tar, i| tar.with(&names[i % 5]))
        })
        .unwrap();
    let chain = "d/".repeat(2000);
    victim
        .bears("deep", Tar::new().with(&Entry { pax: &[("path", chain.as_bytes())], ..dir(b"d") }))
        .unwrap();
}

#[test]
fn bombs_stop_at_the_bound_that_is_configured() {
    let config = "[unpack]\nmax_size = \"64m\"\nratio_free = \"4m\"\nmax_ratio = 100\nmax_entries = 100\n\
                  max_path = 20\nmax_window = \"8m\"\n";
    let victim = Victim::new(config);
    let zeros = |size: usize| Tar::new().file("zeros", 0o644, vec![0; size]).finish();
    for program in [&["gzip", "-9"][..], &["zstd", "-q", "-3"]] {
        victim.refuses_packed("`max_ratio`", zeros(32 << 20), program);
    }
    victim.refuses_packed("`max_size`", zeros(80 << 20), &[]);
    let holes = Entry { pax: &[("GNU.sparse.map", b"0,4"), ("GNU.sparse.size", b"100000000")], ..file(b"f") };
    victim.refuses("`max_size`", Tar::new().with(&holes));
    victim.refuses("`max_entries`", (0..101).fold(Tar::new(), |tar, i| tar.file(&i.to_string(), 0o644, "")));
    // Directories without an entry count as well.
    let deep = (0..5).fold(Tar::new(), |tar, i| {
        let name = format!("{i}/").repeat(9);
        (0..3).fold(tar, |tar, j| tar.file(&format!("{j}/{name}"), 0o644, ""))
    });
    victim.refuses("`max_entries`", deep);
    victim.refuses("`max_path`", Tar::new().file("longer/than/twenty/bytes", 0o644, ""));
    // A frame that wants a window of 128 MiB.
    victim.refuses_packed("`max_window`", zeros(1 << 20), &["zstd", "-q", "--long=27"]);
}

/// Peak memory of `dhow` with these arguments, in KiB.
fn peak(dhow: &Dhow, args: &[&str]) -> u64 {
    let probe = Invocation::new(bin_dir().join("probe")).arg("peak");
    let output = dhow.on(probe, args).limit(3600).output();
    assert_eq!(output.code, 0, "{output:?}");
    let line = output.stdout.lines().last().unwrap();
    line.strip_prefix("peak ").unwrap().parse().unwrap()
}

/// A million of them in the soak.
#[test]
fn soak_a_great_many_tiny_files_need_no_memory() {
    let dhow = Dhow::empty("many");
    let mut tar = Tar::new();
    let mut layers = Vec::new();
    let files = soak(50_000, 1_000_000);
    for i in 0..files {
        tar = tar.file(&format!("{}/{}/{i}", i % 10, i / 10 % 100), 0o644, "");
    }
    layers.push(tar.finish());
    let directory = dhow.scratch().join("layout");
    let image = Image { name: "many:latest".to_owned(), layers, config: json!({}) };
    layout::write(&image, &directory, &["zstd", "-q", "-1"]);
    drop(image);
    let peak = peak(&dhow, &["load", "--quiet", "--input", directory.to_str().unwrap()]);
    println!("{files} files: {peak} KiB");
    assert!(peak < 24 << 10, "{peak} KiB");
}

#[test]
fn many_layers_with_large_windows_stay_below_64_mib() {
    let dhow = Dhow::empty("windows");
    let mut image = Image::busybox("windows:latest");
    for layer in 0..6 {
        // Nothing repeats within the window, so that all of it is used.
        let mut content = Vec::new();
        File::open("/dev/urandom").unwrap().take(12 << 20).read_to_end(&mut content).unwrap();
        image = image.with_layer(Tar::new().file(&layer.to_string(), 0o644, content));
    }
    let directory = dhow.scratch().join("layout");
    layout::write(&image, &directory, &["zstd", "-q", "-1", "--long=23"]);
    drop(image);
    let peak = peak(&dhow, &["load", "--quiet", "--input", directory.to_str().unwrap()]);
    println!("{peak} KiB");
    assert!(peak < 64 << 10, "{peak} KiB");
}
