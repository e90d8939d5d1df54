//! The words about the commands: `--help` and `--version`, in the form of runc's.

use std::fmt::Write as _;

use crate::arguments::{Command, Flag};
use crate::{globals, verbs};

/// `--version`. Callers look for the lines that begin with `spec:` and `commit:`.
pub(crate) fn version() -> String {
    let mut text = format!("dhow-runtime version {}\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "commit: {}", option_env!("DHOW_COMMIT").unwrap_or("unknown"));
    let _ = writeln!(text, "spec: {}", oci::runtime::VERSION);
    text
}

/// What the program is, its commands and its global flags.
pub(crate) fn program() -> String {
    let mut text = String::from(
        "NAME:\n   dhow-runtime - starts containers from bundles, as the OCI runtime specification says\n\n\
         USAGE:\n   dhow-runtime [global options] command [command options] [arguments...]\n\n\
         COMMANDS:\n",
    );
    for command in verbs::ALL {
        let _ = writeln!(text, "   {:<12}{}", command.name, command.about);
    }
    let _ = writeln!(text, "   {:<12}this text, or a command's", "help, h");
    text.push_str("\nGLOBAL OPTIONS:\n");
    flags(&mut text, globals::FLAGS);
    text
}

/// What a command does, and its flags.
pub(crate) fn command(command: &Command) -> String {
    let mut text = format!(
        "NAME:\n   dhow-runtime {name} - {}\n\nUSAGE:\n   dhow-runtime {name} {}\n",
        command.about,
        command.usage,
        name = command.name
    );
    if !command.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        flags(&mut text, command.flags);
    }
    text
}

fn flags(text: &mut String, flags: &[Flag]) {
    let left = |flag: &Flag| {
        let dashes = |name: &&str| format!("{}{name}", if name.len() == 1 { "-" } else { "--" });
        let names: Vec<String> = flag.names.iter().map(dashes).collect();
        let value = if flag.value { " value" } else { "" };
        names.iter().map(|name| format!("{name}{value}")).collect::<Vec<_>>().join(", ")
    };
    let width = flags.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    for flag in flags {
        let _ = writeln!(text, "   {:<width$}  {}", left(flag), flag.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_find_the_version_of_the_specification() {
        let text = version();
        assert!(text.starts_with("dhow-runtime version "), "{text}");
        assert!(text.lines().any(|line| line == "spec: 1.3.0"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("commit: ")), "{text}");
    }

    #[test]
    fn every_command_is_told_of_with_its_flags() {
        let all = program();
        for verb in verbs::ALL {
            assert!(all.contains(&format!("\n   {:<12}", verb.name)), "{}", verb.name);
            let text = command(verb);
            for flag in verb.flags {
                assert!(text.contains(&format!("--{}", flag.names[0])), "{} {:?}", verb.name, flag.names);
            }
        }
    }
}
