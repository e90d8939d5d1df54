//! Logs that go to collectors: what was asked is checked when a container is made, and written beside its spool when it is
//! started; a process of its own does the sending (`dhow-shipper`).

mod attributes;
mod collectors;
mod error;
mod words;

use std::path::PathBuf;

use base::Id;
use serde_json::{Value, json};
use state::container::Record;
use state::lock::{Held, held};
use state::options::{LogDriver, LogOptions};
use state::shipping::{self, FORMAT, Manifest, Progress, Total, file};

use crate::Engine;
use crate::containers::inspect::rfc3339;
use crate::error::Result;

/// Refuses options of a log that no container could be started with.
pub(crate) fn check(driver: LogDriver, options: &LogOptions) -> Result<()> {
    words::check_names(driver, options)?;
    attributes::check(&options.more)?;
    words::check_common(&options.more)?;
    if driver.is_remote() {
        collectors::destination(driver, &options.more)?;
    }
    Ok(())
}

/// What is written with each entry of a log that stays here: only what was asked for, as with Docker.
pub(crate) fn kept_attributes(record: &Record) -> Result<logging::Attributes> {
    let LogOptions { driver, more, .. } = &record.options.log;
    if *driver != Some(LogDriver::JsonFile) || more.is_empty() {
        return Ok(logging::Attributes::new());
    }
    let mut attributes = attributes::all(more, record)?;
    if more.contains_key("tag") {
        attributes.insert("tag".to_owned(), attributes::tag(more, record)?);
    }
    Ok(attributes)
}

impl Engine {
    /// Writes down where a container's log goes, and finds the program that will send it. None where it goes nowhere.
    pub(crate) fn plan_shipping(&self, record: &Record) -> Result<Option<PathBuf>> {
        let log = &record.options.log;
        let driver = log.driver.unwrap_or_default();
        if !driver.is_remote() {
            return Ok(None);
        }
        let program = monitor::shipper::find_program()?;
        let manifest = Manifest {
            format: FORMAT,
            id: record.id.clone(),
            name: record.name.clone(),
            image: record.image.reference.clone(),
            tag: attributes::tag(&log.more, record)?,
            attributes: attributes::all(&log.more, record)?,
            destination: collectors::destination(driver, &log.more)?,
        };
        manifest.write(&self.instance)?;
        Ok(Some(program))
    }

    /// What a user should know who starts a container now: that its collector is not there.
    pub(crate) fn shipping_warning(&self, record: &Record) -> Option<String> {
        let dir = shipping::spool(&self.instance, &record.id);
        let manifest = Manifest::read(&dir).ok()??;
        let absent = collectors::absent(&manifest.destination)?;
        Some(format!(
            "the log driver {} does not reach its collector: {absent}; what the container says is kept, and sent later",
            manifest.destination.driver()
        ))
    }

    /// Docker has no word for it: how much of a container's log has arrived. None where it goes nowhere.
    pub(crate) fn log_status(&self, record: &Record) -> Option<Value> {
        let driver = record.options.log.driver.unwrap_or_default();
        if !driver.is_remote() {
            return None;
        }
        let dir = shipping::spool(&self.instance, &record.id);
        let progress = Progress::read(&dir).unwrap_or_default();
        let there = logging::sequences(&dir.join(file::LOG)).unwrap_or_default();
        Some(json!({
            "Driver": driver.name(),
            "Delivered": progress.next.saturating_sub(progress.dropped),
            "Pending": there.end.saturating_sub(progress.next.max(there.start)),
            "Dropped": progress.dropped + there.start.saturating_sub(progress.next),
            "Error": progress.error,
            "ErrorSince": progress.since.map(rfc3339),
        }))
    }

    /// A container is gone, or something else has happened that a shipper should see to. It takes the spool away when all
    /// has arrived.
    pub(crate) fn wake_shipper(&self, gone: Option<&Id>) {
        if let Some(id) = gone {
            let spool = shipping::spool(&self.instance, id);
            if !spool.exists() {
                return;
            }
            // It has never said anything.
            if logging::sequences(&spool.join(file::LOG)).is_ok_and(|there| there.end == 0)
                && base::fs::remove_dir_all(&spool).is_ok()
            {
                return;
            }
        }
        // Where it cannot be started now, the next command or monitor tries it.
        if let Ok(program) = monitor::shipper::find_program() {
            monitor::shipper::ensure(&self.instance, &program).ok();
        }
    }

    /// Spools that nobody sends: a shipper was killed when no monitor lived that would have noticed, or the machine was
    /// restarted.
    pub(crate) fn see_to_spools(&self) {
        let some = base::fs::names(&shipping::spools(&self.instance)).is_ok_and(|names| !names.is_empty());
        if some && self.has_unsent() && !matches!(held(&shipping::shipper(&self.instance)), Ok(Held::Owned)) {
            self.wake_shipper(None);
        }
    }

    fn has_unsent(&self) -> bool {
        self.spools().any(|(id, dir)| undelivered(&dir) > 0 || !self.instance.container(&id).exists())
    }

    fn spools(&self) -> impl Iterator<Item = (Id, PathBuf)> + '_ {
        let spools = shipping::spools(&self.instance);
        let names = base::fs::names(&spools).unwrap_or_default();
        names.into_iter().filter_map(move |name| Some((name.parse().ok()?, spools.join(&name))))
    }

    /// How many entries wait to be sent, and how many never will be, of all containers.
    pub(crate) fn shipping_totals(&self) -> (u64, u64) {
        let given_up = Total::read(&self.instance).unwrap_or_default().entries;
        self.spools().fold((0, given_up), |(waiting, dropped), (_, dir)| {
            let progress = Progress::read(&dir).unwrap_or_default();
            (waiting + undelivered(&dir), dropped + progress.dropped)
        })
    }

    /// Gives up what was to be sent of containers that are gone. Returns the bytes that it took.
    pub(crate) fn prune_spools(&self) -> Result<u64> {
        let mut freed = 0;
        for (id, dir) in self.spools() {
            if self.instance.container(&id).exists() {
                continue;
            }
            let lost = undelivered(&dir) + Progress::read(&dir).unwrap_or_default().dropped;
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let size: u64 = entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
            base::fs::remove_dir_all(&dir)?;
            Total::add(&self.instance, lost)?;
            freed += size;
        }
        Ok(freed)
    }
}

fn undelivered(dir: &std::path::Path) -> u64 {
    let next = Progress::read(dir).unwrap_or_default().next;
    logging::sequences(&dir.join(file::LOG)).map_or(0, |there| there.end.saturating_sub(next))
}

/// The kinds of addresses that a warning can be given about without waiting.
fn socket_is_missing(path: &std::path::Path) -> Option<String> {
    let there = std::os::unix::fs::FileTypeExt::is_socket(&std::fs::metadata(path).ok()?.file_type());
    (!there).then(|| format!("{} is no socket", path.display()))
}
