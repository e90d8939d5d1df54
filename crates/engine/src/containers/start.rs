//! `start`: a created container is handed to a monitor, which launches it.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base::fs;
use base::{Failure, Id, Kind};
use monitor::{REQUEST_VERSION, Request};
use network::files::ResolvConf;
use runtime::cgroup::{Location, Placement};
use runtime::{Bundle, Manner, RootSource, apparmor, capability, seccomp};
use state::container::{Exit, Record};
use state::options::{PortMapping, SeccompChoice};
use state::protocol::{StartFailure, Tag};

use crate::Engine;
use crate::config::Confinement;
use crate::containers::create::Created;
use crate::containers::reconcile::bear_full_disk;
use crate::containers::session::{Session, read_start};
use crate::containers::spec::{self, Context, OnHost};
use crate::containers::storage::Storage;
use crate::containers::undo::Undo;
use crate::containers::{health, notes, records, shipping};
use crate::error::{Error, Reported, Result};
use crate::networks;
use crate::networks::connect::{addresses, files_of};

/// How to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartHow {
    /// The caller wants the container's streams.
    pub attach: bool,
}

/// A monitor that did not do what it is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    #[error("the monitor of container {} died before it could start it", .0.short())]
    Died(Id),
    #[error("the monitor of container {} cannot be understood", id.short())]
    Talk { id: Id, source: std::io::Error },
    #[error("the monitor of container {} speaks another protocol: {said:?}", id.short())]
    Unexpected { id: Id, said: Tag },
}

impl Failure for MonitorError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// A profile, and what to say of it.
type AppArmor = (Option<String>, Option<String>);

impl Engine {
    /// Starts a created container. Returns once its command is executed, or has failed to be; then all that
    /// was claimed for the start is released again, and the container is removed if it is one that removes
    /// itself.
    pub fn start(&self, created: Created, how: StartHow) -> Result<Session> {
        let Created { id, record, overlay, owner, .. } = created;
        let mut undo = Undo::new();
        let prepared = (|| {
            // First what may refuse a user's file: a bridge should not be made for a start that cannot be.
            let confinement = (self.apparmor(&record)?, self.seccomp(&record)?);
            let network = self.prepare_network(&record)?;
            undo.push({
                let network = network.clone();
                let id = id.clone();
                move || Ok(network.release(&self.instance, &id)?)
            });
            let storage = self.find_storage(&record, &mut undo)?;
            self.request(&record, (overlay, storage), confinement, network, how, owner.live())
        })();
        let (request, warnings) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let error = undo.run(error);
                let error = self.give_up(&record, error, owner);
                // No monitor will come to see whether the bridge is still needed.
                self.sweep_shared();
                return Err(error);
            }
        };
        let Some(lock) = owner.hand_over() else { return Err(MonitorError::Died(id).into()) };
        // From here on what was claimed is the monitor's to release, or, should it die, of whoever finds that.
        undo.disarm();
        let outcome = match monitor::client::spawn(&request, lock) {
            Ok(stream) => first_word(stream, &id, record.options.tty).map(|s| s.with_warnings(warnings)),
            Err(error) => Err(error.into()),
        };
        outcome.map_err(|error| self.settle_failed_start(&id, &record, error))
    }

    /// A start that failed before there was a monitor. The container stays, if it is to.
    fn give_up(&self, record: &Record, error: Error, owner: crate::containers::ownership::Owner) -> Error {
        if record.options.auto_remove {
            return match self.remove_files(&record.id, &record.name, owner) {
                Ok(()) => error,
                Err(other) => NotRemoved { error, other }.into(),
            };
        }
        error
    }

    /// A start that failed with a monitor: it has released what it held by the time it lets go of the lock,
    /// unless it died; then we do.
    fn settle_failed_start(&self, id: &Id, record: &Record, error: Error) -> Error {
        let settled = (|| {
            self.await_release(id)?;
            if !record.options.auto_remove && records::exit(&self.instance, id)?.is_none() {
                let code = Exit::code_of_failed_start(error.kind());
                bear_full_disk(self.write_exit(id, code, None, &error.to_string()))?;
            }
            self.reconcile_one(id)
        })();
        match settled {
            Ok(()) => error,
            Err(other) => NotRemoved { error, other }.into(),
        }
    }

    /// Claims what the container's network needs. Addresses may all be held by dead containers: once.
    pub(crate) fn prepare_network(&self, record: &Record) -> Result<network::Plan> {
        let ports = published(record);
        match self.prepare_networks(record, &ports) {
            Err(error) if error.kind() == Kind::Exhausted => {
                self.reconcile()?;
                self.prepare_networks(record, &ports)
            }
            other => other,
        }
    }

    /// Makes the files that the container sees of ours, and puts everything together for the monitor.
    pub(crate) fn request(
        &self,
        record: &Record,
        (overlay, storage): (rootfs::Overlay, Storage),
        ((apparmor, degraded), seccomp): (AppArmor, Option<PathBuf>),
        network: network::Plan,
        how: StartHow,
        live: &Path,
    ) -> Result<(Request, Vec<String>)> {
        let options = &record.options;
        let mut warnings = network.warnings().to_vec();
        let egress = self.egress_of(record, network.endpoints().map(network::Endpoint::egress))?;
        let limits = crate::egress::registration(record, &network, &egress)?;
        let (names, resolver) = match networks::names::of(record, &network, &egress)? {
            Some((names, made)) => (Some(names), ResolvConf { text: made.text, warnings: made.warnings }),
            None => (None, network::files::resolv_conf(&options.network, &options.dns)?),
        };
        warnings.extend(provide_files(live, record, &network, resolver)?);
        warnings.extend(degraded);
        let host = OnHost::find(options)?;
        let joins = self.joins(options)?;
        let shipper = self.plan_shipping(record)?;
        if shipper.is_some() {
            warnings.extend(self.shipping_warning(record));
        }
        let probe = record.resolved.health.clone();
        let probe = probe.map(|check| health::request(record, check, apparmor.clone(), seccomp.clone()));
        let network_files = files_of(self, &joins, live);
        let context = Context {
            live,
            network_files: &network_files,
            network_namespace: network.needs_namespace(),
            pids_limit: self.config.pids_limit,
            apparmor,
            swap: options.memory.is_some() && swap_is_accounted(),
            sysctls: network.sysctls(),
            storage: &storage,
            host,
        };
        let root = if overlay.lowers.is_empty() {
            // An image without layers is an empty directory, and overlayfs takes no empty stack.
            RootSource::Directory(overlay.upper)
        } else {
            let volatile = options.auto_remove;
            RootSource::Overlay { lowers: overlay.lowers, upper: overlay.upper, work: overlay.work, volatile }
        };
        let request = Request {
            version: REQUEST_VERSION,
            instance: self.instance.clone(),
            id: record.id.clone(),
            name: record.name.clone(),
            bundle: Bundle {
                spec: spec::build(record, &context),
                root,
                cgroup: Some(self.location(record)),
                seccomp,
                init: options.init,
                manner: Manner::default(),
                inside: storage.inside(),
            },
            network,
            log: self.log_config(record)?,
            shipper,
            auto_remove: options.auto_remove,
            interactive: options.interactive,
            attach: how.attach,
            volumes: storage.uses(options),
            restart: options.restart,
            health: probe,
            stop_signal: record.resolved.stop_signal,
            stop_timeout: record.resolved.stop_timeout,
            attributes: notes::attributes(record),
            joins,
            names,
            limits,
        };
        Ok((request, warnings))
    }

    /// Where what the container says goes, and how much of it is kept; none where nothing is.
    fn log_config(&self, record: &Record) -> Result<Option<logging::Config>> {
        let (asked, default) = (&record.options.log, &self.config.log);
        let Some((path, format)) = self.log_of(record) else { return Ok(None) };
        Ok(Some(logging::Config {
            path,
            max_size: asked.max_size.map_or(default.max_size, |size| (size > 0).then_some(size)),
            max_files: asked.max_files.unwrap_or(default.max_files),
            format,
            compress: asked.compress.unwrap_or(true),
            attributes: shipping::kept_attributes(record)?,
        }))
    }

    /// Where the container's cgroup is.
    pub(crate) fn location(&self, record: &Record) -> Location {
        let Some(parent) = &record.options.cgroup_parent else { return self.placement(&record.id).into() };
        // As with Docker, a slice is systemd's, and anything else a directory.
        if parent.strip_suffix(".slice").is_some_and(|stem| !stem.contains('/')) {
            let (prefix, name) = ("dhow".to_owned(), record.id.to_string());
            return Location::Systemd { slice: parent.clone(), prefix, name, user: false };
        }
        Location::Path(Path::new("/").join(parent).join(record.id.as_str()))
    }

    /// Where it is unless somebody wants it elsewhere.
    pub(crate) fn placement(&self, id: &Id) -> Placement {
        Placement {
            parent: self.instance.global_name(),
            name: id.to_string(),
            memory_reserve: self.config.memory_reserve,
        }
    }

    /// The compiled system call filter of a container.
    pub(crate) fn seccomp(&self, record: &Record) -> Result<Option<PathBuf>> {
        let capabilities = capability::Set::from_names(&record.resolved.capabilities)?;
        let from_file;
        let profile = match (&record.options.security.seccomp, &self.config.seccomp) {
            (SeccompChoice::Profile(text), _) => seccomp::Profile::Docker(text),
            _ if record.options.privileged => return Ok(None),
            (SeccompChoice::Unconfined, _) | (SeccompChoice::Default, Confinement::Unconfined) => {
                return Ok(None);
            }
            (SeccompChoice::Default, Confinement::Profile(path)) => {
                from_file = String::from_utf8_lossy(&fs::read(Path::new(path))?).into_owned();
                seccomp::Profile::Docker(&from_file)
            }
            (SeccompChoice::Default, Confinement::Default) => seccomp::Profile::Default,
        };
        Ok(Some(seccomp::cached(&self.instance.cache(), profile, capabilities)?))
    }

    /// The AppArmor profile of a container, as far as this kernel has AppArmor, and what to say of it.
    pub(crate) fn apparmor(&self, record: &Record) -> Result<AppArmor> {
        let asked = record.options.security.apparmor.as_deref();
        match (asked, &self.config.apparmor) {
            (Some("unconfined"), _) | (None, Confinement::Unconfined) => Ok((None, None)),
            (None, _) if record.options.privileged => Ok((None, None)),
            (Some(profile), _) if profile != apparmor::DEFAULT_PROFILE => {
                Ok((Some(profile.to_owned()), None))
            }
            (None, Confinement::Profile(profile)) => Ok((Some(profile.clone()), None)),
            _ => match (apparmor::ensure_loaded(self.instance.run())?, asked) {
                (apparmor::Outcome::Loaded, _) => Ok((Some(apparmor::DEFAULT_PROFILE.to_owned()), None)),
                (apparmor::Outcome::Disabled, None) => Ok((None, None)),
                (apparmor::Outcome::Degraded(warning), None) => Ok((None, Some(warning))),
                // A default may degrade; what was asked for by name may not.
                (apparmor::Outcome::Disabled, Some(_)) => {
                    Err(NoAppArmor("this kernel has no AppArmor, or it is switched off".to_owned()).into())
                }
                (apparmor::Outcome::Degraded(reason), Some(_)) => Err(NoAppArmor(reason).into()),
            },
        }
    }
}

/// The ports that it publishes: those that were named, and with `-P` all others on which it listens.
pub(crate) fn published(record: &Record) -> Vec<PortMapping> {
    let options = &record.options;
    let mut ports = options.ports.clone();
    if options.publish_all {
        for exposed in &record.resolved.exposed {
            let named = |p: &PortMapping| (p.container_port, p.protocol) == (exposed.port, exposed.protocol);
            if !options.ports.iter().any(named) {
                let (container_port, protocol) = (exposed.port, exposed.protocol);
                ports.push(PortMapping { host_ip: None, host_port: 0, container_port, protocol });
            }
        }
    }
    ports
}

/// Writes hosts, resolv.conf and hostname, as the specification's mounts expect them; returns what the user
/// should be told about them.
fn provide_files(
    live: &Path,
    record: &Record,
    network: &network::Plan,
    resolver: ResolvConf,
) -> Result<Vec<String>> {
    let mode = &record.options.network;
    let hostname = &record.resolved.hostname;
    let addresses: Vec<IpAddr> = network.endpoints().flat_map(addresses).collect();
    let full = match &record.options.domainname {
        Some(domain) => &format!("{hostname}.{domain}"),
        None => hostname,
    };
    let mut hosts = network::files::hosts(mode, full, &addresses)?;
    let gateway = network.address().map(|a| a.gateway);
    hosts.push_str(&network::files::more_hosts(mode, &record.options.hosts, gateway)?);
    let contents = [("resolv.conf", resolver.text), ("hostname", format!("{hostname}\n")), ("hosts", hosts)];
    for (name, content) in contents {
        fs::create_new(&live.join(name), content.as_bytes(), 0o644)?;
    }
    Ok(resolver.warnings)
}

/// Whether memory limits can bound swap too. Asked only where a limit is.
pub(crate) fn swap_is_accounted() -> bool {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    if v1.is_dir() {
        return v1.join("memory.memsw.limit_in_bytes").exists();
    }
    // On v2 the file is in every group but the root.
    fs::names(Path::new("/sys/fs/cgroup"))
        .unwrap_or_default()
        .iter()
        .any(|name| Path::new("/sys/fs/cgroup").join(name).join("memory.swap.max").exists())
}

/// Waits for `Started` or `Failed`.
pub(crate) fn first_word(mut stream: UnixStream, id: &Id, tty: bool) -> Result<Session> {
    let (frames, first) =
        read_start(&mut stream).map_err(|source| MonitorError::Talk { id: id.clone(), source })?;
    match first {
        Some((Tag::Started, payload)) => {
            let pid = payload.try_into().map(u32::from_le_bytes).unwrap_or_default();
            Ok(Session::new(stream, frames, pid, tty))
        }
        Some((Tag::Failed, payload)) => match serde_json::from_slice::<StartFailure>(&payload) {
            Ok(failure) => Err(Reported(failure).into()),
            Err(e) => Err(MonitorError::Talk { id: id.clone(), source: e.into() }.into()),
        },
        Some((said, _)) => Err(MonitorError::Unexpected { id: id.clone(), said }.into()),
        None => Err(MonitorError::Died(id.clone()).into()),
    }
}

/// An AppArmor profile was asked for by name and cannot be had: running without it would be a silent loss.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine the container with the AppArmor profile dhow-default: {0}")]
struct NoAppArmor(String);

impl Failure for NoAppArmor {
    fn kind(&self) -> Kind {
        Kind::Unsupported
    }

    fn hints(&self) -> Vec<String> {
        vec!["leave --security-opt apparmor=… out, or give apparmor=unconfined".to_owned()]
    }
}

/// A failure, and what could not be cleaned up after it.
#[derive(Debug, thiserror::Error)]
#[error("{error}; and cleaning up failed: {other}")]
struct NotRemoved {
    error: Error,
    other: Error,
}

impl Failure for NotRemoved {
    fn kind(&self) -> Kind {
        self.error.kind()
    }

    fn hints(&self) -> Vec<String> {
        self.error.hints()
    }
}
