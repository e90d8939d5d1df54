//! What `--help` says.

use std::fmt::Write;

use clap::Command;

use crate::commands::{Group, VERBS};

const FLAGS: &str = "\
Global flags, before the command:
      --root DIR       Where images and containers are kept (DHOW_ROOT; /var/lib/dhow)
      --run-root DIR   Where live state is kept (DHOW_RUN_ROOT; /run/dhow, or run below --root)
      --config FILE    The configuration (DHOW_CONFIG; /etc/dhow/config.toml)
  -D, --debug          Say how long each step took
  -v, --version        Print the version
  -h, --help           Print this

`dhow COMMAND --help` tells more about a command. `dhow container …` and `dhow image …` work as in Docker.
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
        for verb in VERBS.iter().filter(|v| v.group != Group::Hidden) {
            write!(text, "\n──── dhow {} ────\n\n{}", verb.name, of(verb.name, (verb.tree)())).unwrap();
        }
        insta::assert_snapshot!(text);
    }
}
