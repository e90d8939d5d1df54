//! Many starts at once: whole containers beside as many bare `crun run`, alternating; then twice as many.

use anyhow::Result;

use super::contenders::{Field, IMAGE, dhow};
use super::stopwatch::Place;
use super::table::median;

const AT_ONCE: usize = 50;
const ROUNDS: usize = 7;
/// At most so many times what bare crun takes.
const PROMISE: f64 = 2.0;

pub(crate) fn run() -> Result<()> {
    let mut field = Field::open()?;
    field.load_dhow()?;
    let program = crate::shell::find("crun").map(|path| path.display().to_string());
    let bundle = program.as_ref().map(|program| field.bundle(program, "crun-true", &["true"])).transpose()?;
    let ours = vec![dhow(&["run", "--rm", "--network", "none", IMAGE, "true"]); AT_ONCE];
    let theirs = |round: usize| {
        let (program, bundle) = program.as_ref().zip(bundle.as_ref())?;
        let one = |n: usize| {
            let name = format!("bench-{}-{round}-{n}", std::process::id());
            [program.as_str(), "run", "--bundle", bundle, &name].map(str::to_owned).to_vec()
        };
        Some((0..AT_ONCE).map(one).collect::<Vec<_>>())
    };
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let took = field.watch(Place::Here)?.time(&ours)?.as_secs_f64() * 1e3;
        std::thread::sleep(std::time::Duration::from_secs(1));
        let beside = theirs(round).map(|commands| field.crun_watch()?.time(&commands)).transpose()?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        // the first round warms up
        if round > 0 {
            our_times.push(took);
            their_times.extend(beside.map(|took| took.as_secs_f64() * 1e3));
        }
    }
    let (dhow, crun) = (median(&mut our_times), median(&mut their_times));
    println!("{AT_ONCE} × dhow run --rm --network none   {dhow:8.0} ms");
    if program.is_some() {
        println!("{AT_ONCE} × crun run                       {crun:8.0} ms");
        let ratio = dhow / crun;
        let verdict = if ratio <= PROMISE { "kept" } else { "MISSED" };
        println!("{verdict:>8}: {ratio:.2} times as long (at most {PROMISE})");
    }
    let double = [ours.as_slice(), ours.as_slice()].concat();
    let took = field.watch(Place::Here)?.time(&double)?.as_secs_f64() * 1e3;
    println!("{} × dhow, without an error           {took:8.0} ms", double.len());
    Ok(())
}
