//! What stages are upon and copy from: images, named contexts, the main context, the empty file system.

use std::ops::Range;

use oci::image::{ImageConfig, Platform};

use super::scope::{self, display};
use super::stages::{Loaded, Planner};
use super::{NamedContext, reference};
use crate::check::rule;
use crate::dockerfile::{Node, Word};
use crate::error::Checked;
use crate::graph::{Action, Change, Context, Copy, Files, Http, Image, Step, StepId};
use crate::suggest::nearest;

impl Planner<'_> {
    /// The files that `--from` means, as a stage or something else.
    pub(super) fn source(&mut self, node: &Node, from: &Word, index: usize) -> Checked<StepId> {
        let message = match self.stage_from(&from.text) {
            Err(message) => message,
            Ok(None) if from.text == "scratch" => return Ok(self.scratch()),
            Ok(None) => {
                let step = self.load(&from.text, None, node, from.at.clone()).map_err(|fault| {
                    let names: Vec<&str> =
                        self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
                    let meant = nearest(&from.text, names);
                    if meant.is_some() { fault.meant(meant) } else { fault }
                })?;
                return Ok(step.step);
            }
            Ok(Some(from)) if from == index => "a stage cannot copy from itself".to_owned(),
            Ok(Some(from)) => match self.stages.get(from).and_then(|stage| stage.built.as_ref()) {
                Some(built) => return Ok(built.step),
                None => "a stage has to stand before the one that copies from it".to_owned(),
            },
        };
        Err(node.fault(from.at.clone(), message))
    }

    pub(super) fn push(
        &mut self,
        action: Action,
        title: String,
        lines: Option<(usize, usize)>,
        no_cache: bool,
    ) -> StepId {
        let title = crate::without_logins(&title);
        self.graph.steps.push(Step { action, title, lines, no_cache });
        StepId(self.graph.steps.len() - 1)
    }

    pub(super) fn scratch(&mut self) -> StepId {
        if let Some(step) = self.empty {
            return step;
        }
        let step = self.push(Action::Scratch, "[internal] scratch".to_owned(), None, false);
        *self.empty.insert(step)
    }

    /// The main context.
    pub(super) fn context(&mut self) -> StepId {
        if let Some(step) = self.main_context {
            return step;
        }
        let title = "[internal] load build context".to_owned();
        let step = self.push(Action::Context(Context { name: None }), title, None, false);
        *self.main_context.insert(step)
    }

    /// An image, or the named context of its name.
    pub(super) fn load(
        &mut self,
        name: &str,
        platform: Option<&Platform>,
        node: &Node,
        at: Range<usize>,
    ) -> Checked<Loaded> {
        let platform = scope::normalized(platform.unwrap_or(&self.options.platform));
        let key = (name.to_owned(), display(&platform));
        if let Some(loaded) = self.loaded.get(&key) {
            return Ok(loaded.clone());
        }
        let loaded = match self.named_context(name) {
            Some(context) => self.load_context(&context, &platform, node, at)?,
            None => self.load_image(name, &platform, node, at)?,
        };
        self.loaded.insert(key, loaded.clone());
        Ok(loaded)
    }

    /// What an image wants done first; a context that is none wants nothing.
    pub(super) fn triggers(
        &mut self,
        name: &str,
        platform: Option<Platform>,
        node: &Node,
        at: Range<usize>,
    ) -> Checked<Vec<String>> {
        let platform = scope::normalized(platform.as_ref().unwrap_or(&self.options.platform));
        let image = match self.named_context(name).and_then(|context| self.options.contexts.get(&context)) {
            None => name,
            Some(NamedContext::Image(image)) => image,
            Some(_) => return Ok(Vec::new()),
        };
        let (_, config) = self.find(image, &platform, node, at)?;
        Ok(config.config.map(|execution| execution.on_build).unwrap_or_default())
    }

    /// Asks for an image, once.
    fn find(
        &mut self,
        name: &str,
        platform: &Platform,
        node: &Node,
        at: Range<usize>,
    ) -> Checked<(Image, ImageConfig)> {
        let key = (name.to_owned(), display(platform));
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        if reference::full(name).is_none() {
            return Err(node
                .fault(at, format!("`{name}` is no name of an image, nor of a stage"))
                .help("an image is written [registry/]name[:tag][@digest], in lower case"));
        }
        let found = self
            .bases
            .find(name, platform)
            .map_err(|why| node.fault(at, format!("{name}: {why}")).kind(base::Kind::NotFound))?;
        self.found.insert(key, found.clone());
        Ok(found)
    }

    fn load_image(
        &mut self,
        name: &str,
        platform: &Platform,
        node: &Node,
        at: Range<usize>,
    ) -> Checked<Loaded> {
        let (image, config) = self.find(name, platform, node, at)?;
        let is = &config.platform;
        if !is.architecture.is_empty()
            && (scope::normalized(is).os != platform.os
                || scope::normalized(is).architecture != platform.architecture)
        {
            let message = format!(
                "Base image {name} was pulled with platform \"{}\", expected \"{}\" for current build",
                display(is),
                display(platform)
            );
            self.checks.warn(rule::INVALID_BASE_IMAGE_PLATFORM, node.lines, &node.comments, message);
        }
        let empty = config.rootfs.diff_ids.is_empty() && config.history.iter().all(|line| line.empty_layer);
        let step = if empty {
            self.scratch()
        } else {
            let title = format!("FROM {}", reference::pinned(name, &image.digest));
            self.push(Action::Image(image.clone()), title, Some(node.lines), false)
        };
        Ok(Loaded { step, config, image: Some(image), platform: platform.clone() })
    }

    pub(super) fn load_context(
        &mut self,
        key: &str,
        platform: &Platform,
        node: &Node,
        at: Range<usize>,
    ) -> Checked<Loaded> {
        let title = format!("[context {key}]");
        let step = match self.options.contexts.get(key) {
            Some(NamedContext::Image(image)) => {
                let loaded = self.load_image(image, platform, node, at)?;
                return Ok(loaded);
            }
            Some(NamedContext::Git(git)) => {
                let title = format!("{title} load git source {}", git.url);
                self.push(Action::Git(git.clone()), title, None, false)
            }
            Some(NamedContext::Http(url)) => {
                let http = Http { url: url.clone(), name: "context".to_owned(), checksum: None };
                let from = self.push(Action::Http(http), format!("{title} {url}"), None, false);
                let copy = Copy {
                    from,
                    sources: vec!["/context".to_owned()],
                    target: "/".to_owned(),
                    owner: None,
                    mode: None,
                    exclude: Vec::new(),
                    parents: false,
                    unpack: true,
                    required: true,
                };
                let files = Files { base: self.scratch(), changes: vec![Change::Copy(copy)], link: false };
                self.push(Action::Files(files), format!("{title} extract"), None, false)
            }
            Some(NamedContext::Directory) | None => {
                let context = Context { name: Some(key.to_owned()) };
                self.push(Action::Context(context), format!("{title} load from client"), None, false)
            }
        };
        let config = ImageConfig { platform: platform.clone(), ..ImageConfig::default() };
        Ok(Loaded { step, config, image: None, platform: platform.clone() })
    }
}
