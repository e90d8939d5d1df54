//! Images go out and come back, through the hands of others: `save`, `load`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::callers::{Machine, installed};
use harness::image::{Image, PATH};
use harness::odd::{self, Look, assert_same, extract, snapshot};
use harness::tar::Tar;
use harness::{Dhow, Invocation, Process, eventually};

/// An instance with an image `odd:1` that has one of everything, and what it looks like.
struct Odd {
    dhow: Dhow,
}

impl Odd {
    #[track_caller]
    fn new(name: &str) -> Self {
        Self::with(name, true)
    }

    /// Docker and Podman cannot give a layer back that has sparse files (tar-split, whose archives they keep apart from
    /// their headers, knows nothing of them).
    #[track_caller]
    fn dense(name: &str) -> Self {
        Self::with(name, false)
    }

    #[track_caller]
    fn with(name: &str, sparse: bool) -> Self {
        let it = Self { dhow: Dhow::empty(name) };
        let root = it.dhow.scratch().join("odd");
        odd::make(&root);
        odd::archive(&root, Path::new(&it.file("odd.tar")), sparse);
        let change = ["-c", "CMD [\"true\"]", "-c", "ENV PATH=/bin"];
        it.dhow.ok(&[&["import"], &change[..], &[&it.file("odd.tar"), "base:1"]].concat());
        it.dhow.ok(&["run", "--network", "none", "--name", "changed", "base:1", "sh", "-ec", odd::CHANGE]);
        it.dhow.ok(&["commit", "-c", "CMD [\"true\"]", "changed", "odd:1"]);
        it
    }

    fn file(&self, name: &str) -> String {
        self.dhow.scratch().join(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dhow.scratch().join(name)
    }

    /// The tree of the image `odd:1` as a container has it.
    #[track_caller]
    fn tree(&self, look: Look) -> BTreeMap<PathBuf, String> {
        self.exported(&self.dhow, "odd:1", "exported", look)
    }

    #[track_caller]
    fn exported(&self, dhow: &Dhow, image: &str, name: &str, look: Look) -> BTreeMap<PathBuf, String> {
        dhow.ok(&["run", "--network", "none", "--name", name, image]);
        let archive = self.path(&format!("{name}.tar"));
        dhow.ok(&["export", "-o", archive.to_str().unwrap(), name]);
        extract(&archive, &self.path(name));
        snapshot(&self.path(name), look)
    }

    #[track_caller]
    fn save(&self, format: &str, to: &str) -> String {
        let file = self.file(to);
        self.dhow.ok(&["save", "--format", format, "-o", &file, "odd:1"]);
        file
    }
}

#[track_caller]
fn layers(dhow: &Dhow, image: &str) -> serde_json::Value {
    dhow.inspect(image)["RootFS"]["Layers"].clone()
}

#[test]
fn all_formats_come_back_as_the_same_image() {
    let odd = Odd::new("save-formats");
    let digest = odd.dhow.inspect("odd:1")["Descriptor"]["digest"].clone();
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let saved = odd.save(format, format);
        let other = Dhow::empty("save-other");
        assert_eq!(other.ok(&["load", "-q", "-i", &saved]), "Loaded image: odd:1");
        let there = other.inspect("odd:1");
        let here = odd.dhow.inspect("odd:1");
        assert_eq!((&there["Id"], &there["RootFS"]), (&here["Id"], &here["RootFS"]), "{format}");
        assert_eq!(there["Descriptor"]["digest"], digest, "{format}");
        if format == "oci-dir" {
            assert_same(&odd.tree(Look::Closely), &odd.exported(&other, "odd:1", "again", Look::Closely));
        }
    }
    // once more, the same bytes; and through a pipe
    let again = odd.file("again.tar");
    odd.dhow.ok(&["image", "save", "odd:1", "-o", &again]);
    let archive = std::fs::read(odd.file("docker-archive")).unwrap();
    assert!(archive == std::fs::read(&again).unwrap());
    let other = Dhow::empty("save-piped");
    let script = "\"$0\" save odd:1 | \"$0\" --root \"$1\" --run-root \"$2\" load";
    let dhow = harness::bin_dir().join("dhow");
    let pipe =
        Invocation::new("sh").args(&["-euc", script]).arg(dhow).arg(other.root()).arg(other.run_root());
    assert_eq!(odd.dhow.wrap(pipe).ok(), "Loaded image: odd:1");
    assert_eq!(layers(&other, "odd:1"), layers(&odd.dhow, "odd:1"));
}

#[test]
fn a_repository_means_all_its_tags_and_an_id_no_name() {
    let dhow = Dhow::empty("save-names");
    for (name, mark) in [("web:1", "1"), ("web:2", "2"), ("other:1", "3")] {
        dhow.load(&Image::busybox(name).with_layer(Tar::new().file("mark", 0o644, mark)));
    }
    dhow.ok(&["tag", "web:1", "localhost:5000/a/b:c"]);
    let file = dhow.scratch().join("saved.tar");
    let names = |images: &[&str]| {
        dhow.ok(&[&["save", "-o", file.to_str().unwrap()], images].concat());
        let other = Dhow::empty("save-names-other");
        other.ok(&["load", "-q", "-i", file.to_str().unwrap()])
    };
    assert_eq!(names(&["web"]), "Loaded image: web:1\nLoaded image: web:2");
    let both = names(&["other:1", "localhost:5000/a/b:c", "web:1"]);
    assert_eq!(both, "Loaded image: other:1\nLoaded image: web:1\nLoaded image: localhost:5000/a/b:c");
    let id = dhow.inspect("web:2")["Id"].as_str().unwrap().to_owned();
    assert_eq!(names(&[&id]), format!("Loaded image ID: {id}"));
    let error = dhow.fails(1, &["save", "-o", file.to_str().unwrap(), "web:3"]);
    assert!(error.contains("there is no image"), "{error}");
    let other = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let error = dhow.fails(1, &["save", "--platform", other, "-o", file.to_str().unwrap(), "web:2"]);
    assert!(error.contains(&format!("not for {other}")), "{error}");
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let dhow = Dhow::new("save-refused");
    let taken = dhow.scratch().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("mine"), "mine").unwrap();
    let error = dhow.fails(1, &["save", "--format", "oci-dir", "-o", taken.to_str().unwrap(), "busybox"]);
    assert!(error.ends_with("is not empty"), "{error}");
    assert!(dhow.fails(1, &["save", "--format", "oci-dir", "busybox"]).contains("needs a name"));
    let error = dhow.fails(1, &["save", "-o", "/dev/full", "busybox"]);
    assert!(error.contains("No space left"), "{error}");
    // a layer that has lost its end
    let blobs = dhow.root().join("content/blobs/sha256");
    let largest = std::fs::read_dir(&blobs)
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|path| std::fs::metadata(path).unwrap().len());
    let largest = std::fs::OpenOptions::new().write(true).open(largest.unwrap()).unwrap();
    largest.set_len(1000).unwrap();
    let file = dhow.scratch().join("old.tar");
    std::fs::write(&file, "old").unwrap();
    let error = dhow.fails(1, &["save", "-o", file.to_str().unwrap(), "busybox"]);
    assert!(error.contains("is damaged"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
    let left: Vec<_> = std::fs::read_dir(dhow.scratch()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".old")), "{left:?}");
}

#[test]
fn skopeo_and_umoci_take_and_give() {
    let odd = Odd::new("save-skopeo");
    let tree = odd.tree(Look::Closely);
    let skopeo = |from: &str, to: &str| {
        let copy = Invocation::new("skopeo").args(&["copy", "--insecure-policy", "--quiet", from, to]);
        copy.env("HOME", odd.dhow.scratch()).env("TMPDIR", odd.dhow.scratch()).limit(120).ok();
    };
    let (docker, oci) = (odd.save("docker-archive", "d.tar"), odd.save("oci-archive", "o.tar"));
    let dir = odd.save("oci-dir", "dir");
    for (number, from) in
        [format!("docker-archive:{docker}"), format!("oci-archive:{oci}"), format!("oci:{dir}")]
            .iter()
            .enumerate()
    {
        let layout = odd.file(&format!("layout{number}"));
        skopeo(from, &format!("oci:{layout}:it"));
        let rootfs = odd.path(&format!("rootfs{number}"));
        let umoci = Invocation::new("umoci").args(&["raw", "unpack", "--image", &format!("{layout}:it")]);
        umoci.arg(&rootfs).ok();
        assert_same(&tree, &snapshot(&rootfs, Look::Closely));
    }
    // and what they write
    for (number, to) in ["docker-archive", "oci-archive", "oci"].into_iter().enumerate() {
        let file = odd.file(&format!("theirs{number}"));
        skopeo(&format!("oci:{dir}"), &format!("{to}:{file}:theirs:1"));
        let other = Dhow::empty("save-theirs");
        let said = other.ok(&["load", "-q", "-i", &file]);
        assert!(said.starts_with("Loaded image"), "{to}: {said}");
        let id = other.ok(&["images", "-q", "--no-trunc"]);
        assert_eq!(layers(&other, &id), layers(&odd.dhow, "odd:1"), "{to}");
    }
}

#[test]
fn podman_takes_and_gives() {
    let odd = Odd::dense("save-podman");
    installed("podman");
    let machine = Machine::new("save-podman");
    let podman = |args: &[&str]| {
        let podman = machine.program("env").arg(format!("PATH={}:{PATH}", std::env::var("PATH").unwrap()));
        let podman =
            podman.arg("podman").args(&["--root", &machine.file("store"), "--runroot", &machine.file("run")]);
        podman.args(args).env("HOME", machine.path()).env("TMPDIR", machine.path()).limit(120).ok()
    };
    for format in ["docker-archive", "oci-archive"] {
        let file = odd.save(format, &format!("{format}.tar"));
        let said = podman(&["load", "--quiet", "--input", &file]);
        assert!(said.contains("docker.io/library/odd:1"), "{format}: {said}");
        // seen from inside its machine
        let seen = odd.file(&format!("podman-{format}.tar"));
        let mounted = podman(&["image", "mount", "odd:1"]);
        let pack = ["--numeric-owner", "--xattrs", "--format=posix", "-cf", &seen, "-C", &mounted, "."];
        machine.program("tar").args(&pack).ok();
        extract(Path::new(&seen), &odd.path(format));
        let names = snapshot(&odd.path(format), Look::Closely);
        assert_same(&snapshot_of(&odd, format), &names);
        podman(&["image", "unmount", "odd:1"]);
        let theirs = odd.file(&format!("from-podman-{format}"));
        podman(&["save", "--quiet", "--format", format, "--output", &theirs, "odd:1"]);
        let other = Dhow::empty("save-podman-other");
        assert_eq!(other.ok(&["load", "-q", "-i", &theirs]), "Loaded image: odd:1");
        assert_eq!(layers(&other, "odd:1"), layers(&odd.dhow, "odd:1"));
        podman(&["rmi", "odd:1"]);
    }
}

fn snapshot_of(odd: &Odd, number: &str) -> BTreeMap<PathBuf, String> {
    odd.exported(&odd.dhow, "odd:1", &format!("ours-{number}"), Look::Closely)
}

/// A daemon on a machine of its own.
struct Daemon {
    machine: Machine,
    process: Process,
}

impl Daemon {
    #[track_caller]
    fn docker() -> Self {
        for program in ["containerd", "docker"] {
            installed(program);
        }
        let machine = Machine::new("save-docker");
        let file = |name| machine.file(name);
        let process = machine
            .program(installed("dockerd"))
            .args(&["--host", &format!("unix://{}", file("sock")), "--pidfile", &file("pid")])
            .args(&["--data-root", &file("root"), "--exec-root", &file("exec"), "--log-level", "warn"])
            .args(&[
                "--bridge",
                "none",
                "--iptables=false",
                "--cgroup-parent",
                &format!("/{}", machine.name()),
            ])
            .spawn();
        let mut daemon = Self { machine, process };
        let deadline = std::time::Instant::now() + harness::patience(30);
        while daemon.ask_docker(&["version"]).output().code != 0 {
            let alive = daemon.process.is_running() && std::time::Instant::now() < deadline;
            assert!(alive, "dockerd does not come up: {}", daemon.process.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    fn ask_docker(&self, args: &[&str]) -> Invocation {
        let docker = Invocation::new(installed("docker"));
        let host = format!("unix://{}", self.machine.file("sock"));
        docker.args(&["--host", &host]).args(args).env("HOME", self.machine.path()).limit(120)
    }

    #[track_caller]
    fn containerd() -> Self {
        let machine = Machine::new("save-containerd");
        let file = |name| machine.file(name);
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            file("root"),
            file("state"),
            file("sock"),
            file("ttrpc"),
        );
        std::fs::write(file("config.toml"), config).unwrap();
        let command = machine.program(installed("containerd"));
        let process = command.args(&["--config", &file("config.toml"), "--log-level", "warn"]).spawn();
        let daemon = Self { machine, process };
        eventually("containerd", || (daemon.ask_containerd(&["version"]).output().code == 0).then_some(()));
        daemon
    }

    fn ask_containerd(&self, args: &[&str]) -> Invocation {
        let ctr = self.machine.program(installed("ctr"));
        ctr.args(&["--address", &self.machine.file("sock"), "--namespace", "test"]).args(args).limit(120)
    }
}

#[test]
fn docker_takes_and_gives() {
    let odd = Odd::dense("save-docker");
    let docker = Daemon::docker();
    let file = odd.save("docker-archive", "docker.tar");
    let said = docker.ask_docker(&["load", "--input", &file]).ok();
    assert!(said.ends_with("Loaded image: odd:1"), "{said}");
    let theirs = docker.ask_docker(&["inspect", "--format", "{{json .RootFS.Layers}}", "odd:1"]).ok();
    let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
    assert_eq!(theirs, layers(&odd.dhow, "odd:1"));
    // what Docker has unpacked: its own exports know no attributes of users and no fractions of seconds
    docker.ask_docker(&["create", "--name", "made", "--network", "none", "odd:1"]).ok();
    docker.ask_docker(&["export", "--output", &odd.file("exported-by-docker.tar"), "made"]).ok();
    extract(&odd.path("exported-by-docker.tar"), &odd.path("by-docker"));
    let (mut ours, mut theirs) = (odd.tree(Look::Roughly), snapshot(&odd.path("by-docker"), Look::Roughly));
    // what Docker has in a layer of its own, below what a container writes
    let own = [
        ".dockerenv",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc/mtab",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
    ];
    for name in own.map(Path::new) {
        ours.remove(name);
        theirs.remove(name);
    }
    assert_same(&ours, &theirs);
    let saved = odd.file("by-docker.tar");
    docker.ask_docker(&["save", "--output", &saved, "odd:1"]).ok();
    let other = Dhow::empty("save-docker-other");
    assert_eq!(other.ok(&["load", "-q", "-i", &saved]), "Loaded image: odd:1");
    assert_eq!(layers(&other, "odd:1"), layers(&odd.dhow, "odd:1"));
    assert_eq!(other.inspect("odd:1")["Id"], odd.dhow.inspect("odd:1")["Id"]);
}

#[test]
fn containerd_takes_and_gives() {
    let odd = Odd::new("save-ctr");
    let containerd = Daemon::containerd();
    let ctr = |args: &[&str]| containerd.ask_containerd(args).ok();
    let name = "docker.io/library/odd:1";
    let tree = odd.tree(Look::Closely);
    for format in ["docker-archive", "oci-archive"] {
        let file = odd.save(format, &format!("{format}.tar"));
        ctr(&["images", "import", "--snapshotter", "native", &file]);
        let listed = ctr(&["images", "list", "-q"]);
        assert_eq!(listed, name, "{format}");
        let mounted = containerd.machine.file("mounted");
        std::fs::create_dir_all(&mounted).unwrap();
        ctr(&["images", "mount", "--snapshotter", "native", name, &mounted]);
        let seen = odd.file(&format!("ctr-{format}.tar"));
        let pack = ["--numeric-owner", "--xattrs", "--format=posix", "-cf", &seen, "-C", &mounted, "."];
        containerd.machine.program("tar").args(&pack).ok();
        ctr(&["images", "unmount", "--rm", "--snapshotter", "native", &mounted]);
        extract(Path::new(&seen), &odd.path(format));
        assert_same(&tree, &snapshot(&odd.path(format), Look::Closely));
        let theirs = odd.file(&format!("by-ctr-{format}.tar"));
        ctr(&["images", "export", &theirs, name]);
        let other = Dhow::empty("save-ctr-other");
        assert_eq!(other.ok(&["load", "-q", "-i", &theirs]), "Loaded image: odd:1");
        let digest = |dhow: &Dhow| dhow.inspect("odd:1")["Descriptor"]["digest"].clone();
        assert_eq!(digest(&other), digest(&odd.dhow));
        ctr(&["images", "rm", name]);
    }
}

#[test]
fn of_images_for_other_platforms_those_are_loaded_that_are_asked_for() {
    let dhow = Dhow::empty("load-platform");
    let tree = dhow.scratch().join("tree.tar");
    std::fs::write(&tree, Tar::new().file("file", 0o644, "x").finish()).unwrap();
    for (platform, name) in [("linux/riscv64", "of:riscv"), ("linux/s390x", "of:s390x")] {
        dhow.ok(&["import", "--platform", platform, tree.to_str().unwrap(), name]);
    }
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let file = dhow.scratch().join(format);
        let file = file.to_str().unwrap();
        dhow.ok(&["save", "--format", format, "-o", file, "of:riscv", "of:s390x"]);
        let other = Dhow::empty("load-platform-other");
        let error = other.fails(1, &["load", "-q", "--platform", "linux/arm64", "-i", file]);
        let said = "it has no image for linux/arm64/v8, only for linux/riscv64, linux/s390x";
        assert!(error.contains(said), "{format}: {error}");
        let asked = ["load", "-q", "--platform", "linux/s390x", "-i", file];
        assert_eq!(other.ok(&asked), "Loaded image: of:s390x", "{format}");
        let all = "Loaded image: of:riscv\nLoaded image: of:s390x";
        assert_eq!(other.ok(&["load", "-q", "-i", file]), all, "{format}");
    }
    // as Docker before version 25 wrote them
    let old = dhow.scratch().join("old.tar");
    std::fs::write(&old, Image::busybox("old:1").docker_archive()).unwrap();
    let error = dhow.fails(1, &["load", "-q", "--platform", "linux/s390x", "-i", old.to_str().unwrap()]);
    assert!(error.contains("it has no image for linux/s390x, only for linux/"), "{error}");
    dhow.ok(&["load", "-q", "-i", old.to_str().unwrap()]);
}

#[test]
fn archives_that_cannot_be_loaded_say_why_and_leave_nothing() {
    let dhow = Dhow::empty("load-refused");
    dhow.run(&["images"]);
    let load = |archive: Vec<u8>| {
        let path = dhow.scratch().join("archive");
        std::fs::write(&path, archive).unwrap();
        dhow.fails(1, &["load", "-q", "-i", path.to_str().unwrap()])
    };
    let legacy =
        Tar::new().dir("abc/", 0o755).file("abc/VERSION", 0o644, "1.0").file("abc/layer.tar", 0o644, "");
    let error = load(legacy.file("repositories", 0o644, r#"{"busybox":{"latest":"abc"}}"#).finish());
    assert!(error.contains("Docker's format before version 1.10"), "{error}");
    // a layer of which one byte is another one
    let mut archive = Image::busybox("busybox:latest").docker_archive();
    let middle = archive.len() / 2;
    archive[middle] ^= 1;
    let error = load(archive.clone());
    assert!(error.contains("layer.tar` has the digest"), "{error}");
    archive.truncate(middle);
    let error = load(archive);
    assert!(error.contains("it ends too early"), "{error}");
    let blobs = dhow.root().join("content/blobs/sha256");
    assert!(!blobs.exists() || std::fs::read_dir(&blobs).unwrap().next().is_none());
    assert!(dhow.root().join("layers").read_dir().unwrap().next().is_none());
}

#[test]
fn zstd_layers_are_unpacked_for_docker_alone() {
    let dhow = Dhow::empty("save-zstd");
    let tar = Tar::new().dir("bin/", 0o755).file("bin/file", 0o644, b"text ".repeat(100_000)).finish();
    let packed = harness::registry::filter(&["zstd"], &tar);
    dhow.command(&["import", "-", "packed:1"]).input(packed).ok();
    let diff_id = dhow.inspect("packed:1")["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    for (format, media_type) in [("docker-archive", ".tar"), ("oci-archive", ".tar+zstd")] {
        let file = dhow.scratch().join(format).to_str().unwrap().to_owned();
        dhow.ok(&["save", "--format", format, "-o", &file, "packed:1"]);
        let from = format!("oci-archive:{file}");
        let skopeo =
            Invocation::new("skopeo").args(&["inspect", "--raw", &from]).env("TMPDIR", dhow.scratch());
        let manifest: serde_json::Value = serde_json::from_str(&skopeo.ok()).unwrap();
        let layer = &manifest["layers"][0];
        assert!(layer["mediaType"].as_str().unwrap().ends_with(media_type), "{layer}");
        assert_eq!(layer["digest"] == *diff_id, format == "docker-archive");
        let other = Dhow::empty("save-zstd-other");
        assert_eq!(other.ok(&["load", "-q", "-i", &file]), "Loaded image: packed:1");
        assert_eq!(other.inspect("packed:1")["RootFS"]["Layers"][0], *diff_id);
    }
}
