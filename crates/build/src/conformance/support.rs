//! What the cases stand on: images that are made up, and short words for what a plan says.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::graph::{Action, Bases, Change, Image, Mode, Mounted, Network, Plan};
use crate::{Error, Options};
use oci::image::{Execution, History, ImageConfig, Platform};

pub(crate) fn linux(architecture: &str) -> Platform {
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), ..Platform::default() }
}

pub(crate) fn options() -> Options {
    Options { platform: linux("amd64"), build_platform: linux("amd64"), ..Options::default() }
}

pub(crate) fn with_args(arguments: &[(&str, &str)]) -> Options {
    let build_args =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Options { build_args, ..options() }
}

pub(crate) fn target(name: &str) -> Options {
    Options { target: Some(name.to_owned()), ..options() }
}

/// Some images.
pub(crate) struct Images;

impl Bases for Images {
    fn find(&self, reference: &str, platform: &Platform) -> Result<(Image, ImageConfig), String> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut execution = Execution {
            env: owned(&["PATH=/bin", "BASE=1"]),
            cmd: Some(owned(&["sh"])),
            ..Execution::default()
        };
        match reference.split([':', '@']).next().unwrap_or_default() {
            "alpine" | "nginx" | "docker.io/library/alpine" | "ghcr.io/a/b" => {}
            "bare" => execution = Execution::default(),
            "full" => {
                execution.entrypoint = Some(owned(&["/entry"]));
                "/srv".clone_into(&mut execution.working_dir);
                "app".clone_into(&mut execution.user);
                execution.shell = owned(&["/bin/bash", "-c"]);
                execution.labels = BTreeMap::from([("a".to_owned(), "base".to_owned())]);
                execution.exposed_ports = ["80/tcp".to_owned()].into();
                execution.volumes = ["/data".to_owned()].into();
            }
            "trigger" => execution.on_build = owned(&["RUN one", "COPY . /src"]),
            "trigger-from" => execution.on_build = owned(&["COPY --from=nginx /a /b"]),
            "trigger-stage" => execution.on_build = owned(&["COPY --from=first /a /b"]),
            "trigger-bad" => execution.on_build = owned(&["RUNN x"]),
            "trigger-nested" => execution.on_build = owned(&["ONBUILD RUN x"]),
            "trigger-heredoc" => execution.on_build = owned(&["RUN <<EOF\necho hi\nEOF"]),
            "trigger-var" => execution.on_build = owned(&["ARG V=1", "ENV W=$V"]),
            _ => return Err("there is no such image".to_owned()),
        }
        let line = History {
            created_by: Some("base".to_owned()),
            created: Some("then".to_owned()),
            ..History::default()
        };
        let config = ImageConfig {
            created: Some("then".to_owned()),
            platform: platform.clone(),
            config: Some(execution),
            history: vec![line],
            ..ImageConfig::default()
        };
        let digest = format!("sha256:{}", "ab".repeat(32));
        Ok((Image { reference: reference.to_owned(), digest, platform: platform.clone() }, config))
    }
}

pub(crate) fn plan_with(source: &str, options: &Options) -> Result<Plan, Error> {
    let plan = crate::plan(source, options, &Images)?;
    sound(&plan);
    Ok(plan)
}

pub(crate) fn plan(source: &str) -> Plan {
    plan_with(source, &options()).unwrap_or_else(|error| panic!("{source}\n{}", error.report()))
}

/// What is true of every plan.
pub(crate) fn sound(plan: &Plan) {
    for (index, step) in plan.graph.steps.iter().enumerate() {
        assert!(step.action.inputs().iter().all(|input| input.0 < index), "{:#?}", plan.graph);
        assert!(!step.title.contains('\n'), "{:?}", step.title);
    }
    let mut needed = vec![false; plan.graph.steps.len()];
    needed[plan.output.0] = true;
    for index in (0..needed.len()).rev() {
        assert!(needed[index], "step {index} is not needed: {:#?}", plan.graph);
        plan.graph.steps[index].action.inputs().iter().for_each(|input| needed[input.0] = true);
    }
    let added =
        plan.config.history.iter().filter(|line| line.comment.as_deref() == Some("buildkit.dockerfile.v0"));
    assert_eq!(added.filter(|line| !line.empty_layer).count(), plan.layers.len());
}

pub(crate) fn execution(source: &str) -> Execution {
    plan(source).config.config.unwrap()
}

/// The lines of the history that the build adds; those without a layer begin with `-`.
pub(crate) fn history(plan: &Plan) -> Vec<String> {
    let own = plan.config.history.iter().filter(|line| line.comment.is_some());
    own.map(|line| {
        let text = line.created_by.clone().unwrap_or_default();
        if line.empty_layer { format!("- {text}") } else { text }
    })
    .collect()
}

pub(crate) fn titles(plan: &Plan) -> Vec<String> {
    plan.graph.steps.iter().map(|step| step.title.clone()).collect()
}

/// The error's line: `3:1: message`.
pub(crate) fn error(source: &str) -> String {
    error_with(source, &options())
}

pub(crate) fn error_with(source: &str, options: &Options) -> String {
    match plan_with(source, options) {
        Ok(plan) => panic!("no error: {source}\n{plan:#?}"),
        Err(error) => {
            assert!(error.report().starts_with(&error.to_string()));
            error.to_string().strip_prefix("Dockerfile:").unwrap().trim_start().to_owned()
        }
    }
}

/// The steps in short, each on a line.
pub(crate) fn steps(plan: &Plan) -> Vec<String> {
    plan.graph.steps.iter().map(|step| describe(&step.action)).collect()
}

pub(crate) fn describe(action: &Action) -> String {
    match action {
        Action::Scratch => "scratch".to_owned(),
        Action::Image(image) => {
            format!("image {} {}/{}", image.reference, image.platform.os, image.platform.architecture)
        }
        Action::Context(context) => format!("context {}", context.name.as_deref().unwrap_or("-")),
        Action::Git(git) => format!(
            "git {} {}:{}{}{}",
            git.url,
            git.reference,
            git.subdirectory,
            if git.keep_git_dir { " .git" } else { "" },
            git.checksum.as_ref().map(|c| format!(" {c}")).unwrap_or_default()
        ),
        Action::Http(http) => format!(
            "http {} {}{}",
            http.url,
            http.name,
            http.checksum.as_ref().map(|_| " checked").unwrap_or_default()
        ),
        Action::Run(run) => {
            let mut text = format!("run {} {:?}", run.base.0, run.arguments);
            if run.network != Network::Default {
                let _ = write!(text, " net={:?}", run.network);
            }
            if run.insecure {
                text.push_str(" insecure");
            }
            for (name, content) in &run.pipes {
                let _ = write!(text, " {name}={:?}", String::from_utf8_lossy(content));
            }
            for mount in &run.mounts {
                let _ = write!(text, " | {} {}", mount.target, mounted(&mount.what));
            }
            text
        }
        Action::Files(files) => {
            let mut text = format!("files {}{}", files.base.0, if files.link { " link" } else { "" });
            for change in &files.changes {
                let _ = write!(text, " | {}", changed(change));
            }
            text
        }
    }
}

fn mounted(what: &Mounted) -> String {
    let must = |required: bool| if required { " required" } else { "" };
    match what {
        Mounted::Bind { from, source, writable } => {
            format!("bind {} {source}{}", from.0, if *writable { " rw" } else { "" })
        }
        Mounted::Cache { id, from, source, sharing, mode, uid, gid, read_only } => format!(
            "cache {id}{} {source} {sharing:?} {mode:o} {uid}:{gid}{}",
            from.map(|from| format!(" from {}", from.0)).unwrap_or_default(),
            if *read_only { " ro" } else { "" }
        ),
        Mounted::Tmpfs { size } => format!("tmpfs {size:?}"),
        Mounted::Secret { id, required, mode, uid, gid } => {
            format!("secret {id}{} {mode:o} {uid}:{gid}", must(*required))
        }
        Mounted::SecretEnv { id, required, name } => format!("secret {id}{} as {name}", must(*required)),
        Mounted::Ssh { id, required, mode, uid, gid } => {
            format!("ssh {id}{} {mode:o} {uid}:{gid}", must(*required))
        }
    }
}

fn changed(change: &Change) -> String {
    let marks = |owner: &Option<String>, mode: &Option<Mode>| {
        let mode = mode.as_ref().map(|mode| match mode {
            Mode::Octal(mode) => format!(" {mode:o}"),
            Mode::Symbolic(mode) => format!(" {mode}"),
        });
        format!(
            "{}{}",
            owner.as_ref().map(|o| format!(" by {o}")).unwrap_or_default(),
            mode.unwrap_or_default()
        )
    };
    match change {
        Change::Copy(copy) => {
            let mut text = format!(
                "copy {} {:?} {}{}",
                copy.from.0,
                copy.sources,
                copy.target,
                marks(&copy.owner, &copy.mode)
            );
            if !copy.exclude.is_empty() {
                let _ = write!(text, " not {:?}", copy.exclude);
            }
            for (is, name) in [(copy.parents, " parents"), (copy.unpack, " unpack"), (!copy.required, " any")]
            {
                if is {
                    text.push_str(name);
                }
            }
            text
        }
        Change::Write { target, content, owner, mode } => {
            format!("write {target} {:?}{}", String::from_utf8_lossy(content), marks(owner, mode))
        }
        Change::MakeDirectory { target, owner } => format!("mkdir {target}{}", marks(owner, &None)),
    }
}

/// The rules that the checks name, each with its lines and message.
pub(crate) fn warnings(source: &str) -> Vec<String> {
    warnings_with(source, &options())
}

pub(crate) fn warnings_with(source: &str, options: &Options) -> Vec<String> {
    let (warnings, error) = crate::check(source, options, &Images);
    assert_eq!(error, None, "{source}");
    warnings.iter().map(|w| format!("{} {}: {}", w.lines.0, w.rule, w.message)).collect()
}
