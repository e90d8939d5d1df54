//! `--chmod`: octal, or as chmod(1) has it.

use ::build::graph::Mode;

use super::Error;

/// All that a mode may say: permissions, set-id bits, the sticky bit.
const ALL: u32 = 0o7777;

/// A `--chmod`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    Set(u32),
    Change(Vec<Clause>),
}

/// `ug+rw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// The bits of those whom it is about.
    who: u32,
    operation: u8,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Bits of everybody, of which those of `who` count; and `X`, which counts for directories, and for what somebody may execute.
    Bits { bits: u32, execute_some: bool },
    /// What these have now: a shift.
    Copy(u32),
}

impl Chmod {
    pub(super) fn of(mode: &Mode) -> Result<Self, Error> {
        match mode {
            Mode::Octal(bits) => Ok(Self::Set(bits & ALL)),
            Mode::Symbolic(text) => {
                parse(text).map(Self::Change).ok_or_else(|| Error::Mode(text.chars().take(100).collect()))
            }
        }
    }

    /// The mode that a file of this mode gets.
    pub(super) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Set(bits) => *bits,
            Self::Change(clauses) => {
                clauses.iter().fold(mode & ALL, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = match self.what {
            What::Bits { bits, execute_some } => {
                let some = execute_some && (is_directory || mode & 0o111 != 0);
                bits | if some { 0o111 } else { 0 }
            }
            What::Copy(shift) => {
                let had = mode >> shift & 0o7;
                had << 6 | had << 3 | had
            }
        };
        let bits = bits & self.who;
        match self.operation {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            // A directory keeps its set-id bits where they are not spoken of, as with chmod(1).
            _ if is_directory => mode & !(self.who & !0o6000) | bits,
            _ => mode & !self.who | bits,
        }
    }
}

fn parse(text: &str) -> Option<Vec<Clause>> {
    let mut clauses = Vec::new();
    for part in text.split(',') {
        let part = part.as_bytes();
        let end = part.iter().position(|byte| !b"ugoa".contains(byte))?;
        let who = part[..end].iter().fold(0, |who, byte| who | bits_of(*byte));
        // Nobody named is everybody: the umask is the image's business, and it has none.
        let who = if end == 0 { ALL } else { who };
        let mut rest = &part[end..];
        while let Some((&operation, after)) = rest.split_first() {
            if !b"+-=".contains(&operation) {
                return None;
            }
            let end = after.iter().position(|byte| b"+-=".contains(byte)).unwrap_or(after.len());
            clauses.push(Clause { who, operation, what: what(&after[..end])? });
            rest = &after[end..];
        }
    }
    Some(clauses)
}

/// The bits that are about these.
fn bits_of(who: u8) -> u32 {
    match who {
        b'u' => 0o4700,
        b'g' => 0o2070,
        b'o' => 0o1007,
        _ => ALL,
    }
}

fn what(text: &[u8]) -> Option<What> {
    match text {
        b"u" => return Some(What::Copy(6)),
        b"g" => return Some(What::Copy(3)),
        b"o" => return Some(What::Copy(0)),
        _ => {}
    }
    let (mut bits, mut execute_some) = (0, false);
    for byte in text {
        match byte {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b's' => bits |= 0o6000,
            b't' => bits |= 0o1000,
            b'X' => execute_some = true,
            _ => return None,
        }
    }
    Some(What::Bits { bits, execute_some })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, mode: u32, is_directory: bool) -> u32 {
        Chmod::of(&Mode::Symbolic(text.to_owned())).unwrap().apply(mode, is_directory)
    }

    #[test]
    fn modes_change_as_with_chmod() {
        for (text, mode, is_directory, want) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o777, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o755, true, 0o1755),
            ("u=rw", 0o4755, false, 0o655),
            ("u=rwx", 0o4755, true, 0o4755),
            ("u+x-w", 0o644, false, 0o544),
            ("g+X", 0o644, false, 0o644),
        ] {
            assert_eq!(changed(text, mode, is_directory), want, "{text} {mode:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "u", "rw", "u+q", "z+r", "u+r,", "u=ug", ",u+r"] {
            assert!(Chmod::of(&Mode::Symbolic(text.to_owned())).is_err(), "{text}");
        }
        assert_eq!(Chmod::of(&Mode::Octal(0o10_4755)).unwrap().apply(0, false), 0o4755);
    }
}
