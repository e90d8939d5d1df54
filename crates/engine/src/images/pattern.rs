//! Patterns of references, as `--filter reference=` and `keep` of `config.toml` have them.

/// Whether a pattern means this name in familiar form (`repository:tag`; of an image without a name, nothing does).
/// A pattern without a tag means every tag.
pub fn matches_reference(pattern: &str, repository: &str, tag: &str) -> bool {
    // `a/b:c` is a tag's colon, `host:5000/b` is not.
    let has_tag = pattern.rfind(':') > pattern.rfind('/') && pattern.contains(':');
    if has_tag { glob(pattern, &format!("{repository}:{tag}")) } else { glob(pattern, repository) }
}

/// `*` and `?`, which do not match a slash (Go's path.Match without its classes).
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // The place to return to when what follows the last star does not fit.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'/' => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] && *c != b'?' => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((sp, st)) if text[st] != b'/' => {
                    star = Some((sp, st + 1));
                    (p, t) = (sp + 1, st + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "a/c", false),
            ("*b*", "abc", true),
            ("", "", true),
            ("a?", "a", false),
            ("**", "ab", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_without_a_tag_means_every_tag() {
        let matches = |pattern| matches_reference(pattern, "localhost:5000/a/web", "1");
        assert!(matches("localhost:5000/a/web") && matches("localhost:5000/*/w?b:1"));
        assert!(!matches("localhost:5000/a/web:2") && !matches("*/web") && !matches("web"));
    }
}
