//! What a system call costs where this runs: `dhow-syscost` prints a line per call, its name and nanoseconds.
//!
//! `dhow-syscost wait` waits for its end instead, as the command of a container that is only to be there;
//! `dhow-syscost lines COUNT` says so many lines of a hundred bytes, each with its number, as fast as they are taken;
//! `dhow-syscost profile` prints Dhow's default filter as the specification has it, so that other runtimes can be
//! given the same.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Calls in one measurement, and measurements of each call; the median counts.
const CALLS: u32 = 20_000;
const ROUNDS: usize = 11;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => {
            measure();
            Ok(())
        }
        Some("wait") => loop {
            std::thread::sleep(Duration::from_hours(1));
        },
        Some("lines") => {
            let count = std::env::args().nth(2).context("how many lines?")?;
            lines(count.parse().context("how many lines?")?)
        }
        Some("profile") => {
            let filter = runtime::seccomp::default_profile(runtime::capability::Set::DEFAULT);
            println!("{}", serde_json::to_string(&filter)?);
            Ok(())
        }
        Some(other) => bail!("`{other}` is none of: wait, lines, profile"),
    }
}

/// How many lines are written at once: as many as a pipe has room for.
const BATCH: usize = 655;

/// Twelve digits, blanks, and the end of the line. The digits are counted on in place, as formatting each line would
/// take longer than a good log needs for it.
fn lines(count: u64) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut line = format!("{:012} {:86}\n", 0, "of a container that says a lot").into_bytes();
    let full = BATCH * line.len();
    let mut bytes = Vec::with_capacity(full);
    for number in 0..count {
        bytes.extend_from_slice(&line);
        count_on(&mut line[..12]);
        if bytes.len() == full || number + 1 == count {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    Ok(out.flush()?)
}

/// Makes the number that decimal digits say one greater.
fn count_on(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            break;
        }
        *digit = b'0';
    }
}

fn measure() {
    let input = std::io::stdin();
    let nothing = input.as_fd();
    // The first is always allowed, which kernels remember from 5.11 on (the filter is not run). So are the next two:
    // the last of the profile's list by name, and one of the last by number. The fourth depends on its argument, so
    // that the filter is run each time: 0xffffffff asks and changes nothing.
    let calls: [(&str, &dyn Fn()); 4] = [
        ("getpid", &|| {
            let _ = rustix::process::getpid();
        }),
        ("writev", &|| {
            let _ = rustix::io::writev(nothing, &[]);
        }),
        ("close_range", &|| {
            let _ = sys::process::close_all_but(u32::MAX, nothing);
        }),
        ("personality", &|| {
            let _ = sys::schedule::set_personality(u32::MAX);
        }),
    ];
    for (name, call) in calls {
        let mut took = [(); ROUNDS].map(|()| {
            let began = Instant::now();
            for _ in 0..CALLS {
                call();
            }
            began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        });
        took.sort_by(f64::total_cmp);
        println!("{name} {:.2}", took[ROUNDS / 2]);
    }
}
