//! Finding containers and reading what their files say.

use std::path::{Path, PathBuf};

use base::dir::Dir;
use base::fs::Durability;
use base::{Failure, Id, Kind, fs};
use serde::de::DeserializeOwned;
use state::container::{Exit, FORMAT, Health, HealthStatus, Live, Record, Status, file};
use state::lock::{Held, Lock, held_of};
use state::{Instance, claim};

/// A name that leads to no container, or a file of one that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no such container: {0}")]
    NotFound(String),
    #[error("`{prefix}` is the beginning of the ids of {count} containers")]
    Ambiguous { prefix: String, count: usize },
    #[error("the record {path} cannot be read")]
    Broken { path: String, source: serde_json::Error },
    #[error("the record {path} has format {format}, and this version reads up to {FORMAT}")]
    TooNew { path: String, format: u64 },
    #[error(transparent)]
    File(#[from] fs::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::Invalid,
            Self::Broken { .. } => Kind::Corrupt,
            Self::TooNew { .. } => Kind::Unsupported,
            Self::File(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Ambiguous { .. } => vec!["write more of the id".to_owned()],
            Self::TooNew { .. } => vec!["use the newer version that wrote it".to_owned()],
            Self::File(e) => e.hints(),
            _ => Vec::new(),
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// All that the files say of a container.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What it is.
    pub record: Record,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
    /// That it runs, if it does.
    pub live: Option<Live>,
    /// What follows.
    pub status: Status,
    /// How healthy it is, where that is looked at and it runs.
    pub health: Option<HealthStatus>,
    /// Its last owner has died, and left something to be put right.
    pub abandoned: bool,
}

/// The container of this name, id, or beginning of an id, in Docker's order.
pub(crate) fn find(instance: &Instance, name: &str) -> Result<Id> {
    let not_found = || Error::NotFound(name.chars().take(150).collect());
    let plain = name.strip_prefix('/').unwrap_or(name);
    if let Ok(id) = plain.parse::<Id>()
        && exists(instance, &id)
    {
        return Ok(id);
    }
    if crate::containers::names::check(plain).is_ok()
        && let Some(owner) = claim::owner(&instance.container_names(), plain)?
        && let Ok(id) = owner.parse::<Id>()
        && exists(instance, &id)
    {
        return Ok(id);
    }
    if plain.is_empty() || plain.len() > 64 || !plain.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(not_found());
    }
    let mut matching: Vec<Id> =
        all(instance)?.into_iter().filter(|id| id.as_str().starts_with(plain)).collect();
    match (matching.pop(), matching.len()) {
        (None, _) => Err(not_found()),
        (Some(id), 0) => Ok(id),
        (Some(_), others) => Err(Error::Ambiguous { prefix: plain.to_owned(), count: others + 1 }),
    }
}

/// Whether the container is made and not removed.
pub(crate) fn exists(instance: &Instance, id: &Id) -> bool {
    instance.container(id).is_dir()
}

/// The ids of all containers.
pub(crate) fn all(instance: &Instance) -> Result<Vec<Id>> {
    Ok(fs::names(&instance.containers())?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The record alone; `None` if the container is gone.
pub(crate) fn record(instance: &Instance, id: &Id) -> Result<Option<Record>> {
    read(&instance.container(id).join(file::RECORD))
}

/// Replaces the record by what `change` makes of it; changers wait for each other. Who runs the container meanwhile is
/// none of its business: what concerns the running one is told to the monitor, or the kernel, by the caller.
pub(crate) fn change<E: From<Error>>(
    instance: &Instance,
    id: &Id,
    change: impl FnOnce(&mut Record) -> std::result::Result<(), E>,
) -> std::result::Result<Record, E> {
    let dir = instance.container(id);
    let gone = || Error::NotFound(id.short().to_owned());
    let path = dir.join(file::RECORD);
    let _lock = match Lock::exclusive(&dir) {
        Err(e) if e.is_not_found() => return Err(gone().into()),
        other => other.map_err(Error::File)?,
    };
    let mut record = record(instance, id)?.ok_or_else(gone)?;
    change(&mut record)?;
    let bytes = serde_json::to_vec(&record)
        .map_err(|source| Error::Broken { path: path.display().to_string(), source })?;
    fs::write_atomic(&path, &bytes, Durability::Volatile).map_err(Error::File)?;
    Ok(record)
}

/// How its last run ended.
pub(crate) fn exit(instance: &Instance, id: &Id) -> Result<Option<Exit>> {
    match kept_exit(instance, id)? {
        None => settled_exit(instance, id),
        kept => Ok(kept),
    }
}

/// The end that is kept where the container ran, because the disk was full.
fn kept_exit(instance: &Instance, id: &Id) -> Result<Option<Exit>> {
    read(&instance.live(id).join(file::EXIT))
}

/// The end where it belongs.
fn settled_exit(instance: &Instance, id: &Id) -> Result<Option<Exit>> {
    read(&instance.container(id).join(file::EXIT))
}

/// That it runs.
pub(crate) fn live(instance: &Instance, id: &Id) -> Result<Option<Live>> {
    read(&instance.live(id).join(file::LIVE))
}

/// What the probes of its health have found.
pub(crate) fn health(instance: &Instance, id: &Id) -> Result<Option<Health>> {
    read(&instance.live(id).join(file::HEALTH))
}

/// All that the files say now; `None` if the container is gone. A container whose owner died is shown as it
/// was left (`Dead`): see [`crate::containers::reconcile`].
pub(crate) fn load(instance: &Instance, id: &Id) -> Result<Option<Found>> {
    // The order matters: whoever ends a container writes exit.json, then removes live.json, then the live
    // directory. Read the other way round, an end in the middle shows as an end, never as a nothing.
    let (owner, dir) = look(&instance.live(id))?;
    let read_live = |name| dir.as_ref().map_or(Ok(None), |dir| dir.read_if_exists(name));
    let live: Option<Live> = parse(read_live(file::LIVE)?, || instance.live(id).join(file::LIVE))?;
    let kept: Option<Exit> = parse(read_live(file::EXIT)?, || instance.live(id).join(file::EXIT))?;
    // Where the disk was full, its monitor has left how it ended where it ran, and nothing follows.
    let kept_there = live.is_some() && kept.is_some();
    let exit = match kept {
        None => settled_exit(instance, id)?,
        kept => kept,
    };
    let Some(record) = record(instance, id)? else { return Ok(None) };
    let ended = kept_there
        || exit.as_ref().is_some_and(|e| live.as_ref().is_none_or(|l| e.started == Some(l.started)));
    let status = match Status::of(owner != Held::Absent, live.is_some(), owner == Held::Owned, exit.is_some())
    {
        Status::Running if live.as_ref().is_some_and(|l| l.restarting) => Status::Restarting,
        Status::Running | Status::Created if ended => Status::Exited,
        Status::Dead if kept_there => Status::Exited,
        Status::Running if dir.as_ref().is_some_and(|dir| dir.has(file::PAUSED)) => Status::Paused,
        other => other,
    };
    let live = live.filter(|_| status.is_up());
    let health = match &record.resolved.health {
        Some(_) if live.is_some() => {
            let health = parse(read_live(file::HEALTH)?, || instance.live(id).join(file::HEALTH))?;
            Some(health.unwrap_or_else(Health::default).status)
        }
        _ => None,
    };
    Ok(Some(Found { record, exit, live, status, health, abandoned: owner == Held::Abandoned }))
}

/// What a power cut leaves of a file that was not synced: nothing, a beginning, or blocks of zeros. Records are
/// not synced (that would cost a start more than all the rest), so such a one counts as none.
fn is_torn(bytes: &[u8]) -> bool {
    use serde_json::error::Category;
    let cut = || {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err_and(|e| e.classify() == Category::Eof)
    };
    bytes.contains(&0) || bytes.last() != Some(&b'}') && cut()
}

/// What every record begins with.
#[derive(serde::Deserialize)]
struct Head {
    format: u64,
}

/// Who has the live directory, and the directory.
fn look(live: &Path) -> Result<(Held, Option<Dir>)> {
    let dir = match Dir::open(live) {
        Err(e) if e.is_not_found() => return Ok((Held::Absent, None)),
        other => other?,
    };
    Ok((held_of(&dir)?, Some(dir)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    parse(fs::read_if_exists(path)?, || path.to_owned())
}

/// What the bytes of a record say, if there are any. `path` is where they are from.
fn parse<T: DeserializeOwned>(bytes: Option<Vec<u8>>, path: impl Fn() -> PathBuf) -> Result<Option<T>> {
    let Some(bytes) = bytes.filter(|bytes| !is_torn(bytes)) else { return Ok(None) };
    let shown = || path().display().to_string();
    serde_json::from_slice(&bytes).map(Some).map_err(|source| match serde_json::from_slice::<Head>(&bytes) {
        // Whatever else it says, it is not for us.
        Ok(head) if head.format > u64::from(FORMAT) => Error::TooNew { path: shown(), format: head.format },
        _ => Error::Broken { path: shown(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch {
        instance: Instance,
        _dir: tempfile::TempDir,
    }

    fn scratch() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        instance.create_dirs().unwrap();
        Scratch { instance, _dir: dir }
    }

    fn container(scratch: &Scratch, id: &str, name: &str) -> Id {
        let id: Id = id.repeat(32).parse().unwrap();
        std::fs::create_dir(scratch.instance.container(&id)).unwrap();
        assert!(claim::take(&scratch.instance.container_names(), name, id.as_str()).unwrap());
        id
    }

    #[test]
    fn containers_are_found_by_name_id_and_unique_beginning() {
        let scratch = scratch();
        let one = container(&scratch, "ab", "one");
        let two = container(&scratch, "ac", "ab");
        for (name, id) in [("one", &one), ("/one", &one), ("ab", &two), ("aba", &one), (one.as_str(), &one)] {
            assert_eq!(find(&scratch.instance, name).unwrap(), *id, "{name}");
        }
        assert!(matches!(find(&scratch.instance, "a"), Err(Error::Ambiguous { count: 2, .. })));
        for bad in ["", "nope", "../one", "f", "ABA"] {
            assert!(matches!(find(&scratch.instance, bad), Err(Error::NotFound(_))), "{bad}");
        }
    }

    #[test]
    fn a_record_from_the_future_is_refused_as_such() {
        let scratch = scratch();
        let id = container(&scratch, "ab", "one");
        let path = scratch.instance.container(&id).join(file::EXIT);
        std::fs::write(&path, r#"{"format":99,"words":["new"]}"#).unwrap();
        assert!(matches!(exit(&scratch.instance, &id), Err(Error::TooNew { format: 99, .. })));
        for torn in ["", "{", "{\"format\":1,\0\0"] {
            std::fs::write(&path, torn).unwrap();
            assert!(matches!(exit(&scratch.instance, &id), Ok(None)), "{torn:?}");
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(exit(&scratch.instance, &id), Err(Error::Broken { .. })));
    }
}
