//! `push`: what is sent and what is not, cuts, and what others make of what has arrived.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::image::Image;
use harness::proxy::{Cut, Proxy, Way};
use harness::registry::{DockerRegistry, Login, Registry, log_in};
use harness::tar::Tar;
use harness::{Dhow, Invocation, random, soak};
use serde_json::{Value, json};

/// Requests, documents and headers: what a push sends besides blobs, at most.
const TALK: u64 = 100_000;

fn marked(name: &str, mark: &str) -> Image {
    Image::busybox(name).with_layer(Tar::new().file("mark", 0o644, mark))
}

/// An image of several layers of a megabyte, and the bytes of all.
fn large(name: &str) -> (Image, u64) {
    let mut image = Image::busybox(name);
    for layer in 0..3_u64 {
        let content: Vec<u8> = (0..1_200_000_u64).map(|n| ((n * n * (layer + 3)) >> 7) as u8).collect();
        image = image.with_layer(Tar::new().file(&format!("data{layer}"), 0o644, content));
    }
    let size = image.layers.iter().map(|layer| layer.len() as u64).sum();
    (image, size)
}

/// What the registry has under this name, as skopeo sees it.
#[track_caller]
fn raw(name: &str, home: &Path) -> Value {
    let skopeo = Invocation::new("skopeo").args(&["inspect", "--raw", "--tls-verify=false"]);
    let text = skopeo.args(&["--creds=user:secret", &format!("docker://{name}")]).env("HOME", home).ok();
    serde_json::from_str(&text).unwrap()
}

/// skopeo takes all of it, and so checks every digest.
#[track_caller]
fn copied(name: &str, home: &Path, flags: &[&str]) {
    let to = tempfile::Builder::new().tempdir_in(home).unwrap();
    Invocation::new("skopeo")
        .args(&["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--src-creds=user:secret"])
        .args(flags)
        .arg(format!("docker://{name}"))
        .arg(format!("oci:{}", to.path().join("copy").display()))
        .env("HOME", home)
        .ok();
}

#[test]
fn what_is_pushed_others_pull_and_what_is_there_is_not_sent_again() {
    let dhow = Dhow::empty("push");
    let registry = DockerRegistry::start(dhow.scratch(), false);
    let proxy = Proxy::new(registry.host());
    let name = format!("{}/team/app:1", proxy.host());
    let (image, size) = large(&name);
    dhow.load(&image);
    let said = dhow.ok(&["push", &name]);
    let digest = said.strip_prefix("1: digest: ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let manifest = raw(&name, dhow.scratch());
    assert_eq!(said, format!("1: digest: {digest} size: {}", manifest.to_string().len()), "{manifest}");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 4);
    let sent = proxy.take(Way::Up);
    assert!(sent >= size && sent < size + TALK, "{sent} for {size}");
    copied(&name, dhow.scratch(), &[]);

    assert_eq!(dhow.ok(&["push", "-q", &name]), name);
    assert!(proxy.take(Way::Up) < TALK, "nothing was missing");
    // One more layer is one more blob.
    dhow.load(&image.with_layer(Tar::new().file("more", 0o644, vec![7; 300_000])));
    dhow.ok(&["push", "-q", &name]);
    let sent = proxy.take(Way::Up);
    assert!((300_000..300_000 + TALK).contains(&sent), "{sent}");

    // Another repository of the registry has the blobs: they are taken over from there.
    let other = format!("{}/else/where:2", proxy.host());
    dhow.ok(&["tag", &name, &other]);
    let output = dhow.run(&["push", &other]);
    assert!(output.code == 0 && output.stderr.contains("Mounted"), "{output:?}");
    assert!(proxy.take(Way::Up) < TALK, "nothing was sent");
    copied(&other, dhow.scratch(), &[]);

    // And we have from there what we gave.
    let elsewhere = Dhow::empty("push-back");
    elsewhere.ok(&["pull", "-q", &other]);
    let id = |dhow: &Dhow, name: &str| dhow.ok(&["inspect", "--format", "{{.Id}}", name]);
    assert_eq!(id(&elsewhere, &other), id(&dhow, &name));
}

#[test]
fn podman_runs_what_we_pushed() {
    let dhow = Dhow::empty("podman");
    let registry = DockerRegistry::start(dhow.scratch(), false);
    let name = format!("{}/app:1", registry.host());
    dhow.load(&marked(&name, "pushed"));
    dhow.ok(&["push", "-q", &name]);
    let podman = |args: &[&str]| {
        Invocation::new("podman")
            .arg("--root")
            .arg(dhow.scratch().join("store"))
            // Of 50 characters at most.
            .arg("--runroot")
            .arg(dhow.scratch().join("r"))
            .args(&["--storage-driver", "vfs"])
            .args(args)
            .env("HOME", dhow.scratch())
    };
    podman(&["pull", "--quiet", "--tls-verify=false", &name]).ok();
    let mount = podman(&["image", "mount", &name]).ok();
    assert_eq!(std::fs::read_to_string(Path::new(&mount).join("mark")).unwrap(), "pushed");
    podman(&["image", "unmount", &name]).ok();
}

#[test]
fn soak_a_push_whose_connection_is_cut_anywhere_goes_on_where_it_was() {
    let dhow = Dhow::empty("push-cut");
    let registry = DockerRegistry::start(dhow.scratch(), false);
    let proxy = Proxy::new(registry.host());
    let (image, size) = large("large:1");
    dhow.load(&image);
    for round in 0..soak(6, 100) {
        // A repository of its own each time, which may not be given what another has: nothing would be sent.
        let name = format!("{}/app{round}:1", proxy.host());
        dhow.ok(&["tag", "large:1", &name]);
        let point = random(size);
        let origins = dhow.root().join("content/.origins");
        if origins.exists() {
            std::fs::remove_dir_all(origins).unwrap();
        }
        if round % 2 == 0 {
            proxy.cut_after(Way::Up, point, Cut::Once);
            dhow.ok(&["push", "-q", &name]);
            assert!(proxy.has_cut(), "{point}");
            let sent = proxy.take(Way::Up);
            // What was on its way when it broke goes twice: at most what the sockets between hold.
            assert!(sent < size + (size / 2), "cut after {point}: {sent} sent of {size}");
        } else {
            proxy.cut_after(Way::Up, point, Cut::Gone);
            let line = dhow.fails(1, &["push", "-q", &name]);
            assert!(line.contains(proxy.host()), "{line}");
            proxy.mend();
            dhow.ok(&["push", "-q", &name]);
            proxy.take(Way::Up);
        }
        copied(&name, dhow.scratch(), &[]);
    }
}

#[test]
fn an_index_goes_with_all_platforms_that_are_here() {
    let dhow = Dhow::empty("push-index");
    let from = Registry::new(Login::None);
    let to = DockerRegistry::start(dhow.scratch(), false);
    let platform = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    from.add_index(&[(platform("amd64"), marked("x", "amd")), (platform("s390x"), marked("x", "z"))], "1");
    let image = format!("{}/app:1", from.host());
    let (one, all) = (format!("{}/one:1", to.host()), format!("{}/all:1", to.host()));
    dhow.ok(&["pull", "-q", &image]);
    dhow.ok(&["tag", &image, &one]);
    dhow.ok(&["push", "-q", &one]);
    assert!(raw(&one, dhow.scratch())["layers"].is_array(), "one platform is here: its image alone");
    let pulled = dhow.ok(&["pull", "--all-platforms", &image]);
    let digest = pulled.lines().next().unwrap().strip_prefix("Digest: ").unwrap();
    dhow.ok(&["tag", &image, &all]);
    assert!(dhow.ok(&["push", &all]).contains(digest));
    assert_eq!(raw(&all, dhow.scratch())["manifests"].as_array().unwrap().len(), 2);
    copied(&all, dhow.scratch(), &["--all"]);
}

#[test]
fn all_tags_of_a_repository_go() {
    let dhow = Dhow::empty("push-tags");
    let registry = DockerRegistry::start(dhow.scratch(), false);
    let repository = format!("{}/app", registry.host());
    for tag in ["one", "two"] {
        dhow.load(&marked(&format!("{repository}:{tag}"), tag));
    }
    dhow.load(&marked(&format!("{repository}/other:3"), "3"));
    let said = dhow.ok(&["push", "-q", "-a", &repository]);
    assert_eq!(said, format!("{repository}:one\n{repository}:two"));
    for tag in ["one", "two"] {
        raw(&format!("{repository}:{tag}"), dhow.scratch());
    }
}

#[test]
fn failures_say_what_to_do() {
    let dhow = Dhow::empty("push-fails");
    let closed = DockerRegistry::start(dhow.scratch(), true);
    let name = format!("{}/app:1", closed.host());
    let line = dhow.fails(1, &["push", &name]);
    assert!(line.contains("no image") && line.contains(&name), "{line}");
    dhow.load(&marked(&name, "x"));
    let output = dhow.run(&["push", "-q", &name]);
    assert!(output.code == 1 && output.stderr.contains("login"), "{output:?}");
    log_in(dhow.scratch(), closed.host());
    dhow.ok(&["push", "-q", &name]);
    copied(&name, dhow.scratch(), &[]);
    let digest = format!("{}/app@sha256:{}", closed.host(), "0".repeat(64));
    assert!(dhow.fails(1, &["push", &digest]).contains("under a tag"));
    assert!(dhow.fails(1, &["push", "-a", &name]).contains("names one image"));
    assert!(dhow.fails(1, &["push", "-a", "nothing/here"]).contains("no image"));
    dhow.ok(&["tag", &name, "127.0.0.1:1/app:1"]);
    assert!(dhow.fails(1, &["push", "-q", "127.0.0.1:1/app:1"]).contains("cannot reach"));
}
