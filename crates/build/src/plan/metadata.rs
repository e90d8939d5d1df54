//! Instructions that change what the image says of itself, and no file (but `WORKDIR`, which makes its directory).

use std::fmt::Write as _;

use oci::image::Healthcheck;

use super::build::Building;
use super::ports;
use super::stages::Planner;
use crate::check::{looks_secret, rule};
use crate::dockerfile::{Command, Health, Instruction, Node, Pair, Word};
use crate::error::Checked;
use crate::expand::Style;
use crate::go;
use crate::graph::{Action, Change, Files};

/// A path that is joined to another, in its shortest form; it never leaves the root.
pub(super) fn join(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What runs texts.
pub(super) fn with_shell(building: &Building, text: &str) -> Vec<String> {
    let shell = &building.execution.shell;
    let mut words =
        if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell.clone() };
    words.push(text.to_owned());
    words
}

impl Planner<'_> {
    pub(super) fn metadata(&mut self, building: &mut Building, node: &Node) -> Checked<()> {
        match &node.instruction {
            Instruction::Env(pairs) => self.env(building, node, pairs),
            Instruction::Label(pairs) => self.label(building, node, pairs),
            Instruction::Cmd(command) => {
                let words = self.command(building, node, command);
                self.only_once(node, building.cmd);
                building.cmd = Some(node.lines);
                building.execution.args_escaped = true;
                building.commit(format!("CMD {}", go::quote_list(&words)), None);
                building.execution.cmd = Some(words).filter(|words| !words.is_empty());
                Ok(())
            }
            Instruction::Entrypoint(command) => {
                let words = self.command(building, node, command);
                self.only_once(node, building.entrypoint);
                building.entrypoint = Some(node.lines);
                // A command was meant for the entrypoint that it came with.
                if building.cmd.is_none() {
                    building.execution.cmd = None;
                }
                building.commit(format!("ENTRYPOINT {}", go::quote_list(&words)), None);
                building.execution.entrypoint = Some(words).filter(|words| !words.is_empty());
                Ok(())
            }
            Instruction::Expose(words) => self.expose(building, node, words),
            Instruction::Volume(words) => {
                let mut volumes = Vec::new();
                for word in words {
                    let volume = self.word(building, node, word)?;
                    if volume.is_empty() {
                        return Err(node.fault(word.at.clone(), "a VOLUME cannot be an empty text"));
                    }
                    volumes.push(volume);
                }
                building.commit(format!("VOLUME {}", go::list(&volumes)), None);
                building.execution.volumes.extend(volumes);
                Ok(())
            }
            Instruction::User(word) => {
                let user = self.word(building, node, word)?;
                building.commit(format!("USER {user}"), None);
                building.execution.user = user;
                Ok(())
            }
            Instruction::StopSignal(word) => {
                let signal = self.word(building, node, word)?;
                if !is_signal(&signal) {
                    return Err(node.fault(word.at.clone(), format!("invalid signal: {signal}")).help(
                        "a signal is a name as SIGTERM, TERM or SIGRTMIN+3, or a number from 1 to 64",
                    ));
                }
                building.commit(format!("STOPSIGNAL {signal}"), None);
                building.execution.stop_signal = Some(signal);
                Ok(())
            }
            Instruction::Maintainer(word) => {
                building.commit(format!("MAINTAINER {}", word.text), None);
                building.config.author = Some(word.text.clone());
                Ok(())
            }
            Instruction::Shell(words) => {
                building.commit(format!("SHELL {}", go::list(words)), None);
                building.execution.shell.clone_from(words);
                Ok(())
            }
            Instruction::Healthcheck(health) => {
                self.only_once(node, building.healthcheck);
                building.healthcheck = Some(node.lines);
                building.commit(format!("HEALTHCHECK {}", shown_health(health)), None);
                building.execution.healthcheck = Some(Healthcheck {
                    test: health.test.clone(),
                    interval: health.interval,
                    timeout: health.timeout,
                    start_period: health.start_period,
                    start_interval: health.start_interval,
                    retries: health.retries,
                });
                Ok(())
            }
            Instruction::Onbuild(trigger) => {
                building.execution.on_build.push(trigger.clone());
                Ok(())
            }
            Instruction::From(_)
            | Instruction::Arg(_)
            | Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Workdir(_) => Ok(()),
        }
    }

    fn only_once(&mut self, node: &Node, before: Option<(usize, usize)>) {
        if let Some(lines) = before {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                node.keyword
            );
            self.checks.warn(rule::MULTIPLE_INSTRUCTIONS_DISALLOWED, lines, &node.comments, message);
        }
    }

    /// The words of a `CMD` or an `ENTRYPOINT`.
    fn command(&mut self, building: &Building, node: &Node, command: &Command) -> Vec<String> {
        match command {
            Command::Words(words) => words.clone(),
            Command::Shell(word) => {
                if building.execution.shell.is_empty() {
                    let message = format!(
                        "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                        node.keyword
                    );
                    self.checks.warn(rule::JSON_ARGS_RECOMMENDED, node.lines, &node.comments, message);
                }
                with_shell(building, &word.text)
            }
        }
    }

    /// Keys and values, all replaced by what was known before any of them.
    fn pairs(&mut self, building: &Building, node: &Node, pairs: &[Pair]) -> Checked<Vec<(String, String)>> {
        let mut known = Vec::new();
        for pair in pairs {
            let key = self.word(building, node, &pair.key)?;
            let value = self.word(building, node, &pair.value)?;
            if key.is_empty() {
                return Err(node.fault(pair.key.at.clone(), "a name is empty"));
            }
            if pair.legacy {
                let keyword = &node.keyword;
                let message = format!(
                    "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
                );
                self.checks.warn(rule::LEGACY_KEY_VALUE_FORMAT, node.lines, &node.comments, message);
            }
            known.push((key, value));
        }
        Ok(known)
    }

    fn no_secret(&mut self, node: &Node, instruction: &str, name: &str) {
        if looks_secret(name) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")");
            self.checks.warn(rule::SECRETS_USED_IN_ARG_OR_ENV, node.lines, &node.comments, message);
        }
    }

    fn env(&mut self, building: &mut Building, node: &Node, pairs: &[Pair]) -> Checked<()> {
        let mut text = "ENV".to_owned();
        for (key, value) in self.pairs(building, node, pairs)? {
            self.no_secret(node, "ENV", &key);
            let entry = format!("{key}={value}");
            let _ = write!(text, " {entry}");
            let env = &mut building.execution.env;
            let place = *building.places.entry(key.clone()).or_insert(env.len());
            match env.get_mut(place) {
                Some(known) => *known = entry,
                None => env.push(entry),
            }
            building.scope.set(&key, value);
        }
        building.commit(text, None);
        Ok(())
    }

    fn label(&mut self, building: &mut Building, node: &Node, pairs: &[Pair]) -> Checked<()> {
        let mut text = "LABEL".to_owned();
        for (key, value) in self.pairs(building, node, pairs)? {
            let _ = write!(text, " {key}={value}");
            building.execution.labels.insert(key, value);
        }
        building.commit(text, None);
        Ok(())
    }

    pub(super) fn argument(
        &mut self,
        building: &mut Building,
        node: &Node,
        arguments: &[(Word, Option<Word>)],
    ) -> Checked<()> {
        let mut texts = Vec::new();
        for (name, default) in arguments {
            let name = &name.text;
            self.no_secret(node, "ARG", name);
            self.asked.insert(name.clone());
            let value = match (self.options.build_args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.word(building, node, default)?),
                (None, None) => self.globals.get(name).map(str::to_owned),
            };
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = &value
                && !["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"].contains(&&**name)
            {
                building.scope.set(name, value.clone());
            }
            building.declared.insert(name.clone());
            building.arguments.push((name.clone(), value));
        }
        building.commit(format!("ARG {}", texts.join(" ")), None);
        Ok(())
    }

    pub(super) fn workdir(&mut self, building: &mut Building, node: &Node, word: &Word) -> Checked<()> {
        let path = self.word(building, node, word)?;
        if path.is_empty() {
            return Err(node.fault(word.at.clone(), "the WORKDIR is empty"));
        }
        if !building.workdir_set && !path.starts_with('/') {
            let message =
                format!("Relative workdir \"{path}\" can have unexpected results if the base image changes");
            self.checks.warn(rule::WORKDIR_RELATIVE_PATH, node.lines, &node.comments, message);
        }
        building.workdir_set = true;
        let directory = join(&building.execution.working_dir, &path);
        building.execution.working_dir.clone_from(&directory);
        let text = format!("WORKDIR {directory}");
        if directory == "/" {
            building.commit(text, None);
            return Ok(());
        }
        let style = Style::new(self.dockerfile.escape);
        let shown = building.shown(node.code(), style, &[]);
        let title = building.title(node, &shown);
        let owner = Some(building.execution.user.clone()).filter(|user| !user.is_empty());
        let change = Change::MakeDirectory { target: directory, owner };
        let files = Files { base: building.step, changes: vec![change], link: false };
        let step = self.push(Action::Files(files), title, Some(node.lines), building.no_cache);
        building.commit(text, Some(step));
        Ok(())
    }

    fn expose(&mut self, building: &mut Building, node: &Node, words: &[Word]) -> Checked<()> {
        let mut words = words.to_vec();
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let mut exposed = Vec::new();
        for word in &words {
            for port in self.words(building, node, word)?.1 {
                let ports = ports::parse(&port).map_err(|why| {
                    node.fault(word.at.clone(), format!("invalid port: `{port}`: {why}"))
                        .help("a port is written 80, 80/udp or 8000-8010/tcp")
                })?;
                if ports.odd_case {
                    let message =
                        format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                    self.checks.warn(rule::EXPOSE_PROTO_CASING, node.lines, &node.comments, message);
                }
                if ports.of_host {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    );
                    self.checks.warn(rule::EXPOSE_INVALID_FORMAT, node.lines, &node.comments, message);
                }
                exposed.extend(ports.exposed());
            }
        }
        building.commit(format!("EXPOSE {}", go::list(&exposed)), None);
        building.execution.exposed_ports.extend(exposed);
        Ok(())
    }
}

/// As Go shows the struct.
fn shown_health(health: &Health) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        go::list(&health.test),
        go::duration(health.interval),
        go::duration(health.timeout),
        go::duration(health.start_period),
        go::duration(health.start_interval),
        health.retries
    )
}

/// A signal's number or name, as Docker takes them.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 37] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX", "UNUSED",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, most: u8| {
        name.strip_prefix(prefix).and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| (1..=most).contains(&n))
    };
    NAMES.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}
