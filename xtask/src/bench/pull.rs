//! A pull of some 300 MB from a registry on loopback, unpacked: beside Podman, Docker and containerd, alternating,
//! each with a store of its own on the same disk. Before each pull the disk is at rest.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::contenders::{Field, dhow};
use super::parcel::{self, Compression};
use super::table::median;
use crate::shell;

/// At most this part of the fastest other one's time.
const PROMISE: f64 = 0.5;
/// At most so much memory at any time, in MiB.
const MEMORY: f64 = 64.0;

/// The compressions, each a part.
pub(crate) const PARTS: &[&str] = &["gzip", "zstd"];

/// Somebody who pulls.
pub(super) struct Puller {
    name: &'static str,
    pull: Vec<String>,
    remove: Vec<String>,
    /// Who does the work, where that is not the command itself.
    daemon: Option<u32>,
    times: Vec<f64>,
    /// MiB.
    memory: f64,
}

/// What is to be ended.
#[derive(Default)]
pub(super) struct Daemons(Vec<Child>);

impl Drop for Daemons {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // ask first: dockerd takes its containerd along
            let _ = shell::program("kill").arg(child.id().to_string()).status();
            let deadline = Instant::now() + Duration::from_secs(10);
            while child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn run(runs: usize, only: Option<&str>) -> Result<()> {
    // the tools that the machine lacks are on the tests' PATH
    let path = crate::test::path()?;
    if std::env::var_os("PATH").as_ref() != Some(&path) {
        let mut again = Command::new(std::env::current_exe().context("finding this program")?);
        again.args(["bench", "--no-build", "--pull", "--runs", &runs.to_string()]).env("PATH", path);
        return shell::run(again.args(only.map(|only| ["--part", only]).into_iter().flatten()));
    }
    for compression in [Compression::Gzip, Compression::Zstd] {
        if only.is_none_or(|only| only == compression.name()) {
            measure(compression, runs)?;
        }
    }
    Ok(())
}

fn measure(compression: Compression, runs: usize) -> Result<()> {
    let layout = parcel::layout(compression)?;
    let field = Field::bare()?;
    let mut daemons = Daemons::default();
    let host = registry(field.place(), &mut daemons)?;
    let image = format!("{host}/bench/{}:1", compression.name());
    let from = format!("oci:{}:bench", layout.display());
    let to = format!("docker://{image}");
    shell::quiet(shell::program("skopeo").args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        &from,
        &to,
    ]))?;
    let mut pullers = vec![Puller::new("dhow", dhow(&["pull", "-q", &image]), dhow(&["rmi", &image]))];
    type Entry = fn(&Field, &str, &mut Daemons) -> Result<Puller>;
    let entries: [(&str, Entry); 3] = [("podman", podman), ("docker", docker), ("containerd", containerd)];
    for (name, entry) in entries {
        let entered = entry(&field, &image, &mut daemons).and_then(|mut puller| {
            puller.round(&field)?;
            puller.times.clear();
            Ok(puller)
        });
        match entered {
            Ok(puller) => pullers.push(puller),
            Err(error) => println!("not measured: {name}: {error:#}"),
        }
    }
    pullers[0].round(&field)?;
    pullers[0].times.clear();
    for round in 0..runs {
        let mut order: Vec<usize> = (0..pullers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            pullers[index].round(&field)?;
        }
    }
    print(compression, &layout, &mut pullers)
}

impl Puller {
    fn new(name: &'static str, pull: Vec<String>, remove: Vec<String>) -> Self {
        Self { name, pull, remove, daemon: None, times: Vec::new(), memory: 0.0 }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The words of its pull.
    pub(super) fn command(&self) -> &[String] {
        &self.pull
    }

    /// One pull, and its removal.
    fn round(&mut self, field: &Field) -> Result<()> {
        settle()?;
        let (took, memory) = time(field, &self.pull)?;
        self.times.push(took.as_secs_f64());
        self.memory = self.memory.max(self.daemon.map_or(memory, peak));
        field.act(&self.remove).map(drop)
    }
}

/// Lets the disk come to rest.
pub(super) fn settle() -> Result<()> {
    shell::quiet(&mut shell::program("sync"))?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

/// Runs a command: how long it took, and the most memory that it had.
pub(super) fn time(field: &Field, words: &[String]) -> Result<(Duration, f64)> {
    let log = field.place().join("pull.log");
    let mut command = field.command(words)?;
    command.stdout(Stdio::null()).stderr(File::create(&log)?);
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {}", words[0]))?;
    let pid = child.id();
    // The kernel keeps the peak, but forgets it with the process: it is asked again and again.
    let watch = std::thread::spawn(move || {
        let mut most = 0.0;
        loop {
            let now = peak(pid);
            if now == 0.0 {
                return most;
            }
            most = now;
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let status = child.wait()?;
    let took = began.elapsed();
    let memory = watch.join().unwrap_or_default();
    if !status.success() {
        bail!("`{}` failed: {}", words.join(" "), std::fs::read_to_string(&log)?.trim());
    }
    Ok((took, memory))
}

/// The most memory that a process has had so far, in MiB; 0 if there is none.
pub(super) fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn registry(place: &Path, daemons: &mut Daemons) -> Result<String> {
    let free = TcpListener::bind("127.0.0.1:0")?;
    let host = free.local_addr()?.to_string();
    drop(free);
    let config = json!({
        "version": "0.1",
        "log": { "level": "error" },
        "storage": { "filesystem": { "rootdirectory": place.join("registry") } },
        "http": { "addr": host },
    });
    let file = place.join("registry.yml");
    std::fs::write(&file, config.to_string())?;
    let program = shell::find("docker-registry").context("no docker-registry")?;
    let mut command = Command::new(program);
    command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    daemons.0.push(command.spawn().context("starting docker-registry")?);
    wait_for("docker-registry", || TcpStream::connect(&host).is_ok())?;
    Ok(host)
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        if Instant::now() > deadline {
            bail!("{what} did not start");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

pub(super) fn podman(field: &Field, image: &str, _: &mut Daemons) -> Result<Puller> {
    shell::find("podman").context("not installed")?;
    let words = |rest: &[&str]| -> Result<Vec<String>> {
        Ok(field.podman_words()?.into_iter().chain(rest.iter().map(|word| (*word).to_owned())).collect())
    };
    let pull = words(&["pull", "--quiet", "--tls-verify=false", image])?;
    Ok(Puller::new("podman", pull, words(&["rmi", "--force", image])?))
}

/// A daemon of ours where the registry can be reached: without a bridge, and without rules.
pub(super) fn docker(field: &Field, image: &str, daemons: &mut Daemons) -> Result<Puller> {
    let daemon = shell::find("dockerd").context("not installed")?;
    let socket = format!("unix://{}", field.path("docker.sock")?);
    let mut command = Command::new(daemon);
    command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--log-level", "error"]);
    command.arg("--host").arg(&socket).arg("--data-root").arg(field.place().join("docker"));
    command.arg("--exec-root").arg(field.place().join("dx"));
    command.arg("--pidfile").arg(field.place().join("docker.pid"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(File::create(field.place().join("docker.log"))?).spawn()?;
    let pid = child.id();
    daemons.0.push(child);
    let words = |rest: &[&str]| -> Vec<String> {
        ["docker", "--host", &socket].iter().chain(rest).map(|word| (*word).to_owned()).collect()
    };
    wait_for("dockerd", || field.act(&words(&["info"])).is_ok())?;
    let mut puller = Puller::new("docker", words(&["pull", "--quiet", image]), words(&["rmi", image]));
    puller.daemon = Some(pid);
    Ok(puller)
}

pub(super) fn containerd(field: &Field, image: &str, daemons: &mut Daemons) -> Result<Puller> {
    let daemon = shell::find("containerd").context("not installed")?;
    let file = |name: &str| field.path(&format!("containerd-{name}"));
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        file("root")?,
        file("state")?,
        file("sock")?,
        file("ttrpc")?,
    );
    std::fs::write(file("config.toml")?, config)?;
    let mut command = Command::new(daemon);
    command.args(["--config", &file("config.toml")?, "--log-level", "error"]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(file("log")?)?);
    let child = command.spawn()?;
    let pid = child.id();
    daemons.0.push(child);
    let address = file("sock")?;
    let words = |rest: &[&str]| -> Vec<String> {
        ["ctr", "--address", &address].iter().chain(rest).map(|word| (*word).to_owned()).collect()
    };
    wait_for("containerd", || field.act(&words(&["version"])).is_ok())?;
    let pull = words(&["images", "pull", "--plain-http", image]);
    let mut puller = Puller::new("containerd", pull, words(&["images", "rm", "--sync", image]));
    puller.daemon = Some(pid);
    Ok(puller)
}

fn print(compression: Compression, layout: &Path, pullers: &mut [Puller]) -> Result<()> {
    let blobs = std::fs::read_dir(layout.join("blobs/sha256"))?;
    let bytes: u64 = blobs.flatten().filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum();
    println!("\npull of {} MB in {} layers", bytes / 1_000_000, compression.name());
    println!("  {:<14} {:>8} {:>10} {:>12}   dhow's part", "", "min s", "median s", "peak MiB");
    let medians: Vec<f64> = pullers.iter_mut().map(|puller| median(&mut puller.times)).collect();
    for (puller, median) in pullers.iter().zip(&medians) {
        let least = puller.times.first().copied().unwrap_or(f64::NAN);
        let part = medians[0] / median;
        println!("  {:<14} {least:8.2} {median:10.2} {:12.1}   {part:.2}", puller.name, puller.memory);
    }
    let verdict = |kept| if kept { "kept" } else { "MISSED" };
    if let Some(fastest) = medians[1..].iter().copied().min_by(f64::total_cmp) {
        let ratio = medians[0] / fastest;
        println!("{:>8}: {ratio:.2} of the fastest (at most {PROMISE})", verdict(ratio <= PROMISE));
    }
    let memory = pullers[0].memory;
    println!("{:>8}: {memory:.1} MiB at most (less than {MEMORY})", verdict(memory < MEMORY));
    Ok(())
}
