//! `dhow-hello`, the only file of the built-in image `hello`: reports what the container sees of itself and of
//! the host, so that people can look at what their flags do (`dhow run --memory 64m --network none hello`).

mod limits;
mod mounts;
mod network;
mod process;
mod reach;
mod report;
mod text;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use report::Report;
use text::Style;

const USAGE: &str = "\
usage: hello                 report what this container sees
       hello --json          the same, for programs
       hello true            do nothing, well
       hello exit CODE       exit with this code
       hello sleep SECONDS   wait
       hello echo WORDS...   print the words
       hello cat             copy standard input to standard output
";

const GREETING: &str = "\
Hello from a Dhow container!

If you can read this, an image was found, unpacked and stacked into a root file
system, and this program was started in it, confined. What it sees from there
follows. Run it with flags of your own to see what they do, for example:

  dhow run --rm --memory 64m --cpus 0.5 --network none --read-only hello
";

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            let colour = std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
            say(&format!("{GREETING}{}", look().text(Style(colour))))
        }
        ["--json"] => say(&look().json()),
        ["--help" | "-h" | "help"] => say(USAGE),
        ["true"] => ExitCode::SUCCESS,
        ["exit", code] => match code.parse::<u8>() {
            Ok(code) => ExitCode::from(code),
            Err(_) => misused(),
        },
        ["sleep", seconds] => match seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            Some(duration) => {
                std::thread::sleep(duration);
                ExitCode::SUCCESS
            }
            None => misused(),
        },
        ["echo", ref words @ ..] => say(&(words.join(" ") + "\n")),
        ["cat"] => match std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => misused(),
    }
}

fn look() -> Report {
    let status = process::Status::read();
    Report(vec![
        process::process(&status),
        process::namespaces(),
        process::confinement(&status),
        limits::limits(),
        mounts::mounts(),
        network::interfaces(),
        network::ways(),
        reach::host(),
    ])
}

fn say(text: &str) -> ExitCode {
    // A reader who has gone is no failure of ours, and there is nobody to tell.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn misused() -> ExitCode {
    std::io::stderr().write_all(USAGE.as_bytes()).ok();
    ExitCode::from(2)
}
