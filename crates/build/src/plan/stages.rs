//! Which stages are needed, in which order, and what each is upon.

use std::fmt::Write as _;

use std::collections::{BTreeMap, BTreeSet};

use oci::image::{Execution, ImageConfig, Platform};

use super::Options;
use super::build::Built;
use super::finish::{built_for, prune};
use super::reference;
use super::scope::{self, Scope, parse_platform};
use crate::check::{Checks, UNUSED_BUILD_ARG, rule};
use crate::dockerfile::{self, Dockerfile, Instruction, Node, Stage, Word, mount};
use crate::error::{Checked, Fault, Place};
use crate::expand::{Expanded, Malformed, Style, expand};
use crate::graph::{Bases, Graph, Image, Plan, StepId, Warning};
use crate::suggest::nearest;

/// How much all configurations and all that steps are given may be, in bytes: words that double each other have to end somewhere.
const LARGEST: usize = 64 << 20;

/// What a stage is upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// The empty file system.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, or a named context that stands for one.
    Named(String),
    /// A named context takes the whole stage's place.
    Replaced(String),
}

/// A stage, and what is known of it by now.
#[derive(Debug)]
pub(super) struct Planned<'p> {
    pub(super) stage: &'p Stage,
    /// In lower case.
    pub(super) name: Option<String>,
    pub(super) base: Base,
    /// `--platform`.
    pub(super) platform: Option<Platform>,
    /// What the base wants done first.
    pub(super) triggers: Vec<Node>,
    pub(super) built: Option<Built>,
}

/// An image or a named context: its files, and the configuration that comes with them.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) step: StepId,
    pub(super) config: ImageConfig,
    pub(super) image: Option<Image>,
    pub(super) platform: Platform,
}

/// What is known while a Dockerfile is planned.
pub(super) struct Planner<'p> {
    pub(super) dockerfile: &'p Dockerfile,
    pub(super) options: &'p Options,
    pub(super) bases: &'p dyn Bases,
    pub(super) checks: Checks,
    /// What is known before the first `FROM`.
    pub(super) globals: Scope,
    pub(super) stages: Vec<Planned<'p>>,
    pub(super) graph: Graph,
    /// Something beside stages is copied from or mounted: then titles name stages even if there is only one.
    pub(super) several: bool,
    /// Bytes that may still be written into configurations and steps.
    left: usize,
    /// The names of each `ARG` before the first `FROM`.
    declared: BTreeSet<String>,
    /// Build arguments that were asked for.
    pub(super) asked: BTreeSet<String>,
    pub(super) found: BTreeMap<(String, String), (Image, ImageConfig)>,
    pub(super) loaded: BTreeMap<(String, String), Loaded>,
    pub(super) main_context: Option<StepId>,
    pub(super) empty: Option<StepId>,
}

impl<'p> Planner<'p> {
    pub(super) fn new(
        dockerfile: &'p Dockerfile,
        options: &'p Options,
        bases: &'p dyn Bases,
        checks: Checks,
    ) -> Checked<Self> {
        let mut planner = Self {
            dockerfile,
            options,
            bases,
            checks,
            globals: Scope::default(),
            stages: Vec::new(),
            graph: Graph::default(),
            several: dockerfile.stages.len() > 1,
            left: LARGEST,
            declared: BTreeSet::new(),
            asked: BTreeSet::new(),
            found: BTreeMap::new(),
            loaded: BTreeMap::new(),
            main_context: None,
            empty: None,
        };
        let last = dockerfile.stages.last().and_then(|stage| stage.base.name.as_ref());
        let target = match (&options.target, last) {
            (Some(target), _) => target.clone(),
            (None, Some(name)) => name.text.to_lowercase(),
            (None, None) => "default".to_owned(),
        };
        let known = scope::platform_arguments(
            &options.platform,
            &options.build_platform,
            &target,
            &options.build_args,
        );
        if let Ok(defaults) = planner.global_arguments(known.clone(), &BTreeMap::new()) {
            planner.check_defaults(&defaults);
        }
        planner.globals = planner.global_arguments(known, &options.build_args)?;
        for stage in &dockerfile.stages {
            let planned = planner.begin(stage)?;
            planner.stages.push(planned);
        }
        Ok(planner)
    }

    /// Each `ARG` before the first `FROM`.
    fn global_arguments(&mut self, mut known: Scope, given: &BTreeMap<String, String>) -> Checked<Scope> {
        for node in &self.dockerfile.globals {
            let Instruction::Arg(arguments) = &node.instruction else { continue };
            for (name, default) in arguments {
                self.asked.insert(name.text.clone());
                self.declared.insert(name.text.clone());
                let value = match (given.get(&name.text), default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => Some(self.expand(node, default, &known)?.text),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    known.set(&name.text, value);
                }
            }
        }
        Ok(known)
    }

    /// Says where no image is named unless somebody gives an argument.
    fn check_defaults(&mut self, defaults: &Scope) {
        for stage in &self.dockerfile.stages {
            let Ok(name) = self.expand(&stage.from, &stage.base.image, defaults) else { return };
            if reference::full(&name.text).is_none() {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base.image.text
                );
                let (lines, comments) = (stage.from.lines, &stage.from.comments);
                self.checks.warn(rule::INVALID_DEFAULT_ARG_IN_FROM, lines, comments, message);
            }
        }
    }

    /// Replaces the variables of a word.
    pub(super) fn expand(&self, node: &Node, word: &Word, scope: &Scope) -> Checked<Expanded> {
        let style = Style::new(self.dockerfile.escape);
        expand(&word.text, style, &|name| scope.get(name).map(str::to_owned))
            .map_err(|malformed| malformed_word(node, word, &malformed))
    }

    /// A word of a `FROM`, in which only global arguments are known.
    fn expand_global(&mut self, node: &Node, word: &Word) -> Checked<Expanded> {
        let expanded = self.expand(node, word, &self.globals)?;
        for name in expanded.undefined.iter().filter(|name| !self.declared.contains(*name)) {
            let mut message = format!("FROM argument '{name}' is not declared");
            let few = self.checks.warnings.len() < 100;
            if let Some(near) = few.then(|| nearest(name, self.globals.names())).flatten() {
                let _ = write!(message, " (did you mean {near}?)");
            }
            self.checks.warn(rule::UNDEFINED_ARG_IN_FROM, node.lines, &node.comments, message);
        }
        Ok(expanded)
    }

    fn begin(&mut self, stage: &'p Stage) -> Checked<Planned<'p>> {
        let (node, from) = (&stage.from, &stage.base);
        let image = self.expand_global(node, &from.image)?.text;
        if image.is_empty() {
            let message = format!("the name of the base is empty: `{}`", from.image.text);
            return Err(node
                .fault(from.image.at.clone(), message)
                .help("give the argument a default before the first FROM, or pass it with --build-arg"));
        }
        let platform = match &from.platform {
            None => None,
            Some(word) => Some(self.platform(stage, word)?),
        };
        let name = from.name.as_ref().map(|name| name.text.to_lowercase());
        let replaced = name.as_ref().and_then(|name| self.named_context(name));
        let base = if let Some(context) = replaced {
            Base::Replaced(context)
        } else if let Some(index) = self.stage_named(&image) {
            Base::Stage(index)
        } else if image == "scratch" {
            Base::Scratch
        } else if reference::full(&image).is_none() {
            let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            return Err(node
                .fault(
                    from.image.at.clone(),
                    format!("`{image}` is no name of an image, nor of an earlier stage"),
                )
                .meant(nearest(&image, names))
                .help("an image is written [registry/]name[:tag][@digest], in lower case"));
        } else {
            Base::Named(image)
        };
        Ok(Planned { stage, name, base, platform, triggers: Vec::new(), built: None })
    }

    fn platform(&mut self, stage: &Stage, word: &Word) -> Checked<Platform> {
        let node = &stage.from;
        let expanded = self.expand_global(node, word)?;
        let known = || self.globals.names().map(str::to_owned).collect::<Vec<_>>();
        let fault = |message: String| {
            let known = known();
            let meant = expanded.undefined.iter().find_map(|name| nearest(name, known.iter().map(|k| &**k)));
            node.fault(word.at.clone(), message).meant(meant.map(|name| format!("${name}")))
        };
        if expanded.text.is_empty() {
            return Err(fault(format!("the platform is empty: `{}`", word.text)));
        }
        let Some(platform) = parse_platform(&expanded.text, &self.options.build_platform) else {
            return Err(fault(format!("`{}` is no platform", expanded.text))
                .help("a platform is written os/architecture[/variant]: linux/amd64, linux/arm/v7"));
        };
        let only_target = expanded.used.len() == 1
            && expanded.undefined.is_empty()
            && expanded.used.contains("TARGETPLATFORM")
            && self.globals.get("TARGETPLATFORM") == Some(&expanded.text);
        let (lines, comments) = (node.lines, &node.comments);
        if only_target {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                word.text
            );
            self.checks.warn(rule::REDUNDANT_TARGET_PLATFORM, lines, comments, message);
        }
        let name = stage.base.name.as_ref().map_or("", |name| &name.text).to_lowercase();
        let constant = expanded.used.is_empty() && expanded.undefined.is_empty();
        if constant && !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let message = format!("FROM --platform flag should not use constant value \"{}\"", expanded.text);
            self.checks.warn(rule::FROM_PLATFORM_FLAG_CONST_DISALLOWED, lines, comments, message);
        }
        Ok(platform)
    }

    /// Counts what is written into a configuration, or given to a step.
    pub(super) fn spend(&mut self, node: &Node, bytes: usize) -> Checked<()> {
        let Some(left) = self.left.checked_sub(bytes) else {
            let message =
                format!("what the image and its steps say becomes larger than {} MiB", LARGEST >> 20);
            return Err(Fault::new(node.place(), message));
        };
        self.left = left;
        Ok(())
    }

    /// The last stage so far of a name.
    fn stage_named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&name))
    }

    /// The stage that `--from` means, if it means one.
    pub(super) fn stage_from(&self, name: &str) -> Result<Option<usize>, String> {
        match name.parse::<usize>() {
            Ok(index) if index < self.stages.len() => Ok(Some(index)),
            Ok(index) => Err(format!(
                "there is no stage {index}: stages are counted from 0 to {}",
                self.stages.len() - 1
            )),
            Err(_) => Ok(self.stage_named(name)),
        }
    }

    /// The named context that a name of an image or a stage means, if it means one.
    pub(super) fn named_context(&self, name: &str) -> Option<String> {
        if self.options.contexts.is_empty() || ["scratch", "context"].contains(&&*name.to_lowercase()) {
            return None;
        }
        let same = |key: &&String| {
            **key == name || reference::familiar(key).is_some_and(|k| Some(k) == reference::familiar(name))
        };
        self.options.contexts.keys().find(same).cloned()
    }

    /// Plans it: of the target, or, for the checks, of all stages.
    pub(super) fn plan(&mut self, all: bool) -> Checked<Plan> {
        let target = self.target()?;
        let wanted = if all { (0..self.stages.len()).collect() } else { vec![target] };
        let reached = self.reach(wanted)?;
        for &index in &reached {
            let built = self.build(index)?;
            if let Some(stage) = self.stages.get_mut(index) {
                stage.built = Some(built);
            }
        }
        let Some(built) = self.stages.get(target).and_then(|stage| stage.built.clone()) else {
            return Err(Fault::new(Place::default(), "the target was not planned"));
        };
        let mut config = built.config;
        let execution = config.config.get_or_insert_with(Execution::default);
        execution.labels.extend(self.options.labels.clone());
        config.created = None;
        config.platform = built_for(&config.platform, &self.options.platform);
        let mut plan = Plan {
            graph: std::mem::take(&mut self.graph),
            output: built.step,
            config,
            layers: built.layers,
            base: built.base,
            warnings: self.checks.sorted(),
        };
        plan.warnings.extend(self.unused());
        prune(&mut plan);
        Ok(plan)
    }

    fn unused(&self) -> Option<Warning> {
        let unused: Vec<&str> = self
            .options
            .build_args
            .keys()
            .filter(|name| !self.asked.contains(*name) && !scope::is_predefined(name))
            .map(|name| &**name)
            .collect();
        let message = format!("One or more build-args [{}] were not consumed", unused.join(" "));
        (!unused.is_empty()).then_some(Warning { rule: UNUSED_BUILD_ARG, message, lines: (1, 1) })
    }

    fn target(&self) -> Checked<usize> {
        let last = self.stages.len() - 1;
        let Some(target) = &self.options.target else { return Ok(last) };
        if let Some(index) = self.stage_named(target) {
            return Ok(index);
        }
        match target.parse::<usize>() {
            Ok(index) if index <= last => Ok(index),
            Ok(index) => {
                let message = format!("there is no stage {index}");
                Err(Fault::new(Place::default(), message)
                    .help(format!("stages are counted from 0 to {last}")))
            }
            Err(_) => {
                let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
                let fault =
                    Fault::new(Place::default(), format!("target stage `{target}` could not be found"))
                        .meant(nearest(target, names.iter().copied()));
                Err(if names.is_empty() {
                    fault.help("no stage has a name: name one with FROM … AS NAME")
                } else {
                    fault.help(format!("the stages: {}", names.join(" ")))
                })
            }
        }
    }

    /// The stages that some need, with these, in their order. What bases trigger is read on the way.
    fn reach(&mut self, wanted: Vec<usize>) -> Checked<BTreeSet<usize>> {
        let (mut todo, mut reached) = (wanted, BTreeSet::new());
        while let Some(index) = todo.pop() {
            if !reached.insert(index) {
                continue;
            }
            let Some(planned) = self.stages.get(index) else { continue };
            let stage = planned.stage;
            let triggers: Vec<String> = match planned.base.clone() {
                Base::Scratch => Vec::new(),
                // Nothing of what is written in it is done.
                Base::Replaced(_) => continue,
                Base::Stage(base) => {
                    todo.push(base);
                    let replaced =
                        self.stages.get(base).is_some_and(|stage| matches!(stage.base, Base::Replaced(_)));
                    let nodes = self.stages.get(base).filter(|_| !replaced).map(|stage| &stage.stage.nodes);
                    nodes
                        .into_iter()
                        .flatten()
                        .filter_map(|node| match &node.instruction {
                            Instruction::Onbuild(trigger) => Some(trigger.clone()),
                            _ => None,
                        })
                        .collect()
                }
                Base::Named(name) => {
                    let platform = planned.platform.clone();
                    self.triggers(&name, platform, &stage.from, stage.base.image.at.clone())?
                }
            };
            let triggers = triggers
                .iter()
                .map(|text| dockerfile::trigger(text, &stage.from))
                .collect::<Checked<Vec<_>>>()?;
            for node in triggers.iter().chain(&stage.nodes) {
                for from in sources(node) {
                    match self.stage_from(&from.text) {
                        Ok(Some(index)) => todo.push(index),
                        Ok(None) => self.several = true,
                        Err(message) => return Err(node.fault(from.at.clone(), message)),
                    }
                }
            }
            if let Some(planned) = self.stages.get_mut(index) {
                planned.triggers = triggers;
            }
        }
        Ok(reached)
    }
}

/// A fault of a word whose variables or quotes are wrong.
pub(super) fn malformed_word(node: &Node, word: &Word, malformed: &Malformed) -> Fault {
    let at = if node.text.get(word.at.clone()) == word.text {
        (word.at.start + malformed.at).min(word.at.end)..word.at.end
    } else {
        word.at.clone()
    };
    node.fault(at, malformed.message.clone())
}

/// What a node copies from, or mounts, by name.
fn sources(node: &Node) -> Vec<Word> {
    match &node.instruction {
        Instruction::Copy(copying) => copying.from.iter().cloned().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|word| Some(Word { text: mount::from(word)?, at: word.at.clone() }))
            .filter(|word| word.text != "scratch")
            .collect(),
        _ => Vec::new(),
    }
}
