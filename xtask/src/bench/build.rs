//! Builds beside BuildKit (Docker's) and buildah (Podman's `build`), alternating, each with its own store on the same disk: all
//! steps in the cache, thirty trivial `RUN`s, four slow stages, a context of a hundred thousand files with one changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::contenders::{Field, IMAGE, dhow};
use super::pull::time;
use super::table::median;
use crate::shell;

/// The parts, and at most which part of BuildKit's time is promised.
const PROMISES: &[(&str, Option<f64>)] =
    &[("cached", Some(0.2)), ("cold", Some(0.2)), ("stages", None), ("context", Some(0.5))];
/// The names of the parts.
pub(crate) const PARTS: &[&str] = &["cached", "cold", "stages", "context"];
/// `RUN`s of the first two parts.
const STEPS: usize = 30;
/// Directories of the large context, and files in each.
const FILES: (usize, usize) = (100, 1000);
/// More memory than that a build shall not need, in MiB.
const MEMORY: f64 = 100.0;

/// Somebody who builds.
struct Contender {
    name: &'static str,
    /// The beginning of its command line, `build` included.
    start: Vec<String>,
    buildkit: bool,
    times: Vec<f64>,
    memory: f64,
}

pub(crate) fn run(runs: usize, only: Option<&str>) -> Result<()> {
    const AGAIN: &str = "DHOW_BENCH_AGAIN";
    if std::env::var_os(AGAIN).is_none() {
        let path = crate::test::path()?;
        let mut again = Command::new(std::env::current_exe().context("finding this program")?);
        again
            .args(["bench", "--no-build", "--build", "--runs", &runs.to_string()])
            .env("PATH", path)
            .env(AGAIN, "1");
        return shell::run(again.args(only.map(|only| ["--part", only]).into_iter().flatten()));
    }
    let mut field = Field::open()?;
    let mut contenders = enter(&mut field)?;
    for (part, promise) in PROMISES.iter().filter(|(part, _)| only.is_none_or(|only| only == *part)) {
        let context = prepare(field.place(), part)?;
        for contender in &mut contenders {
            contender.times.clear();
            contender.memory = 0.0;
            // The cache is filled, where it is to be used.
            contender.build(&field, part, &context, 0)?;
        }
        for round in 1..=runs {
            let mut order: Vec<usize> = (0..contenders.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let contender = &mut contenders[index];
                if *part == "context" {
                    let changed = context.join("d7/f7");
                    std::fs::write(changed, format!("{round} {}\n", contender.name))?;
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
                let (took, memory) = contender.build(&field, part, &context, round)?;
                contender.times.push(took);
                contender.memory = contender.memory.max(memory);
            }
        }
        print(part, *promise, &mut contenders);
    }
    Ok(())
}

/// All who can.
fn enter(field: &mut Field) -> Result<Vec<Contender>> {
    let contender = |name, start: Vec<String>, buildkit| Contender {
        name,
        start,
        buildkit,
        times: Vec::new(),
        memory: 0.0,
    };
    field.load_dhow()?;
    let mut contenders = vec![contender("dhow", dhow(&["build"]), false)];
    let with_build = |mut start: Vec<String>| {
        start.push("build".to_owned());
        start
    };
    match field.docker() {
        Ok(mut start) => {
            // The machine's own command line may lack the plugin that newer ones want for it.
            let own = shell::tools_dir().join("docker.io/usr/bin/docker");
            if own.exists() {
                start[0] = own.display().to_string();
            }
            contenders.push(contender("buildkit", with_build(start), true));
        }
        Err(error) => println!("not measured: docker: {error:#}"),
    }
    match field.podman() {
        Ok(start) => contenders.push(contender("buildah", with_build(start), false)),
        Err(error) => println!("not measured: podman: {error:#}"),
    }
    Ok(contenders)
}

impl Contender {
    /// One build: how many seconds it took, and how many MiB its command had.
    fn build(&self, field: &Field, part: &str, context: &Path, round: usize) -> Result<(f64, f64)> {
        let mut words = self.start.clone();
        if self.buildkit {
            words.splice(..0, ["env", "DOCKER_BUILDKIT=1"].map(str::to_owned));
        }
        words.extend(["-q", "-t", "bench/built:1"].map(str::to_owned));
        if matches!(part, "cold" | "stages") && round > 0 {
            words.push("--no-cache".to_owned());
        }
        if self.name == "buildah" {
            words.extend(["--layers", "--pull=never"].map(str::to_owned));
            if part == "stages" {
                words.push("--jobs=4".to_owned());
            }
        }
        words.push(context.display().to_string());
        let (took, memory) = time(field, &words).with_context(|| format!("{} builds {part}", self.name))?;
        Ok((took.as_secs_f64(), memory))
    }
}

/// The context of a part.
fn prepare(place: &Path, part: &str) -> Result<PathBuf> {
    let context = place.join(format!("context-{part}"));
    std::fs::create_dir_all(&context)?;
    let base = format!("FROM {IMAGE}");
    let dockerfile = match part {
        "cached" | "cold" => {
            let steps: Vec<String> = (0..STEPS).map(|n| format!("RUN echo {n} >/{n}\n")).collect();
            format!("{base}\n{}", steps.concat())
        }
        "stages" => {
            let stage = |n: usize| format!("{base} AS s{n}\nRUN sleep 2; echo {n} >/out\n");
            let copy = |n: usize| format!("COPY --from=s{n} /out /{n}\n");
            let stages: Vec<String> = (0..4).map(stage).collect();
            let copies: Vec<String> = (0..4).map(copy).collect();
            format!("{}{base}\n{}", stages.concat(), copies.concat())
        }
        "context" => {
            for directory in 0..FILES.0 {
                let path = context.join(format!("d{directory}"));
                std::fs::create_dir_all(&path)?;
                for file in 0..FILES.1 {
                    std::fs::write(path.join(format!("f{file}")), format!("{directory} {file}\n"))?;
                }
            }
            format!("{base}\nCOPY . /all\n")
        }
        other => bail!("no part is called {other}"),
    };
    std::fs::write(context.join("Dockerfile"), dockerfile)?;
    Ok(context)
}

fn print(part: &str, promise: Option<f64>, contenders: &mut [Contender]) {
    println!("\n{part}");
    println!("  {:<10} {:>9} {:>10} {:>9}   dhow's part", "", "min ms", "median ms", "MiB");
    let medians: Vec<f64> = contenders.iter_mut().map(|contender| median(&mut contender.times)).collect();
    for (contender, median) in contenders.iter().zip(&medians) {
        let least = contender.times.first().copied().unwrap_or(f64::NAN);
        println!(
            "  {:<10} {:9.1} {:10.1} {:9.1}   {:.3}",
            contender.name,
            least * 1e3,
            median * 1e3,
            contender.memory,
            medians[0] / median
        );
    }
    let buildkit = contenders.iter().position(|contender| contender.buildkit);
    if let (Some(promise), Some(index)) = (promise, buildkit) {
        let ratio = medians[0] / medians[index];
        let verdict = if ratio <= promise { "kept" } else { "MISSED" };
        println!("{verdict:>8}: {ratio:.3} of BuildKit's (at most {promise})");
    }
    let verdict = if contenders[0].memory <= MEMORY { "kept" } else { "MISSED" };
    println!("{verdict:>8}: {:.0} MiB (at most {MEMORY})", contenders[0].memory);
}
