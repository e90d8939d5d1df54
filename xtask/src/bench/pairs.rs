//! Two measured in turns: what counts is the median of the ratios of neighbours, which a noisy machine hardly moves,
//! and the interval that it lies in.

/// Measurements of two, each pair taken one right after the other.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// A median with the interval that holds it in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl std::fmt::Display for Median {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

impl Pairs {
    pub(crate) fn add(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    /// Ours over theirs.
    pub(crate) fn ratio(&self) -> Median {
        median_of(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    pub(crate) fn ours(&self) -> Median {
        median_of(self.ours.clone())
    }

    pub(crate) fn theirs(&self) -> Median {
        median_of(self.theirs.clone())
    }
}

/// The median, and the interval of the sign test: that between the values whose ranks lie 1.96 standard deviations of
/// a fair coin's tosses around the middle. It assumes nothing about how the values are distributed.
pub(crate) fn median_of(mut values: Vec<f64>) -> Median {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    if count == 0 {
        return Median { value: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let middle = count / 2;
    let value =
        if count % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
    let (half, spread) = (count as f64 / 2.0, 0.98 * (count as f64).sqrt());
    let low = (half - spread).floor().max(1.0) as usize;
    let high = ((half + spread + 1.0).ceil() as usize).min(count);
    Median { value, low: values[low - 1], high: values[high - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // of 100 values the tables name the 40th and the 61st
        let found = median_of((1..=100).map(f64::from).collect());
        assert_eq!(found, Median { value: 50.5, low: 40.0, high: 61.0 });
        // of five values none can be left out
        let few = median_of(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(few, Median { value: 3.0, low: 1.0, high: 5.0 });
        assert!(median_of(Vec::new()).value.is_nan());
    }

    #[test]
    fn ratios_are_those_of_neighbours() {
        let mut pairs = Pairs::default();
        for (ours, theirs) in [(1.0, 2.0), (100.0, 200.0), (3.0, 6.0)] {
            pairs.add(ours, theirs);
        }
        assert!((pairs.ratio().value - 0.5).abs() < f64::EPSILON);
        assert!((pairs.ours().value - 3.0).abs() < f64::EPSILON);
        assert!((pairs.theirs().value - 6.0).abs() < f64::EPSILON);
    }
}
