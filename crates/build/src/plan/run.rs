//! `RUN`.

use std::fmt::Write as _;

use std::collections::BTreeMap;

use super::build::Building;
use super::metadata::{join, with_shell};
use super::scope::PROXIES;
use super::stages::{Planner, malformed_word};
use crate::dockerfile::mount::{self, Kind};
use crate::dockerfile::{Command, Heredoc, Node, Running, Word};
use crate::error::Checked;
use crate::expand::Style;
use crate::graph::{Action, Mount, Mounted, Run};

/// Where the files of here-documents are that have an interpreter of their own.
const PIPES: &str = "/dev/pipes";

/// What is to be executed.
struct Script {
    arguments: Vec<String>,
    pipes: BTreeMap<String, Vec<u8>>,
    /// What titles say of the here-document.
    summary: Option<String>,
}

impl Planner<'_> {
    pub(super) fn run(&mut self, building: &mut Building, node: &Node, run: &Running) -> Checked<()> {
        let script = script(building, node, &run.command);
        let mut mounts = Vec::new();
        for word in &run.mounts {
            mounts.extend(self.mount(building, node, word, mounts.len())?);
        }
        let mut env = building.scope.clone();
        let agent = mounts.iter().find(|mount| matches!(mount.what, Mounted::Ssh { .. }));
        if let Some(agent) = agent.filter(|_| building.scope.get("SSH_AUTH_SOCK").is_none()) {
            env.set("SSH_AUTH_SOCK", agent.target.clone());
        }
        let mut unkeyed = Vec::new();
        for (name, value) in &self.options.build_args {
            if !PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name)) {
                continue;
            }
            for name in [name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                // One that is declared is an argument like any other.
                if building.scope.get(&name).is_none() {
                    env.set(&name, value.clone());
                    if !unkeyed.contains(&name) {
                        unkeyed.push(name);
                    }
                }
            }
        }
        let secrets: Vec<String> = mounts
            .iter()
            .filter_map(|mount| match &mount.what {
                Mounted::SecretEnv { name, .. } => Some(name.clone()),
                _ => None,
            })
            .collect();
        let style = Style { keep_quotes: true, keep_unset: true, ..Style::new(self.dockerfile.escape) };
        let code = match &script.summary {
            Some(summary) => format!("{} ({summary})", node.code()),
            None => node.code().to_owned(),
        };
        let shown = building.shown(&code, style, &secrets);
        let title = building.title(node, &shown);
        let text = history(building, &script.arguments);
        let execution = &building.execution;
        let directory = if execution.working_dir.is_empty() { "/" } else { &execution.working_dir };
        let run = Run {
            base: building.step,
            arguments: script.arguments,
            env: env.to_env(),
            unkeyed,
            directory: directory.to_owned(),
            user: execution.user.clone(),
            mounts,
            network: run.network,
            insecure: run.insecure,
            pipes: script.pipes,
        };
        self.spend(node, run.env.iter().chain(&run.arguments).map(String::len).sum())?;
        let step = self.push(Action::Run(Box::new(run)), title, Some(node.lines), building.no_cache);
        building.commit(text, Some(step));
        Ok(())
    }

    /// What a `--mount` mounts: a secret may be a file and a variable.
    fn mount(&mut self, building: &Building, node: &Node, word: &Word, before: usize) -> Checked<Vec<Mount>> {
        let mut faults = None;
        let mut undefined = Vec::new();
        let parsed = {
            let planner = &*self;
            let mut expand = |value: &str| {
                let value = Word { text: value.to_owned(), at: word.at.clone() };
                let expanded = planner.expand(node, &value, &building.scope).map_err(|fault| {
                    let message = fault.message().to_owned();
                    faults = Some(fault);
                    message
                })?;
                undefined.extend(expanded.undefined);
                Ok(expanded.text)
            };
            mount::Mount::parse(&word.text, &mut expand)
        };
        for name in &undefined {
            self.undefined(building, node, name);
        }
        let mount = parsed.map_err(|wrong| {
            if let Some(fault) = faults.take() {
                return fault;
            }
            let fault = node.fault(word.at.clone(), wrong.message).meant(wrong.suggestion);
            wrong.help.into_iter().fold(fault, |fault, help| fault.help(help))
        })?;
        let target = join(&building.execution.working_dir, &mount.target);
        let source = join("/", &mount.source);
        let (mode, uid, gid) = (mount.mode, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let required = mount.required;
        let at = |target: String, what: Mounted| {
            if target == "/" {
                return Err(node
                    .fault(word.at.clone(), "the target of a mount cannot be the root")
                    .help("say where it is mounted: target=/path"));
            }
            Ok(vec![Mount { target, what }])
        };
        let from = mount.from.as_ref().map(|from| Word { text: from.clone(), at: word.at.clone() });
        match mount.kind {
            Kind::Bind => {
                let from = match &from {
                    None => self.context(),
                    Some(from) => self.source(node, from, building.index)?,
                };
                at(target, Mounted::Bind { from, source, writable: !mount.read_only })
            }
            Kind::Cache => {
                let from = match from.as_ref().filter(|from| from.text != "scratch") {
                    None => None,
                    Some(from) => Some(self.source(node, from, building.index)?),
                };
                // As it is written: a directory below any working directory is one cache.
                let id = mount.id.unwrap_or_else(|| {
                    let clean = join("/", &mount.target);
                    if mount.target.starts_with('/') { clean } else { clean[1..].to_owned() }
                });
                let id = match self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
                    Some(namespace) => format!("{namespace}/{id}"),
                    None => id,
                };
                let (sharing, read_only) = (mount.sharing.unwrap_or_default(), mount.read_only);
                let mode = mode.unwrap_or(0o755);
                at(target, Mounted::Cache { id, from, source, sharing, mode, uid, gid, read_only })
            }
            Kind::Tmpfs => at(target, Mounted::Tmpfs { size: mount.size.filter(|size| *size > 0) }),
            Kind::Secret => {
                let named = Some(mount.source.clone()).filter(|source| !source.is_empty()).or(mount.id);
                let base =
                    |path: &str| path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path).to_owned();
                let id = named.unwrap_or_else(|| base(&mount.target));
                let mut mounts = Vec::new();
                if let Some(name) = mount.env.clone() {
                    let name = if name.is_empty() { base(&id) } else { name };
                    let what = Mounted::SecretEnv { id: id.clone(), required, name };
                    mounts.push(Mount { target: String::new(), what });
                }
                if mount.env.is_none() || !mount.target.is_empty() {
                    let target =
                        if mount.target.is_empty() { format!("/run/secrets/{}", base(&id)) } else { target };
                    let mode = mode.unwrap_or(0o400);
                    mounts.extend(at(target, Mounted::Secret { id, required, mode, uid, gid })?);
                }
                Ok(mounts)
            }
            Kind::Ssh => {
                let target = if mount.target.is_empty() {
                    format!("/run/buildkit/ssh_agent.{before}")
                } else {
                    target
                };
                let id = mount.id.unwrap_or_else(|| "default".to_owned());
                at(target, Mounted::Ssh { id, required, mode: mode.unwrap_or(0o600), uid, gid })
            }
        }
    }
}

/// The words of a command, with what its here-documents make of it.
fn script(building: &Building, node: &Node, command: &Command) -> Script {
    let mut script = Script { arguments: Vec::new(), pipes: BTreeMap::new(), summary: None };
    let word = match command {
        Command::Words(words) => {
            script.arguments.clone_from(words);
            return script;
        }
        Command::Shell(word) => word,
    };
    let Some(first) = node.heredocs.first() else {
        script.arguments = with_shell(building, &word.text);
        return script;
    };
    if Heredoc::parse(&word.text).is_none() {
        // The shell reads its here-documents itself.
        let mut text = word.text.clone();
        for heredoc in &node.heredocs {
            let _ = write!(text, "\n{}{}", heredoc.content, heredoc.name);
        }
        script.arguments = with_shell(building, &text);
        return script;
    }
    let content = first.stripped();
    script.summary = Some(summary(&first.content));
    if content.starts_with("#!") {
        script.arguments = vec![format!("{PIPES}/{}", first.name)];
        script.pipes.insert(first.name.clone(), content.into_bytes());
    } else {
        script.arguments = with_shell(building, &content);
    }
    script
}

/// The first line of a here-document.
fn summary(content: &str) -> String {
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first}...") } else { first.to_owned() }
}

/// What the history says: the arguments that it was run with, and its words.
fn history(building: &Building, arguments: &[String]) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in &building.arguments {
        let value = building.scope.get(name).or(value.as_deref()).unwrap_or_default();
        if values.insert(name, value).is_none() {
            names.push(name);
        }
    }
    let mut words = Vec::new();
    if !names.is_empty() {
        words.push(format!("|{}", names.len()));
        words.extend(names.iter().map(|name| format!("{name}={}", values.get(name).unwrap_or(&""))));
    }
    words.extend(arguments.iter().cloned());
    format!("RUN {} # buildkit", words.join(" "))
}

/// The variables of a here-document that is copied. Quotes in it are its own.
pub(super) fn expand_heredoc(
    planner: &mut Planner<'_>,
    building: &Building,
    node: &Node,
    heredoc: &Heredoc,
) -> Checked<String> {
    let content = heredoc.stripped();
    if !heredoc.expand {
        return Ok(content);
    }
    let style = Style { no_quotes: true, ..Style::new('\\') };
    let get = |name: &str| building.scope.get(name).map(str::to_owned);
    let expanded = crate::expand::expand(&content, style, &get).map_err(|mut malformed| {
        malformed.message = format!("in the here-document {}: {}", heredoc.name, malformed.message);
        malformed_word(node, &Word { text: content.clone(), at: heredoc.at.clone() }, &malformed)
    })?;
    for name in &expanded.undefined {
        planner.undefined(building, node, name);
    }
    Ok(expanded.text)
}
