#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::Error;

fn at(name: &str) -> Location {
    let (host, repository) = name.split_once('/').unwrap_or((name, ""));
    Location { host: host.to_owned(), repository: repository.to_owned() }
}

fn read(text: &str) -> Result<Credentials> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), text).unwrap();
    Credentials::from_docker_config(&dir.path().join("config.json"))
}

fn me() -> Login {
    Login::Password { user: "me".to_owned(), password: "se:cret".to_owned() }
}

#[test]
fn logins_are_found_by_host_however_docker_spelled_it() {
    let auth = STANDARD.encode("me:se:cret");
    let credentials = read(&format!(
        r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"localhost:5000":{{"auth":"{auth}"}},
            "ghcr.io":{{}},"x.io":{{"identitytoken":"t"}},"https://y.io/v2/":{{"username":"me","password":"se:cret"}}}}}}"#
    ))
    .unwrap();
    for host in ["docker.io", "index.docker.io", "localhost:5000", "y.io/a/b"] {
        assert_eq!(credentials.of(&at(host)).unwrap(), Some(me()), "{host}");
    }
    assert_eq!(credentials.of(&at("x.io")).unwrap(), Some(Login::Identity("t".to_owned())));
    for host in ["ghcr.io", "localhost", "docker.io.evil", "x.io:5000"] {
        assert_eq!(credentials.of(&at(host)).unwrap(), None, "{host}");
    }
    assert_eq!(credentials.user_of("docker.io").as_deref(), Some("me"));
    assert!(!format!("{credentials:?} {:?}", me()).contains("cret"));
}

#[test]
fn podmans_parts_of_registries_have_logins_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let auth = dir.path().join("auth.json");
    let entry = |user: &str| format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{user}:x")));
    let text = format!(
        r#"{{"auths":{{"q.io":{},"q.io/org":{},"q.io/org/tool":{}}}}}"#,
        entry("a"),
        entry("b"),
        entry("c")
    );
    std::fs::write(&auth, text).unwrap();
    let docker = dir.path().join("config.json");
    std::fs::write(&docker, format!(r#"{{"auths":{{"d.io":{}}}}}"#, entry("d"))).unwrap();
    let credentials = Credentials::load(&docker, &[dir.path().join("none"), auth]).unwrap();
    for (name, user) in [
        ("q.io/x", "a"),
        ("q.io/org/x", "b"),
        ("q.io/organ", "a"),
        ("q.io/org/tool", "c"),
        ("q.io", "a"),
        ("d.io/x", "d"),
    ] {
        let login = credentials.of(&at(name)).unwrap();
        assert_eq!(
            login,
            Some(Login::Password { user: user.to_owned(), password: "x".to_owned() }),
            "{name}"
        );
    }
    let prints = ["q.io", "q.io/org", "d.io", "e.io"].map(|name| credentials.fingerprint(&at(name)));
    assert!(prints.iter().enumerate().all(|(i, print)| !prints[..i].contains(print)));
}

#[test]
fn broken_files_are_told_without_their_secrets() {
    for text in ["{", "3", r#"{"auths":{"x":{"auth":"!secret!"}}}"#, r#"{"auths":{"x":"secret"}}"#] {
        let error = read(text).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let none = Credentials::from_docker_config(Path::new("/nope/config.json")).unwrap();
    assert_eq!(none.of(&at("x.io")).unwrap(), None);
    assert_eq!(read(r#"{"auths":null,"credHelpers":null}"#).unwrap().of(&at("x.io")).unwrap(), None);
}

#[test]
fn what_is_kept_leaves_all_else_as_it_was_and_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/config.json");
    let load = || Credentials::from_docker_config(&path).unwrap();
    assert_eq!(load().keep("docker.io", &me()).unwrap(), Kept::File(path.clone()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"https://index.docker.io/v1/\""), "{text}");

    let other = r#"{"auths":{"a.io":{"auth":"YTpi","email":"x@y"}},"proxies":{"default":{"x":[1,2.5]}},"HttpHeaders":{}}"#;
    std::fs::write(&path, other).unwrap();
    load().keep("b.io:5000", &Login::Identity("t".to_owned())).unwrap();
    assert_eq!(load().of(&at("b.io:5000")).unwrap(), Some(Login::Identity("t".to_owned())));
    assert!(load().forget("b.io:5000").unwrap());
    assert!(!load().forget("b.io:5000").unwrap());
    let now: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(now, serde_json::from_str::<serde_json::Value>(other).unwrap());

    // A link stays one.
    let link = dir.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    Credentials::from_docker_config(&link).unwrap().keep("c.io", &me()).unwrap();
    assert!(link.is_symlink());
    assert_eq!(load().of(&at("c.io")).unwrap(), Some(me()));
}

#[test]
fn helpers_that_are_none_are_told_as_such() {
    let credentials =
        read(r#"{"credHelpers":{"x.io":"nosuch-of-the-tests","y.io":"../evil","z.io":""}}"#).unwrap();
    let error = credentials.of(&at("x.io")).unwrap_err();
    assert!(matches!(error, Error::Helper { .. }), "{error}");
    assert!(error.to_string().contains("docker-credential-nosuch-of-the-tests"), "{error}");
    assert!(credentials.of(&at("y.io")).unwrap_err().to_string().contains("no name"));
    assert_eq!(credentials.of(&at("z.io")).unwrap(), None);
    assert_eq!(credentials.of(&at("w.io")).unwrap(), None);
}
