//! Names of containers: what may be one, and invented ones for those who give none.

use base::{Failure, Kind};

/// As long as a name may be: the file of its claim, with the id before it while it is made, must fit into
/// the 255 bytes of a file name.
const MAX: usize = 128;

/// How a sea or a ship may be.
const ADJECTIVES: [&str; 64] = [
    "amber", "ample", "bold", "breezy", "bright", "brisk", "calm", "candid", "clear", "coastal", "cosmic",
    "crisp", "curious", "deft", "distant", "eager", "early", "earnest", "even", "fair", "fleet", "fond",
    "frank", "free", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "jolly", "keen",
    "kind", "lively", "loyal", "lucid", "lunar", "mellow", "merry", "mild", "modest", "neat", "nimble",
    "noble", "open", "patient", "placid", "plucky", "polar", "proud", "quick", "quiet", "rapid", "ready",
    "salty", "serene", "silver", "steady", "sunny", "swift", "tidal", "vivid", "windy",
];

/// People of sea, stars, machines and numbers.
const SURNAMES: [&str; 64] = [
    "abel",
    "amundsen",
    "anning",
    "archimedes",
    "babbage",
    "banneker",
    "bell",
    "bering",
    "boole",
    "bowditch",
    "cabot",
    "carson",
    "chang",
    "cook",
    "cousteau",
    "curie",
    "dampier",
    "dias",
    "dijkstra",
    "earle",
    "eratosthenes",
    "euler",
    "faraday",
    "fermat",
    "franklin",
    "gama",
    "galileo",
    "gauss",
    "germain",
    "hadley",
    "halley",
    "hamilton",
    "harrison",
    "herschel",
    "hopper",
    "hudson",
    "hypatia",
    "ibnmajid",
    "jansz",
    "kepler",
    "khwarizmi",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "magellan",
    "maury",
    "meitner",
    "mercator",
    "nansen",
    "noether",
    "polo",
    "ptolemy",
    "ramanujan",
    "ride",
    "shackleton",
    "shannon",
    "slocum",
    "tasman",
    "tereshkova",
    "turing",
    "urdaneta",
    "vespucci",
    "zheng",
];

/// An invented name. `seed` chooses it (bytes of the random id will do); from the `attempt`th try on a
/// number makes it rarer.
pub(crate) fn invent(seed: [u8; 3], attempt: u32) -> String {
    let adjective = ADJECTIVES[usize::from(seed[0]) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(seed[1]) % SURNAMES.len()];
    match attempt {
        0..3 => format!("{adjective}_{surname}"),
        3..10 => format!("{adjective}_{surname}{}", seed[2] % 100),
        _ => format!("{adjective}_{surname}{}{}", seed[2], attempt),
    }
}

/// Why a text cannot be a container's name.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid container name `{0}`: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, from 2 to {MAX} characters"
)]
pub(crate) struct InvalidName(String);

impl Failure for InvalidName {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Docker's rule, with an upper bound.
pub(crate) fn check(name: &str) -> Result<(), InvalidName> {
    let mut bytes = name.bytes();
    let good = (2..=MAX).contains(&name.len())
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if good { Ok(()) } else { Err(InvalidName(name.chars().take(MAX).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_names_are_names() {
        for seed in 0..=255 {
            for attempt in [0, 5, 20] {
                check(&invent([seed, seed.wrapping_mul(7), seed], attempt)).unwrap();
            }
        }
        assert!(SURNAMES.iter().all(|n| SURNAMES.iter().filter(|m| m == &n).count() == 1));
        assert!(ADJECTIVES.iter().all(|n| ADJECTIVES.iter().filter(|m| m == &n).count() == 1));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "a", "-x", ".x", "a/b", "a b", "../x", "é1", &"a".repeat(MAX + 1)] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in ["ab", "web-1", "A_b.c", "1x"] {
            check(good).unwrap();
        }
    }
}
