//! Capabilities: names, bits, Docker's default set, and the algebra of `--cap-add` and `--cap-drop`.

use std::collections::BTreeSet;
use std::fmt;

use base::{Failure, Kind};

/// The names without `CAP_`, in the order of the kernel's numbers (include/uapi/linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit each, as the kernel numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(u64);

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl std::ops::BitOr for Set {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Set {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// All that we have names for.
    pub const KNOWN: Self = Self((1 << NAMES.len()) - 1);

    /// What a container gets unless it is told otherwise: Docker's 14.
    pub const DEFAULT: Self = Self::of(&[
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    ]);

    /// A set of names known at compile time; a wrong one does not compile where the result is a constant.
    pub(crate) const fn of(names: &[&str]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < names.len() {
            bits |= 1 << position(names[at]);
            at += 1;
        }
        Self(bits)
    }

    /// The set with exactly these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What the specification calls them: `CAP_CHOWN`, …, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        let has = |bit: usize| self.0 & (1 << bit) != 0;
        NAMES.iter().enumerate().filter(|(bit, _)| has(*bit)).map(|(_, n)| format!("CAP_{n}")).collect()
    }

    /// The set with these names, with or without `CAP_`, in any case.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self, Error> {
        names.iter().try_fold(Self::EMPTY, |set, name| Ok(set | one(name.as_ref())?))
    }

    /// True where every capability of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in this set and not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Docker's default set of 14, less what this machine cannot give.
    pub fn default_set() -> Self {
        Self::DEFAULT.and(Self::all())
    }

    /// All that can be given here: what the running kernel knows and this process holds. Nobody can hand
    /// on more, and inside another engine's container, or with a trimmed bounding set, root holds less.
    pub fn all() -> Self {
        match rustix::thread::capabilities(None) {
            Ok(sets) => Self(sets.permitted.bits()).and(Self::KNOWN),
            // It fails for other processes alone.
            Err(_) => Self::KNOWN,
        }
    }

    /// What `--cap-add` and `--cap-drop` make of the default set.
    pub fn chosen(add: &[String], drop: &[String]) -> Result<Self, Error> {
        choose(add, drop, Self::all())
    }
}

/// Docker's algebra: adding `ALL` gives everything but what is dropped by name; else dropping `ALL` leaves
/// what is added; else the default loses what is dropped and gains what is added.
fn choose(add: &[String], drop: &[String], available: Set) -> Result<Set, Error> {
    let all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let named = |names: &[String]| {
        let names: Vec<_> = names.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")).collect();
        Set::from_names(&names)
    };
    let (added, dropped) = (named(add)?, named(drop)?);
    if let Some(name) = added.without(available).names().into_iter().next() {
        return Err(Error::Unavailable { name });
    }
    Ok(if all(add) {
        available.without(dropped)
    } else if all(drop) {
        added
    } else {
        Set::DEFAULT.and(available).without(dropped) | added
    })
}

/// The names of all that we know, as the specification has them, in the kernel's order.
pub fn names() -> Vec<String> {
    Set::KNOWN.names()
}

/// The five sets of a process, as far as they can be granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: Set,
    pub(crate) permitted: Set,
    pub(crate) effective: Set,
    pub(crate) inheritable: Set,
    pub(crate) ambient: Set,
}

/// What of the specification's five sets can be granted by a process that holds `available`, and a warning for
/// whatever cannot: names that nobody knows, what we do not hold ourselves, and what the kernel leaves out of a set
/// because it is missing in another (capset(2), prctl(2)). The specification wants warnings here, and no failure.
pub(crate) fn grant(wanted: &oci::runtime::Capabilities, available: Set) -> (Sets, Vec<String>) {
    let mut warnings = Vec::new();
    let mut unknown = BTreeSet::new();
    let mut named = |names: &[String]| {
        names.iter().fold(Set::EMPTY, |set, name| {
            if let Some(bit) = bit_of(name) {
                return set | Set(1 << bit);
            }
            unknown.insert(name.clone());
            set
        })
    };
    let asked = Sets {
        bounding: named(&wanted.bounding),
        permitted: named(&wanted.permitted),
        effective: named(&wanted.effective),
        inheritable: named(&wanted.inheritable),
        ambient: named(&wanted.ambient),
    };
    for name in unknown {
        warnings.push(format!("ignoring the unknown capability {name:?}"));
    }
    let all = asked.bounding | asked.permitted | asked.effective | asked.inheritable | asked.ambient;
    let missing = all.without(available);
    if missing != Set::EMPTY {
        let names = missing.names().join(", ");
        warnings.push(format!("ignoring capabilities that this process does not have itself: {names}"));
    }
    let mut within = |what: &str, set: Set, limit: Set, of: &str| {
        let set = set.and(available);
        let missing = set.without(limit);
        if missing != Set::EMPTY {
            let names = missing.names().join(", ");
            warnings.push(format!("ignoring {what} capabilities that are not {of} too: {names}"));
        }
        set.and(limit)
    };
    let bounding = asked.bounding.and(available);
    let permitted = asked.permitted.and(available);
    let effective = within("effective", asked.effective, permitted, "permitted");
    let inheritable = within("inheritable", asked.inheritable, bounding, "bounding");
    let both = permitted.and(inheritable);
    let ambient = within("ambient", asked.ambient, both, "permitted and inheritable");
    (Sets { bounding, permitted, effective, inheritable, ambient }, warnings)
}

fn bit_of(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare)
}

fn one(name: &str) -> Result<Set, Error> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match NAMES.iter().position(|n| *n == bare) {
        Some(bit) => Ok(Set(1 << bit)),
        None => Err(Error::Unknown { name: name.to_owned(), near: near(bare) }),
    }
}

/// Names that were perhaps meant: a letter or two away, or containing what was written.
fn near(wanted: &str) -> Vec<&'static str> {
    // A bound on work for absurd input; no name is longer.
    if wanted.is_empty() || wanted.len() > 24 {
        return Vec::new();
    }
    let mut found: Vec<_> = NAMES
        .iter()
        .map(|name| (distance(wanted.as_bytes(), name.as_bytes()), *name))
        .filter(|(distance, name)| *distance <= 2 || (wanted.len() > 2 && name.contains(wanted)))
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const fn position(name: &str) -> usize {
    let mut at = 0;
    while at < NAMES.len() {
        if equal(NAMES[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no such capability")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A capability that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of this name.
    #[error("there is no capability {name:?}")]
    Unknown {
        /// As it was written.
        name: String,
        /// Similar names.
        near: Vec<&'static str>,
    },
    /// The kernel does not know it, or this process does not hold it.
    #[error("{name} cannot be given: this kernel does not know it, or we do not hold it ourselves")]
    Unavailable {
        /// The specification's name.
        name: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::Invalid,
            Self::Unavailable { .. } => Kind::Unsupported,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { near, .. } if !near.is_empty() => {
                vec![format!("did you mean {}?", near.join(", "))]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_cannot_be_granted_is_told_and_left_out() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let wanted = oci::runtime::Capabilities {
            bounding: list(&["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_DANCE"]),
            permitted: list(&["CAP_CHOWN", "CAP_DANCE"]),
            effective: list(&["CAP_CHOWN", "CAP_KILL"]),
            inheritable: list(&["CAP_CHOWN", "CAP_KILL", "CAP_FOWNER"]),
            ambient: list(&["CAP_CHOWN", "CAP_KILL"]),
        };
        let (sets, warnings) = grant(&wanted, Set::KNOWN.without(Set::of(&["SYS_ADMIN"])));
        let of = |names: &[&str]| Set::from_names(names).unwrap();
        assert_eq!(sets.bounding, of(&["CHOWN", "KILL"]));
        assert_eq!((sets.permitted, sets.effective), (of(&["CHOWN"]), of(&["CHOWN"])));
        assert_eq!((sets.inheritable, sets.ambient), (of(&["CHOWN", "KILL"]), of(&["CHOWN"])));
        for (n, part) in ["\"CAP_DANCE\"", "itself: CAP_SYS_ADMIN", "effective", "inheritable", "ambient"]
            .iter()
            .enumerate()
        {
            assert!(warnings[n].contains(part), "{warnings:?}");
        }
        assert_eq!(warnings.len(), 5);
        let (sets, warnings) = grant(&oci::runtime::Capabilities::default(), Set::EMPTY);
        assert_eq!((sets, warnings), (Sets::default(), vec![]));
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(Set::of(&["CHOWN"]).bits(), 1);
        assert_eq!(Set::of(&["NET_RAW"]).bits(), 1 << 13);
        assert_eq!(Set::of(&["SYS_ADMIN"]).bits(), 1 << 21);
        assert_eq!(Set::of(&["CHECKPOINT_RESTORE"]).bits(), 1 << 40);
        // What a Docker container's /proc/self/status has shown for years.
        assert_eq!(Set::DEFAULT.bits(), 0xa804_25fb);
    }

    #[test]
    fn names_go_both_ways_in_any_spelling() {
        let set = Set::from_names(&["cap_net_admin", "SYS_TIME", "CAP_BPF"]).unwrap();
        assert_eq!(set.names(), ["CAP_NET_ADMIN", "CAP_SYS_TIME", "CAP_BPF"]);
        assert_eq!(Set::from_names(&Set::KNOWN.names()).unwrap(), Set::KNOWN);
    }

    #[test]
    fn the_algebra_is_dockers() {
        let choose =
            |add: &[&str], drop: &[&str]| super::choose(&strings(add), &strings(drop), Set::KNOWN).unwrap();
        assert_eq!(choose(&[], &[]), Set::DEFAULT);
        assert_eq!(choose(&["ALL"], &[]), Set::KNOWN);
        assert_eq!(choose(&["all"], &["CAP_SYS_ADMIN"]), Set::KNOWN.without(Set::of(&["SYS_ADMIN"])));
        assert_eq!(choose(&[], &["all"]), Set::EMPTY);
        assert_eq!(choose(&["chown"], &["ALL"]), Set::of(&["CHOWN"]));
        assert_eq!(choose(&["ALL"], &["ALL"]), Set::KNOWN);
        assert_eq!(choose(&["SYS_TIME"], &["CHOWN"]).bits(), Set::DEFAULT.bits() & !1 | 1 << 25);
        // Added wins over dropped, as Docker has it.
        assert!(choose(&["CHOWN"], &["CHOWN"]).contains(Set::of(&["CHOWN"])));
    }

    #[test]
    fn what_is_missing_here_is_an_error_where_it_is_asked_for_alone() {
        let available = Set::KNOWN.without(Set::of(&["SYS_RESOURCE", "MKNOD"]));
        let error = choose(&strings(&["SYS_RESOURCE"]), &[], available).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }));
        assert!(!choose(&[], &[], available).unwrap().contains(Set::of(&["MKNOD"])));
        assert_eq!(choose(&strings(&["ALL"]), &[], available).unwrap(), available);
    }

    #[test]
    fn a_wrong_name_suggests_the_right_one() {
        let hints = |name: &str| Set::from_names(&[name]).unwrap_err().hints().join("");
        assert_eq!(hints("SYS_ADMN"), "did you mean SYS_ADMIN?");
        assert_eq!(hints("cap_net_amdin"), "did you mean NET_ADMIN?");
        assert!(hints("RAW").contains("NET_RAW"));
        assert_eq!(hints(&"x".repeat(100_000)), "");
    }

    #[test]
    fn this_process_holds_something() {
        assert!(Set::KNOWN.contains(Set::all()));
    }
}
