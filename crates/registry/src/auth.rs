//! Logging in: what a registry asks for in `WWW-Authenticate` (RFC 9110, 11.6.1), and the token that answers it
//! (distribution's token specification).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// What the registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// A token server's answer.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    /// Seconds.
    expires_in: Option<f64>,
}

/// What a token is good for where its server does not say (distribution's token specification).
const LIFE: f64 = 60.0;
/// Nobody's token is kept for longer than this.
const MAX_LIFE: f64 = 24.0 * 3600.0;

impl TokenAnswer {
    /// The token, and how long it lives.
    pub(crate) fn token(self) -> Option<(String, Duration)> {
        let life = self.expires_in.filter(|life| *life > 0.0).unwrap_or(LIFE).min(MAX_LIFE);
        // It goes into a header.
        let token = self.token.filter(|t| !t.is_empty()).or(self.access_token)?;
        let good = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        good.then_some((token, Duration::from_secs_f64(life)))
    }
}

/// The strongest challenge of a header that we can answer.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = None;
    for (scheme, parameters) in challenges(header) {
        if scheme.eq_ignore_ascii_case("bearer") {
            let get = |key: &str| parameters.get(key).cloned().filter(|v| !v.is_empty());
            if let Some(realm) = get("realm") {
                return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

/// `Scheme key="value", key=value, Scheme …`
fn challenges(header: &str) -> Vec<(&str, BTreeMap<String, String>)> {
    let mut found: Vec<(&str, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // The end, or something that is none of ours.
            return found;
        }
        let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            found.push((word, BTreeMap::new()));
            rest = after;
            continue;
        };
        let (value, after) = self::value(value.trim_start_matches([' ', '\t']));
        if let Some((_, parameters)) = found.last_mut() {
            parameters.insert(word.to_ascii_lowercase(), value);
        }
        rest = after;
    }
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(hub),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(parse(r#"Basic realm="Registry Realm""#), Some(Challenge::Basic));
        let both = r#"Basic realm="x", BEARER Realm = "y\"z", error=invalid"#;
        assert!(matches!(parse(both), Some(Challenge::Bearer { realm, .. }) if realm == "y\"z"));
        for none in ["", "Negotiate", "Bearer", "realm=x", "Bearer realm=\"\"", ",,,", "\"", "="] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    #[test]
    fn tokens_are_fit_for_a_header_and_live_for_a_while() {
        let read = |text: &str| serde_json::from_str::<TokenAnswer>(text).unwrap().token();
        let token = |life| Some(("t".to_owned(), Duration::from_secs(life)));
        assert_eq!(read(r#"{"token":"t"}"#), token(60));
        assert_eq!(read(r#"{"token":"","access_token":"t","expires_in":300}"#), token(300));
        assert_eq!(read(r#"{"token":"t","expires_in":-1}"#), token(60));
        assert_eq!(read(r#"{"token":"t","expires_in":1e300}"#), token(86400));
        for none in ["{}", r#"{"token":""}"#, r#"{"token":"a\r\nb"}"#, r#"{"token":"a b"}"#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_run_on(text in "[ -~é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
