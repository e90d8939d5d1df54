//! Mount options: the words of fstab, as config.md lists them ("Linux mount options"), become attributes, propagation
//! and file system parameters.
//!
//! What is in no table here is the file system's own and goes to it as a parameter (`size=64m`, `hidepid=2`).

use std::ffi::CString;

use sys::mount::{attributes as a, propagation as p};

use super::{PlanError, c_string};

/// What one option means.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// Accepted, and without an effect: the default; what only the kernel's log or mount(8) knows; and `iversion`,
    /// which is no flag of the new mount API: file systems that count changes do so by themselves.
    Nothing,
    Bind {
        recursive: bool,
    },
    Remount,
    /// Of the mount itself: attributes to set, to clear.
    Own(u64, u64),
    /// Of the mount and all below it.
    All(u64, u64),
    Propagation {
        kind: u64,
        recursive: bool,
    },
    /// Of the superblock: the kernel takes it as a parameter of every file system. A bind mount does not make one.
    Superblock,
    CopyUp,
    MapIds {
        recursive: bool,
    },
}

use Effect::{All, Bind, CopyUp, MapIds, Nothing, Own, Propagation, Remount, Superblock};

const fn spread(kind: u64, recursive: bool) -> Effect {
    Propagation { kind, recursive }
}

/// Every option that is ours to understand, sorted.
const TABLE: &[(&str, Effect)] = &[
    ("async", Superblock),
    ("atime", Own(0, a::ATIME_MASK)),
    ("bind", Bind { recursive: false }),
    ("defaults", Nothing),
    ("dev", Own(0, a::NODEV)),
    ("diratime", Own(0, a::NODIRATIME)),
    ("dirsync", Superblock),
    ("exec", Own(0, a::NOEXEC)),
    ("idmap", MapIds { recursive: false }),
    ("iversion", Nothing),
    ("lazytime", Superblock),
    ("loud", Nothing),
    ("mand", Superblock),
    ("noatime", Own(a::NOATIME, a::ATIME_MASK)),
    ("nodev", Own(a::NODEV, 0)),
    ("nodiratime", Own(a::NODIRATIME, 0)),
    ("noexec", Own(a::NOEXEC, 0)),
    ("noiversion", Nothing),
    ("nolazytime", Superblock),
    ("nomand", Superblock),
    ("norelatime", Nothing),
    ("nostrictatime", Own(0, a::ATIME_MASK)),
    ("nosuid", Own(a::NOSUID, 0)),
    ("nosymfollow", Own(a::NOSYMFOLLOW, 0)),
    ("private", spread(p::PRIVATE, false)),
    ("ratime", All(0, a::ATIME_MASK)),
    ("rbind", Bind { recursive: true }),
    ("rdev", All(0, a::NODEV)),
    ("rdiratime", All(0, a::NODIRATIME)),
    ("relatime", Own(0, a::ATIME_MASK)),
    ("remount", Remount),
    ("rexec", All(0, a::NOEXEC)),
    ("ridmap", MapIds { recursive: true }),
    ("rnoatime", All(a::NOATIME, a::ATIME_MASK)),
    ("rnodev", All(a::NODEV, 0)),
    ("rnodiratime", All(a::NODIRATIME, 0)),
    ("rnoexec", All(a::NOEXEC, 0)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", All(0, a::ATIME_MASK)),
    ("rnosuid", All(a::NOSUID, 0)),
    ("rnosymfollow", All(a::NOSYMFOLLOW, 0)),
    ("ro", Own(a::RDONLY, 0)),
    ("rprivate", spread(p::PRIVATE, true)),
    ("rrelatime", All(0, a::ATIME_MASK)),
    ("rro", All(a::RDONLY, 0)),
    ("rrw", All(0, a::RDONLY)),
    ("rshared", spread(p::SHARED, true)),
    ("rslave", spread(p::SLAVE, true)),
    ("rstrictatime", All(a::STRICTATIME, a::ATIME_MASK)),
    ("rsuid", All(0, a::NOSUID)),
    ("rsymfollow", All(0, a::NOSYMFOLLOW)),
    ("runbindable", spread(p::UNBINDABLE, true)),
    ("rw", Own(0, a::RDONLY)),
    ("shared", spread(p::SHARED, false)),
    ("silent", Nothing),
    ("slave", spread(p::SLAVE, false)),
    ("strictatime", Own(a::STRICTATIME, a::ATIME_MASK)),
    ("suid", Own(0, a::NOSUID)),
    ("symfollow", Own(0, a::NOSYMFOLLOW)),
    ("sync", Superblock),
    ("tmpcopyup", CopyUp),
    ("unbindable", spread(p::UNBINDABLE, false)),
];

/// The options that every mount may have, for `features`.
pub fn mount_options() -> &'static [&'static str] {
    &NAMES
}

const NAMES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut n = 0;
    while n < names.len() {
        names[n] = TABLE[n].0;
        n += 1;
    }
    names
};

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Attributes {
    /// The later of two that contradict each other wins, as with mount(8).
    pub(super) fn and_then(self, set: u64, clear: u64) -> Self {
        Self { set: self.set & !clear | set, clear: self.clear & !set | clear }
    }

    /// True where nothing is asked for.
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Key and value of what goes to a file system.
pub(super) type Parameters = Vec<(CString, Option<CString>)>;

/// The options of one mount, understood.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) bind: bool,
    /// Of a bind: with all mounts below.
    pub(super) recursive: bool,
    pub(super) remount: bool,
    pub(super) copy_up: bool,
    /// Mapped ids are asked for, of all mounts below too or not.
    pub(super) map_ids: Option<bool>,
    /// Of the mount itself.
    pub(super) own: Attributes,
    /// Of the mount and all below it.
    pub(super) all: Attributes,
    /// Kind and recursion, in order.
    pub(super) propagation: Vec<(u64, bool)>,
    /// What the superblock is told, whatever the file system.
    pub(super) superblock: Vec<&'static str>,
    /// The file system's own.
    pub(super) parameters: Parameters,
}

impl Options {
    pub(super) fn parse(list: &[String]) -> Result<Self, PlanError> {
        let mut options = Self::default();
        for option in list {
            let known = TABLE.binary_search_by_key(&&**option, |(name, _)| name).ok();
            match known.and_then(|n| TABLE.get(n)) {
                Some((name, effect)) => options.take(name, *effect),
                // Notes that people and programs leave in fstab (mount(8), "x-*").
                None if option.starts_with("x-") || option.starts_with("X-") => {}
                None if option == "comment" || option.starts_with("comment=") => {}
                None if option.is_empty() => {}
                None => options.parameters.push(parameter(option)?),
            }
        }
        Ok(options)
    }

    fn take(&mut self, name: &'static str, effect: Effect) {
        match effect {
            Nothing => {}
            Bind { recursive } => {
                self.bind = true;
                self.recursive |= recursive;
            }
            Remount => self.remount = true,
            Own(set, clear) => self.own = self.own.and_then(set, clear),
            All(set, clear) => self.all = self.all.and_then(set, clear),
            Propagation { kind, recursive } => self.propagation.push((kind, recursive)),
            Superblock => self.superblock.push(name),
            CopyUp => self.copy_up = true,
            MapIds { recursive } => self.map_ids = Some(self.map_ids == Some(true) || recursive),
        }
    }

    /// What a mount with no others below it gets.
    pub(super) fn attributes(&self) -> Attributes {
        self.own.and_then(self.all.set, self.all.clear)
    }
}

fn parameter(option: &str) -> Result<(CString, Option<CString>), PlanError> {
    Ok(match option.split_once('=') {
        Some((key, value)) => (c_string("mount option", key)?, Some(c_string("mount option", value)?)),
        None => (c_string("mount option", option)?, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Options {
        Options::parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_table_is_sorted_and_has_what_the_specification_lists() {
        assert!(mount_options().is_sorted());
        for option in "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
            ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime \
            rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
            rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable \
            idmap ridmap"
            .split_ascii_whitespace()
        {
            assert!(mount_options().contains(&option), "{option}");
        }
    }

    #[test]
    fn the_last_of_contradicting_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).own, Attributes { set: 0, clear: a::RDONLY });
        assert_eq!(parse(&["rw", "ro", "nosuid"]).own.set, a::RDONLY | a::NOSUID);
        let times = parse(&["noatime", "strictatime"]).own;
        // The kernel wants the whole mask cleared before one of its values is set.
        assert_eq!(times, Attributes { set: a::STRICTATIME, clear: a::ATIME_MASK });
    }

    #[test]
    fn propagation_is_kept_in_order_and_recursion_is_told_apart() {
        let options = parse(&["rslave", "shared", "rro", "ro"]);
        assert_eq!(options.propagation, [(p::SLAVE, true), (p::SHARED, false)]);
        assert_eq!((options.own.set, options.all.set), (a::RDONLY, a::RDONLY));
        assert_eq!(parse(&["idmap"]).map_ids, Some(false));
        assert_eq!(parse(&["ridmap", "idmap"]).map_ids, Some(true));
    }

    #[test]
    fn what_is_no_flag_is_a_parameter_and_notes_are_nothing() {
        let options =
            parse(&["size=64m", "mode=1777", "newinstance", "x-note=1", "comment=a", "X-y", "silent"]);
        assert_eq!(options.parameters.len(), 3);
        assert_eq!(options.parameters[2], (c"newinstance".to_owned(), None));
        assert!(Options::parse(&["a\0b".to_owned()]).is_err());
    }
}
