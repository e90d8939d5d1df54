//! Where the result of a build goes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::building::Context;
use harness::{Dhow, Invocation};

const DOCKERFILE: &str = "FROM busybox AS tools\nRUN mkdir /d && echo x >/d/f && ln -s f /d/l && chmod 750 /d\nFROM scratch\nCOPY --from=tools /d /d\n";

#[test]
fn files_go_to_a_directory_or_an_archive() {
    let dhow = Dhow::new("build-files");
    let context = Context::new(&dhow, "context").with("Dockerfile", DOCKERFILE);
    let out = dhow.scratch().join("out");
    context.build(&["-o", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out.join("d/f")).unwrap(), "x\n");
    assert_eq!(std::fs::read_link(out.join("d/l")).unwrap().to_str(), Some("f"));
    let archive = dhow.scratch().join("out.tar");
    let to = format!("type=tar,dest={}", archive.display());
    context.build(&["-o", &to]);
    let listed = Invocation::new("tar").arg("-tf").arg(&archive).ok();
    assert_eq!(listed, "d/\nd/f\nd/l");
    let streamed = Invocation::new("sh").args(&["-c", "exec \"$@\" | tar -tf -", "sh"]).args(&[]);
    let piped =
        dhow.on(streamed, &["build", "-q", "--network", "none", "-o", "-", context.path().to_str().unwrap()]);
    assert_eq!(piped.ok(), "d/\nd/f\nd/l");
    // No image came of any of them.
    assert!(!dhow.ok(&["images", "-a", "--format", "{{.Repository}}"]).contains("<none>"));
}

#[test]
fn images_go_to_archives_that_can_be_loaded() {
    let dhow = Dhow::new("build-archives");
    let other = Dhow::empty("build-archives-2");
    let context = Context::new(&dhow, "context").with("Dockerfile", DOCKERFILE);
    for kind in ["docker", "oci"] {
        let archive = dhow.scratch().join(format!("{kind}.tar"));
        let to = format!("type={kind},dest={}", archive.display());
        context.build(&["-t", &format!("made:{kind}"), "-o", &to]);
        other.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
        assert_eq!(other.inspect(&format!("made:{kind}"))["Os"], "linux");
        assert_eq!(dhow.run(&["inspect", &format!("made:{kind}")]).code, 1);
    }
    context.build(&["-t", "made:1", "--load"]);
    assert_eq!(dhow.inspect("made:1")["Id"], other.inspect("made:oci")["Id"]);
    let told = context.fails(&["--push"]);
    assert!(told.contains("a push needs a name"), "{told}");
}

#[test]
fn a_directory_gets_no_devices_and_no_programs_that_make_others_root() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dhow = Dhow::new("build-export-safe");
    let dockerfile = "FROM busybox AS b\n\
        RUN mkdir /d && cd /d && mknod disk b 7 0 && mknod null c 1 3 && mkfifo fifo && \
        for f in kept user group; do echo x >$f; done && chown 7:0 user && chown 0:7 group && \
        chmod 6755 kept user group\nFROM scratch\nCOPY --from=b /d /\n";
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
    let out = dhow.scratch().join("out");
    let told = context.build(&["-o", out.to_str().unwrap()]);
    assert!(told.contains("2 device nodes left out"), "{told}");
    assert!(!out.join("disk").exists() && !out.join("null").exists() && out.join("fifo").exists());
    for (name, mode) in [("kept", 0o6755), ("user", 0o2755), ("group", 0o4755)] {
        let found = std::fs::metadata(out.join(name)).unwrap();
        assert_eq!((found.uid(), found.gid(), found.permissions().mode() & 0o7777), (0, 0, mode), "{name}");
    }
}
