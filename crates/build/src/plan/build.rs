//! One stage: its instructions, one after the other.

use std::fmt::Write as _;

use std::collections::{BTreeMap, BTreeSet};

use oci::image::{Execution, History, ImageConfig, Platform};

use super::scope::{self, Scope, display};
use super::stages::{Base, Planner};
use super::{NoCache, metadata};
use crate::check::rule;
use crate::dockerfile::{Instruction, Node, Word};
use crate::error::{Checked, Fault, Place};
use crate::expand::{Style, expand};
use crate::graph::{Action, Image, StepId};
use crate::suggest::nearest;

/// What the history says of each of its entries.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// What images have that set no `PATH`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage that was gone through.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) step: StepId,
    pub(super) config: ImageConfig,
    pub(super) base: Option<Image>,
    pub(super) layers: Vec<StepId>,
    scope: Scope,
    arguments: Vec<(String, Option<String>)>,
    platform: Platform,
    workdir_set: bool,
}

/// A stage that is being gone through.
pub(super) struct Building {
    /// Which of the stages.
    pub(super) index: usize,
    /// Its file system so far.
    pub(super) step: StepId,
    pub(super) config: ImageConfig,
    pub(super) execution: Execution,
    base: Option<Image>,
    pub(super) layers: Vec<StepId>,
    /// Where in the image's own variables each is.
    pub(super) places: BTreeMap<String, usize>,
    /// The image's variables, and the arguments that were declared.
    pub(super) scope: Scope,
    /// Each `ARG`, in order.
    pub(super) arguments: Vec<(String, Option<String>)>,
    /// Their names.
    pub(super) declared: BTreeSet<String>,
    pub(super) platform: Platform,
    pub(super) workdir_set: bool,
    /// Where the last of each stood.
    pub(super) cmd: Option<(usize, usize)>,
    pub(super) entrypoint: Option<(usize, usize)>,
    pub(super) healthcheck: Option<(usize, usize)>,
    pub(super) no_cache: bool,
    titles: Titles,
}

/// Numbers the steps of a stage.
struct Titles {
    platform: String,
    stage: String,
    next: usize,
    total: usize,
}

impl Building {
    /// `[stage 2/5] RUN make`.
    pub(super) fn title(&mut self, node: &Node, text: &str) -> String {
        let titles = &mut self.titles;
        titles.next += 1;
        // A value given on the command line may be of several lines.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let width = titles.total.max(1).to_string().len();
        format!(
            "[{}{}{:>width$}/{}] {}{text}",
            titles.platform,
            titles.stage,
            titles.next,
            titles.total,
            if node.trigger_of.is_some() { "ONBUILD " } else { "" },
        )
    }

    /// Writes a line of history; with the step, if that makes a layer.
    pub(super) fn commit(&mut self, text: String, layer: Option<StepId>) {
        if let Some(step) = layer {
            self.step = step;
            self.layers.push(step);
        }
        // A command is what it is; an address is somebody's, and may have a login.
        let text = if text.starts_with("ADD ") { crate::without_logins(&text) } else { text };
        self.config.history.push(History {
            created: None,
            created_by: Some(text),
            comment: Some(COMMENT.to_owned()),
            empty_layer: layer.is_none(),
        });
    }
}

impl Planner<'_> {
    /// Goes through a stage, all of whose own sources have been gone through.
    pub(super) fn build(&mut self, index: usize) -> Checked<Built> {
        let Some(planned) = self.stages.get_mut(index) else {
            return Err(Fault::new(Place::default(), format!("there is no stage {index}")));
        };
        let (stage, triggers) = (planned.stage, std::mem::take(&mut planned.triggers));
        let (base, platform, name) = (planned.base.clone(), planned.platform.clone(), planned.name.clone());
        let is_image = matches!(base, Base::Named(_));
        let mut built = self.begin_with(base, platform, &stage.from)?;
        if matches!(self.stages[index].base, Base::Replaced(_)) {
            return Ok(built);
        }
        let mut execution = built.config.config.take().unwrap_or_default();
        execution.on_build.clear();
        if !execution.env.iter().any(|entry| entry.starts_with("PATH=")) {
            execution.env.push(DEFAULT_PATH.to_owned());
        }
        let mut places = BTreeMap::new();
        for (place, entry) in execution.env.iter().enumerate() {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            places.entry(name.to_owned()).or_insert(place);
            built.scope.set(name, value);
        }
        if !execution.working_dir.is_empty() {
            execution.working_dir = metadata::join("/", &execution.working_dir);
        }
        let counted = |node: &&Node| {
            matches!(node.instruction, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_))
        };
        let platform_prefix = || format!("{} ", display(&built.platform));
        let stage_name = match (self.several, &name) {
            (false, _) => String::new(),
            (true, Some(name)) => format!("{name} "),
            (true, None) => format!("stage-{index} "),
        };
        let no_cache = match &self.options.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(names) => {
                names.iter().any(|wanted| name.as_ref().is_some_and(|name| wanted.eq_ignore_ascii_case(name)))
            }
        };
        let titles = Titles {
            platform: if self.options.several_platforms { platform_prefix() } else { String::new() },
            stage: stage_name,
            next: 0,
            total: usize::from(is_image) + triggers.iter().chain(&stage.nodes).filter(counted).count(),
        };
        let mut building = Building {
            index,
            step: built.step,
            config: built.config,
            execution,
            base: built.base,
            layers: built.layers,
            places,
            scope: built.scope,
            declared: built.arguments.iter().map(|(name, _)| name.clone()).collect(),
            arguments: built.arguments,
            platform: built.platform,
            workdir_set: built.workdir_set,
            cmd: None,
            entrypoint: None,
            healthcheck: None,
            no_cache,
            titles,
        };
        self.title_base(&mut building, &stage.from, is_image);
        for node in triggers.iter().chain(&stage.nodes) {
            self.instruction(&mut building, node)?;
            let written = building.config.history.last().and_then(|line| line.created_by.as_ref());
            self.spend(node, written.map_or(0, String::len))?;
        }
        let Building {
            step,
            mut config,
            execution,
            base,
            layers,
            scope,
            arguments,
            platform,
            workdir_set,
            ..
        } = building;
        config.config = Some(execution);
        Ok(Built { step, config, base, layers, scope, arguments, platform, workdir_set })
    }

    /// An image's step is the first of the first stage that is upon it.
    fn title_base(&mut self, building: &mut Building, from: &Node, is_image: bool) {
        let step = building.step;
        let titled = is_image.then(|| building.title(from, ""));
        if let (Some(title), Some(step)) = (titled, self.graph.steps.get_mut(step.0)) {
            let own = matches!(step.action, Action::Image(_)) && !step.title.starts_with('[');
            if own {
                step.title = format!("{title}{}", step.title);
                step.lines = Some(from.lines);
            }
        }
    }

    /// What a stage begins with.
    fn begin_with(&mut self, base: Base, platform: Option<Platform>, from: &Node) -> Checked<Built> {
        let at = match &from.instruction {
            Instruction::From(from) => from.image.at.clone(),
            _ => 0..0,
        };
        let loaded = match base {
            Base::Stage(base) => {
                let built = self.stages.get(base).and_then(|stage| stage.built.clone());
                let built =
                    built.ok_or_else(|| from.fault(at, "the stage that this one is upon was not planned"))?;
                let lines = built.config.history.iter().filter_map(|line| line.created_by.as_ref());
                self.spend(from, lines.map(String::len).sum())?;
                return Ok(built);
            }
            Base::Scratch => {
                let platform = scope::normalized(&self.options.platform);
                let execution = Execution {
                    working_dir: "/".to_owned(),
                    env: vec![DEFAULT_PATH.to_owned()],
                    ..Execution::default()
                };
                let mut config = ImageConfig {
                    platform: platform.clone(),
                    config: Some(execution),
                    ..ImageConfig::default()
                };
                "layers".clone_into(&mut config.rootfs.kind);
                super::stages::Loaded { step: self.scratch(), config, image: None, platform }
            }
            Base::Named(name) => self.load(&name, platform.as_ref(), from, at)?,
            Base::Replaced(context) => {
                let platform = platform.unwrap_or_else(|| scope::normalized(&self.options.platform));
                self.load_context(&context, &platform, from, at)?
            }
        };
        let mut config = loaded.config;
        config.created = None;
        Ok(Built {
            step: loaded.step,
            config,
            base: loaded.image,
            layers: Vec::new(),
            scope: Scope::default(),
            arguments: Vec::new(),
            platform: loaded.platform,
            workdir_set: false,
        })
    }

    fn instruction(&mut self, building: &mut Building, node: &Node) -> Checked<()> {
        match &node.instruction {
            Instruction::From(_) => Err(node.fault(0..0, "FROM begins a stage")),
            Instruction::Run(run) => self.run(building, node, run),
            Instruction::Copy(copying) => self.copy(building, node, copying),
            Instruction::Workdir(path) => self.workdir(building, node, path),
            Instruction::Arg(arguments) => self.argument(building, node, arguments),
            _ => self.metadata(building, node),
        }
    }

    /// Replaces the variables of a word by what is known in a stage, and says which are not.
    pub(super) fn word(&mut self, building: &Building, node: &Node, word: &Word) -> Checked<String> {
        Ok(self.words(building, node, word)?.0)
    }

    /// The same, and what it is cut into.
    pub(super) fn words(
        &mut self,
        building: &Building,
        node: &Node,
        word: &Word,
    ) -> Checked<(String, Vec<String>)> {
        let expanded = self.expand(node, word, &building.scope)?;
        for name in &expanded.undefined {
            self.undefined(building, node, name);
        }
        Ok((expanded.text, expanded.words))
    }

    pub(super) fn undefined(&mut self, building: &Building, node: &Node, name: &str) {
        if building.declared.contains(name) {
            return;
        }
        let mut message = format!("Usage of undefined variable '${name}'");
        // A text with so many mistakes is not helped by words that cost time.
        let few = self.checks.warnings.len() < 100;
        if let Some(near) = few.then(|| nearest(name, building.scope.names())).flatten() {
            let _ = write!(message, " (did you mean ${near}?)");
        }
        self.checks.warn(rule::UNDEFINED_VAR, node.lines, &node.comments, message);
    }
}

impl Building {
    /// An instruction as progress shows it, its variables replaced.
    pub(super) fn shown(&self, text: &str, style: Style, secrets: &[String]) -> String {
        let get = |name: &str| {
            if secrets.iter().any(|secret| secret == name) {
                Some("****".to_owned())
            } else {
                self.scope.get(name).map(str::to_owned)
            }
        };
        let text = expand(text, style, &get).map_or_else(|_| text.to_owned(), |expanded| expanded.text);
        match text.split_once(' ') {
            Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
            None => text.to_uppercase(),
        }
    }
}
