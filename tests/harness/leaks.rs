//! What may be left of an instance whose containers are gone: nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::wait::patience;

/// Waits for a while, at most, until nothing of the instance is left; else says what is.
pub(crate) fn none(home: &Path, global_name: &str, namespace: Option<&str>) -> Result<(), String> {
    let deadline = Instant::now() + patience(20);
    loop {
        let left = look(home, global_name, namespace);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(left.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn look(home: &Path, global_name: &str, namespace: Option<&str>) -> Vec<String> {
    let mut left = Vec::new();
    files(home, &mut left);
    mounts(home, &mut left);
    cgroups(global_name, &mut left);
    processes(home, global_name, &mut left);
    if left.is_empty() {
        network(global_name, namespace, &mut left);
    }
    left
}

/// What must be empty once there is no container any more.
fn files(home: &Path, left: &mut Vec<String>) {
    let places =
        ["root/containers", "root/names/containers", "root/removing", "run/containers", "run/volumes"];
    let networks =
        names(&home.join("run/networks")).into_iter().map(|n| format!("run/networks/{n}/addresses"));
    for place in places.into_iter().map(str::to_owned).chain(networks) {
        for name in names(&home.join(&place)) {
            left.push(format!("file {place}/{name}"));
        }
    }
    // Volumes stay, but not what is only half one, nor what one was filled with.
    for volume in names(&home.join("root/volumes")) {
        if volume.starts_with('.') {
            left.push(format!("file root/volumes/{volume}"));
        }
        for part in names(&home.join("root/volumes").join(&volume)).iter().filter(|n| n.starts_with("fill")) {
            left.push(format!("file root/volumes/{volume}/{part}"));
        }
    }
}

pub(crate) fn mounts(home: &Path, left: &mut Vec<String>) {
    let home = home.display().to_string();
    for line in read("/proc/self/mountinfo").lines().filter(|line| line.contains(&home)) {
        left.push(format!("mount {line}"));
    }
}

pub(crate) fn cgroups(global_name: &str, left: &mut Vec<String>) {
    let mut pending = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((directory, depth)) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(global_name) {
                left.push(format!("cgroup {}", entry.path().display()));
            } else if depth < 3 {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
}

/// Processes in a cgroup of the instance, and programs of ours that hold a file of it.
fn processes(home: &Path, global_name: &str, left: &mut Vec<String>) {
    for pid in names(Path::new("/proc")) {
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let process = Path::new("/proc").join(&pid);
        let name = read(process.join("comm"));
        let holds = || {
            names(&process.join("fd"))
                .iter()
                .filter_map(|fd| std::fs::read_link(process.join("fd").join(fd)).ok())
                .any(|target| target.starts_with(home))
        };
        let ours =
            read(process.join("cgroup")).contains(global_name) || (name.starts_with("dhow") && holds());
        if ours && !read(process.join("stat")).contains(") Z ") {
            left.push(format!("process {pid} {}", name.trim()));
        }
    }
}

fn network(global_name: &str, namespace: Option<&str>, left: &mut Vec<String>) {
    let ask = |program: &str, args: &[&str]| {
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(program);
                command
            }
            None => Command::new(program),
        };
        let output = command.args(args).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    let interfaces = ask("ip", &["-oneline", "link"]);
    let tables = ask("nft", &["list", "tables"]);
    for line in interfaces.lines().chain(tables.lines()).filter(|line| line.contains(global_name)) {
        left.push(format!("network {line}"));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    // what goes while we look is no leak
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
