//! Archives by real tools, and broken ones; and our store as those tools see it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use base::{Digest, Failure, Kind};
use image::load::{self, Found, Source};
use image::{Reference, Resolved, Store, platform};
use state::Instance;

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

/// Runs a program that the tests need; says which is missing.
fn run(program: &str, arguments: &[&str], dir: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let output =
        output.unwrap_or_else(|e| panic!("this test needs `{program}` (Debian package of that name): {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output.stdout
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        instance.create_dirs().unwrap();
        let store = Store::open(&instance).unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        run(program, arguments, self.dir.path());
    }

    /// A layout `layout:tag` of two gzip layers, the second of which has `content`.
    fn layout(&self, tag: &str, content: &str) {
        if !self.path("layout").exists() {
            self.run("umoci", &["init", "--layout", "layout"]);
        }
        let image = format!("layout:{tag}");
        self.run("umoci", &["new", "--image", &image]);
        // Once: written again, it would be of another second now and then, and the layer another one.
        if !self.path("base").exists() {
            std::fs::write(self.path("base"), "the same for all").unwrap();
        }
        std::fs::write(self.path("file"), content).unwrap();
        self.run("umoci", &["insert", "--image", &image, "base", "/base"]);
        self.run("umoci", &["insert", "--image", &image, "file", "/file"]);
        self.run("umoci", &["config", "--image", &image, "--config.cmd", "/file"]);
    }

    fn read(&self, source: Source<'_>) -> load::Result<Vec<(Found, Resolved)>> {
        let ingest = self.store.ingest().unwrap();
        let found = load::read(&ingest, source, None)?;
        let commit = |found: Found| {
            let record =
                ingest.commit(found.reference.as_ref(), &found.manifest, found.source.as_ref()).unwrap();
            (found, record)
        };
        Ok(found.into_iter().map(commit).collect())
    }

    fn load(&self, name: &str) -> load::Result<Vec<(Found, Resolved)>> {
        self.read(Source::Path(self.path(name)))
    }

    /// Loads what must fail, and checks that it leaves nothing.
    fn refused(&self, name: &str) -> load::Error {
        let before = self.files();
        let error = self.load(name).err().unwrap_or_else(|| panic!("{name} was loaded"));
        assert_eq!(self.files(), before, "{name} left something");
        assert!(!base::failure::chain(&error).contains('\n'));
        error
    }

    /// Everything in the store.
    fn files(&self) -> Vec<PathBuf> {
        let content = self.path("root/content");
        let mut files = Vec::new();
        for dir in [content.join("blobs/sha256"), content.join(".ingest"), self.path("root/names/images")] {
            let entries = std::fs::read_dir(dir).into_iter().flatten();
            files.extend(entries.map(|e| e.unwrap().path()));
        }
        files.sort();
        files
    }
}

fn name(record: &Resolved) -> String {
    if record.reference.is_empty() {
        String::new()
    } else {
        record.reference.parse::<Reference>().unwrap().to_string()
    }
}

#[test]
fn the_same_image_comes_out_of_every_kind_of_archive() {
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    let from_layout = fixture.load("layout").unwrap().remove(0).1;
    assert_eq!(from_layout.layers.len(), 2);

    fixture.run("skopeo", &["copy", "-q", "oci:layout:x", "oci-archive:oci.tar:tool:1"]);
    let (_, image) = fixture.load("oci.tar").unwrap().remove(0);
    assert_eq!((name(&image), image.manifest), ("tool:1".to_owned(), from_layout.manifest));

    fixture.run("skopeo", &["copy", "-q", "oci:layout:x", "docker-archive:docker.tar:localhost:5000/tool:2"]);
    let (_, docker) = fixture.load("docker.tar").unwrap().remove(0);
    assert_eq!(name(&docker), "localhost:5000/tool:2");
    let diff_ids = |image: &Resolved| image.diff_ids().collect::<Vec<_>>();
    assert_eq!(diff_ids(&docker), diff_ids(&from_layout));
    assert_eq!(docker.config.config.clone().unwrap().cmd, Some(vec!["/file".to_owned()]));
    // Plain layers are their own diff ids.
    assert!(docker.layers.iter().all(|l| l.digest == l.diff_id));

    for (program, made, result) in
        [("gzip", "docker.tar", "docker.tar.gz"), ("zstd", "oci.tar", "oci.tar.zst")]
    {
        let packed = run(program, &["-c", made], fixture.dir.path());
        std::fs::write(fixture.path(result), packed).unwrap();
    }
    assert_eq!(fixture.load("docker.tar.gz").unwrap()[0].1.manifest, docker.manifest);
    assert_eq!(fixture.load("oci.tar.zst").unwrap()[0].1.manifest, from_layout.manifest);

    // From a pipe, into a store that has nothing of it.
    let other = Fixture::new();
    let bytes = std::fs::read(fixture.path("docker.tar.gz")).unwrap();
    let found = other.read(Source::Stream(&mut &*bytes)).unwrap();
    assert_eq!(found[0].1, docker);
    assert!(other.store.is_whole(&docker));
}

#[test]
fn several_images_and_names_in_one_archive_share_layers() {
    let fixture = Fixture::new();
    fixture.layout("x", "one");
    fixture.layout("y", "two");
    let loaded = fixture.load("layout").unwrap();
    assert_eq!(loaded.iter().map(|(_, r)| name(r)).collect::<Vec<_>>(), ["x:latest", "y:latest"]);
    assert_eq!(loaded[0].1.layers[0], loaded[1].1.layers[0]);
    // Old `docker save`: a directory for each layer, a second one of the same content a link to the first.
    let files = old_docker(&fixture, r#""a:1","b/c:2""#);
    tar(&fixture, "old.tar", &files);
    let loaded = fixture.load("old.tar").unwrap();
    assert_eq!(loaded.iter().map(|(_, r)| name(r)).collect::<Vec<_>>(), ["a:1", "b/c:2"]);
    assert_eq!(loaded[0].1.layers.len(), 3);
    // And one without a name.
    let files = old_docker(&fixture, "");
    tar(&fixture, "nameless.tar", &files);
    std::fs::remove_dir_all(fixture.path("root")).unwrap();
    let loaded = fixture.load("nameless.tar").unwrap();
    assert_eq!((loaded[0].0.reference.as_ref(), &*loaded[0].1.reference), (None, ""));
    assert_eq!(fixture.store.find(&loaded[0].1.id.short()).unwrap(), loaded[0].1);
}

/// The members of an archive as Docker before 25 wrote it, in its order: the table of contents last.
fn old_docker(fixture: &Fixture, tags: &str) -> Vec<&'static str> {
    let layer = |text: &str| text.repeat(600).into_bytes();
    let diff_ids: Vec<String> =
        [&layer("a"), &layer("b"), &layer("a")].iter().map(|l| format!("\"{}\"", Digest::of(l))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["x"],"Env":null}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let manifest = format!(
        r#"[{{"Config":"c.json","RepoTags":[{tags}],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}}]"#
    );
    for dir in ["1", "2", "3"] {
        std::fs::create_dir_all(fixture.path(dir)).unwrap();
    }
    std::fs::write(fixture.path("1/layer.tar"), layer("a")).unwrap();
    std::fs::write(fixture.path("2/layer.tar"), layer("b")).unwrap();
    if !fixture.path("3/layer.tar").exists() {
        std::os::unix::fs::symlink("../1/layer.tar", fixture.path("3/layer.tar")).unwrap();
    }
    std::fs::write(fixture.path("c.json"), config).unwrap();
    std::fs::write(fixture.path("manifest.json"), manifest).unwrap();
    vec!["1", "2", "3", "c.json", "manifest.json"]
}

fn tar(fixture: &Fixture, archive: &str, members: &[&str]) {
    fixture.run("tar", &[&["-cf", archive], members].concat());
}

#[test]
fn broken_archives_get_one_clear_error_and_leave_nothing() {
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    fixture.run("skopeo", &["copy", "-q", "oci:layout:x", "docker-archive:docker.tar:x:1"]);
    fixture.run("skopeo", &["copy", "-q", "oci:layout:x", "oci-archive:oci.tar:x:1"]);
    let said = |name: &str| base::failure::chain(&fixture.refused(name));

    // Cut anywhere.
    for whole in ["docker.tar", "oci.tar"] {
        let bytes = std::fs::read(fixture.path(whole)).unwrap();
        for part in [1, 3, 5, 7, 9] {
            std::fs::write(fixture.path("cut.tar"), &bytes[..bytes.len() * part / 12]).unwrap();
            assert_eq!(fixture.refused("cut.tar").kind(), Kind::Corrupt, "{whole} {part}");
        }
        let packed = run("gzip", &["-c", whole], fixture.dir.path());
        std::fs::write(fixture.path("cut.tar.gz"), &packed[..packed.len() * 2 / 3]).unwrap();
        assert!(said("cut.tar.gz").contains("truncated"), "{}", said("cut.tar.gz"));
    }
    // A changed byte in a layer.
    let manifest = std::fs::read_to_string(fixture.path("layout/index.json")).unwrap();
    assert!(manifest.contains("sha256:"));
    for archive in ["docker.tar", "oci.tar"] {
        let mut bytes = std::fs::read(fixture.path(archive)).unwrap();
        let largest = if archive == "docker.tar" {
            bytes.windows(5).position(|w| w == b"hello").unwrap()
        } else {
            bytes.windows(3).position(|w| w == [0x1f, 0x8b, 8]).unwrap() + 40
        };
        bytes[largest] ^= 1;
        std::fs::write(fixture.path("changed.tar"), bytes).unwrap();
        let text = said("changed.tar");
        assert!(text.contains("has the digest") && text.contains(", not sha256:"), "{text}");
    }
    for (content, want) in [
        (&b""[..], "neither a tar archive"),
        (b"hello, this is a text", "neither a tar archive"),
        (&[0; 10240], "holds no images"),
        (b"\xfd7zXZ\0more", "compressed with xz"),
        (b"BZh9", "bzip2"),
        (b"\x1f\x8bbroken", "cannot load"),
        (b"\x28\xb5\x2f\xfdbroken", "cannot load"),
    ] {
        std::fs::write(fixture.path("bad"), content).unwrap();
        let text = said("bad");
        assert!(text.contains(want), "{text}");
    }
    tar(&fixture, "other.tar", &["base"]);
    assert!(said("other.tar").contains("holds no images"));
    assert_eq!(fixture.refused("missing.tar").kind(), Kind::NotFound);
    assert!(said("run").contains("holds no images"));
}

#[test]
fn archives_that_lie_are_refused() {
    let fixture = Fixture::new();
    let files = old_docker(&fixture, r#""a:1""#);
    let said = |name: &str| base::failure::chain(&fixture.refused(name));
    let with_manifest = |text: &str, want: &str| {
        std::fs::write(fixture.path("manifest.json"), text).unwrap();
        tar(&fixture, "bad.tar", &files);
        let text = said("bad.tar");
        assert!(text.contains(want), "{text}");
    };
    let item = |config: &str, tags: &str, layers: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":[{tags}],"Layers":[{layers}]}}]"#)
    };
    let layers = r#""1/layer.tar","2/layer.tar","3/layer.tar""#;
    with_manifest(&item("../../../etc/passwd", "", layers), "lacks `../../../etc/passwd`");
    with_manifest(&item("/etc/passwd", "", layers), "lacks `etc/passwd`");
    with_manifest(&item("c.json", r#""Not A Name""#, layers), "names an image badly");
    with_manifest(&item("c.json", "", r#""1/layer.tar""#), "1 layers");
    with_manifest(&item("c.json", "", r#""2/layer.tar","1/layer.tar","3/layer.tar""#), "has the digest");
    with_manifest(&item("c.json", "", r#""1/layer.tar","2/layer.tar","4/layer.tar""#), "lacks `4/layer.tar`");
    with_manifest(&item("1/layer.tar", "", layers), "cannot be used");
    with_manifest("{}", "cannot be used");
    // Links that lead nowhere, to each other, and out of the archive.
    for (target, want) in [
        ("../3/layer.tar", "lacks `3/layer.tar`"),
        ("../../../../etc/passwd", "its member `3/layer.tar` is not a plain file"),
        ("/etc/passwd", "lacks `etc/passwd`"),
        ("../none", "lacks `none`"),
    ] {
        std::fs::remove_file(fixture.path("3/layer.tar")).unwrap();
        std::os::unix::fs::symlink(target, fixture.path("3/layer.tar")).unwrap();
        with_manifest(&item("c.json", "", layers), want);
    }
}

#[test]
fn a_layouts_links_do_not_lead_out_of_it() {
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    let index = fixture.path("layout/index.json");
    std::fs::rename(&index, fixture.path("outside.json")).unwrap();
    std::os::unix::fs::symlink(fixture.path("outside.json"), &index).unwrap();
    assert!(base::failure::chain(&fixture.refused("layout")).contains("holds no images"));
    std::fs::remove_file(&index).unwrap();
    run("mkfifo", &["layout/index.json"], fixture.dir.path());
    assert!(base::failure::chain(&fixture.refused("layout")).contains("not a plain file"));
}

#[test]
fn skopeo_and_umoci_read_our_store() {
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    let image = fixture.load("layout").unwrap().remove(0).1;
    fixture.store.tag(&"localhost:5000/a/b:c".parse().unwrap(), &image).unwrap();
    for reference in ["docker.io/library/x:latest", "localhost:5000/a/b:c"] {
        fixture.run("skopeo", &["copy", "-q", &format!("oci:root/content:{reference}"), "dir:out"]);
        let manifest = std::fs::read(fixture.path("out/manifest.json")).unwrap();
        assert_eq!(Digest::of(&manifest), image.manifest);
    }
    let list = run("umoci", &["ls", "--layout", "root/content"], fixture.dir.path());
    assert_eq!(String::from_utf8_lossy(&list).lines().count(), 2);
    // A name that goes is gone for them, too.
    let record = fixture.store.resolve(&"x".parse().unwrap()).unwrap().unwrap();
    fixture.store.untag(&record).unwrap();
    let list = run("umoci", &["ls", "--layout", "root/content"], fixture.dir.path());
    assert_eq!(String::from_utf8_lossy(&list), "localhost:5000/a/b:c\n");
}

/// Kills a process of its own at many points of a load: nothing half-made may be visible, and the next load works.
#[test]
fn a_load_that_is_killed_leaves_a_store_that_works() {
    const CHILD: &str = "DHOW_TEST_LOAD_INTO";
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = PathBuf::from(dir);
        let store = Store::open(&Instance::new(&dir.join("root"), &dir.join("run"))).unwrap();
        let ingest = store.ingest().unwrap();
        for found in load::read(&ingest, Source::Path(dir.join("layout")), None).unwrap() {
            ingest.commit(found.reference.as_ref(), &found.manifest, None).unwrap();
        }
        return;
    }
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    fixture.layout("y", "world");
    let me = std::env::current_exe().unwrap();
    for delay in 0..40 {
        let mut child = Command::new(&me)
            .args(["--exact", "a_load_that_is_killed_leaves_a_store_that_works"])
            .env(CHILD, fixture.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay * 400));
        child.kill().unwrap();
        child.wait().unwrap();
        for record in fixture.store.list().unwrap() {
            assert!(fixture.store.is_whole(&record));
            for digest in record.blobs() {
                fixture.store.read_blob(&digest).unwrap();
            }
        }
        if delay % 10 == 9 {
            for record in fixture.store.list().unwrap() {
                fixture.store.untag(&record).unwrap();
            }
            fixture.store.collect_garbage(&[], &[]).map(drop).unwrap();
            assert_eq!(fixture.files(), Vec::<PathBuf>::new());
        }
    }
    assert_eq!(fixture.load("layout").unwrap().len(), 2);
}

/// Docker writes an OCI layout since version 25, with the table of old beside it.
#[test]
fn docker_25_archives_are_oci_layouts_with_whole_names() {
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    let path = fixture.path("layout/index.json");
    let index = std::fs::read_to_string(&path).unwrap();
    let named = index.replace(
        r#""org.opencontainers.image.ref.name":"x""#,
        r#""io.containerd.image.name":"docker.io/library/tool:3","org.opencontainers.image.ref.name":"3""#,
    );
    assert_ne!(index, named);
    std::fs::write(&path, named).unwrap();
    std::fs::write(fixture.path("layout/manifest.json"), r#"[{"Config":"not used","Layers":[]}]"#).unwrap();
    fixture.run("tar", &["-C", "layout", "-cf", "docker.tar", "."]);
    let loaded = fixture.load("docker.tar").unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(name(&loaded[0].1), "tool:3");
}

#[test]
fn an_index_is_followed_to_the_platform() {
    let fixture = Fixture::new();
    fixture.layout("x", "hello");
    let image = fixture.load("layout").unwrap().remove(0).1;
    let blob = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        std::fs::write(fixture.path("layout/blobs/sha256").join(digest.hex()), text).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, text.len())
    };
    let entry = |digest: &str, size: u64, architecture: &str, more: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},
               "platform":{{"os":"linux","architecture":"{architecture}"}}{more}}}"#
        )
    };
    let absent = Digest::of(b"absent").to_string();
    let index_of = |entries: &[String]| {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            entries.join(",")
        );
        let top = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{media_type}",{},
               "annotations":{{"org.opencontainers.image.ref.name":"many:1"}}}}]}}"#,
            blob(&text)
        );
        std::fs::write(fixture.path("layout/index.json"), top).unwrap();
        Digest::of(text.as_bytes())
    };
    let own = entry(&image.manifest.to_string(), image.manifest_size, &platform::host().architecture, "");
    let other = entry(&absent, 5, "s390x", "");
    let attestation = r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
    let told = entry(&absent, 5, &platform::host().architecture, attestation);
    let index = index_of(&[other.clone(), told, own]);
    let (found, record) = fixture.load("layout").unwrap().remove(0);
    assert_eq!((found.source, record.manifest, record.source), (Some(index), image.manifest, Some(index)));
    // Known by the digest of the index, as registries give it.
    let pinned: Reference = format!("many@{index}").parse().unwrap();
    assert_eq!(fixture.store.resolve(&pinned).unwrap().unwrap().id, image.id);

    index_of(&[other]);
    let text = base::failure::chain(&fixture.refused("layout"));
    assert!(text.contains("no image for linux/") && text.contains("only for linux/s390x"), "{text}");
}
