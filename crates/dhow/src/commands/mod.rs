//! The verbs: a table of them, and the way from words to the right one.
//!
//! Only the chosen verb's argument tree is built: that of all of them would take longer than a container takes
//! to start. Each verb is a struct that clap fills and that can [`Run`].

pub(crate) mod arguments;
mod attach;
mod build;
mod builder;
mod commit;
mod complete;
mod completion;
mod confirm;
pub(crate) mod container_list;
mod container_prune;
pub(crate) mod container_tree;
mod cp;
mod create;
mod diff;
mod each;
mod events;
mod exec;
mod export;
mod help_on;
mod history;
mod image_evict;
mod image_list;
mod image_pin;
mod image_platforms;
mod image_prune;
mod image_tree;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod network_capture;
mod network_connect;
mod network_create;
mod network_denied;
mod network_exposed;
mod network_inspect;
mod network_learned;
mod network_list;
mod network_prune;
mod network_rm;
mod network_why;
mod pause;
mod port;
mod ps;
mod pull;
mod push;
mod registry;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod set;
mod start;
mod stats;
mod stop;
mod system_boot;
mod system_check;
mod system_df;
mod system_prune;
mod tag;
mod top;
mod update;
pub(crate) mod version;
mod volume_create;
mod volume_inspect;
mod volume_list;
mod volume_prune;
mod volume_rm;
mod wait;

use std::ffi::OsString;

use clap::{Command, Parser};

use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{help, output};

/// A verb, once its arguments are there.
pub(crate) trait Run: Parser {
    /// Does it; returns the exit code.
    fn run(self, context: &Context) -> Result<u8>;
}

/// Where the overview lists a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// What works on containers.
    Containers,
    /// What works on images.
    Images,
    /// The rest.
    Other,
    /// With its noun alone: `image prune`.
    Noun,
    /// Not shown.
    Hidden,
}

/// What the names in a verb's arguments are, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Running containers.
    Running,
    /// All containers.
    Containers,
    /// Images.
    Images,
    /// Containers and images.
    Both,
    /// Volumes.
    Volumes,
    /// Networks.
    Networks,
    /// Registries: those that images are from.
    Registries,
    /// Neither.
    None,
}

/// A line of the table of verbs.
pub(crate) struct Verb {
    /// Its name.
    pub(crate) name: &'static str,
    /// Where the overview lists it.
    pub(crate) group: Group,
    /// What its arguments name.
    pub(crate) names: Names,
    /// Builds its argument tree.
    pub(crate) tree: fn() -> Command,
    run: fn(&Context, &str, Vec<OsString>) -> Result<u8>,
}

const fn verb<T: Run>(name: &'static str, group: Group, names: Names) -> Verb {
    Verb { name, group, names, tree: T::command, run: run::<T> }
}

/// All verbs, in the order of the overview.
pub(crate) const VERBS: &[Verb] = &[
    verb::<self::run::Arguments>("run", Group::Containers, Names::Images),
    verb::<create::Arguments>("create", Group::Containers, Names::Images),
    verb::<exec::Arguments>("exec", Group::Containers, Names::Running),
    verb::<ps::Arguments>("ps", Group::Containers, Names::None),
    verb::<logs::Arguments>("logs", Group::Containers, Names::Containers),
    verb::<attach::Arguments>("attach", Group::Containers, Names::Running),
    verb::<start::Arguments>("start", Group::Containers, Names::Containers),
    verb::<restart::Arguments>("restart", Group::Containers, Names::Containers),
    verb::<pause::Pause>("pause", Group::Containers, Names::Running),
    verb::<pause::Unpause>("unpause", Group::Containers, Names::Running),
    verb::<rename::Arguments>("rename", Group::Containers, Names::Containers),
    verb::<port::Arguments>("port", Group::Containers, Names::Running),
    verb::<stop::Arguments>("stop", Group::Containers, Names::Running),
    verb::<kill::Arguments>("kill", Group::Containers, Names::Running),
    verb::<wait::Arguments>("wait", Group::Containers, Names::Containers),
    verb::<rm::Arguments>("rm", Group::Containers, Names::Containers),
    verb::<cp::Arguments>("cp", Group::Containers, Names::Containers),
    verb::<diff::Arguments>("diff", Group::Containers, Names::Containers),
    verb::<top::Arguments>("top", Group::Containers, Names::Running),
    verb::<stats::Arguments>("stats", Group::Containers, Names::Running),
    verb::<update::Arguments>("update", Group::Containers, Names::Containers),
    verb::<set::Arguments>("set", Group::Containers, Names::Containers),
    verb::<commit::Arguments>("commit", Group::Containers, Names::Containers),
    verb::<export::Arguments>("export", Group::Containers, Names::Containers),
    verb::<build::Arguments>("build", Group::Images, Names::None),
    verb::<images::Arguments>("images", Group::Images, Names::Images),
    verb::<pull::Arguments>("pull", Group::Images, Names::Images),
    verb::<push::Arguments>("push", Group::Images, Names::Images),
    verb::<load::Arguments>("load", Group::Images, Names::None),
    verb::<save::Arguments>("save", Group::Images, Names::Images),
    verb::<import::Arguments>("import", Group::Images, Names::None),
    verb::<history::Arguments>("history", Group::Images, Names::Images),
    verb::<tag::Arguments>("tag", Group::Images, Names::Images),
    verb::<rmi::Arguments>("rmi", Group::Images, Names::Images),
    verb::<registry::Arguments>("registry", Group::Images, Names::None),
    verb::<search::Arguments>("search", Group::Images, Names::None),
    verb::<login::Arguments>("login", Group::Images, Names::Registries),
    verb::<logout::Arguments>("logout", Group::Images, Names::Registries),
    verb::<inspect::Arguments>("inspect", Group::Other, Names::Both),
    verb::<events::Arguments>("events", Group::Other, Names::None),
    verb::<info::Arguments>("info", Group::Other, Names::None),
    verb::<version::Arguments>("version", Group::Other, Names::None),
    verb::<completion::Arguments>("completion", Group::Other, Names::None),
    verb::<help_on::Arguments>("help", Group::Other, Names::None),
    verb::<image_prune::Arguments>("image prune", Group::Noun, Names::None),
    verb::<image_tree::Arguments>("image tree", Group::Noun, Names::Images),
    verb::<image_pin::Pin>("image pin", Group::Noun, Names::Images),
    verb::<image_pin::Unpin>("image unpin", Group::Noun, Names::Images),
    verb::<image_evict::Arguments>("image evict", Group::Noun, Names::None),
    verb::<builder::Du>("builder du", Group::Noun, Names::None),
    verb::<builder::Prune>("builder prune", Group::Noun, Names::None),
    verb::<volume_create::Arguments>("volume create", Group::Noun, Names::None),
    verb::<volume_list::Arguments>("volume ls", Group::Noun, Names::None),
    verb::<volume_inspect::Arguments>("volume inspect", Group::Noun, Names::Volumes),
    verb::<volume_rm::Arguments>("volume rm", Group::Noun, Names::Volumes),
    verb::<volume_prune::Arguments>("volume prune", Group::Noun, Names::None),
    verb::<network_create::Arguments>("network create", Group::Noun, Names::None),
    verb::<network_list::Arguments>("network ls", Group::Noun, Names::None),
    verb::<network_exposed::Arguments>("network exposed", Group::Noun, Names::None),
    verb::<network_inspect::Arguments>("network inspect", Group::Noun, Names::Networks),
    verb::<network_capture::Arguments>("network capture", Group::Noun, Names::Running),
    verb::<network_why::Arguments>("network why", Group::Noun, Names::Running),
    verb::<network_connect::Connect>("network connect", Group::Noun, Names::Networks),
    verb::<network_connect::Disconnect>("network disconnect", Group::Noun, Names::Networks),
    verb::<network_denied::Arguments>("network denied", Group::Noun, Names::Containers),
    verb::<network_learned::Arguments>("network learned", Group::Noun, Names::Containers),
    verb::<network_rm::Arguments>("network rm", Group::Noun, Names::Networks),
    verb::<network_prune::Arguments>("network prune", Group::Noun, Names::None),
    verb::<container_prune::Arguments>("container prune", Group::Noun, Names::None),
    verb::<system_boot::Start>("system start", Group::Noun, Names::None),
    verb::<system_boot::Stop>("system stop", Group::Noun, Names::None),
    verb::<system_boot::Enable>("system enable", Group::Noun, Names::None),
    verb::<system_boot::Disable>("system disable", Group::Noun, Names::None),
    verb::<system_prune::Arguments>("system prune", Group::Noun, Names::None),
    verb::<system_df::Arguments>("system df", Group::Noun, Names::None),
    verb::<system_check::Arguments>("system check", Group::Noun, Names::None),
    verb::<complete::Arguments>("__complete", Group::Hidden, Names::None),
];

/// What stands behind a noun, and the words that it means.
pub(crate) type Translations = &'static [(&'static str, &'static [&'static str])];

/// Docker's management commands: the noun, what stands behind it, and the verb with the arguments that this
/// means.
const NOUNS: &[(&str, Translations)] = &[
    (
        "container",
        &[
            ("ls", &["ps"]),
            ("list", &["ps"]),
            ("ps", &["ps"]),
            ("run", &["run"]),
            ("create", &["create"]),
            ("exec", &["exec"]),
            ("logs", &["logs"]),
            ("attach", &["attach"]),
            ("start", &["start"]),
            ("restart", &["restart"]),
            ("pause", &["pause"]),
            ("unpause", &["unpause"]),
            ("rename", &["rename"]),
            ("port", &["port"]),
            ("prune", &["container prune"]),
            ("stop", &["stop"]),
            ("kill", &["kill"]),
            ("wait", &["wait"]),
            ("rm", &["rm"]),
            ("remove", &["rm"]),
            ("cp", &["cp"]),
            ("diff", &["diff"]),
            ("top", &["top"]),
            ("stats", &["stats"]),
            ("update", &["update"]),
            ("set", &["set"]),
            ("commit", &["commit"]),
            ("export", &["export"]),
            ("inspect", &["inspect", "--type=container"]),
        ],
    ),
    (
        "image",
        &[
            ("ls", &["images"]),
            ("list", &["images"]),
            ("build", &["build"]),
            ("pull", &["pull"]),
            ("push", &["push"]),
            ("load", &["load"]),
            ("save", &["save"]),
            ("import", &["import"]),
            ("history", &["history"]),
            ("tag", &["tag"]),
            ("rm", &["rmi"]),
            ("remove", &["rmi"]),
            ("inspect", &["inspect", "--type=image"]),
            ("prune", &["image prune"]),
            ("tree", &["image tree"]),
            ("pin", &["image pin"]),
            ("unpin", &["image unpin"]),
            ("evict", &["image evict"]),
        ],
    ),
    ("builder", &[("build", &["build"]), ("du", &["builder du"]), ("prune", &["builder prune"])]),
    (
        "volume",
        &[
            ("create", &["volume create"]),
            ("ls", &["volume ls"]),
            ("list", &["volume ls"]),
            ("inspect", &["volume inspect"]),
            ("rm", &["volume rm"]),
            ("remove", &["volume rm"]),
            ("prune", &["volume prune"]),
        ],
    ),
    (
        "network",
        &[
            ("create", &["network create"]),
            ("ls", &["network ls"]),
            ("list", &["network ls"]),
            ("exposed", &["network exposed"]),
            ("inspect", &["network inspect"]),
            ("capture", &["network capture"]),
            ("why", &["network why"]),
            ("connect", &["network connect"]),
            ("disconnect", &["network disconnect"]),
            ("denied", &["network denied"]),
            ("learned", &["network learned"]),
            ("rm", &["network rm"]),
            ("remove", &["network rm"]),
            ("prune", &["network prune"]),
        ],
    ),
    (
        "system",
        &[
            ("df", &["system df"]),
            ("check", &["system check"]),
            ("prune", &["system prune"]),
            ("events", &["events"]),
            ("info", &["info"]),
            ("start", &["system start"]),
            ("stop", &["system stop"]),
            ("enable", &["system enable"]),
            ("disable", &["system disable"]),
        ],
    ),
];

/// The verb of this name.
pub(crate) fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// All nouns.
pub(crate) fn nouns() -> impl Iterator<Item = &'static str> {
    NOUNS.iter().map(|(name, _)| *name)
}

/// What may stand behind a noun, if it is one.
pub(crate) fn translations(noun: &str) -> Option<Translations> {
    NOUNS.iter().find(|(name, _)| *name == noun).map(|(_, verbs)| *verbs)
}

/// Runs the verb that the words begin with.
pub(crate) fn dispatch(context: &Context, mut words: Vec<OsString>) -> Result<u8> {
    if let Some(noun) = asks_for_noun(&words) {
        return output::text(&help::noun(noun)).map(|()| 0);
    }
    expand_noun(&mut words)?;
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    let Some(verb) = name.to_str().and_then(find) else {
        return Err(unknown(
            &name.to_string_lossy(),
            VERBS.iter().filter(|v| !matches!(v.group, Group::Hidden | Group::Noun)).map(|v| v.name),
        ));
    };
    (verb.run)(context, verb.name, words.collect())
}

/// `image`, `image --help`: the noun.
fn asks_for_noun(words: &[OsString]) -> Option<&'static str> {
    let noun = nouns().find(|noun| words.first().is_some_and(|word| word == noun))?;
    let second = words.get(1).map(|word| word.to_string_lossy());
    matches!(second.as_deref(), None | Some("--help" | "-h" | "help")).then_some(noun)
}

/// `container ls …` becomes `ps …`.
fn expand_noun(words: &mut Vec<OsString>) -> Result<()> {
    let Some((noun, verbs)) = NOUNS.iter().find(|(noun, _)| words.first().is_some_and(|w| w == noun)) else {
        return Ok(());
    };
    let second = words.get(1).map(|w| w.to_string_lossy().into_owned()).unwrap_or_default();
    match verbs.iter().find(|(name, _)| *name == second) {
        Some((_, replacement)) => {
            words.splice(..2, replacement.iter().map(OsString::from));
            Ok(())
        }
        None => Err(unknown(format!("{noun} {second}").trim_end(), verbs.iter().map(|(name, _)| *name))),
    }
}

fn unknown(name: &str, mut known: impl Iterator<Item = &'static str>) -> Error {
    let last = name.rsplit(' ').next().unwrap_or_default();
    let close = known.find(|k| k.starts_with(last) && !last.is_empty() || distance(k, last) <= 1);
    let hint = match close {
        Some(close) => format!("did you mean `{close}`?"),
        None => "see `dhow --help`".to_owned(),
    };
    Error::Usage { message: format!("unknown command: {name}"), hints: vec![hint] }
}

/// How many letters two short words differ by (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn run<T: Run>(context: &Context, name: &str, words: Vec<OsString>) -> Result<u8> {
    let Some(arguments) = arguments::parse::<T>(name, words)? else { return Ok(0) };
    context.trace("the arguments are parsed");
    arguments.run(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tree_is_sound_and_says_what_it_is_for() {
        for verb in VERBS {
            let tree = (verb.tree)();
            assert!(tree.get_about().is_some(), "{}", verb.name);
            arguments::docker_style(tree).debug_assert();
        }
    }

    #[test]
    fn nouns_become_verbs() {
        let mut words = ["container", "inspect", "x"].map(OsString::from).to_vec();
        expand_noun(&mut words).unwrap();
        assert_eq!(words, ["inspect", "--type=container", "x"]);
        for (_, verbs) in NOUNS {
            for (_, replacement) in *verbs {
                assert!(find(replacement[0]).is_some(), "{replacement:?}");
            }
        }
        assert!(expand_noun(&mut ["image".into(), "eat".into()].to_vec()).is_err());
    }

    #[test]
    fn typos_get_a_hint() {
        let context = Context::default();
        let error = dispatch(&context, vec!["rnu".into()]).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (1, "unknown command: rnu"));
        assert_eq!(dispatch(&context, vec!["imges".into()]).unwrap_err().hints(), ["did you mean `images`?"]);
    }
}
