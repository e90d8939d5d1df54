//! `dhow registry serve` and the clients that people have: skopeo, umoci, Podman, Docker, containerd, and ourselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use base::Digest;
use harness::callers::{Machine, installed};
use harness::image::{Image, PATH};
use harness::registry::{Login, Registry};
use harness::served::Served;
use harness::tar::Tar;
use harness::{Dhow, Invocation, Process, bin_dir, eventually, random, soak};
use serde_json::{Value, json};

/// An image with a file that says which one it is.
fn marked(name: &str, mark: &str) -> Image {
    Image::busybox(name).with_layer(Tar::new().file("mark", 0o644, mark))
}

#[track_caller]
fn mark(dhow: &Dhow, image: &str) -> String {
    dhow.ok(&["run", "--rm", "--network", "none", "--pull", "never", image, "cat", "/mark"])
}

/// skopeo, with plain HTTP.
fn skopeo(home: &Path, args: &[&str]) -> Invocation {
    let invocation = Invocation::new("skopeo").arg("--insecure-policy").args(args);
    let invocation = match args.first() {
        Some(&"copy") => invocation.args(&["--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]),
        _ => invocation.arg("--tls-verify=false"),
    };
    invocation.env("HOME", home)
}

/// The digest of the manifest that an OCI layout has under a tag.
#[track_caller]
fn in_layout(layout: &str, tag: &str) -> String {
    let index: Value =
        serde_json::from_slice(&std::fs::read(format!("{layout}/index.json")).unwrap()).unwrap();
    let named = |m: &&Value| m["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let found = index["manifests"].as_array().unwrap().iter().find(named).unwrap();
    found["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_skopeo_pushes_is_a_local_image_and_local_images_are_pulled() {
    let dhow = Dhow::empty("serve-skopeo");
    let served = Served::images(&dhow, &[]);
    let at = |name: &str| dhow.scratch().join(name).display().to_string();
    let there = |name: &str| format!("docker://{}/{name}", served.host());
    std::fs::write(at("x.tar"), marked("x", "pushed").docker_archive()).unwrap();
    skopeo(
        dhow.scratch(),
        &["copy", &format!("docker-archive:{}", at("x.tar")), &format!("oci:{}:x", at("x"))],
    )
    .ok();
    skopeo(dhow.scratch(), &["copy", &format!("oci:{}:x", at("x")), &there("team/app:v1")]).ok();
    assert_eq!(mark(&dhow, "team/app:v1"), "pushed");
    // and back as it was
    skopeo(dhow.scratch(), &["copy", &there("team/app:v1"), &format!("oci:{}:back", at("back"))]).ok();
    assert_eq!(in_layout(&at("back"), "back"), in_layout(&at("x"), "x"));
    let bundle = at("bundle");
    Invocation::new("umoci").args(&["unpack", "--image", &format!("{}:back", at("back")), &bundle]).ok();
    assert_eq!(std::fs::read_to_string(format!("{bundle}/rootfs/mark")).unwrap(), "pushed");
    // what came in another way
    dhow.load(&marked("local:1", "loaded"));
    skopeo(dhow.scratch(), &["copy", &there("local:1"), &format!("oci:{}:local", at("back"))]).ok();
    skopeo(dhow.scratch(), &["copy", &there("library/local:1"), &format!("oci:{}:same", at("back"))]).ok();
    assert_eq!(in_layout(&at("back"), "same"), in_layout(&at("back"), "local"));
    dhow.ok(&["tag", "local:1", "local:2"]);
    let tags = skopeo(dhow.scratch(), &["list-tags", &there("local")]).ok();
    assert!(tags.contains("\"1\"") && tags.contains("\"2\""), "{tags}");
    let catalog = served.curl(&[], "/v2/_catalog").json();
    assert_eq!(catalog["repositories"], json!(["library/local", "local", "team/app"]));
    // another machine
    let other = Dhow::empty("serve-other");
    for (name, want) in [("team/app:v1", "pushed"), ("local:2", "loaded")] {
        let name = format!("{}/{name}", served.host());
        other.ok(&["pull", "-q", &name]);
        assert_eq!(mark(&other, &name), want);
    }
    let pushed = format!("{}/by/us:1", served.host());
    other.ok(&["tag", &format!("{}/local:2", served.host()), &pushed]);
    other.ok(&["push", "-q", &pushed]);
    assert_eq!(mark(&dhow, "by/us:1"), "loaded");
    // a name that is gone is gone everywhere, whoever takes it away
    skopeo(dhow.scratch(), &["delete", &there("team/app:v1")]).ok();
    assert!(!dhow.ok(&["images"]).contains("team/app"));
    dhow.ok(&["rmi", "local:2"]);
    served.curl(&[], "/v2/local/manifests/2").refused(404, "MANIFEST_UNKNOWN");
    served.curl(&[], "/v2/local/manifests/1").expect(200);
    assert_eq!(served.curl(&[], "/v2/local/tags/list").json()["tags"], json!(["1"]));
    assert_eq!(harness::store::broken_blobs(&dhow.root()), Vec::<String>::new());
}

#[test]
fn killed_while_it_takes_an_image_it_has_all_of_it_or_takes_it_again() {
    let dhow = Dhow::empty("serve-crash");
    let at = |name: &str| dhow.scratch().join(name).display().to_string();
    for round in 0..soak(4, 60) {
        let mark_of = format!("round {round}");
        std::fs::write(at("x.tar"), marked("x", &mark_of).docker_archive()).unwrap();
        let served = Served::images(&dhow, &["--quiet"]);
        let push = |served: &Served| {
            let there = format!("docker://{}/app:1", served.host());
            skopeo(dhow.scratch(), &["copy", &format!("docker-archive:{}", at("x.tar")), &there])
        };
        let pushing = push(&served).spawn();
        std::thread::sleep(std::time::Duration::from_millis(random(700)));
        served.kill();
        pushing.wait();
        // whatever there is runs; and what was pushed again is there
        if dhow.ok(&["images"]).contains("app ") {
            assert!(mark(&dhow, "app:1").starts_with("round "));
        }
        let served = Served::images(&dhow, &["--quiet"]);
        push(&served).ok();
        assert_eq!(mark(&dhow, "app:1"), mark_of);
        assert_eq!(served.stop().code, 0);
    }
    assert_eq!(harness::store::broken_blobs(&dhow.root()), Vec::<String>::new());
    let served = Served::images(&dhow, &[]);
    let manifest = served.curl(&[], "/v2/app/manifests/1").expect(200).json();
    let layer = manifest["layers"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let names = || dhow.listing().iter().filter(|line| line.contains(&layer)).count();
    // of the store of images, of the registry, and of its repository
    assert_eq!(names(), 3);
    dhow.ok(&["rmi", "-f", "app:1"]);
    assert_eq!(names(), 0, "{:#?}", dhow.listing());
}

#[test]
fn images_for_all_platforms_go_through_as_they_are() {
    let dhow = Dhow::empty("serve-all");
    let served = Served::images(&dhow, &[]);
    let source = Registry::new(Login::None);
    let platform = |arch: &str| json!({ "os": "linux", "architecture": arch });
    let images = ["amd64", "arm64", "s390x"].map(|arch| (platform(arch), marked("m", arch)));
    source.add_index(&images, "1");
    let layout = dhow.scratch().join("layout").display().to_string();
    let copy = |from: &str, to: &str| skopeo(dhow.scratch(), &["copy", "--all", from, to]).ok();
    copy(&format!("docker://{}/m:1", source.host()), &format!("oci:{layout}:first"));
    let there = format!("docker://{}/m:1", served.host());
    copy(&format!("oci:{layout}:first"), &there);
    copy(&there, &format!("oci:{layout}:second"));
    assert_eq!(in_layout(&layout, "second"), in_layout(&layout, "first"));
    assert_eq!(mark(&dhow, "m:1"), "amd64");
    // for other machines alone it is no local image, and the old one's name goes
    source.add_index(&images[1..], "2");
    copy(&format!("docker://{}/m:2", source.host()), &there);
    copy(&there, &format!("oci:{layout}:third"));
    assert!(!dhow.ok(&["images"]).contains("m "), "{}", dhow.ok(&["images"]));
    assert!(served.said().contains("it has no image for this machine"), "{}", served.said());
}

#[test]
fn the_directory_of_a_registry_is_read_by_skopeo_as_it_is() {
    let dir = harness::real_directory("serve-dir");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let served = Served::directory(&dir.path().join("data"), &[]);
    std::fs::write(at("x.tar"), marked("x", "m").docker_archive()).unwrap();
    let there = format!("docker://{}/team/app:v1", served.host());
    skopeo(dir.path(), &["copy", "--format=oci", &format!("docker-archive:{}", at("x.tar")), &there]).ok();
    let manifest = served.curl(&[], "/v2/team/app/manifests/v1").expect(200);
    assert_eq!(served.stop().code, 0);
    let repository = format!("oci:{}:v1", at("data/repositories/team+app"));
    let raw = Invocation::new("skopeo").args(&["inspect", "--raw", &repository]).env("HOME", dir.path()).ok();
    assert_eq!(Digest::of(raw.as_bytes()).to_string(), manifest.header("docker-content-digest"));
    // another's directory is not taken over
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("precious"), "x").unwrap();
    let command = Invocation::new(bin_dir().join("dhow")).args(&["registry", "serve", "--dir"]).arg(&other);
    let output = command.output();
    assert_eq!((output.code, output.stderr.contains("is not empty")), (1, true), "{output:?}");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}

/// A self-signed certificate for loopback, `cert.pem` and `key.pem`, and `certs/ca.crt` for clients.
#[track_caller]
fn certificate(dir: &Path) {
    std::fs::create_dir_all(dir.join("certs")).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    Invocation::new("openssl")
        .args(&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(&["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(&["-keyout", &at("new-key.pem"), "-out", &at("new-cert.pem")])
        .ok();
    std::fs::copy(at("new-cert.pem"), at("certs/ca.crt")).unwrap();
    std::fs::rename(at("new-key.pem"), at("key.pem")).unwrap();
    std::fs::rename(at("new-cert.pem"), at("cert.pem")).unwrap();
}

/// Podman with a store of its own.
fn podman(machine: &Machine, args: &[&str]) -> Invocation {
    machine
        .program("env")
        .arg(format!("PATH={}:{PATH}", std::env::var("PATH").unwrap_or_default()))
        .arg("podman")
        .args(&["--root", &machine.file("store"), "--runroot", &machine.file("run")])
        .args(&["--storage-driver", "vfs"])
        .args(args)
}

/// A registry in a machine, over a directory of it.
#[track_caller]
fn served_in(machine: &Machine, flags: &[&str]) -> Served {
    let command = machine.program(bin_dir().join("dhow"));
    let command =
        command.args(&["registry", "serve", "--dir", &machine.file("data"), "--listen", "127.0.0.1:0"]);
    Served::start(command.args(flags))
}

#[test]
fn heavy_podman_and_skopeo_log_in_over_tls() {
    installed("podman");
    let machine = Machine::new("serve-podman");
    certificate(machine.path());
    let users = machine.file("users");
    let line = Invocation::new("htpasswd").args(&["-Bbn", "user", "secret"]).ok();
    std::fs::write(&users, line).unwrap();
    let (cert, key) = (machine.file("cert.pem"), machine.file("key.pem"));
    let served = served_in(&machine, &["--tls-cert", &cert, "--tls-key", &key, "--htpasswd", &users]);
    assert!(served.url().starts_with("https://"));
    let certs = machine.file("certs");
    std::fs::write(machine.file("x.tar"), marked("localhost/x:1", "tls").docker_archive()).unwrap();
    podman(&machine, &["load", "-q", "-i", &machine.file("x.tar")]).ok();
    let there = format!("{}/team/x:1", served.host());
    let push =
        |flags: &[&str]| podman(&machine, &[&["push", "-q"], flags, &["localhost/x:1", &there]].concat());
    let refused = push(&["--cert-dir", &certs]).output();
    assert!(refused.code != 0 && refused.stderr.contains("unauthorized"), "{refused:?}");
    let refused = push(&["--cert-dir", &certs, "--creds", "user:wrong"]).output();
    assert!(refused.code != 0, "{refused:?}");
    let refused = push(&["--creds", "user:secret"]).output();
    assert!(refused.code != 0 && refused.stderr.contains("certificate"), "{refused:?}");
    push(&["--cert-dir", &certs, "--creds", "user:secret"]).ok();
    podman(&machine, &["rmi", "-a", "-f"]).ok();
    podman(&machine, &["pull", "-q", "--cert-dir", &certs, "--creds", "user:secret", &there]).ok();
    let curl = |flags: &[&str], path: &str| {
        let curl =
            machine.program("curl").args(&["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*"]);
        curl.args(flags).arg(format!("{}{path}", served.url())).output().stdout
    };
    let ca = machine.file("certs/ca.crt");
    assert_eq!(curl(&["--cacert", &ca], "/v2/"), "401");
    assert_eq!(curl(&["--cacert", &ca, "-u", "user:secret"], "/v2/"), "200");
    // a new certificate, and a new user, while it runs
    certificate(machine.path());
    std::fs::write(&users, Invocation::new("htpasswd").args(&["-Bbn", "other", "secret"]).ok()).unwrap();
    eventually("the new certificate", || {
        (curl(&["--cacert", &ca, "-u", "other:secret"], "/v2/") == "200").then_some(())
    });
    assert_eq!(curl(&["--cacert", &ca, "-u", "user:secret"], "/v2/"), "401");
    let copy = Invocation::new("env").args(&["skopeo", "--insecure-policy", "copy", "--quiet"]);
    let copy = copy.args(&["--src-creds", "other:secret", "--src-cert-dir", &certs]);
    let copy = copy.arg(format!("docker://{there}")).arg(format!("oci:{}:x", machine.file("back")));
    machine_run(&machine, copy);
}

/// Runs a command line there.
#[track_caller]
fn machine_run(machine: &Machine, invocation: Invocation) -> String {
    let command = invocation.into_command();
    let mut there = machine.program(command.get_program());
    for arg in command.get_args() {
        there = there.arg(arg);
    }
    there.env("HOME", machine.path()).ok()
}

/// A daemon that listens on a socket of the machine's directory.
#[track_caller]
fn daemon(invocation: Invocation, alive: impl Fn() -> bool) -> Process {
    let mut process = invocation.limit(600).spawn();
    let deadline = std::time::Instant::now() + harness::patience(30);
    while !alive() {
        assert!(process.is_running() && std::time::Instant::now() < deadline, "{}", process.stderr());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    process
}

#[test]
fn heavy_docker_pushes_and_pulls() {
    let machine = Machine::new("serve-docker");
    let served = served_in(&machine, &[]);
    let mirror = machine.program(bin_dir().join("dhow")).args(&[
        "registry",
        "serve",
        "--dir",
        &machine.file("mirror"),
    ]);
    let mirror = Served::start(mirror.args(&["--listen", "127.0.0.1:0", "--mirror-of", served.url()]));
    let file = |name| machine.file(name);
    let host = format!("unix://{}", file("sock"));
    let docker = |args: &[&str]| {
        machine.program(installed("docker")).args(&["--host", &host]).args(args).env("HOME", machine.path())
    };
    let dockerd = machine
        .program(installed("dockerd"))
        .args(&["--host", &host, "--pidfile", &file("pid"), "--data-root", &file("root")])
        .args(&["--exec-root", &file("exec"), "--log-level", "warn", "--iptables=false", "--bridge=none"])
        .args(&["--registry-mirror", mirror.url()]);
    let _daemon = daemon(dockerd, || docker(&["version"]).output().code == 0);
    docker(&["load"]).input(marked("x:1", "docker").docker_archive()).ok();
    let there = format!("{}/team/x:1", served.host());
    docker(&["tag", "x:1", &there]).ok();
    docker(&["push", "--quiet", &there]).ok();
    let id = docker(&["inspect", "--format", "{{.Id}}", "x:1"]).ok();
    docker(&["rmi", "-f", "x:1", &there]).ok();
    assert!(docker(&["inspect", &there]).output().code != 0);
    docker(&["pull", "--quiet", &there]).ok();
    assert_eq!(docker(&["inspect", "--format", "{{.Id}}", &there]).ok(), id);
    // the same blobs into another repository: mounted, not sent again
    let other = format!("{}/team/y:1", served.host());
    docker(&["tag", &there, &other]).ok();
    docker(&["push", "--quiet", &other]).ok();
    assert!(served.log().contains("mount=sha256"), "{}", served.log());
    // a mirror of what it takes for Docker Hub
    let hub = format!("{}/library/m:1", served.host());
    docker(&["tag", &there, &hub]).ok();
    docker(&["push", "--quiet", &hub]).ok();
    docker(&["rmi", "-f", &hub, &there, &other]).ok();
    docker(&["pull", "--quiet", "m:1"]).ok();
    assert_eq!(docker(&["inspect", "--format", "{{.Id}}", "m:1"]).ok(), id);
    assert!(mirror.log().contains("GET /v2/library/m/blobs/"), "{}", mirror.log());
}

#[test]
fn heavy_containerd_pushes_and_pulls() {
    let machine = Machine::new("serve-containerd");
    let served = served_in(&machine, &[]);
    let file = |name| machine.file(name);
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        file("root"),
        file("state"),
        file("sock"),
        file("ttrpc"),
    );
    std::fs::write(file("config.toml"), config).unwrap();
    let ctr =
        |args: &[&str]| machine.program(installed("ctr")).args(&["--address", &file("sock")]).args(args);
    let containerd = machine.program(installed("containerd")).args(&[
        "--config",
        &file("config.toml"),
        "--log-level",
        "warn",
    ]);
    let _daemon = daemon(containerd, || ctr(&["version"]).output().code == 0);
    std::fs::write(file("x.tar"), marked("docker.io/library/x:1", "containerd").docker_archive()).unwrap();
    ctr(&["images", "import", &file("x.tar")]).ok();
    let there = format!("{}/team/x:1", served.host());
    ctr(&["images", "push", "--plain-http", &there, "docker.io/library/x:1"]).ok();
    let digest = |list: &str, name: &str| {
        let line = list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{list}"));
        line.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned()
    };
    let before = digest(&ctr(&["images", "ls"]).ok(), "docker.io");
    ctr(&["images", "rm", "--sync", "docker.io/library/x:1"]).ok();
    ctr(&["images", "pull", "--plain-http", &there]).ok();
    assert_eq!(digest(&ctr(&["images", "ls"]).ok(), &there), before);
}
