//! Save and load of an image of some 300 MB, beside Podman, Docker and containerd, alternating, each with a store of its
//! own on the same disk. Loaded are two archives: one whose layers are compressed, as we and containerd write them, and
//! one whose layers are not, as Docker and Podman do. Before each command the disk is at rest.

use std::process::Command;

use anyhow::{Context, Result};

use super::contenders::{Field, dhow};
use super::parcel::{self, Compression};
use super::pull::{Daemons, containerd, docker, podman, settle, time};
use super::table::median;
use crate::shell;

/// At most this part of the fastest other one's time.
const PROMISE: f64 = 0.5;
/// The image in every store.
const IMAGE: &str = "docker.io/library/bench:latest";

/// The parts.
pub(crate) const PARTS: &[&str] = &["save", "load", "load-plain"];

/// Somebody who saves and loads.
struct Contender {
    name: &'static str,
    /// The beginning of its command line.
    start: Vec<String>,
    save: &'static [&'static str],
    load: &'static [&'static str],
    remove: &'static [&'static str],
    times: Vec<f64>,
}

impl Contender {
    fn words(&self, verb: &[&str], file: Option<&str>) -> Vec<String> {
        let words = verb.iter().map(|word| if *word == "FILE" { file.unwrap_or_default() } else { word });
        self.start.iter().cloned().chain(words.map(str::to_owned)).collect()
    }
}

pub(crate) fn run(runs: usize, only: Option<&str>) -> Result<()> {
    let path = crate::test::path()?;
    if std::env::var_os("PATH").as_ref() != Some(&path) {
        let mut again = Command::new(std::env::current_exe().context("finding this program")?);
        again.args(["bench", "--no-build", "--save", "--runs", &runs.to_string()]).env("PATH", path);
        return shell::run(again.args(only.map(|only| ["--part", only]).into_iter().flatten()));
    }
    let layout = parcel::layout(Compression::Gzip)?;
    let layout = layout.to_str().context("a path that is not UTF-8")?;
    let field = Field::bare()?;
    let mut daemons = Daemons::default();
    let (packed, plain) = (field.path("packed.tar")?, field.path("plain.tar")?);
    field.act(&dhow(&["load", "-q", "-i", layout]))?;
    field.act(&dhow(&["save", "-o", &packed, "bench"]))?;
    // as Docker writes it: an archive of plain layers
    let (from, to) = (format!("oci:{layout}:bench"), format!("docker-archive:{plain}:{IMAGE}"));
    shell::quiet(shell::program("skopeo").args(["--insecure-policy", "copy", "--quiet", &from, &to]))?;
    let mut contenders = enter(&field, &packed, &mut daemons);
    for part in PARTS.iter().filter(|part| only.is_none_or(|only| only == **part)) {
        for contender in &mut contenders {
            contender.times.clear();
        }
        for round in 0..runs {
            let mut order: Vec<usize> = (0..contenders.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let contender = &mut contenders[index];
                let archive = if *part == "load-plain" { &plain } else { &packed };
                contender.round(&field, part, archive)?;
            }
        }
        print(part, &mut contenders);
    }
    Ok(())
}

/// All who can, with the image in their stores.
fn enter(field: &Field, archive: &str, daemons: &mut Daemons) -> Vec<Contender> {
    let contender = |name, start: &[String], save, load, remove| Contender {
        name,
        start: start.to_vec(),
        save,
        load,
        remove,
        times: Vec::new(),
    };
    let save = &["save", "-o", "FILE", IMAGE];
    let mut contenders =
        vec![contender("dhow", &dhow(&[]), save, &["load", "-q", "-i", "FILE"], &["rmi", IMAGE])];
    let others =
        [podman(field, IMAGE, daemons), docker(field, IMAGE, daemons), containerd(field, IMAGE, daemons)];
    for entered in others {
        let added = entered.and_then(|puller| {
            let pull = puller.command();
            // What stands before the verb stands before all.
            let end = pull.iter().position(|word| word == "pull" || word == "images").unwrap_or(pull.len());
            let start = &pull[..end];
            let added = match puller.name() {
                "containerd" => contender(
                    "containerd",
                    start,
                    &["images", "export", "FILE", IMAGE],
                    &["images", "import", "FILE"],
                    &["images", "rm", "--sync", IMAGE],
                ),
                name => contender(name, start, save, &["load", "-q", "-i", "FILE"], &["rmi", IMAGE]),
            };
            field.act(&added.words(added.load, Some(archive)))?;
            Ok(added)
        });
        match added {
            Ok(added) => contenders.push(added),
            Err(error) => println!("not measured: {error:#}"),
        }
    }
    contenders
}

impl Contender {
    /// One save, or one load into a store that has nothing of it.
    fn round(&mut self, field: &Field, part: &str, archive: &str) -> Result<()> {
        let saved = field.path("saved.tar")?;
        let words = if part == "save" {
            let _ = std::fs::remove_file(&saved);
            self.words(self.save, Some(&saved))
        } else {
            field.act(&self.words(self.remove, None))?;
            self.words(self.load, Some(archive))
        };
        settle()?;
        let (took, _) = time(field, &words)?;
        self.times.push(took.as_secs_f64());
        Ok(())
    }
}

fn print(part: &str, contenders: &mut [Contender]) {
    println!("\n{part}");
    println!("  {:<14} {:>8} {:>10}   dhow's part", "", "min s", "median s");
    let medians: Vec<f64> = contenders.iter_mut().map(|contender| median(&mut contender.times)).collect();
    for (contender, median) in contenders.iter().zip(&medians) {
        let least = contender.times.first().copied().unwrap_or(f64::NAN);
        println!("  {:<14} {least:8.2} {median:10.2}   {:.2}", contender.name, medians[0] / median);
    }
    if let Some(fastest) = medians[1..].iter().copied().min_by(f64::total_cmp) {
        let ratio = medians[0] / fastest;
        let verdict = if ratio <= PROMISE { "kept" } else { "MISSED" };
        println!("{verdict:>8}: {ratio:.2} of the fastest (at most {PROMISE})");
    }
}
