//! Names in archives: allegations, until they are shown to lie inside.

use std::fmt;

/// The start of a whiteout's name (OCI image specification, layer.md).
const WHITEOUT: &[u8] = b".wh.";
/// The name that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The start of AUFS's own files, which were never part of an image's content.
const AUFS: &[u8] = b".wh..wh.";

/// A path inside a layer: components joined by single slashes, none of them empty, `.` or `..`, no leading
/// slash, no zero byte. Empty for the layer's root.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Name(Vec<u8>);

/// Why a name is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadName {
    /// `..` could only lead out of the layer, or be a needless way to say something else.
    #[error("it contains `..`")]
    Parent,
    /// No file system takes it.
    #[error("it contains a zero byte")]
    Zero,
    /// A whiteout of nothing, or of `.` or `..`.
    #[error("it is a whiteout of nothing that could be there")]
    Whiteout,
    /// Something below a whiteout.
    #[error("it lies below a whiteout")]
    BelowWhiteout,
    /// The root of the layer stands for something else than a directory.
    #[error("it is the root of the layer, which can only be a directory")]
    Root,
}

/// What an entry's name means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A file of the layer.
    File(Name),
    /// This file of the layers below is hidden.
    Whiteout(Name),
    /// All that the layers below have in this directory is hidden.
    Opaque(Name),
    /// Nothing: metadata of a file system of the past.
    Nothing,
}

impl Name {
    /// Normalises a path from an archive: leading, trailing and double slashes and `.` mean nothing.
    pub(crate) fn new(raw: &[u8]) -> Result<Self, BadName> {
        let mut name = Vec::with_capacity(raw.len());
        for component in raw.split(|&b| b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(BadName::Parent),
                _ if component.contains(&0) => return Err(BadName::Zero),
                _ => {}
            }
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(component);
        }
        Ok(Self(name))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parent and the last component; `None` for the root.
    pub(crate) fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        let (parent, last) = match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[][..], &self.0[..]),
        };
        Some((Self(parent.to_vec()), last))
    }

    /// What lies before `end`, which is 0, the length, or the place of a slash.
    pub(crate) fn prefix(&self, end: usize) -> Self {
        Self(self.0[..end].to_vec())
    }

    fn child(&self, last: &[u8]) -> Self {
        let mut name = self.0.clone();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(last);
        Self(name)
    }
}

impl Meaning {
    /// What the name of an entry means, by layer.md.
    pub(crate) fn of(raw: &[u8]) -> Result<Self, BadName> {
        let name = Name::new(raw)?;
        let Some((parent, last)) = name.split() else { return Ok(Self::File(name)) };
        if let Some(above) = parent.0.split(|&b| b == b'/').find(|part| part.starts_with(WHITEOUT)) {
            // AUFS kept its hard links in a directory `.wh..wh.plnk`.
            return if above.starts_with(AUFS) { Ok(Self::Nothing) } else { Err(BadName::BelowWhiteout) };
        }
        match last.strip_prefix(WHITEOUT) {
            None => Ok(Self::File(name)),
            Some(_) if last == OPAQUE => Ok(Self::Opaque(parent)),
            Some(_) if last.starts_with(AUFS) => Ok(Self::Nothing),
            Some(b"" | b"." | b"..") => Err(BadName::Whiteout),
            Some(hidden) => Ok(Self::Whiteout(parent.child(hidden))),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// A name from outside as a message may show it: no control characters, and not without end.
pub(crate) fn shown(raw: &[u8]) -> String {
    const MOST: usize = 200;
    let text: String = String::from_utf8_lossy(&raw[..raw.len().min(4 * MOST)]).escape_debug().collect();
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_normalised_or_refused() {
        for (raw, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("./", ""),
            ("/", ""),
            ("...", "..."),
        ] {
            assert_eq!(name(raw).as_bytes(), want.as_bytes());
        }
        for raw in ["..", "../a", "a/../b", "a/..", "/.."] {
            assert_eq!(Name::new(raw.as_bytes()), Err(BadName::Parent), "{raw}");
        }
        assert_eq!(Name::new(b"a\0b"), Err(BadName::Zero));
    }

    #[test]
    fn whiteouts_mean_what_the_specification_says() {
        let of = |text: &str| Meaning::of(text.as_bytes());
        assert_eq!(of("a/.wh.b"), Ok(Meaning::Whiteout(name("a/b"))));
        assert_eq!(of(".wh.b"), Ok(Meaning::Whiteout(name("b"))));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Meaning::Opaque(name("a"))));
        assert_eq!(of(".wh..wh..opq"), Ok(Meaning::Opaque(name(""))));
        assert_eq!(of(".wh..wh.aufs"), Ok(Meaning::Nothing));
        assert_eq!(of(".wh..wh.plnk/1.2"), Ok(Meaning::Nothing));
        assert_eq!(of("a/.whb"), Ok(Meaning::File(name("a/.whb"))));
        for raw in [".wh.", ".wh..", "a/.wh..."] {
            assert_eq!(of(raw), Err(BadName::Whiteout), "{raw}");
        }
        assert_eq!(of(".wh.a/b"), Err(BadName::BelowWhiteout));
        assert_eq!(of("../.wh.a"), Err(BadName::Parent));
    }

    proptest! {
        #[test]
        fn a_name_never_leads_out(raw in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(0u8), Just(b'a'), any::<u8>()], 0..64)) {
            if let Ok(Meaning::File(name) | Meaning::Whiteout(name) | Meaning::Opaque(name)) = Meaning::of(&raw) {
                prop_assert!(!name.as_bytes().contains(&0));
                if !name.is_root() {
                    for part in name.as_bytes().split(|&b| b == b'/') {
                        prop_assert!(!matches!(part, b"" | b"." | b".."));
                    }
                }
                // Normalising twice changes nothing.
                prop_assert_eq!(Name::new(name.as_bytes()).unwrap(), name);
            }
        }

        #[test]
        fn shown_names_are_short_and_harmless(raw in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let text = shown(&raw);
            prop_assert!(text.chars().count() <= 201);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
