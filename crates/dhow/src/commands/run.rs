//! `dhow run`.

use std::path::PathBuf;

use clap::Parser;
use engine::{PullPolicy, StartHow};
use state::options::ContainerOptions;

use crate::attached::{self, End, How, Signals};
use crate::commands::Run;
use crate::detach_keys::DetachKeys;
use crate::error::{Error, Result};
use crate::flags::cpus::NanoCpus;
use crate::flags::label::Label;
use crate::flags::mount::Mount;
use crate::flags::network::Network;
use crate::flags::port::Publish;
use crate::flags::size::Bytes;
use crate::flags::tmpfs::Tmpfs;
use crate::flags::volume::Volume;
use crate::flags::{environment, security};
use crate::globals::Context;
use crate::{output, progress, terminal};

/// Create and start a container from an image.
#[derive(Debug, Parser)]
#[command(
    name = "run",
    override_usage = "dhow run [FLAGS] IMAGE [COMMAND] [ARGUMENT…]",
    disable_help_flag = true
)]
pub(crate) struct Arguments {
    /// Leave it running in the background and print its id
    #[arg(short, long, help_heading = "Running")]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long, help_heading = "Running")]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long, help_heading = "Running")]
    tty: bool,
    /// Remove it when it ends
    #[arg(long, help_heading = "Running")]
    rm: bool,
    /// Name it
    #[arg(long, help_heading = "Running")]
    name: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long, help_heading = "Running")]
    init: bool,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"], help_heading = "Running")]
    pull: String,
    /// Do not show the progress of a pull
    #[arg(short, long, help_heading = "Running")]
    quiet: bool,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    cidfile: Option<PathBuf>,
    /// The keys that leave it running and return
    #[arg(long, value_name = "KEYS", help_heading = "Running")]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on to it (where it has no terminal)
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Running")]
    sig_proxy: bool,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL", help_heading = "Running")]
    stop_signal: Option<String>,
    /// Seconds it has to stop
    #[arg(long, value_name = "SECONDS", help_heading = "Running")]
    stop_timeout: Option<u64>,

    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    entrypoint: Option<String>,
    /// Set an environment variable, or pass yours on
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    env: Vec<String>,
    /// Set the environment variables of a file
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    env_file: Vec<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR", help_heading = "Process")]
    workdir: Option<PathBuf>,
    /// Set its host name
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Process")]
    hostname: Option<String>,
    /// Put a label on it
    #[arg(short, long, value_name = "KEY[=VALUE]", help_heading = "Process")]
    label: Vec<Label>,

    /// Mount a directory or file of the host's
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]", help_heading = "Files")]
    volume: Vec<Volume>,
    /// Mount, in the long form (type=bind, type=tmpfs)
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = "Files")]
    mount: Vec<Mount>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "PATH[:OPTIONS]", help_heading = "Files")]
    tmpfs: Vec<Tmpfs>,
    /// Make its root file system read-only
    #[arg(long, help_heading = "Files")]
    read_only: bool,

    /// Connect it to a network: bridge, host or none
    #[arg(long, visible_alias = "net", value_name = "NETWORK", help_heading = "Network")]
    network: Option<Network>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]", help_heading = "Network")]
    publish: Vec<Publish>,

    /// Limit its memory
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    memory: Option<Bytes>,
    /// Limit its share of processors
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    cpus: Option<NanoCpus>,
    /// Limit the number of its processes (-1: no limit)
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pids_limit: Option<i64>,

    /// Give it a capability
    #[arg(long, value_name = "CAPABILITY", help_heading = "Confinement")]
    cap_add: Vec<String>,
    /// Take a capability from it
    #[arg(long, value_name = "CAPABILITY", help_heading = "Confinement")]
    cap_drop: Vec<String>,
    /// Confine it otherwise: seccomp=…, apparmor=…, no-new-privileges
    #[arg(long, value_name = "OPTION", help_heading = "Confinement")]
    security_opt: Vec<String>,

    /// Print this
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// The image, and the command with its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "IMAGE")]
    words: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        if self.tty && self.interactive && !self.detach && !terminal::stdin_is_terminal() {
            return Err(Error::NoTerminal);
        }
        let (detach, quiet, cidfile) = (self.detach, self.quiet, self.cidfile.clone());
        let pull = match self.pull.as_str() {
            "always" => PullPolicy::Always,
            "never" => PullPolicy::Never,
            _ => PullPolicy::Missing,
        };
        let how = How {
            tty: self.tty,
            input: self.interactive,
            sig_proxy: self.sig_proxy,
            detach: self.tty.then(|| self.detach_keys.clone().unwrap_or_default()),
        };
        if let Some(path) = &cidfile
            && path.exists()
        {
            return Err(Error::flag(format!("the file of --cidfile, {}, exists already", path.display())));
        }
        let options = self.options()?;
        let engine = context.engine().map_err(starting)?;
        let created = engine.create(options, pull, &*progress::choose(quiet)).map_err(Error::Starting)?;
        context.trace("the container is created");
        warn(&created.warnings);
        let id = created.id.to_string();
        if let Some(path) = cidfile {
            std::fs::write(&path, &id).map_err(|source| Error::File {
                action: "write",
                path: path.display().to_string(),
                source,
            })?;
        }
        if detach {
            let session = engine.start(created, StartHow { attach: false }).map_err(Error::Starting)?;
            warn(session.warnings());
            return output::line(&id).map(|()| 0);
        }
        // From here on a signal is the container's, not ours.
        let signals = Signals::catch()?;
        let session = engine.start(created, StartHow { attach: true }).map_err(Error::Starting)?;
        context.trace("the command runs");
        let end = attached::run(session, &signals, how)?;
        context.trace("the command has ended");
        if end == End::Lost {
            // The records know more: whoever reads them puts right what a dead monitor has left.
            let code = engine.wait(&id).map_err(|_| Error::Lost)?;
            output::talk("dhow: warning: the container's monitor has died, and the container with it");
            return Ok(code as u8);
        }
        end.exit_code()
    }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        output::talk(&format!("dhow: warning: {warning}"));
    }
}

/// What fails before the command runs has an exit code that commands do not use.
pub(super) fn starting(error: Error) -> Error {
    match error {
        Error::Engine(error) => Error::Starting(error),
        other => other,
    }
}

impl Arguments {
    fn options(self) -> Result<ContainerOptions> {
        let mut words = self.words.into_iter();
        let mut options = ContainerOptions {
            image: words.next().unwrap_or_default(),
            command: words.collect(),
            entrypoint: self.entrypoint.map(|program| vec![program]),
            name: self.name,
            hostname: self.hostname,
            user: self.user,
            working_dir: self.workdir,
            env: environment::resolve(&self.env_file, &self.env)?,
            labels: self.label.into_iter().map(|Label(key, value)| (key, value)).collect(),
            tty: self.tty,
            interactive: self.interactive,
            auto_remove: self.rm,
            init: self.init,
            read_only: self.read_only,
            binds: self.volume.into_iter().map(|Volume(bind)| bind).collect(),
            tmpfs: self.tmpfs.into_iter().map(|Tmpfs(mount)| mount).collect(),
            network: self.network.map(|Network(mode)| mode).unwrap_or_default(),
            ports: self.publish.into_iter().flat_map(|Publish(ports)| ports).collect(),
            memory: self.memory.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0),
            nano_cpus: self.cpus.map(|NanoCpus(nanos)| nanos).filter(|nanos| *nanos > 0),
            // Docker: 0 and -1 both mean no limit.
            pids_limit: self.pids_limit.map(|limit| if limit <= 0 { -1 } else { limit }),
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            security: security::resolve(&self.security_opt)?,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
        };
        for mount in self.mount {
            match mount {
                Mount::Bind(bind) => options.binds.push(bind),
                Mount::Tmpfs(tmpfs) => options.tmpfs.push(tmpfs),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::arguments::parse;

    fn options(line: &str) -> Result<ContainerOptions> {
        let words = line.split_whitespace().map(Into::into).collect();
        parse::<Arguments>("run", words)?.unwrap().options()
    }

    #[test]
    fn signals_are_passed_on_unless_told_otherwise() {
        let sig_proxy = |line: &str| {
            let words = line.split_whitespace().map(Into::into).collect();
            parse::<Arguments>("run", words).unwrap().unwrap().sig_proxy
        };
        assert!(
            sig_proxy("image") && sig_proxy("--sig-proxy image") && !sig_proxy("--sig-proxy=false image")
        );
    }

    #[test]
    fn what_follows_the_image_is_the_commands() {
        let options = options("-it --rm --name=web debian ls --rm -e --help -- x").unwrap();
        assert!(options.tty && options.interactive && options.auto_remove);
        assert_eq!(options.image, "debian");
        assert_eq!(options.command, ["ls", "--rm", "-e", "--help", "--", "x"]);
        assert_eq!(self::options("-- debian -x").unwrap().command, ["-x"]);
        assert_eq!(self::options("debian --help").unwrap().command, ["--help"]);
    }

    #[test]
    fn flags_in_dockers_forms() {
        let options = options(
            "-e A=1 -eB=2 --env C= --label x --label y=1 -p 80 -p8080:80/udp -m64m --memory=128m --cpus 1.5 \
             --pids-limit -1 --rm=false --init=true --cap-add NET_ADMIN --cap-drop ALL -v /a:/b:ro --tmpfs /t \
             --mount type=bind,src=/c,dst=/d --net host -u 0:0 -w /x -h host --entrypoint sh --read-only \
             --security-opt no-new-privileges --stop-signal INT --stop-timeout 3 image",
        )
        .unwrap();
        assert_eq!(options.env, ["A=1", "B=2", "C="]);
        assert_eq!(options.labels.len(), 2);
        assert_eq!(options.ports.len(), 2);
        assert_eq!(
            (options.memory, options.nano_cpus, options.pids_limit),
            (Some(128 << 20), Some(1_500_000_000), Some(-1))
        );
        assert!(!options.auto_remove && options.init && options.read_only);
        assert_eq!((options.binds.len(), options.tmpfs.len()), (2, 1));
        assert_eq!(options.network, state::options::NetworkMode::Host);
        assert_eq!(options.entrypoint, Some(vec!["sh".to_owned()]));
        assert_eq!(options.security.no_new_privileges, Some(true));
        assert_eq!(self::options("--entrypoint= image").unwrap().entrypoint, Some(vec![String::new()]));
    }

    #[test]
    fn bad_values_name_flag_value_and_what_is_expected() {
        let error = options("-m lots image").unwrap_err();
        assert_eq!(error.exit_code(), 125);
        assert_eq!(
            error.to_string(),
            "run: invalid value 'lots' for '--memory <BYTES>': want a size: a number and b, k, m, g or t, such as 64m or 1.5g"
        );
        for bad in [
            "--bad image",
            "-p x image",
            "--cpus x image",
            "-v data:/x image",
            "--pull maybe image",
            "--network x image",
            "-e =1 image",
            "--rm=maybe image",
            "--memory",
        ] {
            let error = options(bad).unwrap_err();
            assert_eq!(error.exit_code(), 125, "{bad}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        assert_eq!(options("--rm").unwrap_err().exit_code(), 1);
    }
}
