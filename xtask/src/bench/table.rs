//! What was measured, as medians and ratios, and whether the promises hold.

use std::time::Duration;

use super::contenders::{Contender, Group};

/// One contender's times.
pub(crate) struct Samples {
    name: String,
    group: Group,
    times: Vec<f64>,
}

impl Samples {
    pub(crate) fn new(contender: &Contender) -> Self {
        Self { name: contender.name.clone(), group: contender.group, times: Vec::new() }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        let milliseconds = took.as_secs_f64() * 1e3;
        let place = self.times.partition_point(|time| *time < milliseconds);
        self.times.insert(place, milliseconds);
    }

    fn at(&self, tenths: usize) -> f64 {
        let last = self.times.len().saturating_sub(1);
        self.times.get((self.times.len() * tenths / 10).min(last)).copied().unwrap_or(f64::NAN)
    }

    fn median(&self) -> f64 {
        self.at(5)
    }
}

/// The median of some times.
pub(crate) fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What the issue promises: this contender's median is at most so many times that one's.
const PROMISES: &[(&str, f64, &str)] = &[
    ("dhow run, no network", 0.75, "crun run"),
    ("dhow run, bridge", 1.0, "crun run"),
    ("dhow run, bridge", 1.0 / 30.0, "docker run, bridge"),
];

/// Prints the table and the promises.
pub(crate) fn print(samples: &[Samples]) {
    let median_of = |name: &str| samples.iter().find(|samples| samples.name == name).map(Samples::median);
    for (group, title, base) in [
        (Group::Run, "run, from the command's start to its end", "crun run"),
        (Group::Exec, "exec in a running container", "crun exec"),
    ] {
        let mut rows: Vec<&Samples> = samples.iter().filter(|samples| samples.group == group).collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_by(|a, b| a.median().total_cmp(&b.median()));
        println!("\n{title:<46} {:>9} {:>9} {:>9}   {base} = 1", "min ms", "median", "p90");
        for row in rows {
            let ratio = median_of(base).map_or(String::new(), |base| format!("{:8.2}", row.median() / base));
            println!("  {:<44} {:9.2} {:9.2} {:9.2}   {ratio}", row.name, row.at(0), row.median(), row.at(9));
        }
    }
    println!();
    for (name, most, other) in PROMISES {
        if let (Some(ours), Some(theirs)) = (median_of(name), median_of(other)) {
            let ratio = ours / theirs;
            let verdict = if ratio <= *most { "kept" } else { "MISSED" };
            println!("{verdict:>8}: {name} is {ratio:.3} of {other} (at most {most:.3})");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        let mut samples = Samples { name: String::new(), group: Group::Run, times: Vec::new() };
        for milliseconds in [5, 1, 4, 2, 3, 9, 8, 7, 6, 10] {
            samples.add(Duration::from_millis(milliseconds));
        }
        assert_eq!((samples.at(0), samples.median(), samples.at(9)), (1.0, 6.0, 10.0));
        assert!(Samples { times: Vec::new(), ..samples }.median().is_nan());
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
