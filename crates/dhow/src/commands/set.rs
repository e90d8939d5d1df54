//! `dhow set`.

use std::path::PathBuf;

use clap::Parser;
use engine::{Changes, PortName, Way};
use state::options::{ContainerOptions, EndpointOptions, NetworkMode, PortMapping, VolumeMount};

use crate::commands::create::warn;
use crate::commands::stop::patience;
use crate::commands::{Run, confirm};
use crate::error::{Error, Result};
use crate::flags::environment;
use crate::flags::label::{self, Label};
use crate::flags::limits::LimitFlags;
use crate::flags::mount::Mount;
use crate::flags::network::{self, Network, Wanted};
use crate::flags::port::Publish;
use crate::flags::restart::Restart;
use crate::flags::tmpfs::Tmpfs;
use crate::flags::volume::Volume;
use crate::globals::Context;
use crate::{output, terminal};

/// Change a container, at once where that can be, else by stopping it and starting it again.
///
/// It keeps its id, its name, its files, its volumes and its log. What is to be done, and how, is said before; on a
/// terminal, a container that would have to be stopped is asked about.
#[derive(Debug, Parser)]
#[command(
    name = "set",
    override_usage = "dhow set [FLAGS] CONTAINER [-- COMMAND [ARGUMENT…]]",
    disable_help_flag = true
)]
pub(crate) struct Arguments {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Stop it without asking, where it has to be
    #[arg(short, long)]
    yes: bool,
    /// Seconds it has to stop before it is killed (-1: for ever)
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]", help_heading = "Network")]
    publish: Vec<Publish>,
    /// No longer publish a port of the container's
    #[arg(long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]", help_heading = "Network")]
    publish_rm: Vec<Publish>,
    /// Connect it to other networks instead: bridge, host, none, container:NAME, or some of your own
    #[arg(long, visible_alias = "net", value_name = "NETWORK", help_heading = "Network")]
    network: Vec<Network>,
    /// Replace its entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    entrypoint: Option<String>,
    /// Set an environment variable, or pass yours on
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    env: Vec<String>,
    /// Set the environment variables of a file
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    env_file: Vec<String>,
    /// Take an environment variable away
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    env_rm: Vec<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR", help_heading = "Process")]
    workdir: Option<String>,
    /// Set its host name
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Process")]
    hostname: Option<String>,
    /// Put a label on it
    #[arg(short, long, value_name = "KEY[=VALUE]", help_heading = "Process")]
    label: Vec<Label>,
    /// Put the labels of a file on it
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    label_file: Vec<String>,
    /// Take a label away
    #[arg(long, value_name = "KEY", help_heading = "Process")]
    label_rm: Vec<String>,
    /// Mount a directory or file of the host's, a volume, or a new volume
    #[arg(short, long, value_name = "[SOURCE:]CONTAINER[:OPTIONS]", help_heading = "Files")]
    volume: Vec<Volume>,
    /// Mount, in the long form (type=bind, volume, tmpfs, image)
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = "Files")]
    mount: Vec<Mount>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "PATH[:OPTIONS]", help_heading = "Files")]
    tmpfs: Vec<Tmpfs>,
    /// Take away what is mounted there
    #[arg(long, visible_alias = "volume-rm", value_name = "PATH", help_heading = "Files")]
    mount_rm: Vec<PathBuf>,
    /// What to do when it ends: no, on-failure:MOST, always or unless-stopped
    #[arg(long, value_name = "POLICY", help_heading = "Running")]
    restart: Option<Restart>,
    #[command(flatten)]
    limits: LimitFlags,

    /// Print this
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Another command with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let (name, dry_run, yes) = (self.container.clone(), self.dry_run, self.yes);
        let timeout = self.timeout.map(patience);
        let changes = self.changes()?;
        if changes.is_empty() {
            return Err(Error::Flag {
                message: "set: nothing is to be changed".to_owned(),
                hints: vec!["give at least one flag: see `dhow set --help`".to_owned()],
            });
        }
        let engine = context.engine()?;
        let plan = engine.plan_set(&name, &changes)?;
        warn(&plan.warnings);
        if dry_run {
            return output::line(&plan.to_string()).map(|()| 0);
        }
        if plan.way == Way::Restart && !yes {
            if !terminal::stdin_is_terminal() {
                return Err(Error::Flag {
                    message: format!("set: this would stop the container and start it again. {plan}"),
                    hints: vec!["give --yes to have it done".to_owned()],
                });
            }
            if !confirm::ask(&plan.to_string())? {
                return Ok(0);
            }
        } else {
            output::talk(&plan.to_string());
        }
        warn(&engine.set(&plan, &changes, timeout)?);
        output::line(&name).map(|()| 0)
    }
}

/// The networks that were said, if some were.
fn networks(said: Vec<Network>) -> Result<Option<(NetworkMode, Vec<EndpointOptions>)>> {
    if said.is_empty() {
        return Ok(None);
    }
    let mut options = ContainerOptions::default();
    network::apply(said, Wanted::default(), &mut options)
        .map_err(|error| Error::flag(format!("invalid value for '--network': {error}")))?;
    Ok(Some((options.network, options.endpoints)))
}

impl Arguments {
    fn changes(self) -> Result<Changes> {
        let mut labels = label::read_files(&self.label_file)?;
        labels.extend(self.label.into_iter().map(|Label(key, value)| (key, value)));
        let mut changes = Changes {
            limits: self.limits.changes(),
            restart: self.restart.map(|Restart(policy)| policy),
            labels,
            labels_removed: self.label_rm,
            env: environment::resolve(&self.env_file, &self.env)?,
            env_removed: self.env_rm,
            ports: self.publish.into_iter().flat_map(|Publish(ports)| ports).collect(),
            ports_removed: self.publish_rm.into_iter().flat_map(|Publish(ports)| ports).map(named).collect(),
            tmpfs: self.tmpfs.into_iter().map(|Tmpfs(mount)| mount).collect(),
            mounts_removed: self.mount_rm,
            network: networks(self.network)?,
            command: self.command,
            entrypoint: self.entrypoint.map(|program| vec![program]),
            user: self.user,
            working_dir: self.workdir.map(PathBuf::from),
            hostname: self.hostname,
            ..Changes::default()
        };
        for volume in self.volume {
            match volume {
                Volume::Bind(bind) => changes.binds.push(bind),
                Volume::Volume(volume) => changes.volumes.push(VolumeMount { driver: None, ..volume }),
            }
        }
        for mount in self.mount {
            match mount {
                Mount::Bind(bind) => changes.binds.push(bind),
                Mount::Volume(volume) => changes.volumes.push(volume),
                Mount::Image(image) => changes.image_mounts.push(image),
                Mount::Tmpfs(tmpfs) => changes.tmpfs.push(tmpfs),
            }
        }
        Ok(changes)
    }
}

/// A port that is not named of the host's may be any.
fn named(port: PortMapping) -> PortName {
    PortName {
        host_ip: port.host_ip,
        host_port: Some(port.host_port).filter(|port| *port != 0),
        container_port: port.container_port,
        protocol: port.protocol,
    }
}
