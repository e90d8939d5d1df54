//! How many names a container looks up in a second, and how long one of them takes, beside Docker's resolver: a neighbour's
//! name on a network of their own, asked for by `dnsperf` from the container's network namespace.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::contenders::{Field, IMAGE, dhow};
use super::memory::{processes, pss};
use crate::{packages, shell};

/// Seconds of each measurement.
const SECONDS: &str = "5";
/// How many look-ups a second are asked for when their time counts: a busy container, and no queue.
const PACE: &str = "1000";
/// How many rounds there are; the best counts, since others work on this machine too.
const ROUNDS: usize = 3;

/// What one of them manages.
struct Manages {
    per_second: f64,
    /// Of the slowest in a hundred, in milliseconds.
    p99: f64,
}

pub(crate) fn run() -> Result<()> {
    packages::ensure(&[packages::NAMES])?;
    let mut field = Field::open()?;
    field.load_dhow()?;
    let ours = measure(&mut field, &dhow(&[]), Ok)?;
    report("dhow-netd", &ours);
    let docker = field.docker().and_then(|docker| {
        let archive = field.path("image.tar")?;
        field.act(&[docker.clone(), vec!["load".into(), "--input".into(), archive]].concat())?;
        measure(&mut field, &docker, outer)
    });
    match docker {
        Ok(theirs) => {
            report("docker", &theirs);
            let ratio = ours.per_second / theirs.per_second;
            let verdict = if ratio >= 5.0 { "kept" } else { "MISSED" };
            println!("{verdict:>8}: {ratio:.1} times as many look-ups a second as Docker's (at least 5)");
        }
        Err(error) => println!("not measured: docker: {error:#}"),
    }
    let verdict = if ours.p99 < 1.0 { "kept" } else { "MISSED" };
    println!("{verdict:>8}: the slowest in a hundred took {:.2} ms (less than 1)", ours.p99);
    Ok(())
}

fn report(name: &str, result: &Manages) {
    println!("{name:<12} {:>9.0} look-ups a second, p99 {:.2} ms", result.per_second, result.p99);
}

/// Two containers on a network, one of which asks for the other.
fn measure(field: &mut Field, engine: &[String], pid_of: fn(u32) -> Result<u32>) -> Result<Manages> {
    let words = |args: &[&str]| -> Vec<String> {
        engine.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())).collect()
    };
    let network = format!("dhow-bench-{}", std::process::id());
    let (asker, neighbour) = (format!("{network}-a"), format!("{network}-b"));
    field.act(&words(&["network", "create", &network]))?;
    field.undo_with(words(&["network", "rm", &network]));
    for name in [&asker, &neighbour] {
        let run = ["run", "-d", "--network", &network, "--name", name, IMAGE, "sleep", "36000"];
        field.act(&words(&run))?;
        field.undo_with(words(&["rm", "-f", name]));
    }
    let told = field.act(&words(&["inspect", "--format", "{{.State.Pid}}", &asker]))?;
    let pid = pid_of(told.trim().parse().context("an odd process id")?)?;
    let questions = field.place().join("questions");
    std::fs::write(&questions, format!("{neighbour} A\n"))?;
    let mut best = Manages { per_second: 0.0, p99: f64::INFINITY };
    for _ in 0..ROUNDS {
        let output = dnsperf(pid, &questions, &["-c", "4", "-q", "128"])?;
        best.per_second = best.per_second.max(number_behind(&output, "Queries per second:")?);
        let output = dnsperf(pid, &questions, &["-Q", PACE, "-v"])?;
        best.p99 = best.p99.min(p99(&output)?);
    }
    for server in processes("dhow-netd", field.place()) {
        println!("dhow-netd takes {} KiB (PSS)", pss(server)?);
    }
    Ok(best)
}

fn dnsperf(pid: u32, questions: &Path, more: &[&str]) -> Result<String> {
    let mut command = shell::program("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).args(["dnsperf", "-s", "127.0.0.11", "-l", SECONDS]);
    let output = shell::text(command.arg("-d").arg(questions).args(more))?;
    let lost = number_behind(&output, "Queries lost:")?;
    if lost > 0.0 {
        bail!("{lost} look-ups were never answered");
    }
    Ok(output)
}

fn number_behind(output: &str, words: &str) -> Result<f64> {
    let line = output.lines().find_map(|line| line.trim().strip_prefix(words));
    let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("dnsperf does not say `{words}`"))
}

/// Of the times that `dnsperf -v` says at the end of each answer's line, in seconds.
fn p99(output: &str) -> Result<f64> {
    let answers = output.lines().filter(|line| line.starts_with("> NOERROR"));
    let mut times: Vec<f64> =
        answers.filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    let place = times.len() * 99 / 100;
    times.get(place).map(|seconds| seconds * 1e3).context("dnsperf names no times")
}

/// The process that is called so within another PID namespace: our own daemon of Docker's has one.
pub(super) fn outer(inner: u32) -> Result<u32> {
    let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let Some(line) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { continue };
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // In ours, in the daemon's, and in the container's own, where it is the first.
        if numbers.len() == 3 && numbers[1] == inner && numbers[2] == 1 && own(pid).is_some() {
            return Ok(pid);
        }
    }
    // The daemon is not one of ours.
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dnsperf_says_is_read() {
        let output = "> NOERROR b A 0.000100\n> NOERROR b A 0.000300\n> T b A\nStatistics:\n\n  Queries lost:         0 (0.00%)\n  \
                      Queries per second:   1234.5\n";
        assert!((number_behind(output, "Queries per second:").unwrap() - 1234.5).abs() < 1e-9);
        assert!(number_behind(output, "Queries lost:").unwrap() < 1.0);
        assert!((p99(output).unwrap() - 0.3).abs() < 1e-9);
        assert!(p99("").is_err());
    }
}
