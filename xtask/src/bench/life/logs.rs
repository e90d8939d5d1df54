//! A container that says a gigabyte in lines of a hundred bytes: how long it takes until all is kept, how fast it is read
//! back, in how much memory, and whether every line is there in its order.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Engine, Life, Request, name_of, verdict};
use crate::bench::memory::processes;
use crate::bench::pairs::median_of;
use crate::bench::pull::peak;
use crate::shell;

/// A gigabyte of them.
const LINES: u64 = 10_000_000;
/// A line, its end included.
const LENGTH: usize = 100;
/// How often each writes: what takes seconds needs no more.
const MOST_RUNS: usize = 3;
/// Who reads slowly is not waited for to the end: its pace is known by then.
const READING: Duration = Duration::from_secs(15);

/// At least so many times as fast as Docker and Podman.
const WRITE: &[(&str, f64)] = &[("docker", 6.0), ("podman", 2.0)];
const READ: f64 = 20.0;
/// The most memory, in MiB, of the monitor that keeps the log, and of the command that reads it.
const MEMORY: (f64, f64) = (4.0, 32.0);

/// What was measured of an engine.
#[derive(Default)]
struct Measured {
    /// Megabytes a second.
    written: Vec<f64>,
    read: Vec<f64>,
}

impl Engine {
    /// How it keeps a log beyond a gigabyte in whole.
    fn log_flags(&self) -> &'static [&'static str] {
        match self.name {
            "podman" => &["--log-driver", "k8s-file"],
            _ => &["--log-driver", "json-file", "--log-opt", "max-size=4g", "--log-opt", "max-file=1"],
        }
    }
}

impl Life {
    pub(super) fn logs(&mut self, request: &Request) -> Result<()> {
        let lines = if request.quick { LINES / 10 } else { LINES };
        let mut measured: Vec<Measured> = self.engines.iter().map(|_| Measured::default()).collect();
        let (mut monitor, mut reader) = (0.0_f64, 0.0_f64);
        for round in 0..request.runs.min(MOST_RUNS) {
            for (engine, measured) in self.engines.iter().zip(&mut measured) {
                let name = name_of("logs", round);
                let outcome = self.one(engine, &name, lines);
                self.field.act(&engine.words(&["rm", "--force", &name]))?;
                let one = outcome.with_context(|| format!("measuring the log of {}", engine.name))?;
                measured.written.push(one.written);
                measured.read.push(one.read);
                if engine.name == "dhow" {
                    (monitor, reader) = (monitor.max(one.monitor), reader.max(one.reader));
                }
            }
        }
        let megabytes = lines * LENGTH as u64 / 1_000_000;
        println!("\n{megabytes} MB in lines of {LENGTH} bytes: {:>16} {:>16}", "written MB/s", "read MB/s");
        for (engine, measured) in self.engines.iter().zip(&measured) {
            let (written, read) = (median_of(measured.written.clone()), median_of(measured.read.clone()));
            println!("  {:<34} {:>12.1} {:>16.1}", engine.name, written.value, read.value);
        }
        let ratio = |name: &str, of: fn(&Measured) -> &Vec<f64>| {
            let at = self.engines.iter().position(|engine| engine.name == name)?;
            let pairs = of(&measured[0]).iter().zip(of(&measured[at]));
            Some(median_of(pairs.map(|(ours, theirs)| ours / theirs).collect()))
        };
        for (name, least) in WRITE {
            if let Some(ratio) = ratio(name, |measured| &measured.written) {
                verdict(
                    ratio.value >= *least,
                    &format!("written {ratio} times as fast as by {name} (at least {least})"),
                );
            }
        }
        if let Some(ratio) = ratio("docker", |measured| &measured.read) {
            verdict(
                ratio.value >= READ,
                &format!("read {ratio} times as fast as by docker (at least {READ})"),
            );
        }
        verdict(monitor < MEMORY.0, &format!("{monitor:.1} MiB in the monitor (less than {})", MEMORY.0));
        verdict(reader < MEMORY.1, &format!("{reader:.1} MiB in dhow logs (less than {})", MEMORY.1));
        verdict(true, &format!("none of {lines} lines lost or out of its place"));
        Ok(())
    }

    fn one(&self, engine: &Engine, name: &str, lines: u64) -> Result<One> {
        let program = shell::binaries("release").join("dhow-syscost");
        let bind = format!("{}:/lines:ro", program.display());
        let flags = [engine.log_flags(), &["--volume", &bind]].concat();
        let run = engine.run(name, &flags, &["/lines", "lines", &lines.to_string()]);
        let over = AtomicBool::new(false);
        let (took, monitor) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| self.monitors(&over));
            let began = Instant::now();
            let done = self.field.act(&run).and_then(|_| self.field.act(&engine.words(&["wait", name])));
            let took = began.elapsed();
            over.store(true, Ordering::Relaxed);
            let monitor = watch.join().unwrap_or(f64::NAN);
            let code = done?;
            if code.trim() != "0" {
                bail!("the container ended with {}", code.trim());
            }
            Ok((took, monitor))
        })?;
        let bytes = lines * LENGTH as u64;
        let written = bytes as f64 / 1e6 / took.as_secs_f64();
        let logs = engine.words(&["logs", name]);
        let (read, reader) = self.read(&logs, |_| Ok(()), READING)?;
        if engine.name == "dhow" {
            let mut order = Order::default();
            self.read(&logs, |bytes| order.take(bytes), Duration::MAX)?;
            if (order.next, order.at) != (lines, 0) {
                bail!("{} lines of {lines}, and {} bytes of one", order.next, order.at);
            }
        }
        Ok(One { written, read, monitor, reader })
    }

    /// The most memory of a monitor of ours until it is over.
    fn monitors(&self, over: &AtomicBool) -> f64 {
        let mut most = 0.0_f64;
        while !over.load(Ordering::Relaxed) {
            let peaks = processes("dhow-monitor", self.field.place()).into_iter().map(peak);
            most = peaks.fold(most, f64::max);
            std::thread::sleep(Duration::from_millis(200));
        }
        most
    }

    /// Runs a command that prints, for so long at most: megabytes a second, and the most memory that it had.
    fn read(
        &self,
        words: &[String],
        mut take: impl FnMut(&[u8]) -> Result<()>,
        most: Duration,
    ) -> Result<(f64, f64)> {
        let mut command = self.field.command(words)?;
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {}", words[0]))?;
        let mut output = child.stdout.take().context("it has no output")?;
        let (mut buffer, mut total, mut memory) = (vec![0; 1 << 16], 0_u64, 0.0_f64);
        let mut looked = began;
        let outcome = loop {
            match output.read(&mut buffer) {
                Ok(0) => break Ok(true),
                Ok(length) => {
                    total += length as u64;
                    if let Err(error) = take(&buffer[..length]) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error.into()),
            }
            if looked.elapsed() > Duration::from_millis(50) {
                memory = memory.max(peak(child.id()));
                looked = Instant::now();
            }
            if began.elapsed() > most {
                break Ok(false);
            }
        };
        let took = began.elapsed();
        if !matches!(outcome, Ok(true)) {
            let _ = child.kill();
        }
        let status = child.wait()?;
        if outcome? && !status.success() {
            bail!("`{}` failed", words.join(" "));
        }
        Ok((total as f64 / 1e6 / took.as_secs_f64(), memory))
    }
}

/// What was measured in one round.
struct One {
    written: f64,
    read: f64,
    monitor: f64,
    reader: f64,
}

/// Lines that begin with their number.
#[derive(Default)]
struct Order {
    /// The next line's number.
    next: u64,
    /// How much of it is there.
    at: usize,
    digits: u64,
}

impl Order {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            match self.at {
                0..12 => {
                    let digit = char::from(*byte).to_digit(10).context("a line without a number")?;
                    self.digits = self.digits * 10 + u64::from(digit);
                }
                99 if *byte != b'\n' => bail!("line {} is longer than it was", self.next),
                _ => {}
            }
            self.at += 1;
            if self.at == LENGTH {
                if self.digits != self.next {
                    bail!("line {} in the place of {}", self.digits, self.next);
                }
                *self = Self { next: self.next + 1, at: 0, digits: 0 };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[u64]) -> String {
        let lines: Vec<String> = numbers.iter().map(|number| format!("{number:012} {:86}\n", "x")).collect();
        lines.concat()
    }

    fn taken(text: &str) -> Result<(u64, usize)> {
        let mut order = Order::default();
        text.as_bytes().chunks(7).try_for_each(|piece| order.take(piece))?;
        Ok((order.next, order.at))
    }

    #[test]
    fn a_line_that_is_missing_or_misplaced_is_found() {
        assert_eq!(taken(&lines(&[0, 1, 2])).unwrap(), (3, 0));
        assert_eq!(taken(&lines(&[0, 1])[..150]).unwrap(), (1, 50));
        assert!(taken(&lines(&[0, 2])).is_err());
        assert!(taken(&lines(&[1, 0])).is_err());
        assert!(taken(&lines(&[0, 1]).replace("x ", "x")).is_err());
    }
}
