//! `system check`: each kind of damage is named; what can be mended is, and the rest is named as such.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base::Digest;
use harness::image::Image;
use harness::registry::{Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, store};
use serde_json::Value;

/// Two layers, and nothing that runs.
fn image(name: &str, mark: &str) -> Image {
    let base = Tar::new().file("base", 0o644, "b".repeat(10_000)).finish();
    let config = serde_json::json!({});
    Image { name: name.to_owned(), layers: vec![base], config }.with_layer(marked(mark))
}

fn marked(mark: &str) -> Tar {
    Tar::new().dir("d/", 0o750).file("d/mark", 0o640, mark).file("d/other", 0o644, "o")
}

/// What a check says; its exit code must fit.
#[track_caller]
fn check(dhow: &Dhow, flags: &[&str]) -> Vec<Value> {
    let args = [&["system", "check", "--format", "json"], flags].concat();
    let output = dhow.run(&args);
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let problems = report["Problems"].as_array().unwrap().clone();
    let sound = problems.iter().all(|problem| problem["Outcome"]["Result"] == "repaired");
    assert_eq!(output.code, i32::from(!sound), "{output:?}");
    problems
}

/// `kind result` of each problem, sorted.
fn told(problems: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut told: Vec<String> =
        problems.iter().map(|p| format!("{} {}", text(&p["Kind"]), text(&p["Outcome"]["Result"]))).collect();
    told.sort();
    told
}

/// Named while nobody repairs, mended then, and all is well afterwards.
#[track_caller]
fn is_named_and_mended(dhow: &Dhow, kinds: &[&str]) {
    let all = |result: &str| kinds.iter().map(|kind| format!("{kind} {result}")).collect::<Vec<_>>();
    let found = check(dhow, &[]);
    assert_eq!(told(&found), all("found"), "{found:#?}");
    let found = check(dhow, &["--repair"]);
    assert_eq!(told(&found), all("repaired"), "{found:#?}");
    assert_eq!(told(&check(dhow, &[])), Vec::<String>::new());
}

fn blob(dhow: &Dhow, digest: &str) -> PathBuf {
    dhow.root().join("content/blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

fn layer(dhow: &Dhow, image: &str, at: usize) -> PathBuf {
    let diff_id = dhow.inspect(image)["RootFS"]["Layers"][at].as_str().unwrap().to_owned();
    dhow.root().join("layers").join(diff_id.trim_start_matches("sha256:"))
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn blobs_are_fetched_again_from_where_they_came() {
    let dhow = Dhow::empty("check-blobs");
    let registry = Registry::new(Login::None);
    registry.add(&image("x", "one"), "1");
    let name = format!("{}/app:1", registry.host());
    dhow.ok(&["pull", "-q", &name]);
    assert!(dhow.ok(&["system", "check"]).ends_with("all is well"));
    let inspected = dhow.inspect(&name);
    let manifest = inspected["Descriptor"]["digest"].as_str().unwrap().to_owned();
    let config = inspected["Id"].as_str().unwrap().to_owned();
    let top = inspected["RootFS"]["Layers"][1].as_str().unwrap().to_owned();
    let blobs = std::fs::read_dir(dhow.root().join("content/blobs/sha256")).unwrap();
    let layers: Vec<PathBuf> = blobs
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != blob(&dhow, &manifest) && *path != blob(&dhow, &config))
        .collect();
    assert_eq!(layers.len(), 2, "{top}");

    flip(&layers[0]);
    is_named_and_mended(&dhow, &["damaged-blob"]);
    std::fs::File::options().write(true).open(&layers[1]).unwrap().set_len(100).unwrap();
    // a wrong size shows without reading
    assert_eq!(told(&check(&dhow, &["--quick"])), ["damaged-blob found"]);
    is_named_and_mended(&dhow, &["damaged-blob"]);
    for path in [blob(&dhow, &config), layers[0].clone()] {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(told(&check(&dhow, &["--quick"])), ["missing-blob found", "missing-blob found"]);
    is_named_and_mended(&dhow, &["missing-blob", "missing-blob"]);
    // all of it at once
    for path in [blob(&dhow, &config), blob(&dhow, &manifest), layers[0].clone(), layers[1].clone()] {
        flip(&path);
    }
    is_named_and_mended(&dhow, &["damaged-blob"; 4]);
    assert_eq!(store::broken_blobs(&dhow.root()), Vec::<String>::new());
    assert_eq!(dhow.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), name);

    // by what it was once called, too
    dhow.ok(&["tag", &name, "mine:1"]);
    dhow.ok(&["rmi", &name]);
    flip(&layers[0]);
    is_named_and_mended(&dhow, &["damaged-blob"]);
    assert_eq!(dhow.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "mine:1");

    // what comes from nowhere is named as lost, and nothing of it is thrown away
    dhow.load(&image("loaded:1", "two"));
    let config = dhow.inspect("loaded:1")["Id"].as_str().unwrap().to_owned();
    flip(&blob(&dhow, &config));
    let found = check(&dhow, &["--repair"]);
    assert_eq!(told(&found), ["damaged-blob not-repaired"], "{found:#?}");
    assert_eq!(found[0]["NeededBy"][0], "loaded:1");
    assert!(blob(&dhow, &config).exists());
    let said = dhow.run(&["system", "check"]);
    assert!(said.stdout.contains(&format!("damaged blob {config}")), "{said:?}");
    assert!(said.stdout.contains("needed by loaded:1") && said.code == 1, "{said:?}");
}

#[test]
fn layers_are_unpacked_again_from_their_blobs() {
    let dhow = Dhow::empty("check-layers");
    dhow.load(&image("app:1", "one"));
    let top = layer(&dhow, "app:1", 1);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let damages: [&dyn Fn(); 6] = [
        &|| std::fs::remove_file(top.join("d/mark")).unwrap(),
        &|| std::fs::write(top.join("d/mark"), "two").unwrap(),
        &|| std::fs::write(top.join("new"), "extra").unwrap(),
        &|| mode(&top.join("d/mark"), 0o4755),
        &|| mode(&top.join("d"), 0o777),
        &|| std::os::unix::fs::chown(top.join("d/mark"), Some(1000), None).unwrap(),
    ];
    for damage in damages {
        let before = store::layers(&dhow.root());
        damage();
        is_named_and_mended(&dhow, &["damaged-layer"]);
        assert_eq!(store::layers(&dhow.root()), before);
    }
    std::fs::remove_dir_all(&top).unwrap();
    assert_eq!(told(&check(&dhow, &["--quick"])), ["missing-layer found"]);
    is_named_and_mended(&dhow, &["missing-layer"]);

    // a layer that a container runs on is named, not replaced
    dhow.load(&Image::busybox("app:1").with_layer(marked("one")));
    dhow.ok(&["image", "prune", "-f"]);
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "app:1", "sleep", "1000"]);
    std::fs::write(top.join("d/mark"), "changed").unwrap();
    let found = check(&dhow, &["--repair"]);
    assert_eq!(told(&found), ["damaged-layer not-repaired"], "{found:#?}");
    let why = found[0]["Outcome"]["Reason"].as_str().unwrap();
    assert!(why.contains("running container"), "{why}");
    assert!(found[0]["Detail"].as_str().unwrap().contains("`d/mark`"), "{found:#?}");
    assert_eq!(dhow.ok(&["exec", "box", "cat", "/d/other"]), "o");
    dhow.ok(&["rm", "-f", "box"]);
    is_named_and_mended(&dhow, &["damaged-layer"]);
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "app:1", "cat", "/d/mark"]), "one");
}

#[test]
fn records_and_the_files_for_other_tools_are_made_again() {
    let dhow = Dhow::empty("check-records");
    dhow.load(&image("app:1", "one"));
    dhow.load(&image("app:2", "two"));
    let names = dhow.root().join("names/images");
    let record = names.join("docker.io+library+app:1");
    let before = std::fs::read(&record).unwrap();
    std::fs::write(&record, &before[..before.len() / 2]).unwrap();
    dhow.fails(1, &["images"]);
    is_named_and_mended(&dhow, &["record"]);
    assert_eq!(std::fs::read(&record).unwrap(), before);
    std::fs::write(names.join("nonsense"), "garbage").unwrap();
    std::fs::rename(names.join("docker.io+library+app:2"), names.join("docker.io+library+else:2")).unwrap();
    // The record is not of the name that its file has: nothing tells what that should be, nor can it be pulled.
    let found = check(&dhow, &["--repair"]);
    assert_eq!(told(&found), ["record not-repaired", "record repaired"], "{found:#?}");
    std::fs::rename(names.join("docker.io+library+else:2"), names.join("docker.io+library+app:2")).unwrap();
    assert_eq!(told(&check(&dhow, &[])), Vec::<String>::new());

    // a record of the future is nobody's to touch
    let future = String::from_utf8(before.clone()).unwrap().replace(r#""version":1"#, r#""version":99"#);
    std::fs::write(&record, &future).unwrap();
    let found = check(&dhow, &["--repair"]);
    assert_eq!(told(&found), ["record not-repaired"], "{found:#?}");
    assert_eq!(std::fs::read_to_string(&record).unwrap(), future);
    std::fs::write(&record, before).unwrap();

    let content = dhow.root().join("content");
    std::fs::write(content.join("index.json"), "{").unwrap();
    std::fs::remove_file(content.join("oci-layout")).unwrap();
    is_named_and_mended(&dhow, &["layout", "layout"]);
}

#[test]
fn leftovers_of_the_dead_and_orphans_go() {
    let dhow = Dhow::empty("check-leftovers");
    assert_eq!(told(&check(&dhow, &[])), Vec::<String>::new(), "a store that never was");
    dhow.load(&image("app:1", "one"));
    let root = dhow.root();
    let file = |path: &str| std::fs::write(root.join(path), "half").unwrap();
    let dir = |path: &str| std::fs::create_dir(root.join(path)).unwrap();
    file("names/images/.docker.io+x.1.1");
    file("content/.index.json.1.1");
    file("content/blobs/sha256/not-a-digest");
    dir("content/.ingest/dead");
    file("content/.ingest/dead/new-0");
    dir("layers/.unpack-1-1");
    file("layers/.unpack-1-1/x");
    dir("removing/x.1.1");
    std::fs::write(root.join("names/containers/ghost"), "ab".repeat(32)).unwrap();
    is_named_and_mended(
        &dhow,
        &["claim", "leftover", "leftover", "leftover", "leftover", "leftover", "leftover"],
    );

    let orphan = Digest::of(b"nobody needs this").hex();
    std::fs::write(root.join("content/blobs/sha256").join(&orphan), "nobody needs this").unwrap();
    dir(&format!("layers/{}", Digest::of(b"nor this").hex()));
    is_named_and_mended(&dhow, &["orphan", "orphan"]);
    assert!(dhow.ok(&["system", "check"]).ends_with("all is well"));
}
