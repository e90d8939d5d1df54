//! A registry that does not do what it should: every fault has an error of its own, says which registry it is, and
//! nothing of what came becomes an image.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use base::Digest;
use harness::Dhow;
use harness::image::Image;
use harness::registry::log_in;
use harness::strange::{Authority, Content, Reply, Request, Strange, Validity, error, reply};

fn content() -> Content {
    Content::of(&Image::busybox("x"), "1")
}

/// What `pull` says of a registry, and the hint that follows.
#[track_caller]
fn pull(dhow: &Dhow, name: &str) -> (String, String) {
    let output = dhow.run(&["pull", "-q", name]);
    let mut lines = output.stderr.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let hints: Vec<&str> = lines.collect();
    assert_eq!(output.code, 1, "{output:#?}");
    assert!(line.starts_with("dhow: ") && output.stdout.is_empty(), "{output:#?}");
    assert!(hints.iter().all(|hint| hint.starts_with("  hint: ")), "{output:#?}");
    assert_eq!(dhow.ok(&["images", "--quiet", "--all"]), "", "it is an image: {output:#?}");
    (line, hints.join("\n"))
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

/// A registry that answers every manifest so.
fn manifests(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Strange {
    Strange::new(move |request| {
        if request.path.contains("/manifests/") { answer(request) } else { content().answer(request) }
    })
}

#[test]
fn each_status_has_words_of_its_own() {
    let dhow = Dhow::empty("status");
    let basic = "WWW-Authenticate: Basic realm=\"x\"\r\n";
    let now = "Retry-After: 0\r\n";
    for (answer, words, hint) in [
        (
            error("401 Unauthorized", basic, "UNAUTHORIZED", "who?"),
            &["wants a login for `a/b`", "401"][..],
            "dhow login",
        ),
        (error("401 Unauthorized", "", "UNAUTHORIZED", "who?"), &["wants a login", "401"], "dhow login"),
        (
            error("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", "", ""),
            &["in a way that we do not know", "Negotiate"],
            "",
        ),
        (
            error("403 Forbidden", "", "DENIED", "not for you"),
            &["does not give `a/b` to us", "403", "not for you"],
            "dhow login",
        ),
        (error("404 Not Found", "", "MANIFEST_UNKNOWN", ""), &["has no tag `2`", "404", "known tags: 1"], ""),
        (error("404 Not Found", "", "NAME_UNKNOWN", ""), &["has no repository `a/b`", "404"], ""),
        (
            error("429 Too Many Requests", now, "TOOMANYREQUESTS", "slow down"),
            &["enough requests", "429", "slow down"],
            "wait",
        ),
        (
            error("500 Internal Server Error", now, "UNKNOWN", "oops"),
            &["an error of its own", "500", "oops"],
            "again",
        ),
        (error("503 Service Unavailable", now, "", ""), &["not able to answer now", "503"], "again"),
        (error("418 I'm a teapot", "", "", "short"), &["answered 418", "tag `2`"], ""),
    ] {
        let registry = manifests(move |_| answer.clone());
        let (line, hints) = pull(&dhow, &format!("{}/a/b:2", registry.host()));
        has(&line, &[registry.host()]);
        has(&line, words);
        has(&hints, &[hint]);
    }
}

#[test]
fn a_login_that_is_refused_is_told_apart_from_one_that_is_missing() {
    let dhow = Dhow::empty("refused");
    let registry = manifests(|_| {
        error("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "UNAUTHORIZED", "wrong")
    });
    log_in(dhow.scratch(), registry.host());
    let (line, hints) = pull(&dhow, &format!("{}/a/b:1", registry.host()));
    has(&line, &["does not accept our login for `a/b` (401): wrong"]);
    assert!(!line.contains("secret") && hints.contains("dhow login"), "{line} {hints}");
}

#[test]
fn who_wants_to_be_left_alone_for_long_is() {
    let dhow = Dhow::empty("patience");
    for when in ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"] {
        let when = format!("Retry-After: {when}\r\n");
        let registry = manifests(move |_| error("429 Too Many Requests", &when, "TOOMANYREQUESTS", ""));
        let (line, hints) = pull(&dhow, &format!("{}/a/b:1", registry.host()));
        has(&line, &["429"]);
        has(&hints, &["wait for ", " s, as it asks"]);
        assert_eq!(registry.take().len(), 1);
    }
}

#[test]
fn who_is_busy_for_a_moment_is_asked_again() {
    let dhow = Dhow::empty("again");
    let tries = AtomicUsize::new(0);
    let registry = Strange::new(move |request| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => error("429 Too Many Requests", "Retry-After: 0\r\n", "", ""),
        1 => error("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "", ""),
        2 => content().answer(request).cut(),
        _ => content().answer(request),
    });
    dhow.ok(&["pull", "-q", &format!("{}/a/b:1", registry.host())]);
}

#[test]
fn content_that_is_not_what_it_should_be_is_refused() {
    let dhow = Dhow::empty("content");
    let layer = content().blobs[1].clone();
    let digest = Digest::of(&layer).to_string();
    let with_layer = |change: fn(&[u8]) -> Reply| {
        let layer = Digest::of(&content().blobs[1]).to_string();
        Strange::new(move |request| {
            if request.path.ends_with(&layer) {
                change(&content().blobs[1])
            } else {
                content().answer(request)
            }
        })
    };
    let short = &digest[7..19];
    for (registry, words) in [
        (
            manifests(|_| {
                reply("200 OK", "Content-Type: text/html; charset=utf-8\r\n", "<html>log in</html>")
            }),
            &["a web page", "not a registry"][..],
        ),
        (manifests(|_| reply("200 OK", "", "{ \"schemaVersion\":")), &["it is not the JSON of one"]),
        (manifests(|request| content().answer(request).cut()), &["the connection", "broke"]),
        (manifests(|_| Reply::Bytes(b"220 mail.example ESMTP\r\n".to_vec())), &["the connection"]),
        (with_layer(|layer| reply("200 OK", "", [b"x", &layer[1..]].concat())), &[short]),
        (with_layer(|layer| reply("200 OK", "", &layer[1..])), &[short, "bytes"]),
        (with_layer(|layer| reply("200 OK", "", [layer, b"more"].concat())), &[short, "bytes"]),
        (with_layer(|_| reply("404 Not Found", "", "")), &[short, "404"]),
        (with_layer(|_| reply("200 OK", "Content-Type: text/html\r\n", "")), &[short]),
    ] {
        let (line, _) = pull(&dhow, &format!("{}/a/b:1", registry.host()));
        has(&line, words);
    }
    // by digest, and by the digest that the registry itself says
    let registry = manifests(|_| reply("200 OK", "", content().manifest));
    let wanted = Digest::of(b"other").to_string();
    let (line, _) = pull(&dhow, &format!("{}/a/b@{wanted}", registry.host()));
    has(&line, &["with other content", &wanted, &content().digest()]);
    let claim = format!("Docker-Content-Digest: {wanted}\r\n");
    let registry = manifests(move |_| reply("200 OK", &claim, content().manifest));
    has(&pull(&dhow, &format!("{}/a/b:1", registry.host())).0, &["with other content", &wanted]);
    // a connection that breaks at the same byte every time
    let registry = with_layer(|layer| reply("200 OK", "", layer).cut());
    has(&pull(&dhow, &format!("{}/a/b:1", registry.host())).0, &[registry.host(), "broke"]);
}

#[test]
fn a_manifest_of_a_gigabyte_is_not_read() {
    let dhow = Dhow::empty("large");
    let head = |length: &str| format!("HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n").into_bytes();
    for length in ["Content-Length: 1073741824\r\n", ""] {
        let registry = manifests(move |_| Reply::Endless(head(length)));
        let name = format!("{}/a/b:1", registry.host());
        let (line, _) = pull(&dhow, &name);
        has(&line, &["more than 4194304 bytes of tag `1`"]);
    }
}

#[test]
fn redirects_have_an_end_and_keep_to_what_is_safe() {
    let dhow = Dhow::empty("redirects");
    let to = |place: fn(&Request) -> String| {
        manifests(move |request| {
            reply("307 Temporary Redirect", &format!("Location: {}\r\n", place(request)), "")
        })
    };
    for (registry, words) in [
        (to(|request| request.path.clone()), &["redirects in a circle"][..]),
        (to(|request| format!("{}x", request.path)), &["redirects more than 10 times"]),
        (to(|_| "http://192.0.2.1/".to_owned()), &["redirects to plain HTTP on `192.0.2.1`"]),
        (to(|_| "file:///etc/passwd".to_owned()), &["redirects to an address of the kind `file:`"]),
        (to(|_| "http://[".to_owned()), &["no address"]),
    ] {
        let (line, hints) = pull(&dhow, &format!("{}/a/b:1", registry.host()));
        has(&line, words);
        has(&hints, &[registry.host()]);
        assert!(registry.take().len() <= 12);
    }
    let authority = Authority::new();
    let elsewhere = Strange::new(|_| reply("200 OK", "", "secret"));
    let place = format!("Location: http://{}/\r\n", elsewhere.host());
    let registry = Strange::with_tls(authority.server("127.0.0.1", Validity::Good, false), move |_| {
        reply("302 Found", &place, "")
    });
    authority.introduce(dhow.scratch(), registry.host(), false);
    has(&pull(&dhow, &format!("{}/a/b:1", registry.host())).0, &["redirects from HTTPS to plain text"]);
    assert!(elsewhere.take().is_empty());
}

#[test]
fn certificates_that_are_wrong_are_told_apart() {
    let dhow = Dhow::empty("certificates");
    let (ours, theirs) = (Authority::new(), Authority::new());
    let serve = |tls| Strange::with_tls(tls, |request| content().answer(request));
    let pulled = |registry: &Strange, trusted: &Authority| {
        trusted.introduce(dhow.scratch(), registry.host(), false);
        pull(&dhow, &format!("{}/a/b:1", registry.host()))
    };
    let expired = serve(ours.server("127.0.0.1", Validity::Expired, false));
    let (line, hints) = pulled(&expired, &ours);
    has(&line, &["cannot trust the registry", expired.host(), "xpired"]);
    has(&hints, &["renewed", "clock"]);

    let unknown = serve(theirs.server("127.0.0.1", Validity::Good, false));
    let (line, hints) = pulled(&unknown, &ours);
    has(&line, &["cannot trust the registry", "UnknownIssuer"]);
    has(&hints, &["/ca.crt", "update-ca-certificates"]);

    let other = serve(ours.server("registry.example", Validity::Good, false));
    let (line, hints) = pulled(&other, &ours);
    has(&line, &["cannot trust the registry", "not valid for name"]);
    has(&hints, &["use the name"]);

    let closed = serve(ours.server("127.0.0.1", Validity::Good, true));
    let (line, hints) = pulled(&closed, &ours);
    has(&line, &["cannot trust the registry", closed.host()]);
    has(&hints, &["client.cert"]);

    let plain = Strange::new(|request| content().answer(request));
    let (line, hints) = pulled(&plain, &ours);
    has(&line, &["cannot trust the registry", plain.host()]);
    has(&hints, &["http = true"]);
}

#[test]
fn nobody_there_and_no_such_name_are_told_apart() {
    let dhow = Dhow::empty("nobody");
    let gone = Strange::new(|_| reply("200 OK", "", "")).host().to_owned();
    let (line, hints) = pull(&dhow, &format!("{gone}/a/b:1"));
    has(&line, &["cannot reach the registry", &gone, "refused"]);
    has(&hints, &["is running"]);
    // a name that by RFC 6761 nobody has
    let (line, hints) = pull(&dhow, "registry.invalid/a/b:1");
    has(&line, &["cannot find the registry `registry.invalid`"]);
    has(&hints, &["check the name"]);
}
