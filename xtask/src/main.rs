//! The project's own tasks: `cargo xtask <task>`.
//!
//! Small on purpose: it is compiled before anything else on a fresh machine, so it has two dependencies and
//! no argument parser. One file per task.

mod arrows;
mod bench;
mod demo;
mod fuzz;
mod image;
mod install;
mod leaks;
mod packages;
mod shell;
mod soak;
mod test;
mod upgrade;
mod vm;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
The project's tasks.

Usage: cargo xtask TASK [OPTIONS]

Tasks:
  demo                  install what is missing, build, and show Dhow at work
  test                  install what the tests need and run all of them
      --fast              no lints, no fuzzing, no virtual machine
      --only PHASE        one phase (packages fmt arrows build clippy doc deny unit fuzz e2e vm leaks)
  bench                 start latency beside docker, podman, runc, crun, youki and the kernel's floor
      --runs N            rounds of the alternation (default 60)
      --memory            helper processes' memory per idle container, 100 of them, beside podman's conmon
      --save              save and load of 300 MB beside them; --part save, load or load-plain
      --pull              a pull of 300 MB beside podman, docker and containerd; --part gzip or zstd
      --parallel          50 containers at once beside crun, then 100
      --runtime [BINARY]  dhow-runtime beside crun, runc and youki: 200 pairs (--runs N) of run and exec,
                          memory, the smallest limit, the cost of system calls
      --part PART         of that one part: run exec memory limit calls
      --vm                of that in the virtual machine, with cgroup v2 alone
      --no-build          measure the release binaries that are there
  vm [--quick] [--kernel-root DIR] [-- COMMAND…]
                        the end-to-end tests, or COMMAND, under a stock Debian kernel with cgroup v2 only
      --systemd           with systemd as init and D-Bus
      --apparmor          with AppArmor and its parser
  fuzz [TARGET…] [--seconds N]
                        look for inputs that break the runtime: config seccomp (default 30 s, all at once)
  fuzz TARGET FILE…     one target with these inputs
  soak [NAME]           the long versions of the tests: kill points, power cuts, fuzzing (`soak fuzz`: that alone),
                        containers of an earlier revision, which it builds (`soak upgrade`)
  install [--prefix DIR]
                        build for release and install below DIR (default /usr/local)
  arrows                check which crate may import which
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((task, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match task.as_str() {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "vm" => vm::run(rest),
        "soak" => soak::run(rest),
        "fuzz" => fuzz::run(rest),
        "install" => install::run(rest),
        "arrows" => arrows::run(),
        bench::STOPWATCH => bench::stopwatch(rest),
        bench::TRAFFIC => bench::traffic(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("unknown task `{other}`; `cargo xtask help` lists them"),
    }
}
