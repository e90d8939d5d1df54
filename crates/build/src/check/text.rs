//! The rules that need nothing but the text.

use std::collections::BTreeSet;

use super::{Checks, rule};
use crate::dockerfile::{Dockerfile, Instruction, Node, Stage};

/// Looks at all stages, whether they are built or not.
pub(crate) fn check(dockerfile: &Dockerfile, checks: &mut Checks) {
    let nodes = || {
        let stages = dockerfile.stages.iter();
        dockerfile
            .globals
            .iter()
            .chain(stages.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.nodes)))
    };
    for node in nodes() {
        if let Some(line) = node.gap {
            let message = "Empty continuation line".to_owned();
            checks.warn(rule::NO_EMPTY_CONTINUATION, (line, line), &node.comments, message);
        }
    }
    for node in nodes() {
        each(node, checks);
    }
    stage_names(&dockerfile.stages, checks);
    casing(dockerfile, checks);
}

fn each(node: &Node, checks: &mut Checks) {
    let mut warn = |rule, message| checks.warn(rule, node.lines, &node.comments, message);
    match &node.instruction {
        Instruction::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
            warn(rule::MAINTAINER_DEPRECATED, message);
        }
        Instruction::From(from) => {
            let Some(name) = &from.name else { return };
            if name.text != name.text.to_lowercase() {
                let message = format!("Stage name '{}' should be lowercase", name.text);
                warn(rule::STAGE_NAME_CASING, message);
            }
            if let Some(r#as) = &from.r#as {
                let keyword = &node.keyword;
                let (lower, upper) = (keyword.to_lowercase(), keyword.to_uppercase());
                let matches = if *keyword == lower {
                    r#as.text == r#as.text.to_lowercase()
                } else {
                    *keyword != upper || r#as.text == r#as.text.to_uppercase()
                };
                if !matches {
                    let message = format!("'{}' and '{keyword}' keywords' casing do not match", r#as.text);
                    warn(rule::FROM_AS_CASING, message);
                }
            }
            description(node, "FROM", &[&name.text.to_lowercase()], checks);
        }
        Instruction::Arg(arguments) => {
            let names: Vec<&str> = arguments.iter().map(|(name, _)| &*name.text).collect();
            description(node, "ARG", &names, checks);
        }
        _ => {}
    }
}

/// The comment above what has a name begins with that name.
fn description(node: &Node, instruction: &str, names: &[&str], checks: &mut Checks) {
    let Some(comment) = node.comments.last() else { return };
    if names.contains(&comment.split(' ').next().unwrap_or_default()) || comment.starts_with("check=") {
        return;
    }
    let name = if let [name] = names { name } else { "<arg_key>" };
    let message = format!("Comment for {instruction} should follow the format: `# {name} <description>`");
    checks.warn(rule::INVALID_DEFINITION_DESCRIPTION, node.lines, &node.comments, message);
}

fn stage_names(stages: &[Stage], checks: &mut Checks) {
    let mut seen = BTreeSet::new();
    for stage in stages {
        let Some(name) = stage.base.name.as_ref().map(|name| name.text.to_lowercase()) else { continue };
        let mut warn = |rule, message| checks.warn(rule, stage.from.lines, &stage.from.comments, message);
        if ["context", "scratch"].contains(&&*name) {
            let message = format!("Stage name should not use the same name as reserved stage \"{name}\"");
            warn(rule::RESERVED_STAGE_NAME, message);
        }
        if seen.contains(&name) {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            warn(rule::DUPLICATE_STAGE_NAME, message);
        }
        seen.insert(name);
    }
}

/// All keywords are written as most of them are.
fn casing(dockerfile: &Dockerfile, checks: &mut Checks) {
    let nodes =
        || dockerfile.stages.iter().flat_map(|stage| std::iter::once(&stage.from).chain(&stage.nodes));
    let lower = nodes().filter(|node| node.keyword == node.keyword.to_lowercase()).count();
    let upper = nodes().filter(|node| node.keyword == node.keyword.to_uppercase()).count();
    for node in nodes() {
        let keyword = &node.keyword;
        let (wanted, name) = if lower > upper {
            (keyword.to_lowercase(), "lowercase")
        } else {
            (keyword.to_uppercase(), "uppercase")
        };
        if *keyword != wanted {
            let message =
                format!("Command '{keyword}' should match the case of the command majority ({name})");
            checks.warn(rule::CONSISTENT_INSTRUCTION_CASING, node.lines, &node.comments, message);
        }
    }
}
