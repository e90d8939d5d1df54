//! Names and passwords in addresses, which belong to their servers alone: not to progress, the history of an image, or messages.

/// What stands for a login.
const HIDDEN: &str = "***";

/// A text as others may see it: where it has an address with a login (`https://me:secret@host/…`), that is hidden. The user of
/// `ssh://git@host` is no secret, unless there is a password.
pub fn without_logins(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let ends = |c: char| matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>') || c.is_whitespace();
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = after;
        if let Some((login, _)) = authority.rsplit_once('@') {
            let is_web = before.ends_with("http://") || before.ends_with("https://");
            if is_web || login.contains(':') {
                shown.push_str(HIDDEN);
                rest = &after[login.len()..];
            }
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logins_are_hidden_and_nothing_else() {
        for (text, want) in [
            ("ADD https://me:s@cret@h/x /y", "ADD https://***@h/x /y"),
            ("ADD http://token@h:80 https://a:b@i/ /", "ADD http://***@h:80 https://***@i/ /"),
            ("ADD ssh://git@h/x.git /y", "ADD ssh://git@h/x.git /y"),
            ("ADD ssh://git:pw@h/x.git /y", "ADD ssh://***@h/x.git /y"),
            ("ADD https://h/a@b /y", "ADD https://h/a@b /y"),
            ("ADD [\"https://a:b@h\", \"/x@y\"]", "ADD [\"https://***@h\", \"/x@y\"]"),
            ("COPY a://", "COPY a://"),
        ] {
            assert_eq!(without_logins(text), want);
        }
    }

    proptest! {
        #[test]
        fn it_ends_and_changes_no_more(text in ".{0,30}(https?://)?.{0,30}") {
            let once = without_logins(&text);
            prop_assert!(text.contains("://") || once == text);
        }
    }
}
