#![allow(clippy::unwrap_used, reason = "a test")]

use base::{Failure, Kind};
use proptest::prelude::*;

use super::*;

fn load(text: &str) -> Result<Registries> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registries.toml");
    std::fs::write(&path, text).unwrap();
    Registries::load(&[path], Vec::new())
}

fn at(name: &str) -> Location {
    let (host, repository) = name.split_once('/').unwrap();
    Location { host: host.to_owned(), repository: repository.to_owned() }
}

/// Where a name leads: `http://host/repository` of each endpoint.
fn leads(registries: &Registries, name: &str, access: Access) -> Vec<String> {
    let endpoints = registries.endpoints(&at(name), access).unwrap();
    endpoints
        .iter()
        .map(|e| {
            let scheme = if e.scheme == Scheme::Http { "http" } else { "https" };
            format!("{scheme}://{}/{}", e.location.host, e.location.repository)
        })
        .collect()
}

#[test]
fn without_a_word_names_lead_where_they_say() {
    let registries = load("").unwrap();
    assert_eq!(registries, Registries::default());
    assert_eq!(
        leads(&registries, "docker.io/library/debian", Access::Pull),
        ["https://docker.io/library/debian"]
    );
    assert_eq!(leads(&registries, "localhost:5000/x", Access::Pull), ["http://localhost:5000/x"]);
}

#[test]
fn mirrors_come_first_and_are_not_pushed_to() {
    let registries = load(
        r#"
        [registry."docker.io"]
        mirrors = ["mirror.example:5000/hub", "second.example"]
        [registry."docker.io/library"]
        mirrors = ["official.example"]
        fallback = false
        [registry."mirror.example:5000"]
        http = true
        [registry."quay.io/org"]
        rewrite = "registry.example/quay"
        [registry."localhost:5000"]
        http = false
        "#,
    )
    .unwrap();
    assert_eq!(
        leads(&registries, "docker.io/me/tool", Access::Pull),
        [
            "http://mirror.example:5000/hub/me/tool",
            "https://second.example/me/tool",
            "https://docker.io/me/tool"
        ]
    );
    assert_eq!(leads(&registries, "docker.io/me/tool", Access::Push), ["https://docker.io/me/tool"]);
    assert_eq!(
        leads(&registries, "docker.io/library/debian", Access::Pull),
        ["https://official.example/debian"]
    );
    // a prefix ends at a slash
    assert_eq!(leads(&registries, "quay.io/org/a/b", Access::Push), ["https://registry.example/quay/a/b"]);
    assert_eq!(leads(&registries, "quay.io/organic/a", Access::Pull), ["https://quay.io/organic/a"]);
    assert_eq!(leads(&registries, "localhost:5000/x", Access::Pull), ["https://localhost:5000/x"]);
}

#[test]
fn patterns_are_for_hosts_below_a_domain() {
    let registries = load(
        r#"
        [registry."*.example.com"]
        mirrors = ["mirror.example"]
        http = true
        [registry."b.example.com"]
        fallback = true
        "#,
    )
    .unwrap();
    assert_eq!(
        leads(&registries, "a.example.com:5000/x/y", Access::Pull),
        ["https://mirror.example/x/y", "http://a.example.com:5000/x/y"]
    );
    assert_eq!(leads(&registries, "b.example.com/x", Access::Pull), ["https://b.example.com/x"]);
    for other in ["example.com/x", "evilexample.com/x", "a.example.com.evil/x"] {
        assert_eq!(leads(&registries, other, Access::Pull), [format!("https://{other}")]);
    }
}

#[test]
fn what_is_blocked_or_offline_is_not_asked() {
    let registries =
        load("[registry.\"evil.example\"]\nblocked = true\nmirrors = [\"good.example\"]\n").unwrap();
    let error = registries.endpoints(&at("evil.example/x"), Access::Pull).unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }) && error.kind() == Kind::Permission, "{error}");
    assert!(registries.of_host("EVIL.example").is_err());
    assert!(registries.endpoints(&at("other.example/x"), Access::Pull).is_ok());
    let offline = load("offline = true").unwrap();
    assert!(matches!(offline.endpoints(&at("x.io/y"), Access::Pull), Err(Error::Offline { .. })));
    assert!(load("").unwrap().with_offline(true).is_offline());
}

#[test]
fn the_users_file_adds_to_the_systems_but_unblocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["a", "b", "none"].map(|name| dir.path().join(name));
    std::fs::write(
        &files[0],
        "offline = true\n[registry.\"x.io\"]\nblocked = true\nmirrors = [\"a.io\"]\nhttp = true\n",
    )
    .unwrap();
    std::fs::write(
        &files[1],
        "offline = false\n[registry.\"x.io\"]\nblocked = false\nmirrors = [\"b.io\"]\n",
    )
    .unwrap();
    let mut registries = Registries::load(&files, Vec::new()).unwrap();
    assert!(registries.endpoints(&at("x.io/y"), Access::Pull).is_err());
    registries.tables.get_mut("x.io").unwrap().blocked = None;
    assert_eq!(leads(&registries, "x.io/y", Access::Pull), ["https://b.io/y", "http://x.io/y"]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (text, words) in [
        ("offline = true\noflin = true", &["line 2", "oflin"][..]),
        ("[registry.\"x.io\"]\nblock = true", &["line 2", "block"]),
        ("[registry.\"x.io\"]\nmirrors = \"y.io\"", &["line 2"]),
        ("\n[registry.\"x.io\"]\nmirrors = [\"https://y.io\"]", &["line 2", "https://y.io", "mirrors"]),
        ("[registry.\"x.io/a\"]\nhttp = true", &["line 1", "[registry.\"x.io\"]"]),
        ("[registry.\"x.io\"]\ncertificate = \"/a\"", &["key"]),
        ("[registry.\"x.io\"]\nhttp = true\nca = \"/a\"", &["http"]),
        ("[registry.\"x.io\"]\nca = \"a.crt\"", &["a.crt", "absolute"]),
        ("[registry.\"x.io\"]\nca = 3", &["line 2", "path"]),
        ("[registry.\"x.io\"]\nfallback = false", &["mirrors"]),
        ("[registry.\"library\"]\nblocked = true", &["`library`"]),
        ("[registry.\"x.io/../y\"]\nblocked = true", &["x.io/../y"]),
        ("[registry.\"\"]\nblocked = true", &["host"]),
        ("[registry.\"x.io\"]\n[registry.\"x.io\"]", &["line 2", "duplicate"]),
        ("=", &["line 1"]),
    ] {
        let error = load(text).unwrap_err();
        let said = base::failure::chain(&error);
        assert_eq!(error.kind(), Kind::Invalid, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
        assert!(said.contains("registries.toml") && !said.contains('\n'), "{said}");
    }
}

#[test]
fn certificates_are_found_where_docker_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("x.io:5000");
    std::fs::create_dir_all(&host).unwrap();
    for name in ["ca.crt", "client.cert", "client.key", "other.cert"] {
        std::fs::write(host.join(name), "").unwrap();
    }
    let registries = Registries::load(&[], vec!["/nowhere".into(), dir.path().to_owned()]).unwrap();
    let found = registries.certificates("X.io:5000").unwrap();
    assert_eq!(found.authorities, [host.join("ca.crt")]);
    assert_eq!(found.identity, Some((host.join("client.cert"), host.join("client.key"))));
    for other in ["x.io", "../x.io:5000", "", "."] {
        assert_eq!(registries.certificates(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_in_words_or_leads_somewhere(
        text in "(offline = (true|false)\n)?(\\[registry\\.\"[a-z.*/:]{0,12}\"\\]\n((mirrors = \\[\"[a-z./:]{0,9}\"\\]|rewrite = \"[a-z.]{0,9}\"|http = true|blocked = false|fallback = false|x = 1)\n){0,3}){0,3}",
        host in "[a-z.]{1,9}", repository in "[a-z/]{1,9}",
    ) {
        match load(&text) {
            Ok(registries) => if let Ok(endpoints) = registries.endpoints(&Location { host, repository }, Access::Pull) {
                prop_assert!(!endpoints.is_empty());
            },
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
