//! Whether a network on which many are already costs the next one more.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::contenders::{Field, IMAGE};

/// So many come in all, …
const CROWD: usize = 200;
/// … of whom the first and the last so many are compared.
const SOME: usize = 20;
/// More than this is growth; the rest is noise.
const MOST: f64 = 1.2;

/// Starts them one after the other, and prints what the first and the last took.
pub(super) fn measure(field: &mut Field, engine: &[String]) -> Result<()> {
    let dhow = |args: &[&str]| -> Vec<String> {
        engine.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())).collect()
    };
    let network = format!("dhow-bench-{}-crowd", std::process::id());
    field.act(&dhow(&["network", "create", &network]))?;
    field.undo_with(dhow(&["network", "rm", &network]));
    let mut took = Vec::with_capacity(CROWD);
    for number in 0..CROWD {
        let name = format!("{network}-{number}");
        let run = dhow(&["run", "-d", "--network", &network, "--name", &name, IMAGE, "sleep", "36000"]);
        let began = Instant::now();
        field.act(&run)?;
        took.push(began.elapsed());
        field.undo_with(dhow(&["rm", "-f", &name]));
    }
    let (first, last) = (median(&took[..SOME]), median(&took[CROWD - SOME..]));
    let ratio = last.as_secs_f64() / first.as_secs_f64();
    println!("the first {SOME} on a network took {first:.2?} each, the last of {CROWD} {last:.2?}");
    let verdict = if ratio <= MOST { "kept" } else { "MISSED" };
    println!("{verdict:>8}: {ratio:.2} times as long (at most {MOST})");
    Ok(())
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}
