//! `diff`: what a container has changed in its files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::image::Image;
use harness::tar::Tar;
use harness::{Dhow, eventually};

fn run(dhow: &Dhow, name: &str, options: &[&str], script: &str) {
    let words = ["run", "--network", "none", "--name", name];
    dhow.ok(&[&words[..], options, &["busybox", "sh", "-ec", script]].concat());
}

#[test]
fn what_was_added_changed_and_deleted() {
    let dhow = Dhow::new("diff");
    let script = "echo x >/new; mkdir -p /var/a/b; echo y >/etc/passwd; rm /etc/not-executable; rm -r /usr; \
                  ln -s x /home/link; mkfifo /home/pipe; chmod 700 /tmp; ln /new /root/twice";
    run(&dhow, "box", &[], script);
    let expected = [
        "C /etc",
        "D /etc/not-executable",
        "C /etc/passwd",
        "C /home",
        "A /home/link",
        "A /home/pipe",
        "A /new",
        "C /root",
        "A /root/twice",
        "C /tmp",
        "D /usr",
        "C /var",
        "A /var/a",
        "A /var/a/b",
    ];
    assert_eq!(dhow.ok(&["diff", "box"]).lines().collect::<Vec<_>>(), expected);
    assert_eq!(dhow.ok(&["container", "diff", "box"]).lines().count(), expected.len());
    assert!(dhow.fails(1, &["diff", "nope"]).contains("no such container: nope"));
}

/// As Docker sees it: what looks as before is no change, whatever was done meanwhile.
#[test]
fn what_looks_as_before_is_no_change() {
    let dhow = Dhow::new("diff-nothing");
    run(&dhow, "nothing", &[], "true");
    assert_eq!(dhow.ok(&["diff", "nothing"]), "");
    let script = "echo x >/tmp/x; rm /tmp/x; touch /home; chmod 700 /var; chmod 755 /var; \
                  chmod 600 /etc/group; chmod 644 /etc/group";
    run(&dhow, "undone", &[], script);
    assert_eq!(dhow.ok(&["diff", "undone"]), "");
    // Something is there instead of a whole directory: what was in it is not told one by one.
    run(&dhow, "instead", &[], "rm -r /home; echo x >/home; rm -r /usr; mkdir /usr /usr/mine");
    assert_eq!(dhow.ok(&["diff", "instead"]), "C /home\nC /usr\nD /usr/bin\nA /usr/mine");
    // A mount is not part of it; its mount point is.
    let data = dhow.scratch().join("data");
    let bind = format!("{}:/data", data.display());
    run(&dhow, "mounted", &["-v", &bind, "--tmpfs", "/scratch"], "echo x >/data/x; echo x >/scratch/x");
    assert_eq!(dhow.ok(&["diff", "mounted"]), "A /data\nA /scratch");
}

#[test]
fn one_that_runs_is_looked_at_too() {
    let dhow = Dhow::empty("diff-running");
    // several layers, one of which removes something of another
    let upper = Tar::new().file("etc/.wh.group", 0o644, "").file("opt/tool", 0o755, "x");
    dhow.load(&Image::busybox("busybox:latest").with_layer(upper));
    let script = "rm /opt/tool; echo x >/etc/group; while ! [ -e /stop ]; do sleep 0.05; done";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", script]);
    let changes = eventually("its changes", || {
        let changes = dhow.ok(&["diff", "box"]);
        changes.contains("/etc/group").then_some(changes)
    });
    assert_eq!(changes, "C /etc\nA /etc/group\nC /opt\nD /opt/tool");
}

/// Names are the container's choice: neither does one become two lines, nor does it command a terminal.
#[test]
fn names_cannot_forge_lines() {
    let dhow = Dhow::new("diff-names");
    run(&dhow, "box", &[], "echo >\"$(printf '/a\\nA b\\033[2J')\"; echo >/.wh.odd");
    assert_eq!(dhow.ok(&["diff", "box"]), "A /.wh.odd\nA /a\\nA b\\x1b[2J");
}
