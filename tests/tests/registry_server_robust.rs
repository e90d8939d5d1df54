//! `dhow registry serve` when clients are slow, many, or gone, when it is killed, and when it has time to sweep.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use base::Digest;
use harness::image::Image;
use harness::served::Served;
use harness::tar::Tar;
use harness::{Dhow, Invocation, eventually, soak};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

#[track_caller]
fn begin(served: &Served, repository: &str) -> String {
    let begun = served.curl(&["-X", "POST"], &format!("/v2/{repository}/blobs/uploads/")).expect(202);
    begun.header("location").to_owned()
}

#[track_caller]
fn push(served: &Served, repository: &str, bytes: &[u8]) -> String {
    let place = begin(served, repository);
    served.curl_with(&["-X", "PUT"], &format!("{place}?digest={}", digest(bytes)), bytes).expect(201);
    digest(bytes)
}

/// Some bytes that no two places have the same of.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64)
        .flat_map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_le_bytes())
        .take(length)
        .collect()
}

/// Files below a directory, without those of `uploads` that are records of unfinished ones.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// Waits until some of an upload is on disk.
#[track_caller]
fn await_some(data: &Path, place: &str) {
    let file = data.join("uploads").join(place.rsplit('/').next().unwrap()).join("data");
    eventually("a part of it", || std::fs::metadata(&file).is_ok_and(|about| about.len() > 0).then_some(()));
}

/// Every blob of a registry is what its name says.
#[track_caller]
fn is_sound(data: &Path) {
    for file in files(data).iter().filter(|file| file.contains("/sha256/")) {
        let name = file.rsplit('/').next().unwrap();
        assert_eq!(Digest::of(&std::fs::read(file).unwrap()).hex(), name, "{file}");
    }
}

#[test]
fn killed_in_the_middle_of_an_upload_it_goes_on_where_that_was() {
    let dir = harness::real_directory("serve-kill");
    let data = dir.path().join("data");
    let bytes = content(3 << 20);
    for _ in 0..soak(3, 40) {
        let served = Served::directory(&data, &[]);
        let place = begin(&served, "a");
        // some of it comes, and the rest never
        let mut stream = TcpStream::connect(served.host()).unwrap();
        let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len());
        stream.write_all(head.as_bytes()).unwrap();
        let sent = (1 << 20) + harness::random(1 << 20) as usize;
        stream.write_all(&bytes[..sent]).unwrap();
        await_some(&data, &place);
        served.kill();
        drop(stream);
        let served = Served::directory(&data, &[]);
        let status = served.curl(&[], &place).expect(204);
        let here = status.header("range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        assert!(here <= sent, "{here} of {sent}");
        let range = format!("Content-Range: {here}-{}", bytes.len() - 1);
        served.curl_with(&["-X", "PATCH", "-H", &range], &place, &bytes[here..]).expect(202);
        let there = served.curl(&["-X", "PUT"], &format!("{place}?digest={}", digest(&bytes))).expect(201);
        let back = served.fetch(there.header("location"), &dir.path().join("out"));
        assert!(back == bytes, "it comes back as it was");
        served.curl(&["-X", "DELETE"], there.header("location")).expect(202);
        served.kill();
    }
    is_sound(&data);
    assert_eq!(files(&data.join("uploads")), Vec::<String>::new());
}

#[test]
fn what_nobody_needs_goes_in_time_and_what_somebody_needs_stays() {
    let dir = harness::real_directory("serve-sweep");
    let data = dir.path().join("data");
    let served = Served::directory(&data, &[]);
    let config = push(&served, "a", b"{}");
    let layer = push(&served, "a", b"layer");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"a/b","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"c/d","digest":"{layer}","size":5}}]}}"#
    );
    let put = ["-X", "PUT", "-H", &format!("Content-Type: {MANIFEST}")];
    served.curl_with(&put, "/v2/a/manifests/v1", manifest.as_bytes()).expect(201);
    push(&served, "a", b"for nobody");
    let place = begin(&served, "a");
    served.curl_with(&["-X", "PATCH"], &place, b"never to be ended").expect(202);
    assert_eq!(served.stop().code, 0);
    let served = Served::directory(&data, &["--upload-lifetime", "1s"]);
    eventually("the unfinished upload to go", || files(&data.join("uploads")).is_empty().then_some(()));
    let unneeded = Digest::of(b"for nobody").hex();
    eventually("the unneeded blob to go", || {
        (!files(&data).iter().any(|file| file.ends_with(&unneeded))).then_some(())
    });
    served.curl(&[], &place).refused(404, "BLOB_UPLOAD_UNKNOWN");
    served.curl(&[], "/v2/a/manifests/v1").expect(200);
    served.curl(&[], &format!("/v2/a/blobs/{layer}")).expect(200);
    // when the manifest goes, what it needed goes
    served.curl(&["-X", "DELETE"], &format!("/v2/a/manifests/{}", digest(manifest.as_bytes()))).expect(202);
    eventually("all blobs to go", || {
        (!files(&data).iter().any(|file| file.contains("/sha256/"))).then_some(())
    });
}

#[test]
fn slow_clients_keep_nobody_waiting() {
    let (dir, flags) =
        (harness::real_directory("serve-slow"), ["--max-connections", "128", "--max-uploads", "2"]);
    let served = Served::directory(&dir.path().join("data"), &flags);
    let layer = push(&served, "a", &content(1 << 20));
    // heads that never end, one byte now and then
    let mut slow: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(served.host()).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost:").unwrap();
    }
    // and answers that nobody reads
    for _ in 0..10 {
        let mut stream = TcpStream::connect(served.host()).unwrap();
        write!(stream, "GET /v2/a/blobs/{layer} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        slow.push(stream);
    }
    for _ in 0..5 {
        served.curl(&["--max-time", "5"], "/v2/").expect(200);
        push(&served, "a", b"quick");
    }
    // one address has half of all connections: the next is turned away, and the others have theirs
    let more: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(served.host()).unwrap()).collect();
    let turned_away = eventually("some to be turned away", || {
        more.iter().rev().find_map(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
                .then(|| stream.peer_addr())
                .and_then(Result::ok)
        })
    });
    assert_eq!(turned_away.ip().to_string(), "127.0.0.1");
    drop((slow, more));
    eventually("room", || {
        let curl = Invocation::new("curl").args(&["-sf", "--noproxy", "*", "--max-time", "5"]);
        (curl.arg(format!("{}/v2/", served.url())).output().code == 0).then_some(())
    });
}

#[test]
fn fifty_pulls_at_once_get_the_same() {
    let dhow = Dhow::empty("serve-many");
    let served = Served::images(&dhow, &[]);
    dhow.load(&Image::busybox("many:1").with_layer(Tar::new().file("big", 0o644, content(2 << 20))));
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..50)
            .map(|n| {
                let (served, dhow) = (&served, &dhow);
                scope.spawn(move || {
                    let manifest = served.curl(&[], "/v2/many/manifests/1").expect(200).json();
                    for layer in manifest["layers"].as_array().unwrap() {
                        let digest = layer["digest"].as_str().unwrap();
                        let by = dhow.scratch().join(format!("out-{n}"));
                        let bytes = served.fetch(&format!("/v2/many/blobs/{digest}"), &by);
                        assert_eq!(Digest::of(&bytes).to_string(), digest);
                    }
                })
            })
            .collect();
        for pull in pulls {
            pull.join().unwrap();
        }
    });
}

#[test]
fn told_to_stop_it_ends_what_it_does_and_goes() {
    let dir = harness::real_directory("serve-stop");
    let data = dir.path().join("data");
    let served = Served::directory(&data, &[]);
    let place = begin(&served, "a");
    let bytes = content(2 << 20);
    let mut stream = TcpStream::connect(served.host()).unwrap();
    let head = format!(
        "PUT {place}?digest={} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        digest(&bytes),
        bytes.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..1 << 20]).unwrap();
    await_some(&data, &place);
    let idle = TcpStream::connect(served.host()).unwrap();
    let host = served.host().to_owned();
    let stopping = std::thread::spawn(move || served.stop());
    eventually("nobody to be let in any more", || TcpStream::connect(&host).is_err().then_some(()));
    stream.write_all(&bytes[1 << 20..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let ended = stopping.join().unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains(" 201 "), "{}", ended.stdout);
    drop(idle);
    is_sound(&data);
}

#[test]
fn many_pushes_of_the_same_at_once_all_arrive() {
    let dir = harness::real_directory("serve-pushes");
    let data = dir.path().join("data");
    // two servers over one directory, as during an upgrade
    let served = [Served::directory(&data, &[]), Served::directory(&data, &[])];
    let (config, layer) = (b"{}".to_vec(), content(300_000));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"a/b","digest":"{}","size":2}},
            "layers":[{{"mediaType":"c/d","digest":"{}","size":{}}}]}}"#,
        digest(&config),
        digest(&layer),
        layer.len()
    );
    let put = ["-X", "PUT", "-H", &format!("Content-Type: {MANIFEST}")];
    std::thread::scope(|scope| {
        for n in 0..12 {
            let (served, config, layer, manifest) = (&served[n % 2], &config, &layer, &manifest);
            scope.spawn(move || {
                let repository = ["a", "b"][n / 2 % 2];
                push(served, repository, config);
                push(served, repository, layer);
                let path = format!("/v2/{repository}/manifests/t{n}");
                served.curl_with(&put, &path, manifest.as_bytes()).expect(201);
            });
        }
    });
    for n in 0..12 {
        let repository = ["a", "b"][n / 2 % 2];
        let got = served[0].curl(&[], &format!("/v2/{repository}/manifests/t{n}")).expect(200);
        assert_eq!(got.body, manifest);
        let index =
            std::fs::read_to_string(data.join(format!("repositories/{repository}/index.json"))).unwrap();
        assert!(index.contains(&format!("\"t{n}\"")), "{index}");
    }
    is_sound(&data);
    // each blob once on disk, whoever has it
    let blobs = std::fs::read_dir(data.join("blobs/sha256")).unwrap();
    let links = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().metadata().unwrap().nlink();
    assert_eq!(blobs.map(links).collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn over_a_directory_it_needs_no_rights() {
    let dir = harness::real_directory("serve-user");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("bin")).unwrap();
    std::fs::create_dir(at("home")).unwrap();
    for program in ["dhow", "dhow-serve"] {
        std::fs::copy(harness::bin_dir().join(program), at("bin").join(program)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(at("home"), Some(12345), Some(12345)).unwrap();
    let user = Invocation::new("setpriv").args(&["--reuid", "12345", "--regid", "12345", "--clear-groups"]);
    let command = user.arg(at("bin/dhow")).args(&["registry", "serve", "--listen", "127.0.0.1:0", "--dir"]);
    let served = Served::start(command.arg(at("home/data")));
    let blob = push(&served, "a", b"by anybody");
    assert_eq!(served.curl(&[], &format!("/v2/a/blobs/{blob}")).expect(200).body, "by anybody");
}
