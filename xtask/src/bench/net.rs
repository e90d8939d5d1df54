//! What networks carry, beside Docker's, each engine in a network namespace of its own:
//!
//! ```text
//!   world ───veth─── the engine's namespace ───bridge─── a, b
//! ```
//!
//! From `b` to `a`, from `a` to the world, from the world to a port that `a` publishes; how many short connections such a port
//! takes in a second; and whether a network that has many containers costs the next one more. Rounds alternate, and the best
//! counts, since others work on this machine too.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::contenders::{Field, IMAGE, dhow};
use super::crowd;
use super::dns::outer;
use super::traffic::TRAFFIC;
use crate::shell;

const ROUNDS: usize = 5;
/// Less than this part of Docker's is less; the rest is noise.
const AS_GOOD: f64 = 0.97;
const WORLD: &str = "198.51.100.2";
const HOST: &str = "198.51.100.1";
const SINK: u16 = 5201;
const WEB: u16 = 8080;
/// What is measured, and in which unit.
const WHAT: [(&str, &str, f64); 4] = [
    ("container to container", "Gbit/s", 1e9),
    ("container to the world", "Gbit/s", 1e9),
    ("world to a published port", "Gbit/s", 1e9),
    ("short connections to a published port", "a second", 1.0),
];

/// An engine with two containers, and the world beside it.
struct Site {
    name: &'static str,
    world: PathBuf,
    a: (PathBuf, String),
    b: PathBuf,
    best: [f64; WHAT.len()],
    ends: Vec<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for end in &mut self.ends {
            end.kill().ok();
            end.wait().ok();
        }
    }
}

pub(crate) fn run() -> Result<()> {
    let mut field = Field::open()?;
    let mut sites = vec![ours(&mut field)?];
    match dockers(&mut field) {
        Ok(site) => sites.push(site),
        Err(error) => println!("not measured: docker: {error:#}"),
    }
    for _ in 0..ROUNDS {
        for site in &mut sites {
            site.measure()?;
        }
    }
    for (n, (what, unit, scale)) in WHAT.iter().enumerate() {
        for site in &sites {
            println!("{what:<40} {:<8} {:>9.1} {unit}", site.name, site.best[n] / scale);
        }
        if let [ours, theirs] = &sites[..] {
            let ratio = ours.best[n] / theirs.best[n];
            let verdict = if ratio >= AS_GOOD { "kept" } else { "MISSED" };
            println!("{verdict:>8}: {ratio:.2} of Docker's (at least {AS_GOOD})");
        }
    }
    Ok(())
}

fn ours(field: &mut Field) -> Result<Site> {
    let namespace = format!("dhow-bench-{}-h", std::process::id());
    make_namespace(field, &namespace)?;
    let path = PathBuf::from(format!("/run/netns/{namespace}"));
    field.load_dhow()?;
    let inside = [vec!["nsenter".to_owned(), format!("--net={}", path.display())], dhow(&[])].concat();
    crowd::measure(field, &inside)?;
    site(field, "dhow", &inside, &path, Ok)
}

fn dockers(field: &mut Field) -> Result<Site> {
    let docker = field.docker()?;
    let path = field.docker_namespace().context("a daemon that runs already has the host's network")?;
    site(field, "docker", &docker, &path, outer)
}

fn make_namespace(field: &mut Field, name: &str) -> Result<()> {
    shell::run(shell::program("ip").args(["netns", "add", name]))?;
    field.undo_with(["ip", "netns", "del", name].map(str::to_owned).to_vec());
    inside(&PathBuf::from(format!("/run/netns/{name}")), &["ip", "link", "set", "lo", "up"])
}

fn inside(namespace: &std::path::Path, words: &[&str]) -> Result<()> {
    shell::run(shell::program("nsenter").arg(format!("--net={}", namespace.display())).args(words))
}

/// Makes the world and the two containers.
fn site(
    field: &mut Field,
    name: &'static str,
    engine: &[String],
    host: &std::path::Path,
    pid_of: fn(u32) -> Result<u32>,
) -> Result<Site> {
    let tag = format!("{}{}", std::process::id(), &name[..2]);
    let world_name = format!("dhow-bench-{tag}-w");
    make_namespace(field, &world_name)?;
    let world = PathBuf::from(format!("/run/netns/{world_name}"));
    let (here, there) = (format!("dbh{tag}"), format!("dbw{tag}"));
    let ip = |words: &[&str]| shell::run(shell::program("ip").args(words));
    ip(&["link", "add", &here, "type", "veth", "peer", "name", &there])?;
    let place = host.to_str().context("a path that is not UTF-8")?;
    ip(&["link", "set", &here, "netns", place])?;
    ip(&["link", "set", &there, "netns", &world_name])?;
    for (namespace, link, address) in [(host, &here, HOST), (&*world, &there, WORLD)] {
        inside(namespace, &["ip", "address", "add", &format!("{address}/24"), "dev", link])?;
        inside(namespace, &["ip", "link", "set", link, "up"])?;
    }

    let words = |args: &[&str]| -> Vec<String> {
        engine.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())).collect()
    };
    let network = format!("dhow-bench-{tag}");
    field.act(&words(&["network", "create", &network]))?;
    field.undo_with(words(&["network", "rm", &network]));
    let (a, b) = (format!("{network}-a"), format!("{network}-b"));
    let ports = [format!("{SINK}:{SINK}"), format!("{WEB}:{WEB}")];
    for (container, publish) in [(&a, &["-p", &*ports[0], "-p", &*ports[1]][..]), (&b, &[])] {
        let run = [&["run", "-d", "--network", &network, "--name", container][..], publish].concat();
        field.act(&words(&[&run[..], &[IMAGE, "sleep", "36000"]].concat()))?;
        field.undo_with(words(&["rm", "-f", container]));
    }
    let namespace = |field: &mut Field, container: &str| -> Result<PathBuf> {
        let told = field.act(&words(&["inspect", "--format", "{{.State.Pid}}", container]))?;
        let pid = pid_of(told.trim().parse().context("an odd process id")?)?;
        Ok(PathBuf::from(format!("/proc/{pid}/ns/net")))
    };
    let of = [namespace(field, &a)?, namespace(field, &b)?];
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = field.act(&words(&["inspect", "--format", format, &a]))?.trim().to_owned();

    let [a, b] = of;
    let ends = vec![
        end(&a, "sink", &format!("0.0.0.0:{SINK}"))?,
        end(&a, "answers", &format!("0.0.0.0:{WEB}"))?,
        end(&world, "sink", &format!("0.0.0.0:{SINK}"))?,
    ];
    std::thread::sleep(Duration::from_millis(300));
    Ok(Site { name, world, a: (a, address), b, best: [0.0; WHAT.len()], ends })
}

fn command(namespace: &std::path::Path, kind: &str, address: &str) -> Result<std::process::Command> {
    let mut command = shell::program("nsenter");
    command.arg(format!("--net={}", namespace.display()));
    command.arg(std::env::current_exe().context("finding this program")?).args([TRAFFIC, kind, address]);
    Ok(command)
}

fn end(namespace: &std::path::Path, kind: &str, address: &str) -> Result<Child> {
    command(namespace, kind, address)?
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("starting `{kind}`"))
}

impl Site {
    fn measure(&mut self) -> Result<()> {
        let (a, address) = &self.a;
        let pairs: [(&PathBuf, &str, String); WHAT.len()] = [
            (&self.b, "flood", format!("{address}:{SINK}")),
            (a, "flood", format!("{WORLD}:{SINK}")),
            (&self.world, "flood", format!("{HOST}:{SINK}")),
            (&self.world, "asks", format!("{HOST}:{WEB}")),
        ];
        for (best, (from, kind, to)) in self.best.iter_mut().zip(pairs) {
            let said = shell::text(&mut command(from, kind, &to)?)?;
            let rate: f64 = said.trim().parse().with_context(|| format!("an odd rate: {said}"))?;
            *best = best.max(rate);
        }
        Ok(())
    }
}
