//! File systems come and go as archives: `import`, `export`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::odd::{self, Look, assert_same, extract, snapshot};
use harness::registry::filter;
use harness::strange::{Request, Strange, reply};
use harness::tar::Tar;
use harness::{Dhow, Invocation};
use serde_json::json;

#[test]
fn what_is_imported_is_exported() {
    let dhow = Dhow::empty("import");
    let (root, file) = (dhow.scratch().join("tree"), dhow.scratch().join("tree.tar"));
    odd::make(&root);
    odd::archive(&root, &file, true);
    let plain = std::fs::read(&file).unwrap();
    let mut ids = Vec::new();
    for (name, program) in [("plain", &["cat"][..]), ("gzip", &["gzip", "-1"]), ("zstd", &["zstd", "-1"])] {
        let packed = filter(program, &plain);
        // by a file, and by a pipe
        let path = dhow.scratch().join(name);
        std::fs::write(&path, &packed).unwrap();
        ids.push(dhow.ok(&["import", path.to_str().unwrap(), &format!("{name}:file")]));
        dhow.command(&["import", "-", &format!("{name}:pipe")]).input(packed).ok();
        let layers = |tag: &str| dhow.inspect(&format!("{name}:{tag}"))["RootFS"]["Layers"].clone();
        assert_eq!(layers("file"), layers("pipe"));
        assert_eq!(layers("file"), dhow.inspect("plain:file")["RootFS"]["Layers"]);
    }
    let change =
        ["-c", "CMD [\"true\"]", "-c", "ENV PATH=/bin", "-m", "from nowhere", "--platform", "linux/arm64/v8"];
    dhow.ok(&[&["import"], &change[..], &[file.to_str().unwrap(), "odd:1"]].concat());
    let image = dhow.inspect("odd:1");
    assert_eq!((&image["Architecture"], &image["Variant"]), (&json!("arm64"), &json!("v8")));
    assert_eq!((&image["Comment"], &image["Config"]["Cmd"]), (&json!("from nowhere"), &json!(["true"])));
    dhow.ok(&["run", "--network", "none", "--name", "made", "odd:1"]);
    let out = dhow.scratch().join("out.tar");
    dhow.ok(&["export", "-o", out.to_str().unwrap(), "made"]);
    extract(&out, &dhow.scratch().join("out"));
    assert_same(&snapshot(&root, Look::Closely), &snapshot(&dhow.scratch().join("out"), Look::Closely));
    // the same bytes, by a pipe
    let script =
        Invocation::new("sh").args(&["-euc", "\"$@\" >\"$0\""]).arg(dhow.scratch().join("piped.tar"));
    dhow.on(script, &["container", "export", "made"]).ok();
    assert!(std::fs::read(dhow.scratch().join("piped.tar")).unwrap() == std::fs::read(&out).unwrap());
}

#[test]
fn a_container_that_runs_is_exported_without_what_is_mounted() {
    let dhow = Dhow::new("export-running");
    let shared = dhow.scratch().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("secret"), "outside").unwrap();
    let bind = format!("{}:/mnt", shared.display());
    let script = "echo in >/inside; rm /etc/group; echo >/tmp/ready; sleep 1000";
    let args = ["run", "-d", "--network", "none", "--name", "runs", "-v", &bind, "--tmpfs", "/scratch"];
    dhow.ok(&[&args[..], &["busybox", "sh", "-c", script]].concat());
    harness::eventually("ready", || {
        (dhow.run(&["exec", "runs", "ls", "/tmp/ready"]).code == 0).then_some(())
    });
    let names = |name: &str| {
        let file = dhow.scratch().join(name);
        dhow.ok(&["export", "-o", file.to_str().unwrap(), "runs"]);
        (Invocation::new("tar").arg("-tf").arg(&file).ok(), std::fs::read(&file).unwrap())
    };
    let (listed, bytes) = names("running.tar");
    let has = |name: &str| listed.lines().any(|line| line == name);
    assert!(
        has("inside") && has("mnt/") && has("proc/") && has("scratch/") && has("bin/busybox"),
        "{listed}"
    );
    assert!(!has("mnt/secret") && !has("proc/1/") && !has("etc/group") && !has("dev/null"), "{listed}");
    dhow.ok(&["stop", "-t", "0", "runs"]);
    assert!(names("stopped.tar").1 == bytes, "it is another one than the running one's");
}

#[test]
fn an_archive_on_the_web_is_imported_as_it_comes() {
    let dhow = Dhow::empty("import-url");
    let tar = Tar::new().dir("data/", 0o755).file("data/file", 0o644, vec![7; 3_000_000]).finish();
    let file = dhow.scratch().join("file.tar");
    std::fs::write(&file, &tar).unwrap();
    dhow.ok(&["import", file.to_str().unwrap(), "web:file"]);
    let server = Strange::new(move |request: &Request| match (&*request.path, request.header("range")) {
        ("/whole.tar", _) => reply("200 OK", "", &tar),
        ("/moved.tar", _) => reply("302 Found", "Location: /whole.tar\r\n", ""),
        ("/breaks.tar", None) => reply("200 OK", "ETag: \"one\"\r\n", &tar).cut(),
        ("/breaks.tar", Some(range)) => {
            assert_eq!(request.header("if-range"), Some("\"one\""));
            let from = range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')).unwrap();
            reply("206 Partial Content", "ETag: \"one\"\r\n", &tar[from.parse().unwrap()..])
        }
        ("/changes.tar", range) => {
            let tag = if range.is_none() { "one" } else { "two" };
            let whole = reply("200 OK", &format!("ETag: \"{tag}\"\r\n"), &tar);
            if range.is_none() { whole.cut() } else { whole }
        }
        ("/unsure.tar", _) => reply("200 OK", "ETag: W/\"one\"\r\n", &tar).cut(),
        ("/text", _) => reply("200 OK", "", "this is not an archive\n".repeat(100)),
        _ => reply("404 Not Found", "", ""),
    });
    let url = |path: &str| format!("http://{}/{path}", server.host());
    let layers = |name: &str| dhow.inspect(name)["RootFS"]["Layers"].clone();
    for path in ["whole.tar", "moved.tar", "breaks.tar"] {
        dhow.ok(&["import", &url(path), "web:1"]);
        assert_eq!(layers("web:1"), layers("web:file"), "{path}");
    }
    dhow.ok(&["import", &url("whole.tar").replace("://", "://me:secret@"), "web:1"]);
    assert_eq!(dhow.inspect("web:1")["Comment"], json!(format!("Imported from {}", url("whole.tar"))));
    server.take();
    dhow.ok(&["image", "prune", "--all", "--force"]);
    for (url, why) in [
        (url("changes.tar"), "changed"),
        (url("unsure.tar"), "broke"),
        (url("nothing"), "answers 404 Not Found"),
        (url("text"), "cannot unpack"),
        ("http://".to_owned(), "address of a file"),
    ] {
        let error = dhow.fails(1, &["import", &url]);
        assert!(error.contains(why), "{url}: {error}");
    }
    let asked = server.take_lines();
    let error = dhow.fails(1, &["--offline", "import", &url("whole.tar")]);
    assert!(error.contains("offline") && server.take().is_empty(), "{error} {asked:?}");
    let blobs = dhow.root().join("content/blobs/sha256");
    assert!(std::fs::read_dir(blobs).unwrap().next().is_none());
}

#[test]
fn what_is_no_archive_is_refused_and_leaves_nothing() {
    let dhow = Dhow::empty("import-refused");
    let file = |name: &str, content: &[u8]| {
        let path = dhow.scratch().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = file("text", &b"this is not an archive\n".repeat(100));
    let cut = filter(&["gzip"], &vec![7; 100_000]);
    let cut = file("cut", &cut[..cut.len() - 20]);
    let xz = file("xz", b"\xfd7zXZ\0\0\0\0\0\0\0");
    dhow.run(&["images"]);
    for (args, why) in [
        (&["import", &*text][..], "cannot unpack"),
        (&["import", &*cut], "cannot read the archive"),
        (&["import", &*xz], "compressed with xz"),
        (&["import", "/nowhere"], "/nowhere"),
        (&["import", &*text, "UPPER"], "lower-case"),
        (&["import", "--platform", "linux/amd64/x/y", &*text], "platform"),
        (&["export", "nobody"], "no such container"),
    ] {
        let error = dhow.fails(1, args);
        assert!(error.contains(why), "{args:?}: {error}");
    }
    let blobs = dhow.root().join("content/blobs/sha256");
    assert!(!blobs.exists() || std::fs::read_dir(&blobs).unwrap().next().is_none());
    assert!(Path::new(&dhow.root().join("layers")).read_dir().unwrap().next().is_none());
}
