//! `dhow registry serve --mirror-of`: a cache before another registry.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use base::Digest;
use harness::image::Image;
use harness::registry::{DockerRegistry, Lie, Login, Registry};
use harness::served::{Answer, Served};
use harness::tar::Tar;
use harness::{Dhow, Invocation, eventually};
use serde_json::{Value, json};

fn marked(mark: &str) -> Image {
    Image::busybox("x:1").with_layer(Tar::new().file("mark", 0o644, mark))
}

/// A mirror of a registry, with a root of its own.
#[track_caller]
fn mirror(dhow: &Dhow, host: &str) -> Served {
    Served::images(dhow, &["--mirror-of", &format!("http://{host}")])
}

/// The digests of configuration and layers.
fn blobs(manifest: &Answer) -> Vec<String> {
    let json = manifest.json();
    let layers = json["layers"].as_array().unwrap().iter().chain([&json["config"]]);
    layers.map(|blob: &Value| blob["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn before_dockers_registry_it_gives_what_that_has_also_when_that_is_away() {
    let dhow = Dhow::empty("mirror-docker");
    let upstream = DockerRegistry::start(dhow.scratch(), false);
    upstream.push(&marked("one"), dhow.scratch(), "team/x:1", &[]);
    let served = mirror(&dhow, upstream.host());
    let skopeo = |to: &str| {
        Invocation::new("skopeo")
            .args(&["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{}/team/x:1", served.host()))
            .arg(format!("oci:{}:{to}", dhow.scratch().join("layout").display()))
            .env("HOME", dhow.scratch())
    };
    skopeo("first").ok();
    let first = served.curl(&[], "/v2/team/x/manifests/1").expect(200);
    assert_eq!(first.header("warning"), "");
    // what it has is served from here, and what the tag means now is looked up there
    upstream.push(&marked("two"), dhow.scratch(), "team/x:1", &[]);
    let second = served.curl(&[], "/v2/team/x/manifests/1").expect(200);
    assert_ne!(second.header("docker-content-digest"), first.header("docker-content-digest"));
    skopeo("second").ok();
    assert_eq!(served.curl(&[], "/v2/team/x/tags/list").expect(200).json()["tags"], json!(["1"]));
    drop(upstream);
    assert_eq!(served.curl(&[], "/v2/team/x/tags/list").expect(200).json()["tags"], json!(["1"]));
    let stale = served.curl(&[], "/v2/team/x/manifests/1").expect(200);
    assert_eq!(stale.header("docker-content-digest"), second.header("docker-content-digest"));
    assert!(stale.header("warning").starts_with("111 "), "{stale:#?}");
    skopeo("third").ok();
    let pinned = format!("/v2/team/x/manifests/{}", first.header("docker-content-digest"));
    assert_eq!(served.curl(&[], &pinned).expect(200).header("warning"), "");
    // what it does not have, it cannot get
    served.curl(&[], "/v2/team/x/manifests/2").refused(502, "UNKNOWN");
    // and it takes nothing
    served.curl(&["-X", "POST"], "/v2/team/x/blobs/uploads/").refused(405, "UNSUPPORTED");
}

#[test]
fn a_second_pull_is_one_question_and_many_at_once_are_one_download() {
    let dhow = Dhow::empty("mirror-once");
    let upstream = Registry::new(Login::None);
    upstream.add(&marked("once"), "1");
    let served = mirror(&dhow, upstream.host());
    let manifest = served.curl(&[], "/v2/x/manifests/1").expect(200);
    let asked = upstream.take_requests();
    assert_eq!(asked, ["HEAD /v2/x/manifests/1", "GET /v2/x/manifests/1"]);
    let layer = blobs(&manifest).remove(0);
    std::thread::scope(|scope| {
        for n in 0..20 {
            let (served, dhow, layer) = (&served, &dhow, &layer);
            scope.spawn(move || {
                let bytes =
                    served.fetch(&format!("/v2/x/blobs/{layer}"), &dhow.scratch().join(format!("out-{n}")));
                assert_eq!(Digest::of(&bytes).to_string(), *layer);
            });
        }
    });
    assert_eq!(upstream.take_requests(), [format!("GET /v2/x/blobs/{layer}")]);
    for digest in blobs(&manifest) {
        served.fetch(&format!("/v2/x/blobs/{digest}"), &dhow.scratch().join("out"));
    }
    upstream.take_requests();
    served.curl(&[], "/v2/x/manifests/1").expect(200);
    for digest in blobs(&manifest) {
        served.fetch(&format!("/v2/x/blobs/{digest}"), &dhow.scratch().join("out"));
    }
    assert_eq!(upstream.take_requests(), ["HEAD /v2/x/manifests/1"]);
    // what no manifest needs is not asked for
    let other = Digest::of(b"other");
    served.curl(&[], &format!("/v2/x/blobs/{other}")).refused(404, "BLOB_UNKNOWN");
    served.curl(&[], "/v2/x/manifests/nothing").refused(404, "MANIFEST_UNKNOWN");
    assert!(!upstream.take_requests().iter().any(|line| line.contains(&other.to_string())));
}

#[test]
fn what_is_not_what_it_should_be_reaches_nobody_as_whole() {
    let dhow = Dhow::empty("mirror-lies");
    let upstream = Registry::new(Login::None);
    upstream.add(&marked("true"), "1");
    let served = mirror(&dhow, upstream.host());
    let manifest = served.curl(&[], "/v2/x/manifests/1").expect(200);
    let layer = blobs(&manifest).remove(0);
    let path = format!("/v2/x/blobs/{layer}");
    for lie in [Lie::WrongByte, Lie::CutShort, Lie::Endless] {
        upstream.lie(&layer, lie);
        let curl =
            Invocation::new("curl").args(&["-sSf", "--noproxy", "*", "-o", "/dev/null", "--max-time", "30"]);
        let output = curl.arg(format!("{}{path}", served.url())).output();
        // 18: it ended early; 22: it was refused before it began; 52, 56: it broke
        assert!([18, 22, 52, 56].contains(&output.code), "{lie:?}: {output:?}");
    }
    // what has not begun to come is told as such
    upstream.lie(&layer, Lie::Missing);
    served.curl(&[], &path).refused(502, "UNKNOWN");
    upstream.be_honest();
    let bytes = served.fetch(&path, &dhow.scratch().join("out"));
    assert_eq!(Digest::of(&bytes).to_string(), layer);
    let kept = dhow.root().join("mirrors");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1);
}

#[test]
fn what_nobody_asks_for_goes_and_comes_again() {
    let dhow = Dhow::empty("mirror-keep");
    let upstream = Registry::new(Login::None);
    upstream.add(&marked("kept"), "1");
    let url = format!("http://{}", upstream.host());
    for _ in 0..2 {
        let served = mirror(&dhow, upstream.host());
        let layer = blobs(&served.curl(&[], "/v2/x/manifests/1").expect(200)).remove(0);
        let bytes = served.fetch(&format!("/v2/x/blobs/{layer}"), &dhow.scratch().join("out"));
        assert_eq!(Digest::of(&bytes).to_string(), layer);
        let kept = || {
            let kept = |line: &&String| {
                line.contains("/tags/1 ") || line.contains(layer.trim_start_matches("sha256:"))
            };
            dhow.listing().iter().filter(kept).count()
        };
        // the tag; the layer, once for all repositories, and once for its own
        assert_eq!(kept(), 3);
        assert_eq!(served.stop().code, 0);
        let impatient = ["--mirror-of", &url, "--keep", "1s", "--upload-lifetime", "1s"];
        let _served = Served::images(&dhow, &impatient);
        eventually("everything to go", || (kept() == 0).then_some(()));
    }
}

#[test]
fn what_is_no_registrys_address_is_refused_at_once() {
    let dhow = Dhow::empty("mirror-url");
    for (url, why) in [
        ("ftp://x.io", "want https://"),
        ("http://x.io", "plain HTTP"),
        ("nothing", "want a registry's host"),
    ] {
        let said = dhow.fails(1, &["registry", "serve", "--mirror-of", url]);
        assert!(said.contains(why), "{said}");
    }
    let said = dhow.fails(125, &["registry", "serve", "--listen", "nowhere"]);
    assert!(said.contains("--listen"), "{said}");
}
