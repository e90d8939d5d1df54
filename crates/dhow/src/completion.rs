//! Completion: each shell's script asks `dhow __complete WORDS…` and offers what it prints, so that commands,
//! flags, containers and images are always those of this moment. Where we know nothing, the shell offers files.

use crate::commands::{Group, Names, VERBS, find, nouns, translations};
use crate::globals::Context;

/// `~/.bashrc`: `source <(dhow completion bash)`.
pub(crate) const BASH: &str = r#"# bash completion for dhow
_dhow() {
    local line=${COMP_LINE:0:COMP_POINT} words cur
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    local IFS=$'\n'
    COMPREPLY=($(dhow __complete -- "${words[@]:1}" 2>/dev/null))
    # Bash takes a colon for the end of a word: it wants only what follows the last one.
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
    fi
}
complete -o default -F _dhow dhow
"#;

/// `~/.zshrc`: `source <(dhow completion zsh)`.
pub(crate) const ZSH: &str = r#"#compdef dhow
_dhow() {
    local -a candidates
    candidates=("${(@f)$(dhow __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${candidates[1]} ]]; then compadd -a candidates; else _files; fi
}
compdef _dhow dhow
"#;

/// `dhow completion fish | source`.
pub(crate) const FISH: &str = r"# fish completion for dhow
function __dhow_complete
    set -l words (commandline -opc) (commandline -ct)
    dhow __complete -- $words[2..-1] 2>/dev/null
end
complete -c dhow -a '(__dhow_complete)'
";

/// The verbs that begin so.
pub(crate) fn verbs(prefix: &str) -> Vec<String> {
    let shown = VERBS.iter().filter(|v| !matches!(v.group, Group::Hidden | Group::Noun)).map(|v| v.name);
    shown.chain(nouns()).filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

/// What may follow a verb and these words of its.
pub(crate) fn arguments(context: &Context, words: &[String], prefix: &str) -> Vec<String> {
    if let Some(verbs) = words.first().and_then(|name| translations(name)) {
        let Some((_, meant)) = words.get(1).and_then(|second| verbs.iter().find(|(name, _)| name == second))
        else {
            return verbs
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .filter(|name| name.starts_with(prefix))
                .collect();
        };
        let words: Vec<String> =
            meant.iter().map(|w| (*w).to_owned()).chain(words[2..].iter().cloned()).collect();
        return arguments(context, &words, prefix);
    }
    let Some(verb) = words.first().and_then(|name| find(name)) else { return Vec::new() };
    let tree = (verb.tree)();
    let flag = |word: &str| {
        tree.get_arguments()
            .find(|a| word.strip_prefix("--").is_some_and(|w| a.get_long() == Some(w)) || is_short(a, word))
    };
    // The value of the flag before: its known values, or nothing that we know.
    if let Some(argument) = words[1..].last().and_then(|word| flag(word))
        && argument.get_action().takes_values()
        && !argument.is_require_equals_set()
    {
        let values = argument.get_possible_values();
        return values.iter().map(|v| v.get_name().to_owned()).filter(|v| v.starts_with(prefix)).collect();
    }
    if prefix.starts_with('-') {
        let flags = tree.get_arguments().filter_map(|a| a.get_long()).map(|long| format!("--{long}"));
        return flags.filter(|flag| flag.starts_with(prefix)).collect();
    }
    let mut names = names(context, verb.names);
    names.extend(
        tree.get_positionals().flat_map(|p| p.get_possible_values()).map(|v| v.get_name().to_owned()),
    );
    names.retain(|name| name.starts_with(prefix));
    names.dedup();
    names
}

fn is_short(argument: &clap::Arg, word: &str) -> bool {
    let mut letters = word.chars();
    letters.next() == Some('-') && letters.next_back().is_some_and(|c| argument.get_short() == Some(c))
}

/// The names that there are. What cannot be found out is not offered.
fn names(context: &Context, which: Names) -> Vec<String> {
    if which == Names::None {
        return Vec::new();
    }
    let Ok(engine) = context.engine() else { return Vec::new() };
    let mut all = Vec::new();
    if matches!(which, Names::Running | Names::Containers | Names::Both) {
        let containers = engine.containers(which != Names::Running).unwrap_or_default();
        all.extend(containers.into_iter().map(|c| c.name));
    }
    if matches!(which, Names::Images | Names::Both) {
        all.extend(engine.images().unwrap_or_default().into_iter().flat_map(|i| i.references));
    }
    if which == Names::Volumes {
        all.extend(engine.volumes().unwrap_or_default().into_iter().map(|volume| volume.name));
    }
    if which == Names::Networks {
        all.extend(engine.networks().unwrap_or_default().into_iter().map(|network| network.name));
    }
    if which == Names::Registries {
        all.extend(engine.known_registries().unwrap_or_default());
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(words: &[&str], prefix: &str) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        arguments(&Context::default(), &words, prefix)
    }

    #[test]
    fn verbs_flags_and_their_values() {
        assert_eq!(verbs("im"), ["images", "import", "image"]);
        assert_eq!(after(&["run"], "--cap-"), ["--cap-add", "--cap-drop"]);
        assert_eq!(after(&["run", "--pull"], "m"), ["missing"]);
        assert_eq!(after(&["ps"], "--tr"), ["--tree"]);
        assert_eq!(after(&["completion"], "z"), ["zsh"]);
        assert_eq!(after(&["container"], "r"), ["run", "restart", "rename", "rm", "remove"]);
        assert_eq!(after(&["container", "rm"], "--f"), ["--force"]);
        assert_eq!(
            (verbs("sy"), after(&["system"], "d")),
            (vec!["system".to_owned()], vec!["df".to_owned(), "disable".to_owned()])
        );
        assert_eq!(after(&["system", "check"], "--re"), ["--repair"]);
        assert_eq!(after(&["image"], "p"), ["pull", "push", "prune", "pin"]);
        assert!(after(&["run", "--env-file"], "").is_empty() && after(&["nope"], "").is_empty());
    }
}
