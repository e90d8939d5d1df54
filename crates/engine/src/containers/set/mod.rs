//! `set`: another setting for a container that is there, which keeps its id, its name, its files, volumes and log.
//!
//! ```text
//! Changes ─┐  changes: what becomes of the options
//! Record ──┴─ next ──▶ the new record, checked as `create` does ── facets ──▶ differences, and the Way
//!                                                                   │
//!   does not run ──▶ NextStart: the record is replaced             ─┤
//!   limits, labels, policy, ports ──▶ AtOnce: kernel and monitor   ─┤
//!   all else ──▶ Restart: stop, replace the record, start          ─┘
//! ```
//!
//! First it is planned, and said which way it will be; then it is done that way or not at all. What fails is taken back:
//! the old settings are in force again, and who ran runs.

mod at_once;
mod changes;
mod facets;
mod next;
mod restart;

use base::{Failure, Id, Kind};
use state::container::{Record, Status};
use state::protocol::CHANGES;

use self::next::Next;
use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::records::{self, Found};
use crate::containers::undo::Undo;
use crate::error::{Error, Result};
use crate::networks;

pub use changes::{Changes, PortName};
pub use facets::Way;

/// What `set` would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPlan {
    /// The container, whatever it is called by the time it is changed.
    id: Id,
    /// Its name.
    pub name: String,
    /// How.
    pub way: Way,
    /// What, in words.
    pub changes: Vec<String>,
    /// Why it is not done at once what could be, if so.
    pub because: Option<&'static str>,
    /// What is given otherwise than asked.
    pub warnings: Vec<String>,
}

impl std::fmt::Display for SetPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changes = self.changes.join(", ");
        write!(f, "{}: ", self.name)?;
        match self.way {
            Way::Nothing => f.write_str("all of that is so already"),
            Way::NextStart => write!(f, "with its next start: {changes}"),
            Way::AtOnce => write!(f, "at once, while it runs: {changes}"),
            Way::Restart => {
                write!(f, "by stopping it and starting it again with its files, volumes and log: {changes}")?;
                self.because.map_or(Ok(()), |because| write!(f, " ({because})"))
            }
        }
    }
}

/// A container that cannot be changed this way.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("container {0} is removed when it ends (--rm), so that it cannot be stopped and started again")]
    RemovesItself(String),
    #[error("container {0} has become another one meanwhile: nothing was changed")]
    Moved(String),
}

impl Failure for Refused {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::RemovesItself(_) => {
                "change what can be at once: labels, limits, published ports; or run another one".to_owned()
            }
            Self::Moved(_) => "somebody started, stopped or changed it: try again".to_owned(),
        }]
    }
}

impl Engine {
    /// Says what [`Engine::set`] would do. Nothing is touched.
    pub fn plan_set(&self, name: &str, changes: &Changes) -> Result<SetPlan> {
        let found = self.find(name)?;
        let next = self.next(&found.record, changes)?;
        let way = way_of(&found, &next);
        let record = &found.record;
        if way == Way::Restart {
            if record.options.auto_remove {
                return Err(Refused::RemovesItself(record.name.clone()).into());
            }
            if found.status == Status::Paused {
                return Err(StateError::Busy { name: name.to_owned(), state: "paused" }.into());
            }
        }
        let alone = facets::way(true, &next.facets, true) == Way::AtOnce;
        let because = (way == Way::Restart && alone)
            .then_some("its monitor is of an earlier version, and cannot change ports while it runs");
        Ok(SetPlan {
            id: record.id.clone(),
            name: record.name.clone(),
            way,
            changes: next.facets.into_iter().map(|facet| facet.words).collect(),
            because,
            warnings: next.warnings,
        })
    }

    /// Changes a container in the way that was planned. Where it has to be stopped, it gets `timeout` seconds as for
    /// [`Engine::stop`]. Returns what came up and people should know.
    pub fn set(&self, plan: &SetPlan, changes: &Changes, timeout: Option<u64>) -> Result<Vec<String>> {
        let id = plan.id.clone();
        let warnings = match plan.way {
            Way::Nothing => return Ok(Vec::new()),
            Way::NextStart => self.set_for_next_start(&id, changes)?,
            Way::AtOnce => self.set_at_once(&id, changes)?,
            Way::Restart => self.set_by_restart(&id, changes, timeout)?,
        };
        if let Some(record) = records::record(&self.instance, &id)? {
            self.note_container("update", &record, &[]);
        }
        Ok(warnings)
    }

    fn set_for_next_start(&self, id: &Id, changes: &Changes) -> Result<Vec<String>> {
        // As long as it is held nobody starts it: a start reads the record before there is anything to be seen of it.
        let (found, _not_started) = self.up_or_held(id.as_str())?;
        if found.status.is_up() {
            return Err(Refused::Moved(found.record.name).into());
        }
        let mut undo = Undo::new();
        let mut held = None;
        let changed = records::change::<Error>(&self.instance, id, |record| {
            let next = self.next(record, changes)?;
            held = Some((self.keep_images(&next)?, self.provide(&next, &mut undo)?));
            *record = next.record;
            Ok(())
        });
        // Now the record names them; or they are taken back, and whoever removes a volume waits for those that hold it.
        drop(held);
        match changed {
            Ok(_) => {
                undo.disarm();
                Ok(Vec::new())
            }
            Err(error) => Err(undo.run(error)),
        }
    }
}

fn way_of(found: &Found, next: &Next) -> Way {
    // Where nothing can be published, ports are but written down.
    let understood = found.live.as_ref().is_some_and(|live| live.protocol >= CHANGES);
    facets::way(found.status.is_up(), &next.facets, !publishes(&found.record) || understood)
}

/// Whether the container is where ports can be published.
fn publishes(record: &Record) -> bool {
    networks::has_own(&record.options)
}

#[cfg(test)]
mod tests {
    use base::{Digest, Id, Timestamp};
    use state::container::{FORMAT, ImageUsed, Record, Resolved};
    use state::options::ContainerOptions;

    /// A container that was asked for nothing in particular.
    pub(super) fn record() -> Record {
        Record {
            format: FORMAT,
            id: "ab".repeat(32).parse::<Id>().unwrap(),
            name: "box".to_owned(),
            created: Timestamp::now(),
            image: ImageUsed {
                reference: "busybox".to_owned(),
                id: Digest::of(b"image"),
                layers: Vec::new(),
            },
            args: vec!["true".to_owned()],
            options: ContainerOptions::default(),
            waits: false,
            resolved: Resolved {
                env: vec!["HOSTNAME=abababababab".to_owned(), "OLD=1".to_owned()],
                hostname: "abababababab".to_owned(),
                ..Resolved::default()
            },
        }
    }
}
