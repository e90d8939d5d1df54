//! File systems come and go as archives: `import`, `export`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::odd::{self, Look, assert_same, extract, snapshot};
use harness::registry::filter;
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
