//! `registries.toml`: where names lead, and how hosts are spoken to.

#![allow(clippy::unwrap_used, reason = "a test")]

use base::Digest;
use harness::Dhow;
use harness::image::Image;
use harness::strange::{Authority, Content, Reply, Request, Strange, Validity, error, reply};

fn content() -> Content {
    Content::of(&Image::busybox("x"), "1")
}

fn good() -> Strange {
    Strange::new(|request| content().answer(request))
}

fn broken() -> Strange {
    Strange::new(|_| error("500 Internal Server Error", "Retry-After: 0\r\n", "", "oops"))
}

fn write(dhow: &Dhow, text: &str) {
    std::fs::write(dhow.scratch().join("registries.toml"), text).unwrap();
}

#[test]
fn mirrors_are_asked_in_their_order_and_passed_over_where_they_fail() {
    let dhow = Dhow::empty("mirrors");
    let (gone, first, second, registry) = (good().host().to_owned(), broken(), good(), good());
    let text = format!(
        "[registry.\"hub.example\"]\nmirrors = [\"{gone}\", \"{}/deep\", \"{}\"]\nrewrite = \"{}\"\n",
        first.host(),
        second.host(),
        registry.host()
    );
    write(&dhow, &text);
    assert_eq!(dhow.ok(&["pull", "-q", "hub.example/me/x:1"]), "hub.example/me/x:1");
    // asked until it is believed, and then no more
    assert!(first.take_lines().iter().all(|line| line == "GET /v2/deep/me/x/manifests/1"));
    let asked = second.take_lines();
    assert!(asked.len() >= 3 && asked.iter().all(|line| line.contains(" /v2/me/x/")), "{asked:?}");
    assert!(registry.take().is_empty());
    dhow.ok(&["rmi", "hub.example/me/x:1"]);

    // a mirror that lacks it, or lies, is no obstacle; what the registry says counts
    let liar = Strange::new(|_| reply("200 OK", "Content-Type: text/html\r\n", "<html>"));
    write(&dhow, &format!("[registry.\"{}\"]\nmirrors = [\"{}\"]\n", registry.host(), liar.host()));
    dhow.ok(&["pull", "-q", &format!("{}/x:1", registry.host())]);
    let output = dhow.run(&["pull", "-q", &format!("{}/x:2", registry.host())]);
    assert!(output.stderr.contains("known tags: 1"), "{output:#?}");
    assert!(output.stderr.contains("what a mirror said: `127.0.0.1:"), "{output:#?}");

    registry.take();
    write(
        &dhow,
        &format!("[registry.\"{}\"]\nmirrors = [\"{}\"]\nfallback = false\n", registry.host(), first.host()),
    );
    let line = dhow.fails(1, &["pull", "-q", &format!("{}/x:1", registry.host())]);
    assert!(line.contains(first.host()) && line.contains("500"), "{line}");
    assert!(registry.take().is_empty());
}

#[test]
fn a_mirror_that_sends_wrong_bytes_is_passed_over() {
    let dhow = Dhow::empty("mirror-wrong");
    let registry = good();
    let name = format!("{}/x:1", registry.host());
    let whole = content();
    let layer = whole.blobs.iter().max_by_key(|blob| blob.len()).unwrap().clone();
    let mut other = layer.clone();
    other[layer.len() / 2] ^= 1;
    let longer = [&layer[..], b"and more"].concat();
    // other content, less of it, more of it, more than it says, and a connection that always breaks
    let lies: [(&str, Reply); 5] = [
        ("other content", reply("200 OK", "", &other)),
        ("bytes of the blob", reply("200 OK", "", &layer[1..])),
        ("bytes of the blob", reply("200 OK", "", &longer)),
        (
            "bytes of the blob",
            Reply::Bytes([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &longer[..]].concat()),
        ),
        ("broke", reply("200 OK", "", &layer).cut()),
    ];
    for (number, (why, lie)) in lies.into_iter().enumerate() {
        let (whole, path) = (content(), format!("/blobs/{}", Digest::of(&layer)));
        let lying = lie.clone();
        let mirror =
            Strange::new(
                move |request: &Request| {
                    if request.path.ends_with(&path) { lying.clone() } else { whole.answer(request) }
                },
            );
        write(&dhow, &format!("[registry.\"{}\"]\nmirrors = [\"{}\"]\n", registry.host(), mirror.host()));
        registry.take();
        dhow.ok(&["pull", "-q", &name]);
        assert!(mirror.take_lines().iter().any(|line| line.contains("/blobs/")), "{number}");
        let asked = registry.take_lines();
        assert!(asked.iter().any(|line| line.ends_with(&Digest::of(&layer).to_string())), "{asked:?}");
        assert_eq!(harness::store::broken_blobs(&dhow.root()), Vec::<String>::new());
        dhow.ok(&["rmi", &name]);
        // without the registry it is an error, and nothing stays
        write(
            &dhow,
            &format!(
                "[registry.\"{}\"]\nmirrors = [\"{}\"]\nfallback = false\n",
                registry.host(),
                mirror.host()
            ),
        );
        let line = dhow.fails(1, &["pull", "-q", &name]);
        println!("{line}");
        assert!(line.contains(why), "{why}: {line}");
        dhow.ok(&["image", "prune", "--all", "--force"]);
    }
}

#[test]
fn what_is_blocked_is_not_asked_and_offline_nobody_is() {
    let dhow = Dhow::new("blocked");
    let registry = good();
    let name = format!("{}/x:1", registry.host());
    write(&dhow, &format!("[registry.\"{}\"]\nblocked = true\n", registry.host()));
    let line = dhow.fails(1, &["pull", "-q", &name]);
    assert!(line.contains("is blocked") && line.contains("registries.toml"), "{line}");
    let login = dhow.command(&["login", "-u", "a", "--password-stdin", registry.host()]).input("b").output();
    assert!(login.code == 1 && login.stderr.contains("is blocked"), "{login:#?}");
    write(&dhow, "offline = true\n");
    assert!(dhow.fails(1, &["pull", "-q", &name]).contains("offline"));
    // what is here runs
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "here"]), "here");
    let run = dhow.run(&["run", "--rm", &name, "true"]);
    assert!(run.code == 125 && run.stderr.contains("we are offline"), "{run:#?}");
    write(&dhow, "");
    let offline = dhow.command(&["pull", "-q", &name]).env("DHOW_OFFLINE", "1").output();
    assert!(offline.code == 1 && offline.stderr.contains("offline"), "{offline:#?}");
    assert_eq!(dhow.run(&["--offline", "pull", "-q", &name]).code, 1);
    assert!(registry.take().is_empty());
    dhow.ok(&["pull", "-q", &name]);
}

#[test]
fn hosts_are_spoken_to_as_the_file_says() {
    let dhow = Dhow::empty("tls");
    let authority = Authority::new();
    let secure = Strange::with_tls(authority.server("127.0.0.1", Validity::Good, true), |request| {
        content().answer(request)
    });
    let file = |name: &str, text: &str| {
        let path = dhow.scratch().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = authority.certificate("me");
    let text = format!(
        "[registry.\"{}\"]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        secure.host(),
        file("ca.pem", authority.pem()),
        file("me.pem", &certificate),
        file("key.pem", &key)
    );
    write(&dhow, &text);
    let name = format!("{}/x:1", secure.host());
    dhow.ok(&["pull", "-q", &name]);
    dhow.ok(&["rmi", &name]);
    // the same in Docker's layout
    write(&dhow, "");
    authority.introduce(dhow.scratch(), secure.host(), true);
    dhow.ok(&["pull", "-q", &name]);
    let broken = file("ca.pem", "nothing");
    write(&dhow, &format!("[registry.\"{}\"]\nca = \"{broken}\"\n", secure.host()));
    let line = dhow.fails(1, &["pull", "-q", &name]);
    assert!(line.contains("ca.pem") && line.contains("no certificate"), "{line}");

    // 0.0.0.0 is this machine, but not the loopback interface: plain HTTP must be allowed
    let plain = good();
    let name = plain.host().replace("127.0.0.1", "0.0.0.0");
    assert!(dhow.fails(1, &["pull", "-q", &format!("{name}/x:1")]).contains("cannot trust"));
    write(&dhow, &format!("[registry.\"{name}\"]\nhttp = true\n"));
    dhow.ok(&["pull", "-q", &format!("{name}/x:1")]);
}

#[test]
fn mistakes_in_the_file_are_told_where_a_registry_is_asked_and_only_there() {
    let dhow = Dhow::new("mistakes");
    write(&dhow, "offline = false\n[registry.\"x.io\"]\nmirors = []\n");
    let line = dhow.fails(1, &["pull", "-q", "x.io/y"]);
    assert!(line.contains("registries.toml") && line.contains("line 3") && line.contains("mirors"), "{line}");
    dhow.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
    // the user's own is read too
    write(&dhow, "");
    let user = dhow.scratch().join(".config/dhow");
    std::fs::create_dir_all(&user).unwrap();
    std::fs::write(user.join("registries.toml"), "[registry.\"x.io\"]\nblocked = true\n").unwrap();
    assert!(dhow.fails(1, &["pull", "-q", "x.io/y"]).contains("blocked"));
}
