//! `dhow build`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use engine::{BuildForm, BuildOptions, BuildOutput, BuildWarning, Built, PullPolicy};
use serde_json::json;
use state::options::{ContainerOptions, NetworkMode};

use crate::building::{self, How};
use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::build::{Output, Secret, Ssh};
use crate::flags::host_entry::AddHost;
use crate::flags::label::Label;
use crate::flags::limits::LimitFlags;
use crate::flags::size::Bytes;
use crate::flags::ulimit::{self, Limit};
use crate::globals::Context;
use crate::output;

/// Build an image from a Dockerfile.
#[derive(Debug, Parser)]
#[command(name = "build")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Arguments {
    /// Name the image so
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "Result")]
    tag: Vec<String>,
    /// Where the result goes: a directory, - (an archive of its files), or
    /// type=image|oci|docker|tar|local|registry|cacheonly,dest=PATH
    #[arg(short, long, value_name = "DESTINATION", help_heading = "Result")]
    output: Vec<Output>,
    /// Into the image store (it does, unless --output says otherwise)
    #[arg(long, help_heading = "Result")]
    load: bool,
    /// Push the image, too
    #[arg(long, help_heading = "Result")]
    push: bool,
    /// Label the image
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Result")]
    label: Vec<Label>,
    /// Annotate the image's manifest
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Result")]
    annotation: Vec<Label>,
    /// Write the image's id into a file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    iidfile: Option<PathBuf>,
    /// Write what was made into a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    metadata_file: Option<PathBuf>,
    /// What the image is for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Result")]
    platform: Option<String>,

    /// The Dockerfile (Dockerfile in the context; - is standard input)
    #[arg(short, long, value_name = "PATH", help_heading = "Source")]
    file: Option<String>,
    /// Build this stage
    #[arg(long, value_name = "STAGE", help_heading = "Source")]
    target: Option<String>,
    /// Give an ARG a value; without =VALUE the one that it has here
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Source")]
    build_arg: Vec<String>,
    /// One more context: a directory, docker-image://NAME, or an address
    #[arg(long, value_name = "NAME=CONTEXT", help_heading = "Source")]
    build_context: Vec<String>,
    /// Pull bases even if they are here
    #[arg(long, help_heading = "Source")]
    pull: bool,
    /// A secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=NAME
    #[arg(long, value_name = "SECRET", help_heading = "Source")]
    secret: Vec<Secret>,
    /// An agent for RUN --mount=type=ssh: default, or ID=SOCKET
    #[arg(long, value_name = "AGENT", help_heading = "Source")]
    ssh: Vec<Ssh>,

    /// Take nothing from the cache
    #[arg(long, help_heading = "Cache")]
    no_cache: bool,
    /// Take nothing of these stages from the cache
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Cache")]
    no_cache_filter: Vec<String>,
    /// Say of each step that was not cached what has changed
    #[arg(long, help_heading = "Cache")]
    explain: bool,
    /// Is refused: the cache is this machine's
    #[arg(long, value_name = "SOURCE", hide = true)]
    cache_from: Vec<String>,
    /// Is refused: the cache is this machine's
    #[arg(long, value_name = "DESTINATION", hide = true)]
    cache_to: Vec<String>,

    /// How RUNs are on the network: default, none or host
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = ["default", "bridge", "none", "host"], help_heading = "Running")]
    network: String,
    /// Add a line to /etc/hosts of RUNs
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Running")]
    add_host: Vec<AddHost>,
    /// Allow RUNs what they ask for: network.host, security.insecure
    #[arg(long, value_name = "RIGHT", value_delimiter = ',', value_parser = ["network.host", "security.insecure"], help_heading = "Running")]
    allow: Vec<String>,
    /// Put the groups of RUNs below this one
    #[arg(long, value_name = "PATH", help_heading = "Running")]
    cgroup_parent: Option<String>,
    /// Limit a resource of RUNs
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    ulimit: Vec<Limit>,
    /// The size of /dev/shm of RUNs
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    shm_size: Option<Bytes>,
    #[command(flatten)]
    limits: LimitFlags,

    /// How to tell of it
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = How::NAMES, help_heading = "Talk")]
    progress: String,
    /// Only print the image's id
    #[arg(short, long, help_heading = "Talk")]
    quiet: bool,
    /// Build nothing: say what is wrong with the Dockerfile
    #[arg(long, help_heading = "Talk")]
    check: bool,
    /// build, or check, which is --check
    #[arg(long, value_name = "METHOD", value_parser = ["build", "check", "lint"], hide = true)]
    call: Option<String>,

    /// Attest how it was built: no more than false is known
    #[arg(long, value_name = "FORM", hide = true)]
    provenance: Option<String>,
    /// Attest what is in it: no more than false is known
    #[arg(long, value_name = "FORM", hide = true)]
    sbom: Option<String>,
    /// Has no meaning: nothing is left
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<String>,
    /// Has no meaning: nothing is left
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Has no meaning: there is one builder
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,

    /// The context: a directory, - (standard input), a Git repository, or the address of an archive
    #[arg(value_name = "CONTEXT")]
    context: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        for (flag, value) in [("--provenance", &self.provenance), ("--sbom", &self.sbom)] {
            if value.as_deref().is_some_and(|value| !matches!(value, "false" | "0" | "disabled=true")) {
                let message = format!("{flag}: attestations are not made");
                return Err(Error::Flag {
                    message,
                    hints: vec![format!("leave it out, or say {flag}=false")],
                });
            }
        }
        for (flag, values) in [("--cache-from", &self.cache_from), ("--cache-to", &self.cache_to)] {
            if !values.is_empty() {
                return Err(Error::Flag {
                    message: format!("{flag}: caches elsewhere are not supported yet"),
                    hints: vec!["leave it out: what was built on this machine is found again".to_owned()],
                });
            }
        }
        let how = if self.quiet { How::Quiet } else { How::named(&self.progress) };
        let check = self.check || matches!(self.call.as_deref(), Some("check" | "lint"));
        let (quiet, iidfile, metadata_file) = (self.quiet, self.iidfile.clone(), self.metadata_file.clone());
        let options = self.options()?;
        let engine = context.engine()?;
        if check {
            return tell_check(&engine.check_build(&options, &engine::SilentBuild)?, options.file.as_deref());
        }
        let progress = building::choose(how);
        let built = engine.build(&options, &*progress);
        drop(progress);
        let built = built?;
        if !quiet {
            tell_warnings(&built.warnings);
        }
        if let Some(image) = &built.image {
            if quiet {
                output::line(&image.id.to_string())?;
            }
            if let Some(path) = &iidfile {
                write(path, image.id.to_string().as_bytes())?;
            }
        }
        if let Some(path) = &metadata_file {
            write(path, metadata(&built).as_bytes())?;
        }
        Ok(0)
    }
}

impl Arguments {
    fn options(self) -> Result<BuildOptions> {
        let mut limited = ContainerOptions::default();
        self.limits.changes().apply(&mut limited);
        limited.limits.ulimits = ulimit::resolve(self.ulimit);
        limited.limits.shm_size = self.shm_size.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0);
        let mut outputs: Vec<BuildOutput> = self.output.into_iter().map(|Output(output)| output).collect();
        if self.load && !outputs.iter().any(|output| output.form == BuildForm::Image)
            || self.push && outputs.is_empty()
        {
            outputs.push(BuildOutput {
                form: BuildForm::Image,
                destination: None,
                names: Vec::new(),
                push: false,
            });
        }
        if self.push {
            let images = outputs.iter_mut().filter(|output| output.form == BuildForm::Image);
            let mut pushed = 0;
            for image in images {
                image.push = true;
                pushed += 1;
            }
            if pushed == 0 {
                return Err(Error::flag("--push is for an image, and --output asks for none"));
            }
        }
        if outputs.iter().filter(|output| to_stdout(output)).count() > 1 {
            return Err(Error::flag("only one output can go to standard output"));
        }
        if outputs.iter().any(to_stdout) && rustix::termios::isatty(rustix::stdio::stdout()) {
            return Err(Error::Usage {
                message: "build: an archive is not for a terminal".to_owned(),
                hints: vec!["name a file (dest=FILE), or send it somewhere (| …)".to_owned()],
            });
        }
        Ok(BuildOptions {
            context: self.context,
            file: self.file,
            tags: self.tag,
            target: self.target,
            build_args: arguments(&self.build_arg)?,
            contexts: contexts(&self.build_context)?,
            platform: self.platform,
            labels: self.label.into_iter().map(|Label(key, value)| (key, value)).collect(),
            annotations: annotations(self.annotation)?,
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_filter,
            pull: if self.pull { PullPolicy::Always } else { PullPolicy::Missing },
            outputs,
            secrets: self.secret.into_iter().map(|Secret(id, from)| (id, from)).collect(),
            ssh: self.ssh.into_iter().map(|Ssh(id, socket)| (id, socket)).collect(),
            network: match &*self.network {
                "none" => NetworkMode::None,
                "host" => NetworkMode::Host,
                _ => NetworkMode::Bridge,
            },
            hosts: self.add_host.into_iter().map(|AddHost(entry)| entry).collect(),
            limits: limited.limits,
            memory: limited.memory,
            nano_cpus: limited.nano_cpus,
            pids_limit: limited.pids_limit,
            cgroup_parent: self.cgroup_parent.filter(|path| !path.is_empty()),
            allow_host_network: self.network == "host"
                || self.allow.iter().any(|right| right == "network.host"),
            allow_insecure: self.allow.iter().any(|right| right == "security.insecure"),
            explain: self.explain,
        })
    }
}

fn to_stdout(output: &BuildOutput) -> bool {
    output.destination.is_none() && matches!(output.form, BuildForm::Oci | BuildForm::Docker | BuildForm::Tar)
}

/// Without a value it is the one of our own environment, if there is one.
fn arguments(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&**text, std::env::var(text).ok()),
        };
        if name.is_empty() {
            return Err(Error::flag(format!("invalid value '{text}' for '--build-arg': want NAME[=VALUE]")));
        }
        if let Some(value) = value {
            all.insert(name.to_owned(), value);
        }
    }
    Ok(all)
}

fn contexts(given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Error::flag(format!("invalid value '{text}' for '--build-context': want NAME=CONTEXT"))),
    };
    given.iter().map(pair).collect()
}

/// As BuildKit has them, with the level that they are of before the key: ours are all the manifest's.
fn annotations(given: Vec<Label>) -> Result<BTreeMap<String, String>> {
    let one = |Label(key, value): Label| match key.split_once(':') {
        Some(("manifest", key)) => Ok((key.to_owned(), value)),
        Some((level @ ("index" | "manifest-descriptor" | "index-descriptor"), _)) => Err(Error::flag(
            format!("--annotation: there is no {level} to be annotated: the image is one manifest"),
        )),
        _ => Ok((key, value)),
    };
    given.into_iter().map(one).collect()
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |source| Error::File { action: "write", path: path.display().to_string(), source };
    std::fs::write(path, content).map_err(failed)
}

/// What buildx writes, as far as it says something of us.
fn metadata(built: &Built) -> String {
    let mut told = json!({});
    if let Some(image) = &built.image {
        let platform: Vec<&str> = image.platform.split('/').collect();
        told = json!({
            "containerimage.config.digest": image.id.to_string(),
            "containerimage.descriptor": {
                "mediaType": image.media_type,
                "digest": image.manifest.to_string(),
                "size": image.manifest_size,
                "platform": {
                    "os": platform.first().copied().unwrap_or_default(),
                    "architecture": platform.get(1).copied().unwrap_or_default(),
                },
            },
            "containerimage.digest": image.manifest.to_string(),
        });
        if !image.names.is_empty() {
            told["image.name"] = image.names.join(",").into();
        }
    }
    serde_json::to_string_pretty(&told).unwrap_or_default() + "\n"
}

fn tell_warnings(warnings: &[BuildWarning]) {
    if warnings.is_empty() {
        return;
    }
    let count = warnings.len();
    output::talk(&format!("\n {count} warning{} found:", if count == 1 { "" } else { "s" }));
    for warning in warnings {
        output::talk(&format!(" - {}: {} (line {})", warning.rule, warning.message, warning.lines.0));
    }
}

fn tell_check((warnings, error): &(Vec<BuildWarning>, Option<String>), file: Option<&str>) -> Result<u8> {
    let file = file.unwrap_or("Dockerfile");
    if let Some(error) = error {
        output::talk(error);
    }
    if warnings.is_empty() && error.is_none() {
        output::line("Check complete, no warnings found.")?;
        return Ok(0);
    }
    if !warnings.is_empty() {
        let count = warnings.len();
        output::line(&format!(
            "Check complete, {count} warning{} found!",
            if count == 1 { " has been" } else { "s have been" }
        ))?;
    }
    for warning in warnings {
        output::line(&format!(
            "\nWARNING: {}\n{}\n{file}:{}",
            warning.rule, warning.message, warning.lines.0
        ))?;
    }
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Result<BuildOptions> {
        Arguments::try_parse_from(format!("build {words}").split_whitespace()).unwrap().options()
    }

    #[test]
    fn flags_are_dockers() {
        let asked = options(
            "-t a --build-arg A=b=c --label k=v --annotation manifest:x=y --no-cache-filter s,t -m 1g --push .",
        );
        let asked = asked.unwrap();
        assert_eq!((&*asked.context, asked.tags, asked.memory), (".", vec!["a".to_owned()], Some(1 << 30)));
        assert_eq!(asked.build_args["A"], "b=c");
        assert_eq!(asked.annotations["x"], "y");
        assert_eq!(asked.no_cache_stages, ["s", "t"]);
        assert!(asked.outputs[0].push && !asked.allow_host_network);
        for bad in ["--build-arg = .", "--build-context x .", "-o out --push .", "--annotation index:a=b ."] {
            assert_eq!(options(bad).unwrap_err().exit_code(), 125, "{bad}");
        }
    }
}
