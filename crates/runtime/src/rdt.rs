//! Intel's Resource Director Technology, through the resctrl file system (config-linux.md, "IntelRdt"): which share of
//! the caches and of the memory's bandwidth a container's processes get.
//!
//! ```text
//!   /sys/fs/resctrl/            the default class of service
//!     schemata, tasks
//!     <class>/                  another one: `closID`, or the container's id
//!       schemata, tasks
//!       mon_groups/<id>/        with `enableMonitoring`: what this container uses of its class
//!         tasks
//! ```
//!
//! The parent does it between clone and Go ([`Plan::apply`]): what the process starts later is in its class. A class that
//! was named is not ours, even where we made it: others are in it by then. The one with the container's id goes with
//! the container ([`Plan::remove`]); the plan can be written down until then.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base::fs::At as _;
use base::{Failure, Kind};
use oci::runtime::IntelRdt;
use serde::{Deserialize, Serialize};

/// What is to be done in resctrl for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// The class's directory.
    class: PathBuf,
    kind: Class,
    /// Lines for its `schemata`.
    schemata: Vec<String>,
    /// The monitoring group's directory.
    monitoring: Option<PathBuf>,
}

/// Whose a class of service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Class {
    /// The container's own: it is made, and removed.
    Own,
    /// A named one.
    Named,
}

/// Resctrl cannot do what is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none.
    #[error("the specification asks for Intel RDT, but no resctrl file system is mounted")]
    NotMounted,
    /// A value of the specification makes no sense.
    #[error("the specification's intelRdt is invalid: {0}")]
    Invalid(String),
    /// A class that was to be there.
    #[error("there is no class of service {}", .0.display())]
    NoClass(PathBuf),
    /// A class that is there, with other shares.
    #[error("the class of service {} exists, and has not {line:?}", class.display())]
    Differs {
        /// Its directory.
        class: PathBuf,
        /// What it was to have.
        line: String,
    },
    /// A file of resctrl.
    #[error("{error}{}", said(status))]
    File {
        /// Which, and why.
        error: base::fs::Error,
        /// The kernel's words for it.
        status: String,
    },
}

fn said(status: &str) -> String {
    if status.is_empty() { String::new() } else { format!(" (resctrl says: {status})") }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotMounted => Kind::Unsupported,
            Self::Invalid(_) | Self::NoClass(_) => Kind::Invalid,
            Self::Differs { .. } => Kind::Conflict,
            Self::File { error, .. } => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotMounted => {
                vec![
                    "mount it where the processor has it: mount -t resctrl resctrl /sys/fs/resctrl"
                        .to_owned(),
                ]
            }
            _ => Vec::new(),
        }
    }
}

/// How directories come and go; in resctrl the kernel fills and empties them.
struct Directories {
    make: fn(&Path) -> io::Result<()>,
    remove: fn(&Path) -> io::Result<()>,
}

const KERNEL: Directories =
    Directories { make: |path| std::fs::create_dir(path), remove: |path| std::fs::remove_dir(path) };

impl Plan {
    /// Plans for the container `id`.
    pub fn new(wanted: &IntelRdt, id: &str) -> Result<Self, Error> {
        let mounts = base::fs::read(Path::new("/proc/self/mountinfo"))
            .map_err(|error| Error::File { error, status: String::new() })?;
        let root = mountpoint(&String::from_utf8_lossy(&mounts)).ok_or(Error::NotMounted)?;
        Self::within(root, wanted, id)
    }

    fn within(root: PathBuf, wanted: &IntelRdt, id: &str) -> Result<Self, Error> {
        let id = name("the container's id", id)?;
        let schemata = schemata(wanted)?;
        let (class, kind) = match wanted.clos_id.as_deref() {
            None | Some("") => (root.join(id), Class::Own),
            // The default class.
            Some("/") => (root.clone(), Class::Named),
            Some(class) => (root.join(name("closID", class)?), Class::Named),
        };
        let monitoring = wanted.enable_monitoring.then(|| class.join("mon_groups").join(id));
        Ok(Self { root, class, kind, schemata, monitoring })
    }

    /// Puts the process `pid`, and with it all that it starts, into the class. What was made is undone where this fails.
    pub fn apply(&self, pid: u32) -> Result<(), Error> {
        self.apply_with(pid, &KERNEL)
    }

    /// Removes what belongs to the container alone; fine where it is gone already. Its processes have ended.
    pub fn remove(&self) -> Result<(), Error> {
        self.remove_with(&KERNEL)
    }

    fn apply_with(&self, pid: u32, directories: &Directories) -> Result<(), Error> {
        let made = self.enter_class(directories)?;
        let joined = self.join(pid, directories);
        if joined.is_err() && made {
            // The cause is being reported.
            (directories.remove)(&self.class).ok();
        }
        joined
    }

    /// Makes sure that the class is there, and as it is wanted. True where it had to be made.
    fn enter_class(&self, directories: &Directories) -> Result<bool, Error> {
        let exists = self.class.join("schemata").exists();
        if exists && self.kind == Class::Named {
            return self.compare().map(|()| false);
        }
        if self.kind == Class::Named && self.schemata.is_empty() {
            return Err(Error::NoClass(self.class.clone()));
        }
        if !exists {
            (directories.make)(&self.class)
                .at("make the class of service", &self.class)
                .map_err(|error| self.failed(error))?;
        }
        if !self.schemata.is_empty() {
            // In one write: two shares may only be possible together.
            let text = self.schemata.join("\n") + "\n";
            if let Err(error) = self.write(&self.class.join("schemata"), &text) {
                if !exists {
                    (directories.remove)(&self.class).ok();
                }
                return Err(error);
            }
        }
        Ok(!exists)
    }

    fn join(&self, pid: u32, directories: &Directories) -> Result<(), Error> {
        let pid = pid.to_string();
        self.write(&self.class.join("tasks"), &pid)?;
        let Some(group) = &self.monitoring else { return Ok(()) };
        match (directories.make)(group) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.at("make the monitoring group", group).map_err(|error| self.failed(error))?,
        }
        self.write(&group.join("tasks"), &pid).inspect_err(|_| {
            (directories.remove)(group).ok();
        })
    }

    fn remove_with(&self, directories: &Directories) -> Result<(), Error> {
        let own = (self.kind == Class::Own).then_some(&self.class);
        for directory in self.monitoring.iter().chain(own) {
            match (directories.remove)(directory) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed.at("remove", directory).map_err(|error| self.failed(error))?,
            }
        }
        Ok(())
    }

    /// A class that exists has to have what is asked for: others are in it.
    fn compare(&self) -> Result<(), Error> {
        if self.schemata.is_empty() {
            return Ok(());
        }
        let path = self.class.join("schemata");
        let text = base::fs::read(&path).map_err(|error| self.failed(error))?;
        let has = shares(String::from_utf8_lossy(&text).lines());
        for line in &self.schemata {
            let wanted = shares([&**line]);
            if wanted.is_empty() || wanted.iter().any(|(key, share)| has.get(key) != Some(share)) {
                return Err(Error::Differs { class: self.class.clone(), line: line.clone() });
            }
        }
        Ok(())
    }

    /// Gives the class other shares, in lines of its `schemata`.
    pub fn change(&self, lines: &[&str]) -> Result<(), Error> {
        let text: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        self.write(&self.class.join("schemata"), &text)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .at("write to", path)
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: base::fs::Error) -> Error {
        // Only the words are missing where it cannot be read.
        let status = std::fs::read_to_string(self.root.join("info/last_cmd_status")).unwrap_or_default();
        let status = status.lines().next().filter(|line| *line != "ok").unwrap_or_default();
        Error::File { error, status: status.chars().take(200).collect() }
    }
}

/// Where resctrl is mounted, by the text of `/proc/self/mountinfo`.
fn mountpoint(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4).filter(|_| source.split(' ').next() == Some("resctrl"))?;
        // Blanks are written in octal (proc_pid_mountinfo(5)).
        Some(PathBuf::from(path.replace("\\040", " ")))
    })
}

/// A name that can be a directory's, and is none that the kernel has taken.
fn name<'a>(what: &str, text: &'a str) -> Result<&'a str, Error> {
    let taken = ["", ".", "..", "info", "mon_groups", "mon_data"].contains(&text);
    if taken || text.contains(['/', '\0', '\n']) {
        return Err(Error::Invalid(format!("{what} {text:?} cannot be a class of service")));
    }
    Ok(text)
}

/// The lines for `schemata`, of the three ways to say them.
fn schemata(wanted: &IntelRdt) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    let bandwidth = wanted.mem_bw_schema.as_deref().filter(|text| !text.is_empty());
    if let Some(caches) = &wanted.l3_cache_schema {
        // Where both speak of the bandwidth, the one that is made for it counts.
        let counts =
            |line: &&str| !line.trim().is_empty() && (bandwidth.is_none() || !line.starts_with("MB:"));
        lines.extend(caches.lines().filter(counts).map(str::to_owned));
    }
    if let Some(line) = bandwidth {
        if !line.starts_with("MB:") || line.contains('\n') {
            return Err(Error::Invalid(format!(
                "memBwSchema {line:?} is not one line that starts with `MB:`"
            )));
        }
        lines.push(line.to_owned());
    }
    lines.extend(wanted.schemata.iter().flat_map(|text| text.lines()).map(str::to_owned));
    Ok(lines)
}

/// What lines of a `schemata` give, by resource and cache. The kernel pads and orders them in its own way.
fn shares<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<(String, u64), u64> {
    let mut shares = BTreeMap::new();
    for line in lines {
        let Some((resource, list)) = line.split_once(':') else { continue };
        let resource = resource.trim();
        // Bandwidth is a percentage or megabytes, caches are masks of bits.
        let radix = if matches!(resource, "MB" | "SMBA") { 10 } else { 16 };
        for (cache, share) in list.split(';').filter_map(|pair| pair.split_once('=')) {
            let cache = cache.trim().parse();
            let share = u64::from_str_radix(share.trim().trim_start_matches("0x"), radix);
            if let (Ok(cache), Ok(share)) = (cache, share) {
                shares.insert((resource.to_owned(), cache), share);
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree that stands for resctrl, and directories that behave as there.
    const FAKE: Directories = Directories {
        make: |path| {
            std::fs::create_dir(path)?;
            std::fs::create_dir(path.join("mon_groups"))?;
            ["tasks", "schemata"].iter().try_for_each(|file| std::fs::write(path.join(file), ""))
        },
        remove: |path| std::fs::remove_dir_all(path),
    };

    fn resctrl() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for below in ["info", "mon_groups"] {
            std::fs::create_dir(dir.path().join(below)).unwrap();
        }
        std::fs::write(dir.path().join("info/last_cmd_status"), "ok\n").unwrap();
        std::fs::write(dir.path().join("tasks"), "").unwrap();
        std::fs::write(dir.path().join("schemata"), "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n").unwrap();
        dir
    }

    fn plan(root: &Path, wanted: &IntelRdt) -> Plan {
        Plan::within(root.to_owned(), wanted, "box").unwrap()
    }

    fn text(path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_class_of_its_own_comes_and_goes_with_the_container() {
        let dir = resctrl();
        let wanted = IntelRdt {
            l3_cache_schema: Some("L3:0=7f0;1=1f\nMB:0=5".to_owned()),
            mem_bw_schema: Some("MB:0=20;1=70".to_owned()),
            schemata: vec!["L2:0=f".to_owned()],
            enable_monitoring: true,
            ..IntelRdt::default()
        };
        let plan = plan(dir.path(), &wanted);
        plan.apply_with(42, &FAKE).unwrap();
        let class = dir.path().join("box");
        assert_eq!(text(class.join("schemata")), "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=f\n");
        assert_eq!(text(class.join("tasks")), "42");
        assert_eq!(text(class.join("mon_groups/box/tasks")), "42");
        let later: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
        later.remove_with(&FAKE).unwrap();
        assert!(!class.exists());
        later.remove_with(&FAKE).unwrap();
    }

    #[test]
    fn a_named_class_is_used_as_it_is_and_stays() {
        let dir = resctrl();
        let mut wanted = IntelRdt { clos_id: Some("gold".to_owned()), ..IntelRdt::default() };
        let error = plan(dir.path(), &wanted).apply_with(1, &FAKE).unwrap_err();
        assert!(matches!(error, Error::NoClass(_)), "{error}");

        wanted.schemata = vec!["L3:0=f".to_owned()];
        plan(dir.path(), &wanted).apply_with(1, &FAKE).unwrap();
        let class = dir.path().join("gold");
        // As the kernel would tell it.
        std::fs::write(class.join("schemata"), "    L3:0=00f;1=7ff\n    MB:0=100;1= 50\n").unwrap();
        for (lines, fits) in [
            (&["L3:0=f"][..], true),
            (&["L3:1=7ff;0=0xf", "MB:1=50"], true),
            (&["L3:0=ff"], false),
            (&["L2:0=f"], false),
            (&["nonsense"], false),
        ] {
            wanted.schemata = lines.iter().map(|l| (*l).to_owned()).collect();
            let applied = plan(dir.path(), &wanted).apply_with(7, &FAKE);
            assert_eq!(applied.is_ok(), fits, "{lines:?}: {applied:?}");
        }
        assert_eq!(text(class.join("tasks")), "7");
        wanted.enable_monitoring = true;
        wanted.schemata.clear();
        let plan = plan(dir.path(), &wanted);
        plan.apply_with(8, &FAKE).unwrap();
        assert!(class.join("mon_groups/box").exists());
        plan.remove_with(&FAKE).unwrap();
        assert!(class.exists() && !class.join("mon_groups/box").exists());
    }

    #[test]
    fn the_default_class_is_called_by_a_slash() {
        let dir = resctrl();
        let wanted = IntelRdt { clos_id: Some("/".to_owned()), ..IntelRdt::default() };
        let plan = plan(dir.path(), &wanted);
        plan.apply_with(5, &FAKE).unwrap();
        assert_eq!(text(dir.path().join("tasks")), "5");
        plan.remove_with(&FAKE).unwrap();
        assert!(dir.path().join("tasks").exists());
    }

    #[test]
    fn a_failure_leaves_nothing_and_has_the_kernels_words() {
        let dir = resctrl();
        std::fs::write(dir.path().join("info/last_cmd_status"), "mask out of range\n").unwrap();
        // Without the files that the kernel would make, nothing can be written.
        let bare = Directories { make: |path| std::fs::create_dir(path), ..FAKE };
        let wanted = IntelRdt { schemata: vec!["L3:0=ffff".to_owned()], ..IntelRdt::default() };
        let error = plan(dir.path(), &wanted).apply_with(5, &bare).unwrap_err();
        assert!(error.to_string().contains("mask out of range"), "{error}");
        assert!(!dir.path().join("box").exists());
        let error = plan(dir.path(), &IntelRdt::default()).apply_with(5, &bare).unwrap_err();
        assert!(error.to_string().contains("tasks"), "{error}");
        assert!(!dir.path().join("box").exists());
    }

    #[test]
    fn names_do_not_lead_out() {
        let of = |class: &str| IntelRdt { clos_id: Some(class.to_owned()), ..IntelRdt::default() };
        for bad in ["..", ".", "a/b", "/a", "info", "mon_groups", "a\nb"] {
            assert!(Plan::within("/r".into(), &of(bad), "box").is_err(), "{bad}");
            assert!(Plan::within("/r".into(), &of("gold"), bad).is_err(), "{bad}");
        }
        let bandwidth = IntelRdt { mem_bw_schema: Some("L3:0=f".to_owned()), ..IntelRdt::default() };
        assert!(Plan::within("/r".into(), &bandwidth, "box").is_err());
    }

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let info = "25 1 0:23 / /sys rw - sysfs sysfs rw\n\
                    40 25 0:30 / /mnt/my\\040resctrl rw,nosuid shared:9 - resctrl resctrl rw,mba_MBps\n";
        assert_eq!(mountpoint(info), Some("/mnt/my resctrl".into()));
        assert_eq!(mountpoint("25 1 0:23 / /resctrl rw - tmpfs resctrl rw\n"), None);
    }
}
