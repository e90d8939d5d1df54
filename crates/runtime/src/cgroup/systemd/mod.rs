//! Groups that systemd makes: a transient scope for each container, asked for over D-Bus.
//!
//! ```text
//!   us                                     systemd
//!   the child exists and waits
//!   StartTransientUnit(SCOPE, PIDs=child)  →
//!                                          ← reply: the job
//!                                          ← JobRemoved(job, "done"): the child is in the scope's group
//!   what systemd has no property for: straight into the group's files (Delegate=yes allows it)
//!   …
//!   StopUnit(SCOPE)                        →
//! ```
//!
//! systemd is told every limit that it has a property for, or it would put its own default back when it next applies
//! its settings. All of them are written to the group's files as well: the exact value counts, not what systemd
//! rounds it to.
//!
//! Annotations `org.systemd.property.NAME` come from whoever describes the container, who may be no friend of the
//! machine's (CVE-2024-3154: a unit property can execute a command as root on the host). Only `TimeoutStopUSec` (or
//! `TimeoutStopSec`) and `CollectMode` are taken, and only with values of their own types; others are ignored with a
//! warning.
//!
//! `wire` is D-Bus' format, `bus` the conversation, `properties` what systemd is told.

mod bus;
mod properties;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::bus::Bus;
use self::properties::Property;
use super::devices::Rules;
use super::limits::Write;
use super::{Error, Location};

pub use self::bus::Error as BusError;

const DESTINATION: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A scope that exists, or once did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    pub(super) scope: String,
    /// The user's systemd.
    pub(super) user: bool,
}

/// A scope that is to be made.
#[derive(Debug)]
pub(super) struct Scope {
    unit: Unit,
    properties: Vec<Property>,
}

/// Where a location is below the root of each hierarchy. A user's systemd is asked where its own group is.
pub(super) fn below_root(location: &Location) -> Result<PathBuf, Error> {
    let below = location.below_root()?;
    if !matches!(location, Location::Systemd { user: true, .. }) {
        return Ok(below);
    }
    let own = Bus::connect(true)?.property(DESTINATION, OBJECT, MANAGER, "ControlGroup")?;
    let own = own.trim_matches('/');
    let base = if own.is_empty() { PathBuf::new() } else { Location::Path(own.into()).below_root()? };
    Ok(base.join(below))
}

impl Scope {
    /// `None` where systemd is not asked.
    pub(super) fn of(
        location: &Location,
        writes: &[Write],
        rules: &Rules,
        v2: bool,
    ) -> Result<Option<Self>, Error> {
        let (Location::Systemd { name, user, .. }, Some((slice, scope))) = (location, location.units()?)
        else {
            return Ok(None);
        };
        let mut properties = properties::base(name, &slice);
        properties.extend(properties::limits(writes)?);
        // On v1 systemd applies the rules itself, again and again; on v2 its program and ours must both agree, so
        // that it needs none.
        if !v2 {
            properties.extend(properties::devices(rules));
        }
        Ok(Some(Self { unit: Unit { scope, user: *user }, properties }))
    }

    pub(super) fn unit(&self) -> &Unit {
        &self.unit
    }

    pub(super) fn annotate(
        &mut self,
        annotations: &BTreeMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Error> {
        for (key, value) in annotations {
            let Some(name) = key.strip_prefix("org.systemd.property.") else { continue };
            match properties::annotation(name, value)? {
                Some(property) => self.properties.push(property),
                None => {
                    warnings.push(format!("the annotation {key} is ignored: it is none of the safe ones"));
                }
            }
        }
        Ok(())
    }

    /// Makes the scope with this process in it, and waits until it is there.
    pub(super) fn start(&self, pid: u32) -> Result<(), Error> {
        self.start_over(&mut Bus::connect(self.unit.user)?, pid)
    }

    fn start_over(&self, bus: &mut Bus, pid: u32) -> Result<(), Error> {
        bus.watch_jobs(DESTINATION, OBJECT, MANAGER)?;
        let body = properties::start_transient_unit(&self.unit.scope, pid, &self.properties);
        let started =
            match bus.job(DESTINATION, OBJECT, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body) {
                // A scope of the same name that failed stays in memory until somebody has noticed.
                Err(BusError::Refused { name, .. }) if name == UNIT_EXISTS => {
                    self.unit.reset(bus)?;
                    bus.job(DESTINATION, OBJECT, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
                }
                other => other,
            };
        let result = started?;
        if result == "done" {
            return Ok(());
        }
        // The scope may be there all the same, as failed.
        self.unit.reset(bus).ok();
        Err(BusError::Job { unit: self.unit.scope.clone(), result }.into())
    }
}

impl Unit {
    /// Ends the scope and lets systemd forget it. Fine if there is none.
    pub(super) fn stop(&self) -> Result<(), Error> {
        self.stop_over(&mut Bus::connect(self.user)?)
    }

    fn stop_over(&self, bus: &mut Bus) -> Result<(), Error> {
        bus.watch_jobs(DESTINATION, OBJECT, MANAGER)?;
        let mut body = wire::Writer::default();
        body.string(&self.scope);
        body.string("replace");
        match bus.job(DESTINATION, OBJECT, MANAGER, "StopUnit", "ss", &body.bytes) {
            Err(BusError::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            // However the job ended, what counts is that the group is gone, which is seen next.
            Ok(_) => self.reset(bus).map_err(Error::from),
            Err(error) => Err(error.into()),
        }
    }

    fn reset(&self, bus: &mut Bus) -> Result<(), BusError> {
        let mut body = wire::Writer::default();
        body.string(&self.scope);
        match bus.call(DESTINATION, OBJECT, MANAGER, "ResetFailedUnit", "s", &body.bytes) {
            Err(BusError::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Has systemd move a process into the scope, or into a group below it.
    pub(super) fn attach(&self, below: &Path, pid: u32) -> Result<(), Error> {
        let body = properties::attach(&self.scope, &Path::new("/").join(below).to_string_lossy(), pid);
        let mut bus = Bus::connect(self.user)?;
        bus.call(DESTINATION, OBJECT, MANAGER, "AttachProcessesToUnit", "ssau", &body)?;
        Ok(())
    }

    /// Tells systemd of new limits, until the scope ends.
    pub(super) fn set(&self, writes: &[Write]) -> Result<(), Error> {
        let properties = properties::limits(writes)?;
        if properties.is_empty() {
            return Ok(());
        }
        let body = properties::set_unit_properties(&self.scope, &properties);
        Bus::connect(self.user)?.call(DESTINATION, OBJECT, MANAGER, "SetUnitProperties", "sba(sv)", &body)?;
        Ok(())
    }
}
