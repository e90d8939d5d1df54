//! `cargo xtask demo`: Dhow at work, in a minute: its built-in image, a Debian made of Debian's packages, a web
//! server reached from another container. It has a root of its own below `target/demo` and leaves nothing
//! running.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{image, install, leaks, packages, shell};

const IMAGE: &str = "demo/debian:12";
const NAME: &str = "web";
/// Set for the part that runs as root when the rest does not.
const BUILT: &str = "--built";

/// Runs it.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args {
        [] => {
            shell::root_prefix()?;
            packages::ensure(&[packages::BUILD, packages::DEMO])?;
            install::build()?;
            if shell::become_root(&["demo", BUILT])? {
                return Ok(());
            }
        }
        [built] if built == BUILT => {}
        _ => bail!("`demo` takes no options"),
    }
    let place = shell::target_dir().join("demo");
    std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
    let before = leaks::snapshot();
    let mut demo = Demo { dhow: shell::binaries("release").join("dhow"), place, starts: Vec::new() };
    let name = demo.text(&["info", "--format", "{{.CgroupParent}}"])?;
    let name = name.trim_matches('/');
    let outcome = demo.play();
    let swept = demo.sweep(name);
    outcome?;
    swept?;
    leaks::check_for(&before, &[name, path_text(&run_root())?])?;
    say("Nothing is left: no process, mount, interface, firewall rule or cgroup.");
    demo.table();
    Ok(())
}

struct Demo {
    dhow: PathBuf,
    place: PathBuf,
    starts: Vec<(String, Duration)>,
}

impl Demo {
    fn play(&mut self) -> Result<()> {
        say("The built-in image looks around and says what it sees. No registry, no daemon.");
        self.start(&["run", "--rm", "hello"])?;

        say("The same with less: 64 MB of memory, no network, no way to write.");
        let less = ["run", "--rm", "--memory", "64m", "--network", "none", "--read-only", "hello"];
        self.start_and_show(&less, &["Limits", "Interfaces", "Network"])?;

        let archive = self.debian()?;
        say("That archive is loaded, as `docker load` would.");
        self.dhow(&["load", "-i", path_text(&archive)?])?;
        self.dhow(&["images"])?;

        say("A shell in it.");
        let script =
            ". /etc/os-release; echo \"$PRETTY_NAME, as $(id -un), pid $$, $(ls / | wc -l) entries in /\"";
        self.start(&["run", "--rm", IMAGE, "sh", "-c", script])?;

        say("A web server in the background …");
        let server = "mkdir /www && echo 'Hello from a container.' >/www/index.html && \
                      exec busybox httpd -f -vv -p 80 -h /www";
        self.start(&["run", "-d", "--init", "--name", NAME, IMAGE, "sh", "-c", server])?;
        let address = self.text(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", NAME])?;
        say(&format!("… reached from another container, over the bridge, at {address}."));
        let fetch = format!(
            "for i in 1 2 3 4 5 6 7 8 9; do busybox wget -qO- http://{address}/ && exit; sleep 0.1; done; exit 1"
        );
        self.start(&["run", "--rm", IMAGE, "sh", "-c", &fetch])?;

        say("What runs, what it said, and a command inside it.");
        self.dhow(&["ps"])?;
        self.dhow(&["logs", NAME])?;
        self.start(&["exec", NAME, "busybox", "ps"])?;

        say("Stopped and removed.");
        self.dhow(&["stop", NAME])?;
        self.dhow(&["rm", NAME])?;
        self.dhow(&["ps", "-a"])?;
        Ok(())
    }

    /// A small Debian from its packages, kept for the next demo.
    fn debian(&self) -> Result<PathBuf> {
        let archive = self.place.join("debian.tar");
        if archive.exists() {
            say("A Debian image from Debian's packages: the one of the last demo is still there.");
            return Ok(archive);
        }
        say("A Debian image from Debian's packages, by mmdebstrap (about a minute).");
        let began = Instant::now();
        let layer = self.place.join("layer.tar");
        let mut mmdebstrap = shell::program("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=essential", "--include=busybox-static,base-files"]);
        for nobody_reads in ["doc", "locale", "man", "info"] {
            mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{nobody_reads}/*"));
        }
        shell::quiet(mmdebstrap.env("SOURCE_DATE_EPOCH", "0").arg("bookworm").arg(&layer))?;
        let partial = self.place.join("partial.tar");
        image::archive(&layer, &partial, IMAGE, &["bash"])?;
        std::fs::remove_file(&layer)?;
        std::fs::rename(&partial, &archive)?;
        println!(
            "   {} MB in {:.0} s",
            std::fs::metadata(&archive)?.len() >> 20,
            began.elapsed().as_secs_f64()
        );
        Ok(archive)
    }

    /// Removes all that the demo made but the archive.
    fn sweep(&self, name: &str) -> Result<()> {
        let ids = self.text(&["ps", "-aq"])?;
        if !ids.is_empty() {
            let mut remove = self.command(&["rm", "-f"]);
            shell::quiet(remove.args(ids.split_whitespace()))?;
        }
        leaks::await_sweep(name);
        for directory in [self.root(), run_root()] {
            // a monitor may still be removing what it held
            let mut tries = 0;
            while directory.exists() && std::fs::remove_dir_all(&directory).is_err() && tries < 50 {
                std::thread::sleep(Duration::from_millis(100));
                tries += 1;
            }
            if directory.exists() {
                bail!("{} cannot be removed", directory.display());
            }
        }
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.place.join("root")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = shell::program(&self.dhow);
        command.env("DHOW_ROOT", self.root()).env("DHOW_RUN_ROOT", run_root()).args(args);
        command
    }

    /// Shows a command and what it prints.
    fn dhow(&self, args: &[&str]) -> Result<Duration> {
        self.show(args, &[])
    }

    /// The same with only those of its paragraphs that begin with one of these words (none: all).
    fn show(&self, args: &[&str], paragraphs: &[&str]) -> Result<Duration> {
        println!("   $ dhow {}", typed(args));
        let began = Instant::now();
        let output = shell::quiet(&mut self.command(args))?;
        let took = began.elapsed();
        let mut out = std::io::stdout().lock();
        for stream in [&output.stderr, &output.stdout] {
            for (n, paragraph) in String::from_utf8_lossy(stream).trim_end().split("\n\n").enumerate() {
                if paragraph.is_empty() {
                    continue;
                }
                if paragraphs.is_empty() {
                    if n > 0 {
                        writeln!(out)?;
                    }
                    writeln!(out, "   {}", paragraph.replace('\n', "\n   "))?;
                } else if paragraphs.iter().any(|word| paragraph.starts_with(word)) {
                    writeln!(out, "   {}\n   …", paragraph.replace('\n', "\n   "))?;
                }
            }
        }
        Ok(took)
    }

    /// The same for one that starts a process, with the time it took.
    fn start(&mut self, args: &[&str]) -> Result<()> {
        self.start_and_show(args, &[])
    }

    fn start_and_show(&mut self, args: &[&str], paragraphs: &[&str]) -> Result<()> {
        let took = self.show(args, paragraphs)?;
        println!("   [{:.1} ms, from the command to its end]", took.as_secs_f64() * 1e3);
        let mut title = typed(args);
        if let Some((short, _)) = title.char_indices().nth(60) {
            title.truncate(short);
            title.push('…');
        }
        self.starts.push((title, took));
        Ok(())
    }

    fn text(&self, args: &[&str]) -> Result<String> {
        shell::text(&mut self.command(args))
    }

    fn table(&self) {
        println!("\n   ms     dhow …");
        for (title, took) in &self.starts {
            println!("{:7.1}   {title}", took.as_secs_f64() * 1e3);
        }
    }
}

fn run_root() -> PathBuf {
    PathBuf::from("/run/dhow-demo")
}

fn say(text: &str) {
    println!("\n── {text}");
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// As a person would type it.
fn typed(args: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,{}".contains(c);
    let quoted = args.iter().map(|arg| {
        if !arg.is_empty() && arg.chars().all(plain) {
            (*arg).to_owned()
        } else {
            format!("'{}'", arg.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_they_can_be_typed() {
        assert_eq!(typed(&["run", "--rm", "a/b:1", "echo 'x'"]), r"run --rm a/b:1 'echo '\''x'\'''");
    }
}
