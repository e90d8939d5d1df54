//! What `--help` says.

use std::fmt::Write;

use clap::Command;

use crate::commands::{Group, VERBS, find, translations};

const FLAGS: &str = "\
Global flags, before the command:
      --root DIR       Where images and containers are kept (DHOW_ROOT; /var/lib/dhow)
      --run-root DIR   Where live state is kept (DHOW_RUN_ROOT; /run/dhow, or run below --root)
      --config FILE    The configuration (DHOW_CONFIG; /etc/dhow/config.toml)
      --offline        Ask nothing of any registry (DHOW_OFFLINE)
  -D, --debug          Say how long each step took
  -v, --version        Print the version
  -h, --help           Print this

`dhow COMMAND --help` tells more about a command. `dhow container`, `dhow image`, `dhow builder`, `dhow network`, `dhow volume` and
`dhow system` have commands of their own, and all of Docker's under its names.
";

/// All commands in their groups.
pub(crate) fn overview() -> String {
    let mut text = String::from("Containers without a daemon.\n\nUsage: dhow [FLAGS] COMMAND\n");
    for (group, title) in
        [(Group::Containers, "Containers"), (Group::Images, "Images"), (Group::Other, "Other")]
    {
        write!(text, "\n{title}:\n").ok();
        for verb in VERBS.iter().filter(|v| v.group == group) {
            let about = (verb.tree)().get_about().map(ToString::to_string).unwrap_or_default();
            writeln!(text, "  {:<12}{about}", verb.name).ok();
        }
    }
    text + "\n" + FLAGS
}

/// What stands behind a noun.
pub(crate) fn noun(noun: &str) -> String {
    let mut text = format!("Usage: dhow {noun} COMMAND\n\nCommands:\n");
    for (name, meant) in translations(noun).unwrap_or_default() {
        let about = meant.first().and_then(|verb| find(verb)).and_then(|verb| {
            let tree = (verb.tree)();
            tree.get_about().map(ToString::to_string)
        });
        writeln!(text, "  {name:<12}{}", about.unwrap_or_default()).ok();
    }
    write!(text, "\n`dhow {noun} COMMAND --help` tells more.\n").ok();
    text
}

/// One command's help.
pub(crate) fn of(name: &str, command: Command) -> String {
    let command = command.bin_name(format!("dhow {name}")).display_name(format!("dhow {name}"));
    command.term_width(100).render_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_command_line() {
        let mut text = overview();
        for noun in crate::commands::nouns() {
            write!(text, "\n──── dhow {noun} ────\n\n{}", self::noun(noun)).unwrap();
        }
        for verb in VERBS.iter().filter(|v| v.group != Group::Hidden) {
            write!(text, "\n──── dhow {} ────\n\n{}", verb.name, of(verb.name, (verb.tree)())).unwrap();
        }
        insta::assert_snapshot!(text);
    }
}
