//! `dhow registry serve`, request by request: what the distribution specification 1.1 asks of a registry.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use base::Digest;
use harness::served::{Answer, Served};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const ARTIFACT: &str = "application/vnd.example.sbom.v1+json";

/// Each requirement twice: of a registry over a directory, and of one over the local images. What is checked is given the
/// registry and its directory.
macro_rules! required {
    ($($name:ident),* $(,)?) => {
        mod over_a_directory {
            $(#[test]
            fn $name() {
                let dir = harness::real_directory("serve");
                let data = dir.path().join("data");
                super::$name(&super::Served::directory(&data, &[]), &data);
            })*
        }

        mod over_local_images {
            $(#[test]
            fn $name() {
                let dhow = harness::Dhow::empty("serve");
                super::$name(&super::Served::images(&dhow, &[]), &dhow.root().join("registry"));
            })*
        }
    };
}

required!(
    end_1_to_3_what_is_there_is_pulled_and_what_is_not_is_told,
    end_4_and_6_blobs_are_pushed_at_once,
    end_5_6_and_13_blobs_come_in_pieces_in_order,
    end_7_manifests_are_taken_if_they_are_what_they_are_called_and_whole,
    end_8_tags_and_repositories_are_listed_in_parts,
    end_9_and_10_what_is_deleted_is_gone,
    end_11_blobs_are_mounted_from_other_repositories,
    end_12_who_refers_to_a_manifest_is_listed,
);

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// Pushes a blob in two requests.
#[track_caller]
fn push(served: &Served, repository: &str, bytes: &[u8]) -> String {
    let begun = served.curl(&["-X", "POST"], &format!("/v2/{repository}/blobs/uploads/")).expect(202);
    let digest = digest(bytes);
    let place = format!("{}?digest={digest}", begun.header("location"));
    served.curl_with(&["-X", "PUT"], &place, bytes).expect(201);
    digest
}

/// A manifest with this configuration and layer.
fn manifest(config: &[u8], layer: &[u8], more: &Value) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": config.len() },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest(layer),
            "size": layer.len(),
        }],
    });
    for (key, value) in more.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    manifest.to_string().into_bytes()
}

#[track_caller]
fn put(served: &Served, path: &str, media_type: &str, bytes: &[u8]) -> Answer {
    served.curl_with(&["-X", "PUT", "-H", &format!("Content-Type: {media_type}")], path, bytes)
}

/// An image in a repository under these tags; its manifest's digest.
#[track_caller]
fn image(served: &Served, repository: &str, tags: &[&str]) -> String {
    push(served, repository, b"{}");
    push(served, repository, b"layer");
    let bytes = manifest(b"{}", b"layer", &json!({}));
    for tag in tags {
        put(served, &format!("/v2/{repository}/manifests/{tag}"), MANIFEST, &bytes).expect(201);
    }
    digest(&bytes)
}

fn end_1_to_3_what_is_there_is_pulled_and_what_is_not_is_told(served: &Served, _: &Path) {
    let version = served.curl(&[], "/v2/").expect(200);
    assert_eq!(version.header("docker-distribution-api-version"), "registry/2.0");
    let manifest = image(served, "a/b", &["v1"]);
    let layer = digest(b"layer");
    for name in ["v1", &manifest] {
        let got = served.curl(&[], &format!("/v2/a/b/manifests/{name}")).expect(200);
        assert_eq!(digest(got.body.as_bytes()), manifest);
        assert_eq!((got.header("docker-content-digest"), got.header("content-type")), (&*manifest, MANIFEST));
        let head = served.curl(&["--head"], &format!("/v2/a/b/manifests/{name}")).expect(200);
        assert_eq!(head.header("docker-content-digest"), manifest);
        assert_eq!(head.header("content-length"), got.body.len().to_string());
    }
    let blob = format!("/v2/a/b/blobs/{layer}");
    let got = served.curl(&[], &blob).expect(200);
    assert_eq!((&*got.body, got.header("docker-content-digest")), ("layer", &*layer));
    assert_eq!(served.curl(&["--head"], &blob).expect(200).header("content-length"), "5");
    // parts of a blob
    let part = served.curl(&["-r", "1-3"], &blob).expect(206);
    assert_eq!((&*part.body, part.header("content-range")), ("aye", "bytes 1-3/5"));
    assert_eq!(served.curl(&["-r", "-2"], &blob).expect(206).body, "er");
    assert_eq!(served.curl(&["-r", "3-"], &blob).expect(206).body, "er");
    assert_eq!(served.curl(&["-r", "5-"], &blob).expect(416).header("content-range"), "bytes */5");
    // what the client has already
    for path in [&blob, "/v2/a/b/manifests/v1"] {
        let tag = served.curl(&[], path).header("etag").to_owned();
        served.curl(&["-H", &format!("If-None-Match: {tag}")], path).expect(304);
    }
    // what is not there
    let other = digest(b"other");
    served.curl(&[], &format!("/v2/a/b/blobs/{other}")).refused(404, "BLOB_UNKNOWN");
    served.curl(&["--head"], &format!("/v2/a/b/blobs/{other}")).expect(404);
    served.curl(&[], &format!("/v2/a/b/manifests/{other}")).refused(404, "MANIFEST_UNKNOWN");
    served.curl(&[], "/v2/a/b/manifests/v2").refused(404, "MANIFEST_UNKNOWN");
    served.curl(&["--head"], "/v2/a/b/manifests/v2").expect(404);
    served.curl(&[], "/v2/a/b/manifests/.INVALID_MANIFEST_NAME").refused(404, "MANIFEST_UNKNOWN");
    served.curl(&[], "/v2/a/b/manifests/sha256:totallywrong").refused(400, "DIGEST_INVALID");
    served.curl(&[], &format!("/v2/c/blobs/{layer}")).refused(404, "NAME_UNKNOWN");
    served.curl(&[], "/v2/c/manifests/v1").refused(404, "NAME_UNKNOWN");
    served.curl(&[], "/v2/C/manifests/v1").refused(400, "NAME_INVALID");
    served.curl(&[], "/v2/a/../../../etc/manifests/v1").refused(400, "NAME_INVALID");
    served.curl(&["-X", "POST"], "/v2/a/b/manifests/v1").refused(405, "UNSUPPORTED");
}

fn end_4_and_6_blobs_are_pushed_at_once(served: &Served, _: &Path) {
    let begun = served.curl(&["-X", "POST"], "/v2/a/blobs/uploads/").expect(202);
    assert_eq!(begun.header("content-length"), "0");
    let place = begun.header("location");
    let there =
        served.curl_with(&["-X", "PUT"], &format!("{place}?digest={}", digest(b"one")), b"one").expect(201);
    assert_eq!(there.header("docker-content-digest"), digest(b"one"));
    assert_eq!(served.curl(&[], there.header("location")).expect(200).body, "one");
    // in one request
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"two"));
    let there = served.curl_with(&["-X", "POST"], &path, b"two").expect(201);
    assert_eq!(served.curl(&[], there.header("location")).expect(200).body, "two");
    served.curl_with(&["-X", "POST"], &path, b"not two").refused(400, "DIGEST_INVALID");
    // an empty one
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b""));
    let there = served.curl(&["-X", "POST"], &path).expect(201);
    assert_eq!(served.curl(&[], there.header("location")).expect(200).header("content-length"), "0");
    // with other content than it is called, and then with the right one
    let begun = served.curl(&["-X", "POST"], "/v2/a/blobs/uploads/").expect(202);
    let place = begun.header("location").to_owned();
    let wrong = format!("{place}?digest={}", digest(b"three"));
    served.curl_with(&["-X", "PUT"], &wrong, b"thr").refused(400, "DIGEST_INVALID");
    served.curl(&[], &format!("/v2/a/blobs/{}", digest(b"three"))).refused(404, "BLOB_UNKNOWN");
    served.curl_with(&["-X", "PUT"], &wrong, b"ee").expect(201);
    served.curl_with(&["-X", "PUT"], &wrong, b"ee").refused(404, "BLOB_UPLOAD_UNKNOWN");
    served.curl(&["-X", "PUT"], &place).refused(400, "DIGEST_INVALID");
}

fn end_5_6_and_13_blobs_come_in_pieces_in_order(served: &Served, _: &Path) {
    let begun = served.curl(&["-X", "POST"], "/v2/a/blobs/uploads/").expect(202);
    let place = begun.header("location").to_owned();
    let patch = |range: &str, bytes: &[u8]| {
        served.curl_with(&["-X", "PATCH", "-H", &format!("Content-Range: {range}")], &place, bytes)
    };
    let early = patch("3-5", b"def").refused(416, "BLOB_UPLOAD_INVALID");
    assert_eq!((early.header("range"), early.header("location")), ("0-0", &*place));
    patch("x", b"abc").refused(416, "BLOB_UPLOAD_INVALID");
    patch("0-9", b"abc").refused(400, "SIZE_INVALID");
    let first = patch("0-2", b"abc").expect(202);
    assert_eq!((first.header("range"), first.header("location")), ("0-2", &*place));
    let again = patch("0-2", b"abc").refused(416, "BLOB_UPLOAD_INVALID");
    assert_eq!(again.header("range"), "0-2");
    let status = served.curl(&[], &place).expect(204);
    assert_eq!((status.header("range"), status.header("location")), ("0-2", &*place));
    patch("3-5", b"def").expect(202);
    // one that does not say where it goes follows the last
    served.curl_with(&["-X", "PATCH"], &place, b"gh").expect(202);
    let end = format!("{place}?digest={}", digest(b"abcdefghij"));
    served
        .curl_with(&["-X", "PUT", "-H", "Content-Range: 0-1"], &end, b"ij")
        .refused(416, "BLOB_UPLOAD_INVALID");
    let there = served.curl_with(&["-X", "PUT", "-H", "Content-Range: 8-9"], &end, b"ij").expect(201);
    assert_eq!(served.curl(&[], there.header("location")).expect(200).body, "abcdefghij");
    served.curl(&[], &place).refused(404, "BLOB_UPLOAD_UNKNOWN");
    // given up
    let begun = served.curl(&["-X", "POST"], "/v2/a/blobs/uploads/").expect(202);
    let place = begun.header("location").to_owned();
    served.curl_with(&["-X", "PATCH"], &place, b"x").expect(202);
    served.curl(&["-X", "DELETE"], &place.replace("/a/", "/b/")).refused(404, "BLOB_UPLOAD_UNKNOWN");
    served.curl(&["-X", "DELETE"], &place).expect(204);
    served.curl(&[], &place).refused(404, "BLOB_UPLOAD_UNKNOWN");
    served.curl_with(&["-X", "PATCH"], &place, b"x").refused(404, "BLOB_UPLOAD_UNKNOWN");
}

fn end_7_manifests_are_taken_if_they_are_what_they_are_called_and_whole(served: &Served, data: &Path) {
    push(served, "a", b"{}");
    push(served, "a", b"layer");
    let good = manifest(b"{}", b"layer", &json!({}));
    let there = put(served, "/v2/a/manifests/v1", MANIFEST, &good).expect(201);
    assert_eq!(there.header("docker-content-digest"), digest(&good));
    assert_eq!(served.curl(&[], there.header("location")).expect(200).body.as_bytes(), good);
    put(served, &format!("/v2/a/manifests/{}", digest(&good)), MANIFEST, &good).expect(201);
    put(served, &format!("/v2/a/manifests/{}", digest(b"x")), MANIFEST, &good).refused(400, "DIGEST_INVALID");
    put(served, "/v2/a/manifests/-v1", MANIFEST, &good).refused(400, "MANIFEST_INVALID");
    // other than it is called (CVE-2021-41190)
    put(served, "/v2/a/manifests/v1", INDEX, &good).refused(400, "MANIFEST_INVALID");
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    put(served, "/v2/a/manifests/v1", docker, &good).refused(400, "MANIFEST_INVALID");
    let both = manifest(b"{}", b"layer", &json!({ "manifests": [] }));
    put(served, "/v2/a/manifests/v1", MANIFEST, &both).refused(400, "MANIFEST_INVALID");
    put(served, "/v2/a/manifests/v1", MANIFEST, b"not JSON").refused(400, "MANIFEST_INVALID");
    // not whole
    let missing = manifest(b"{}", b"elsewhere", &json!({}));
    put(served, "/v2/a/manifests/v1", MANIFEST, &missing).refused(400, "MANIFEST_BLOB_UNKNOWN");
    put(served, "/v2/b/manifests/v1", MANIFEST, &good).refused(400, "MANIFEST_BLOB_UNKNOWN");
    let child = json!({ "mediaType": MANIFEST, "digest": digest(b"x"), "size": 1 });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child] }).to_string();
    put(served, "/v2/a/manifests/all", INDEX, index.as_bytes()).refused(400, "MANIFEST_BLOB_UNKNOWN");
    let lies = String::from_utf8(good.clone()).unwrap().replace("\"size\":5", "\"size\":6");
    put(served, "/v2/a/manifests/v1", MANIFEST, lies.as_bytes()).refused(400, "MANIFEST_INVALID");
    // too large
    let huge = manifest(b"{}", b"layer", &json!({ "annotations": { "x": "y".repeat(4 << 20) } }));
    put(served, "/v2/a/manifests/v1", MANIFEST, &huge).refused(413, "SIZE_INVALID");
    let chunked =
        ["-X", "PUT", "-H", "Transfer-Encoding: chunked", "-H", &format!("Content-Type: {MANIFEST}")];
    served.curl_with(&chunked, "/v2/a/manifests/v1", &huge).refused(413, "SIZE_INVALID");
    let large = manifest(b"{}", b"layer", &json!({ "annotations": { "x": "y".repeat(4_000_000) } }));
    put(served, "/v2/a/manifests/large", MANIFEST, &large).expect(201);
    // nothing of all this has changed the tag
    assert_eq!(served.curl(&[], "/v2/a/manifests/v1").expect(200).body.as_bytes(), good);
    // an index of what is there
    let child = json!({ "mediaType": MANIFEST, "digest": digest(&good), "size": good.len() });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child] }).to_string();
    put(served, "/v2/a/manifests/all", INDEX, index.as_bytes()).expect(201);
    assert_eq!(served.curl(&[], "/v2/a/manifests/all").expect(200).header("content-type"), INDEX);
    // on disk a repository is an OCI layout
    let layout = data.join("repositories/a");
    let layout: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(layout["manifests"].as_array().unwrap().len(), 3, "{layout}");
}

fn end_8_tags_and_repositories_are_listed_in_parts(served: &Served, _: &Path) {
    image(served, "a/b", &["test0", "test2", "test1", "test3"]);
    image(served, "c", &["latest"]);
    let list = |query: &str| served.curl(&[], &format!("/v2/a/b/tags/list{query}")).expect(200);
    let all = list("");
    assert_eq!(all.json(), json!({ "name": "a/b", "tags": ["test0", "test1", "test2", "test3"] }));
    assert_eq!(all.header("link"), "");
    let part = list("?n=3");
    assert_eq!(part.json()["tags"], json!(["test0", "test1", "test2"]));
    assert_eq!(part.header("link"), "</v2/a/b/tags/list?n=3&last=test2>; rel=\"next\"");
    let rest = list("?n=3&last=test2");
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (json!(["test3"]), ""));
    assert_eq!(list("?last=test11").json()["tags"], json!(["test2", "test3"]));
    let none = list("?n=0");
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), ""));
    served.curl(&[], "/v2/a/b/tags/list?n=x").refused(400, "PAGINATION_NUMBER_INVALID");
    // more than there can be (CVE-2023-2253)
    for huge in ["18446744073709551616", "9223372036854775807"] {
        assert_eq!(list(&format!("?n={huge}")).json()["tags"].as_array().unwrap().len(), 4);
        served.curl(&[], &format!("/v2/_catalog?n={huge}")).expect(200);
    }
    served.curl(&[], "/v2/nobody/tags/list").refused(404, "NAME_UNKNOWN");
    push(served, "empty", b"{}");
    assert_eq!(served.curl(&[], "/v2/empty/tags/list").expect(200).json()["tags"], json!([]));
    let catalog = served.curl(&[], "/v2/_catalog?n=1").expect(200);
    assert_eq!(catalog.json(), json!({ "repositories": ["a/b"] }));
    assert_eq!(catalog.header("link"), "</v2/_catalog?n=1&last=a/b>; rel=\"next\"");
    assert_eq!(served.curl(&[], "/v2/_catalog?last=a/b").json()["repositories"], json!(["c", "empty"]));
}

fn end_9_and_10_what_is_deleted_is_gone(served: &Served, _: &Path) {
    let manifest = image(served, "a", &["v1", "v2", "v3"]);
    image(served, "b", &["v1"]);
    served.curl(&["-X", "DELETE"], "/v2/a/manifests/v1").expect(202);
    served.curl(&[], "/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    served.curl(&["-X", "DELETE"], "/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    served.curl(&[], "/v2/a/manifests/v2").expect(200);
    // a manifest goes with its tags
    served.curl(&["-X", "DELETE"], &format!("/v2/a/manifests/{manifest}")).expect(202);
    for name in ["v2", "v3", &manifest] {
        served.curl(&[], &format!("/v2/a/manifests/{name}")).refused(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(served.curl(&[], "/v2/a/tags/list").expect(200).json()["tags"], json!([]));
    served.curl(&["-X", "DELETE"], &format!("/v2/a/manifests/{manifest}")).refused(404, "MANIFEST_UNKNOWN");
    // a blob goes from this repository alone
    let blob = format!("/v2/a/blobs/{}", digest(b"layer"));
    served.curl(&["-X", "DELETE"], &blob).expect(202);
    served.curl(&[], &blob).refused(404, "BLOB_UNKNOWN");
    served.curl(&["-X", "DELETE"], &blob).refused(404, "BLOB_UNKNOWN");
    served.curl(&[], &blob.replace("/a/", "/b/")).expect(200);
    served.curl(&[], "/v2/b/manifests/v1").expect(200);
}

fn end_11_blobs_are_mounted_from_other_repositories(served: &Served, _: &Path) {
    let blob = push(served, "a", b"layer");
    let mount =
        |to: &str, query: &str| served.curl(&["-X", "POST"], &format!("/v2/{to}/blobs/uploads/?{query}"));
    let there = mount("b", &format!("mount={blob}&from=a")).expect(201);
    assert_eq!(there.header("location"), format!("/v2/b/blobs/{blob}"));
    assert_eq!(served.curl(&[], there.header("location")).expect(200).body, "layer");
    // from wherever it is
    mount("c", &format!("mount={blob}")).expect(201);
    served.curl(&[], &format!("/v2/c/blobs/{blob}")).expect(200);
    // what is not there begins an upload
    for query in [
        format!("mount={}&from=a", digest(b"x")),
        format!("mount={}", digest(b"x")),
        format!("mount={blob}&from=nobody"),
        "mount=nonsense&from=a".to_owned(),
    ] {
        let begun = mount("d", &query).expect(202);
        served.curl(&[], begun.header("location")).expect(204);
    }
    served.curl(&[], &format!("/v2/d/blobs/{blob}")).expect(404);
}

fn end_12_who_refers_to_a_manifest_is_listed(served: &Served, _: &Path) {
    let subject = image(served, "a", &["v1"]);
    let refers = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
    let sbom = manifest(
        b"{}",
        b"layer",
        &json!({ "artifactType": ARTIFACT, "subject": refers, "annotations": { "by": "tests" } }),
    );
    let there = put(served, &format!("/v2/a/manifests/{}", digest(&sbom)), MANIFEST, &sbom).expect(201);
    assert_eq!(there.header("oci-subject"), subject);
    // without an artifact type, its configuration's
    let other = manifest(b"{}", b"layer", &json!({ "subject": refers }));
    put(served, "/v2/a/manifests/other", MANIFEST, &other).expect(201);
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "artifactType": ARTIFACT, "subject": refers,
    });
    put(served, "/v2/a/manifests/index", INDEX, index.to_string().as_bytes()).expect(201);
    let list = |query: &str| served.curl(&[], &format!("/v2/a/referrers/{subject}{query}")).expect(200);
    let all = list("");
    assert_eq!((all.header("content-type"), all.header("oci-filters-applied")), (INDEX, ""));
    let all = all.json();
    assert_eq!((&all["schemaVersion"], &all["mediaType"]), (&json!(2), &json!(INDEX)));
    assert_eq!(all["manifests"].as_array().unwrap().len(), 3, "{all}");
    let found = all["manifests"].as_array().unwrap().iter().find(|m| m["digest"] == digest(&sbom)).unwrap();
    let want = json!({
        "mediaType": MANIFEST, "digest": digest(&sbom), "size": sbom.len(), "artifactType": ARTIFACT,
        "annotations": { "by": "tests" },
    });
    assert_eq!(*found, want);
    let filtered = list(&format!("?artifactType={ARTIFACT}"));
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(
        list("?artifactType=application/vnd.oci.image.config.v1%2Bjson").json()["manifests"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // one that refers to what is not there (yet) is taken
    let early = json!({ "mediaType": MANIFEST, "digest": digest(b"later"), "size": 5 });
    let early = manifest(b"{}", b"layer", &json!({ "subject": early }));
    put(served, "/v2/a/manifests/early", MANIFEST, &early).expect(201);
    // nobody, and nothing
    let none = served.curl(&[], &format!("/v2/nobody/referrers/{}", digest(b"x"))).expect(200);
    assert_eq!(none.json()["manifests"], json!([]));
    served.curl(&[], "/v2/a/referrers/nonsense").refused(400, "DIGEST_INVALID");
    // who is deleted refers to nothing
    served.curl(&["-X", "DELETE"], &format!("/v2/a/manifests/{}", digest(&sbom))).expect(202);
    assert_eq!(list("").json()["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn a_read_only_registry_takes_nothing_and_browsers_may_not_push() {
    let dir = harness::real_directory("serve");
    let served = Served::directory(&dir.path().join("data"), &[]);
    let manifest = image(&served, "a", &["v1"]);
    let from_a_page = ["-X", "POST", "-H", "Origin: http://example.com"];
    served.curl(&from_a_page, "/v2/a/blobs/uploads/").refused(403, "DENIED");
    assert_eq!(served.stop().code, 0);
    let served = Served::directory(&dir.path().join("data"), &["--read-only"]);
    assert_eq!(digest(served.curl(&[], "/v2/a/manifests/v1").expect(200).body.as_bytes()), manifest);
    served.curl(&["-X", "POST"], "/v2/a/blobs/uploads/").refused(405, "UNSUPPORTED");
    served.curl(&["-X", "DELETE"], "/v2/a/manifests/v1").refused(405, "UNSUPPORTED");
    put(&served, "/v2/a/manifests/v1", MANIFEST, b"{}").refused(405, "UNSUPPORTED");
}
