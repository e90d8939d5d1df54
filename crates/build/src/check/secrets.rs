//! Names of variables that sound like secrets.

/// Whether a name has a word, between `_`, that secrets are called by, and none that says otherwise.
pub(crate) fn looks_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::looks_secret;

    #[test]
    fn names_are_judged_by_their_words() {
        for name in ["API_KEY", "github_token", "AUTH", "secret_MESSAGE", "DATABASE_PASSWORD"] {
            assert!(looks_secret(name), "{name}");
        }
        for name in ["MONKEY", "KEYBOARD", "PUBLIC_KEY", "TOKEN_FILE", "auth_version", "AUTHOR", "a.key"] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
