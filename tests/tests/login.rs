//! `login`, `logout` and `search`: who we are to a registry, where that is kept, and to whom it is told.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::image::Image;
use harness::registry::{DockerRegistry, Login, Registry, log_in};
use harness::strange::{Content, Strange, error, reply};
use harness::{Dhow, Terminal};
use serde_json::{Value, json};

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn config(dhow: &Dhow) -> Value {
    serde_json::from_slice(&std::fs::read(dhow.scratch().join(".docker/config.json")).unwrap()).unwrap()
}

/// A credential helper that keeps one login in a file, and writes down what it is asked.
fn helper(dhow: &Dhow, name: &str) -> String {
    let dir = dhow.scratch().join("helpers");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(format!("docker-credential-{name}"));
    let script = r#"#!/bin/sh
kept=$0.kept
read -r question
echo "$1 $question" >> "$0.asked"
case $1 in
store) echo "$question" > "$kept" ;;
get) if test -e "$kept"; then cat "$kept"; else echo credentials not found in native keychain; exit 1; fi ;;
erase) rm -f "$kept" ;;
esac
"#;
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_login_is_asked_of_the_registry_kept_used_and_forgotten() {
    let dhow = Dhow::empty("login");
    let registry = DockerRegistry::start(dhow.scratch(), true);
    registry.push(&Image::busybox("x"), dhow.scratch(), "me/x:1", &[]);
    let image = format!("{}/me/x:1", registry.host());
    let login = |password: &str| {
        dhow.command(&["login", "-u", "user", "--password-stdin", registry.host()]).input(password).output()
    };
    assert!(dhow.fails(1, &["pull", "-q", &image]).contains("wants a login"));
    let refused = login("wrong\n");
    assert!(refused.code == 1 && refused.stderr.contains("does not accept our login"), "{refused:#?}");
    assert!(!dhow.scratch().join(".docker").exists(), "nothing is kept that is refused");

    std::fs::create_dir(dhow.scratch().join(".docker")).unwrap();
    std::fs::write(dhow.scratch().join(".docker/config.json"), r#"{"psFormat":"x","auths":{"a.io":{}}}"#)
        .unwrap();
    let done = login("secret\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "Login Succeeded\n"), "{done:#?}");
    assert!(done.stderr.contains("unencrypted"), "{done:#?}");
    let auth = json!({ "auth": BASIC.trim_start_matches("Basic ") });
    assert_eq!(config(&dhow), json!({ "psFormat": "x", "auths": { "a.io": {}, registry.host(): auth } }));
    let mode = std::fs::metadata(dhow.scratch().join(".docker/config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // once more with what is kept
    assert_eq!(dhow.ok(&["login", registry.host()]), "Login Succeeded");
    dhow.ok(&["pull", "-q", &image]);

    assert!(dhow.ok(&["logout", registry.host()]).starts_with("Removing login"));
    assert_eq!(config(&dhow), json!({ "psFormat": "x", "auths": { "a.io": {} } }));
    assert!(dhow.ok(&["logout", registry.host()]).starts_with("Not logged in"));
    assert!(dhow.fails(1, &["pull", "-q", &image]).contains("wants a login"));
}

#[test]
fn a_password_is_asked_for_at_the_terminal_and_not_shown() {
    let dhow = Dhow::empty("prompt");
    let registry = Registry::new(Login::Token);
    let mut terminal = Terminal::run(&dhow, &["login", registry.host()]);
    terminal.expect("Username: ");
    terminal.press(b"user\n");
    terminal.expect("Password: ");
    terminal.press(b"secret\n");
    assert_eq!(terminal.wait(), 0, "{}", terminal.screen());
    assert!(terminal.screen().contains("Login Succeeded") && !terminal.screen().contains("secret"));
    dhow.fails(1, &["login", "other.invalid:1"]);
}

#[test]
fn helpers_keep_what_they_are_named_for() {
    let dhow = Dhow::empty("helpers");
    let registry = Registry::new(Login::Basic);
    registry.add(&Image::busybox("x"), "1");
    let path = helper(&dhow, "mine");
    std::fs::create_dir(dhow.scratch().join(".docker")).unwrap();
    let write = |config: &Value| {
        std::fs::write(dhow.scratch().join(".docker/config.json"), config.to_string()).unwrap();
    };
    write(&json!({ "credHelpers": { registry.host(): "mine" } }));
    let run = |args: &[&str]| dhow.command(args).env("PATH", &path).output();

    let done = dhow.command(&["login", "-u", "user", "--password-stdin", registry.host()]).env("PATH", &path);
    assert_eq!(done.input("secret").output().stderr, "", "the helper keeps it: nothing to warn of");
    assert_eq!(config(&dhow)["auths"], json!({ registry.host(): {} }));
    assert_eq!(run(&["pull", "-q", &format!("{}/x:1", registry.host())]).code, 0);
    assert_eq!(run(&["logout", registry.host()]).code, 0);
    assert_eq!(run(&["pull", "-q", &format!("{}/x:1", registry.host())]).code, 1);
    let asked = std::fs::read_to_string(dhow.scratch().join("helpers/docker-credential-mine.asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert!(asked[0].starts_with("store {\"ServerURL\":\"127.0.0.1:"), "{asked:?}");
    assert!(asked.contains(&format!("get {}", registry.host()).as_str()), "{asked:?}");
    assert!(asked.contains(&format!("erase {}", registry.host()).as_str()), "{asked:?}");

    write(&json!({ "credsStore": "nosuch" }));
    let failed = run(&["pull", "-q", &format!("{}/x:1", registry.host())]);
    assert!(
        failed.code == 1
            && failed
                .stderr
                .contains("docker-credential-nosuch cannot get a login: there is no such program in PATH"),
        "{failed:#?}"
    );
}

#[test]
fn podmans_logins_and_other_places_are_known() {
    let dhow = Dhow::empty("places");
    let registry = Registry::new(Login::Basic);
    registry.add(&Image::busybox("x"), "1");
    let image = format!("{}/x:1", registry.host());
    log_in(&dhow.scratch().join("other"), registry.host());
    let config = dhow.scratch().join("other/.docker");
    dhow.fails(1, &["pull", "-q", &image]);
    dhow.command(&["pull", "-q", &image]).env("REGISTRY_AUTH_FILE", config.join("config.json")).ok();
    dhow.ok(&["rmi", &image]);
    dhow.command(&["pull", "-q", &image]).env("DOCKER_CONFIG", &config).ok();
}

#[test]
fn a_second_pull_of_an_unchanged_tag_needs_no_new_token() {
    let dhow = Dhow::empty("tokens");
    let registry = Registry::new(Login::Token);
    registry.add(&Image::busybox("x"), "1");
    log_in(dhow.scratch(), registry.host());
    let image = format!("{}/x:1", registry.host());
    dhow.ok(&["pull", "-q", &image]);
    assert_eq!(registry.take_requests().iter().filter(|line| line.contains("/token")).count(), 1);
    dhow.ok(&["pull", "-q", &image]);
    let again = registry.take_requests();
    assert!(again.len() == 1 && again[0].ends_with(" /v2/x/manifests/1"), "{again:?}");

    let tokens = dhow.run_root().join("tokens");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files: Vec<_> = std::fs::read_dir(&tokens).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!((mode(&tokens), mode(&files[0]), files.len()), (0o700, 0o600, 1));
    // another login is another token
    dhow.ok(&["logout", registry.host()]);
    dhow.fails(1, &["pull", "-q", &image]);
}

#[test]
fn a_login_is_told_to_nobody_else() {
    let dhow = Dhow::empty("nobody");
    let content = || Content::of(&Image::busybox("x"), "1");
    let storage = Strange::new(move |request| content().answer(request));
    // the same machine by another name is another host
    let elsewhere = format!("http://localhost:{}", storage.host().rsplit(':').next().unwrap());
    let registry = Strange::new(move |request| {
        if request.header("authorization") != Some(BASIC) {
            return error("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", "");
        }
        reply("307 Temporary Redirect", &format!("Location: {elsewhere}{}\r\n", request.path), "")
    });
    log_in(dhow.scratch(), registry.host());
    dhow.ok(&["pull", "-q", &format!("{}/a/b:1", registry.host())]);
    let told = storage.take();
    assert!(
        told.len() >= 3 && told.iter().all(|request| request.header("authorization").is_none()),
        "{told:?}"
    );

    // nor to a mirror, which has a login of its own or none
    let mirror =
        Strange::new(|_| error("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", ""));
    std::fs::write(
        dhow.scratch().join("registries.toml"),
        format!("[registry.\"{}\"]\nmirrors = [\"{}\"]\n", registry.host(), mirror.host()),
    )
    .unwrap();
    dhow.ok(&["pull", "-q", &format!("{}/a/b:1", registry.host())]);
    let told = mirror.take();
    assert!(
        !told.is_empty() && told.iter().all(|request| request.header("authorization").is_none()),
        "{told:?}"
    );

    // nor in plain HTTP to a token server somewhere
    let realm = "WWW-Authenticate: Bearer realm=\"http://192.0.2.1/token\"\r\n";
    let registry = Strange::new(move |_| error("401 Unauthorized", realm, "", ""));
    log_in(dhow.scratch(), registry.host());
    let line = dhow.fails(1, &["pull", "-q", &format!("{}/a/b:1", registry.host())]);
    assert!(line.contains("sent to `192.0.2.1` in plain HTTP"), "{line}");
}

#[test]
fn searches_ask_the_index_or_sieve_the_list() {
    let dhow = Dhow::empty("search");
    let hub = Strange::new(|request| {
        assert_eq!(request.path, "/v1/search?q=web&n=25");
        let item = |name: &str, stars: u64, official: bool| json!({ "name": name, "description": "serves\tpages\u{1b}[31m", "star_count": stars, "is_official": official });
        reply(
            "200 OK",
            "Content-Type: application/json\r\n",
            json!({ "results": [item("web", 9, true), item("me/web", 1, false)] }).to_string(),
        )
    });
    let rewrite = format!("[registry.\"docker.io\"]\nrewrite = \"{}\"\n", hub.host());
    std::fs::write(dhow.scratch().join("registries.toml"), rewrite).unwrap();
    assert_eq!(
        dhow.ok(&["search", "web"]),
        "NAME      DESCRIPTION         STARS     OFFICIAL\n\
         web       serves pages [31m   9         [OK]\n\
         me/web    serves pages [31m   1         "
    );
    assert_eq!(
        dhow.ok(&["search", "--filter", "is-official=true", "--format", "{{.Name}} {{.StarCount}}", "web"]),
        "web 9"
    );

    let debian = DockerRegistry::start(dhow.scratch(), false);
    for name in ["me/tool:1", "me/other:1"] {
        debian.push(&Image::busybox("x"), dhow.scratch(), name, &[]);
    }
    let found = dhow.ok(&["search", "--format", "{{.Name}}", &format!("{}/tool", debian.host())]);
    assert_eq!(found, format!("{}/me/tool", debian.host()));

    let none = Strange::new(|_| reply("404 Not Found", "", ""));
    let line = dhow.fails(1, &["search", &format!("{}/x", none.host())]);
    assert!(line.contains("cannot be searched"), "{line}");
    dhow.fails(125, &["search", "--limit", "101", "x"]);
    dhow.fails(125, &["search", "--filter", "stars=many", "x"]);
}
