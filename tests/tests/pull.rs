//! `pull`: what is fetched and what is not, cuts, kills, and what is not an image.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use base::Digest;
use harness::image::Image;
use harness::proxy::{Cut, Proxy, Way};
use harness::registry::{DockerRegistry, Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, random, soak, store};
use serde_json::json;

/// Requests, documents and headers: what a pull fetches besides blobs, at most.
const TALK: u64 = 100_000;

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// An image of several layers of some megabytes.
fn large(seed: u64) -> Image {
    let mut image = Image::busybox("large:1");
    for layer in 0..5 {
        let mut tar = Tar::new().dir(&format!("data{layer}/"), 0o755);
        for file in 0..20 {
            let content = noise(seed * 1000 + layer * 100 + file, 70_000);
            tar = tar.file(&format!("data{layer}/f{file}"), 0o644, content);
        }
        image = image.with_layer(tar);
    }
    image
}

/// Bytes of blobs that are here, whole or in part.
fn here(root: &Path) -> u64 {
    let places = ["content/blobs/sha256", "content/.partial"];
    let entries = places.iter().flat_map(|place| std::fs::read_dir(root.join(place)).into_iter().flatten());
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum()
}

/// A store that is filled from a registry, and what it must come to.
struct Case {
    dhow: Dhow,
    proxy: Proxy,
    name: String,
    whole: std::collections::BTreeMap<String, String>,
    /// Bytes of all blobs.
    size: u64,
    /// How long an undisturbed pull takes.
    time: Duration,
    _registry: DockerRegistry,
}

impl Case {
    fn new(name: &str) -> Self {
        let dhow = Dhow::empty(name);
        let registry = DockerRegistry::start(dhow.scratch(), false);
        registry.push(&large(1), dhow.scratch(), "team/large:1", &[]);
        let proxy = Proxy::new(registry.host());
        let name = format!("{}/team/large:1", proxy.host());
        let begun = Instant::now();
        dhow.ok(&["pull", "-q", &name]);
        let time = begun.elapsed();
        let (whole, size) = (store::layers(&dhow.root()), here(&dhow.root()));
        assert!(whole.len() == 6 && size > 7_000_000, "{whole:?} {size}");
        let fetched = proxy.take(Way::Down);
        assert!(fetched >= size && fetched < size + TALK, "{fetched} for {size}");
        let case = Self { dhow, proxy, name, whole, size, time, _registry: registry };
        case.remove();
        case
    }

    fn remove(&self) {
        self.dhow.ok(&["rmi", &self.name]);
        assert_eq!(here(&self.dhow.root()), 0);
        assert!(store::layers(&self.dhow.root()).is_empty());
    }

    /// Whatever happened, nothing that is here is wrong; and another try finishes it, with what was missing alone.
    #[track_caller]
    fn finish(&self, what: &str) {
        assert_eq!(store::broken_blobs(&self.dhow.root()), Vec::<String>::new(), "{what}");
        for (name, digest) in store::layers(&self.dhow.root()) {
            assert_eq!(self.whole.get(&name), Some(&digest), "{what}: layer {name}");
        }
        let missing = self.size.saturating_sub(here(&self.dhow.root()));
        self.proxy.settle();
        self.proxy.mend();
        self.proxy.take(Way::Down);
        self.dhow.ok(&["pull", "-q", &self.name]);
        let fetched = self.proxy.take(Way::Down);
        assert!(fetched < missing + TALK, "{what}: {fetched} bytes fetched, {missing} were missing");
        self.assert_whole(what);
        if soak(0, 1) == 1 {
            self.dhow.ok(&["system", "check"]);
        }
        self.remove();
    }

    #[track_caller]
    fn assert_whole(&self, what: &str) {
        assert_eq!(store::broken_blobs(&self.dhow.root()), Vec::<String>::new(), "{what}");
        assert_eq!(store::layers(&self.dhow.root()), self.whole, "{what}");
        assert_eq!(here(&self.dhow.root()), self.size, "{what}");
        let ingests = self.dhow.root().join("content/.ingest");
        assert_eq!(std::fs::read_dir(ingests).unwrap().count(), 0, "{what}");
        let temporary = std::fs::read_dir(self.dhow.root().join("layers")).unwrap().flatten();
        assert_eq!(temporary.count(), self.whole.len(), "{what}");
    }
}

#[test]
fn soak_a_pull_whose_connection_is_cut_anywhere_is_finished_with_what_was_missing() {
    let case = Case::new("cut");
    for round in 0..soak(10, 100) {
        let point = random(case.size);
        if round % 2 == 0 {
            // It is taken up by the same pull, and nothing comes twice.
            let what = format!("cut once after {point} bytes");
            case.proxy.cut_after(Way::Down, point, Cut::Once);
            case.dhow.ok(&["pull", "-q", &case.name]);
            assert!(case.proxy.has_cut(), "{what}");
            let fetched = case.proxy.take(Way::Down);
            assert!(fetched < case.size + TALK, "{what}: {fetched} bytes fetched");
            case.assert_whole(&what);
            case.remove();
        } else {
            let what = format!("gone after {point} bytes");
            case.proxy.cut_after(Way::Down, point, Cut::Gone);
            let line = case.dhow.fails(1, &["pull", "-q", &case.name]);
            assert!(line.contains(case.proxy.host()), "{line}");
            assert!(here(&case.dhow.root()) + TALK >= point, "{what}: what had come is kept");
            assert_eq!(case.dhow.ok(&["images", "-q"]), "", "{what}");
            case.finish(&what);
        }
    }
    case.dhow.ok(&["pull", "-q", &case.name]);
    case.dhow.ok(&["system", "check"]);
}

#[test]
fn soak_a_pull_that_is_killed_anywhere_is_finished_with_what_was_missing() {
    let case = Case::new("kill");
    let mut killed = 0;
    for _ in 0..soak(10, 100) {
        let moment = Duration::from_micros(random(case.time.as_micros() as u64));
        let mut process = case.dhow.spawn(&["pull", "-q", &case.name]);
        let begun = Instant::now();
        while begun.elapsed() < moment && process.is_running() {
            std::thread::sleep(Duration::from_micros(200));
        }
        killed += usize::from(process.is_running());
        process.kill();
        case.finish(&format!("killed after {moment:?}"));
    }
    assert!(killed > 0, "no round was killed in time");
    case.dhow.ok(&["pull", "-q", &case.name]);
    case.dhow.ok(&["system", "check"]);
}

#[test]
fn what_an_earlier_try_left_is_not_believed() {
    let case = Case::new("lies");
    case.dhow.ok(&["pull", "-q", &case.name]);
    let blobs = std::fs::read_dir(case.dhow.root().join("content/blobs/sha256")).unwrap().flatten();
    let blobs: Vec<(std::ffi::OsString, u64)> =
        blobs.map(|blob| (blob.file_name(), blob.metadata().unwrap().len())).collect();
    case.remove();
    // Documents are fetched whole or not at all.
    for (name, size) in blobs.into_iter().filter(|(_, size)| *size > 100_000) {
        let wrong = noise(7, size as usize / 2);
        std::fs::write(case.dhow.root().join("content/.partial").join(name), wrong).unwrap();
    }
    case.dhow.ok(&["pull", "-q", &case.name]);
    case.assert_whole("with wrong beginnings");
    case.remove();
}

#[test]
fn layers_that_a_power_cut_may_have_hurt_are_unpacked_again() {
    let dhow = Dhow::empty("power");
    let registry = Registry::new(Login::None);
    registry.add_compressed(&large(3), "1", "+gzip", &["gzip", "-1"]);
    let image = format!("{}/app:1", registry.host());
    dhow.ok(&["pull", "-q", &image]);
    let whole = store::layers(&dhow.root());
    registry.take_requests();
    let cut = || {
        for layer in whole.keys() {
            // As an earlier boot would have left it, half of it lost.
            let path = dhow.root().join("layers").join(layer);
            let another = b"@00000000-0000-0000-0000-000000000000";
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&path, "trusted.overlay.dhow", another, flags).unwrap();
            for entry in std::fs::read_dir(&path).unwrap().flatten() {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
    };
    cut();
    assert_eq!(
        dhow.ok(&["run", "--rm", "--network", "none", &image, "sh", "-c", "ls /data? | grep -c f"]),
        "100"
    );
    assert_eq!(store::layers(&dhow.root()), whole);
    cut();
    dhow.ok(&["pull", "-q", &image]);
    assert_eq!(store::layers(&dhow.root()), whole);
    assert!(
        registry.take_requests().iter().all(|request| !request.contains("/blobs/")),
        "the blobs were here"
    );
}

#[test]
fn two_pulls_of_one_image_share_one_download() {
    let case = Case::new("share");
    let images = [&case.name; 3];
    let processes: Vec<_> = images.iter().map(|name| case.dhow.spawn(&["pull", "-q", name])).collect();
    for process in processes {
        let output = process.wait();
        assert_eq!(output.code, 0, "{output:?}");
    }
    let fetched = case.proxy.take(Way::Down);
    assert!(fetched < case.size + 3 * TALK, "{fetched} bytes fetched of {}", case.size);
    case.assert_whole("pulled at once");
    case.remove();
}

#[test]
fn a_second_pull_of_an_unchanged_tag_is_one_request() {
    let dhow = Dhow::empty("unchanged");
    let registry = Registry::new(Login::None);
    registry.add(&large(2), "1");
    let image = format!("{}/app:1", registry.host());
    assert!(dhow.ok(&["pull", &image]).contains("Downloaded newer image"));
    registry.take_requests();
    assert!(dhow.ok(&["pull", &image]).contains("Image is up to date"));
    assert_eq!(registry.take_requests(), ["HEAD /v2/app/manifests/1"]);
    // Where the tag means another image, only what differs comes.
    registry.add(&large(2).with("Env", json!(["A=1"])), "1");
    assert!(dhow.ok(&["pull", &image]).contains("Downloaded newer image"));
    let blobs = registry.take_requests().into_iter().filter(|request| request.contains("/blobs/")).count();
    assert_eq!(blobs, 1, "the configuration");
}

#[test]
fn all_platforms_come_where_they_are_wanted() {
    let dhow = Dhow::empty("platforms");
    let registry = Registry::new(Login::None);
    let platform = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    let marked = |mark: &str| Image::busybox("x").with_layer(Tar::new().file("mark", 0o644, mark));
    registry.add_index(&[(platform("amd64"), marked("amd")), (platform("s390x"), marked("z"))], "1");
    let image = format!("{}/app:1", registry.host());
    let blobs = || std::fs::read_dir(dhow.root().join("content/blobs/sha256")).unwrap().count();
    dhow.ok(&["pull", "-q", &image]);
    assert_eq!(blobs(), 5, "index, manifest, configuration, two layers");
    dhow.ok(&["pull", "-q", "--all-platforms", &image]);
    assert_eq!(blobs(), 8, "and a manifest, a configuration and a layer");
    assert_eq!(store::layers(&dhow.root()).len(), 2, "only what can be run is unpacked");
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", &image, "cat", "/mark"]), "amd");
    // They belong to the name: a later pull keeps them, and they go with it.
    registry.take_requests();
    dhow.ok(&["pull", "-q", &image]);
    dhow.ok(&["pull", "-q", "--all-platforms", &image]);
    assert_eq!(registry.take_requests().iter().filter(|request| request.contains("/blobs/")).count(), 0);
    dhow.ok(&["tag", &image, "other:1"]);
    dhow.ok(&["rmi", &image]);
    assert_eq!(blobs(), 8);
    dhow.ok(&["rmi", "other:1"]);
    assert_eq!(blobs(), 0);
}

#[test]
fn all_tags_of_a_repository_come() {
    let dhow = Dhow::empty("tags");
    let registry = DockerRegistry::start(dhow.scratch(), false);
    for tag in ["one", "two"] {
        let image = Image::busybox("x").with_layer(Tar::new().file("mark", 0o644, tag));
        registry.push(&image, dhow.scratch(), &format!("app:{tag}"), &[]);
    }
    let repository = format!("{}/app", registry.host());
    let said = dhow.ok(&["pull", "-q", "-a", &repository]);
    assert_eq!(said, format!("{repository}:one\n{repository}:two"));
    assert_eq!(dhow.ok(&["images", "-q"]).lines().count(), 2);
    let line = dhow.fails(1, &["pull", "-q", "-a", &format!("{repository}:one")]);
    assert!(line.contains("names one image"), "{line}");
}

#[test]
fn artifacts_are_kept_and_not_run() {
    let dhow = Dhow::empty("artifact");
    let registry = Registry::new(Login::None);
    let (config, text) = (b"{}", b"a signature, say");
    let descriptor = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": registry.put(bytes), "size": bytes.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example+type",
        "config": descriptor("application/vnd.oci.empty.v1+json", config),
        "layers": [descriptor("text/plain", text)],
    });
    let digest = registry.add_document("1", "application/vnd.oci.image.manifest.v1+json", &manifest);
    let name = format!("{}/thing:1", registry.host());
    assert!(dhow.ok(&["pull", &name]).contains(&digest));
    let blob = dhow.root().join("content/blobs/sha256").join(Digest::of(text).hex());
    assert_eq!(std::fs::read(&blob).unwrap(), text);
    assert!(store::layers(&dhow.root()).is_empty());
    let line = dhow.fails(125, &["run", "--rm", &name]);
    assert!(line.contains("application/vnd.example+type") && line.contains("artifact"), "{line}");
    assert!(dhow.ok(&["images"]).contains("thing"));
    dhow.ok(&["rmi", &name]);
    assert!(!blob.exists());
}

#[test]
fn schema_1_is_refused_by_its_name() {
    let dhow = Dhow::empty("schema1");
    let registry = Registry::new(Login::None);
    let manifest = json!({ "schemaVersion": 1, "name": "x", "tag": "1", "fsLayers": [], "history": [] });
    registry.add_document("1", "application/vnd.docker.distribution.manifest.v1+prettyjws", &manifest);
    let line = dhow.fails(1, &["pull", "-q", &format!("{}/old:1", registry.host())]);
    assert!(line.contains("schema 1"), "{line}");
}
