//! Images: `load`, `pull`, `images`, `tag`, `rmi`, `inspect`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::image::Image;
use harness::registry::{DockerRegistry, Login, Registry, filter, log_in};
use harness::tar::Tar;
use harness::{Dhow, Invocation};
use serde_json::json;

/// An image with a file that says which one it is.
fn marked(name: &str, mark: &str) -> Image {
    Image::busybox(name).with_layer(Tar::new().file("mark", 0o644, mark))
}

#[track_caller]
fn mark(dhow: &Dhow, image: &str) -> String {
    dhow.ok(&["run", "--rm", "--network", "none", "--pull", "never", image, "cat", "/mark"])
}

#[test]
fn docker_archives_load_plain_and_compressed() {
    let dhow = Dhow::empty("load");
    for (name, program) in [("plain", &["cat"][..]), ("gzip", &["gzip", "-1"]), ("zstd", &["zstd", "-1"])] {
        let archive = filter(program, &marked(name, name).docker_archive());
        let path = dhow.scratch().join(name);
        std::fs::write(&path, &archive).unwrap();
        let said = dhow.ok(&["load", "-q", "-i", path.to_str().unwrap()]);
        assert_eq!(said, format!("Loaded image: {name}:latest"));
        assert_eq!(mark(&dhow, name), name);
    }
    // and from standard input
    let said = dhow.command(&["load", "-q"]).input(marked("piped:2", "x").docker_archive()).ok();
    assert_eq!(said, "Loaded image: piped:2");
}

#[test]
fn oci_layouts_load_as_skopeo_and_umoci_write_them() {
    let dhow = Dhow::empty("oci");
    let at = |name: &str| dhow.scratch().join(name).display().to_string();
    std::fs::write(at("docker.tar"), marked("x", "oci").docker_archive()).unwrap();
    let skopeo = |to: &str| {
        Invocation::new("skopeo")
            .args(&["--insecure-policy", "copy", "--quiet"])
            .arg(format!("docker-archive:{}", at("docker.tar")))
            .arg(to)
            .env("HOME", dhow.scratch())
            .ok()
    };
    skopeo(&format!("oci:{}:layout", at("layout")));
    skopeo(&format!("oci-archive:{}:archive", at("archive.tar")));
    dhow.ok(&["load", "-q", "-i", &at("layout")]);
    assert_eq!(mark(&dhow, "layout"), "oci");
    dhow.ok(&["load", "-q", "-i", &at("archive.tar")]);
    assert_eq!(mark(&dhow, "archive"), "oci");

    // umoci adds a layer with a whiteout in it
    Invocation::new("umoci")
        .args(&["unpack", "--image", &format!("{}:layout", at("layout")), &at("bundle")])
        .ok();
    std::fs::write(at("bundle/rootfs/new"), "by umoci").unwrap();
    std::fs::remove_file(at("bundle/rootfs/etc/group")).unwrap();
    Invocation::new("umoci")
        .args(&["repack", "--image", &format!("{}:changed", at("layout")), &at("bundle")])
        .ok();
    dhow.ok(&["load", "-q", "-i", &at("layout")]);
    let text = dhow.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "changed",
        "sh",
        "-c",
        "cat /new; ls /etc/group 2>&1; true",
    ]);
    assert!(text.starts_with("by umoci") && text.contains("No such file"), "{text}");

    // our own store is a layout that others read
    let store = format!("oci:{}", dhow.root().join("content").display());
    let tags = Invocation::new("skopeo").args(&["list-tags", &store]).output();
    let index = std::fs::read_to_string(dhow.root().join("content/index.json")).unwrap();
    assert!(index.contains("org.opencontainers.image.ref.name"), "{index} {tags:?}");
    dhow.ok(&["tag", "changed", "elsewhere:1"]);
}

#[test]
fn pulls_log_in_with_every_kind_of_login() {
    for (login, name) in [
        (Login::None, "none"),
        (Login::AnonymousToken, "anonymous"),
        (Login::Token, "token"),
        (Login::Basic, "basic"),
    ] {
        let dhow = Dhow::empty(&format!("login-{name}"));
        let registry = Registry::new(login);
        registry.add(&marked("x", name), "1");
        let image = format!("{}/team/app:1", registry.host());
        if matches!(login, Login::Basic | Login::Token) {
            let line = dhow.fails(1, &["pull", "-q", &image]);
            assert!(line.contains(registry.host()), "{line}");
            log_in(dhow.scratch(), registry.host());
        }
        assert_eq!(dhow.ok(&["pull", "-q", &image]), image);
        assert_eq!(mark(&dhow, &image), name);
    }
}

#[test]
fn debians_docker_registry_serves_us_with_and_without_a_login() {
    let dhow = Dhow::empty("pull");
    let image = marked("x", "pulled");
    let open = DockerRegistry::start(dhow.scratch(), false);
    open.push(&image, dhow.scratch(), "library/app:1", &[]);
    let name = format!("{}/library/app:1", open.host());
    let said = dhow.ok(&["pull", &name]);
    assert!(
        said.contains("Status: Downloaded newer image for ") && said.contains("Digest: sha256:"),
        "{said}"
    );
    assert_eq!(mark(&dhow, &name), "pulled");
    assert!(dhow.ok(&["pull", &name]).contains("Image is up to date"));

    let closed = DockerRegistry::start(&dhow.scratch().join("closed"), true);
    closed.push(&image, dhow.scratch(), "app", &[]);
    let name = format!("{}/app", closed.host());
    dhow.fails(1, &["pull", "-q", &name]);
    log_in(dhow.scratch(), closed.host());
    dhow.ok(&["pull", "-q", &name]);
    // `run` pulls by itself what is missing
    dhow.ok(&["rmi", &name]);
    assert_eq!(dhow.ok(&["run", "--rm", "-q", "--network", "none", &name, "cat", "/mark"]), "pulled");
}

#[test]
fn layers_may_be_gzip_zstd_or_plain() {
    let dhow = Dhow::empty("layers");
    let registry = Registry::new(Login::None);
    for (tag, suffix, program) in [
        ("plain", "", &[][..]),
        ("gzip", "+gzip", &["gzip", "-1"][..]),
        ("zstd", "+zstd", &["zstd", "-q", "-1"][..]),
    ] {
        registry.add_compressed(&marked("x", tag), tag, suffix, program);
        let image = format!("{}/app:{tag}", registry.host());
        dhow.ok(&["pull", "-q", &image]);
        assert_eq!(mark(&dhow, &image), tag);
    }
}

#[test]
fn an_index_gives_the_image_for_this_machine_or_the_one_asked_for() {
    let dhow = Dhow::empty("index");
    let registry = Registry::new(Login::None);
    let platform = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    let other = Image {
        name: "x".into(),
        layers: vec![Tar::new().file("mark", 0o644, "arm").finish()],
        config: json!({}),
    };
    registry.add_index(
        &[
            (platform("arm64"), other),
            (platform("amd64"), marked("x", "amd")),
            (platform("s390x"), marked("x", "s")),
        ],
        "1",
    );
    let image = format!("{}/app:1", registry.host());
    dhow.ok(&["pull", "-q", &image]);
    assert_eq!(mark(&dhow, &image), "amd");
    let pulled = registry.take_requests().iter().filter(|request| request.contains("/blobs/")).count();
    assert_eq!(pulled, 3, "one configuration and two layers");
    dhow.ok(&["pull", "-q", "--platform", "linux/s390x", &image]);
    assert_eq!(mark(&dhow, &image), "s");
    let line = dhow.fails(1, &["pull", "-q", "--platform", "linux/riscv64", &image]);
    assert!(line.contains("riscv64") && line.contains("linux/arm64"), "{line}");
}

#[test]
fn layers_that_are_here_are_not_fetched_again() {
    let dhow = Dhow::empty("again");
    let registry = Registry::new(Login::None);
    registry.add(&marked("x", "one"), "1");
    registry.add(&marked("x", "two"), "2");
    let image = |tag: &str| format!("{}/app:{tag}", registry.host());
    dhow.ok(&["pull", "-q", &image("1")]);
    let blobs = || {
        registry
            .take_requests()
            .into_iter()
            .filter(|request| request.starts_with("GET") && request.contains("/blobs/"))
            .count()
    };
    assert_eq!(blobs(), 3);
    dhow.ok(&["pull", "-q", &image("2")]);
    assert_eq!(blobs(), 2, "the configuration and the layer that differs");
    dhow.ok(&["pull", "-q", &image("2")]);
    assert_eq!(blobs(), 0);
    assert_eq!(mark(&dhow, &image("2")), "two");
}

#[test]
fn images_are_listed_tagged_inspected_and_removed() {
    let dhow = Dhow::empty("list");
    dhow.load(&marked("app:1", "one").with("Env", json!(["A=1"])));
    let list = dhow.ok(&["images"]);
    let header: Vec<&str> =
        list.lines().next().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(header, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    dhow.ok(&["tag", "app:1", "other/name:2"]);
    let names = dhow.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["app:1", "other/name:2"]);
    let id = dhow.ok(&["images", "-q", "--no-trunc", "app"]);
    let inspected = dhow.inspect("app:1");
    assert_eq!(inspected["Id"], json!(id));
    assert_eq!(inspected["Config"]["Env"], json!(["A=1"]));
    assert_eq!(inspected["RepoTags"].as_array().unwrap().len(), 2);
    assert_eq!(inspected["RootFS"]["Layers"].as_array().unwrap().len(), 2);

    // a container holds its image
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "app:1", "sleep", "1000"]);
    assert!(dhow.ok(&["rmi", "other/name:2"]).contains("Untagged: other/name:2"));
    let line = dhow.fails(1, &["rmi", "app:1"]);
    assert!(line.contains("box") || line.contains("container"), "{line}");
    dhow.ok(&["rm", "-f", "box"]);
    let removed = dhow.ok(&["rmi", &id[7..19]]);
    assert!(removed.contains("Untagged: app:1") && removed.contains("Deleted: sha256:"), "{removed}");
    assert_eq!(dhow.ok(&["images", "-q"]), "");
    for place in ["content/blobs/sha256", "layers"] {
        let left: Vec<_> =
            std::fs::read_dir(dhow.root().join(place)).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
    dhow.fails(1, &["rmi", "nosuch"]);
    dhow.fails(1, &["tag", "nosuch", "x"]);
}

#[test]
fn layers_stack_with_whiteouts_links_and_modes() {
    let dhow = Dhow::empty("stack");
    let lower = Tar::new()
        .dir("d/", 0o750)
        .file("d/a", 0o640, "a")
        .file("d/b", 0o4755, "b")
        .dir("o/", 0o755)
        .file("o/x", 0o644, "x");
    let upper = Tar::new()
        .dir("d/", 0o750)
        .file("d/.wh.a", 0o644, "")
        .dir("o/", 0o755)
        .file("o/.wh..wh..opq", 0o644, "")
        .file("o/y", 0o644, "y")
        .file("one", 0o600, "1")
        .entry("two", b'1', 0o600, "one", b"");
    dhow.load(&Image::busybox("img").with_layer(lower).with_layer(upper));
    let text = dhow.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "img",
        "sh",
        "-c",
        "ls d o; stat -c '%a %h' d/b one; stat -c %a d",
    ]);
    assert_eq!(text, "d:\nb\n\no:\ny\n4755 1\n600 2\n750");
}
