//! Medians and their spread, and the interleaving that makes them comparable.

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// What the runs of one peer gave, in the order in which they ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series(pub Vec<f64>);

impl Series {
    /// The middle of the sorted values; not a number when there are none.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which this part of the values lies.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        quantile(&mut self.0.clone(), part)
    }

    /// Each value changed alike.
    #[must_use]
    pub fn map(&self, change: impl FnMut(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }

    /// The median, and the quartiles around it.
    #[must_use]
    pub fn figure(&self) -> Figure {
        Figure { value: self.median(), low: self.quantile(0.25), high: self.quantile(0.75) }
    }

    /// The ratio of runs that stood beside each other, so that both had the same machine: its median and quartiles.
    #[must_use]
    pub fn over(&self, other: &Self) -> Figure {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect()).figure()
    }

    /// Value by value less the other's.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }
}

/// The value below which this part of the values lies; sorts them.
#[must_use]
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return f64::NAN;
    }
    let at = part * (values.len() - 1) as f64;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// A value with its quartiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The median, or a ratio of medians.
    pub value: f64,
    /// A quarter of the runs lies below.
    pub low: f64,
    /// A quarter of the runs lies above.
    pub high: f64,
}

impl Figure {
    /// One that was measured once.
    #[must_use]
    pub fn once(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

/// Runs `once` for each peer in turn, `runs` times, behind one round that does not count. Gives, for each peer, a series of
/// each of the `K` values that `once` measures.
///
/// # Errors
///
/// The first error of `once`.
pub fn interleave<P, const K: usize>(
    runs: usize,
    peers: &mut [P],
    mut once: impl FnMut(&mut P) -> Result<[f64; K]>,
) -> Result<Vec<[Series; K]>> {
    let mut all: Vec<[Series; K]> =
        peers.iter().map(|_| std::array::from_fn(|_| Series(Vec::new()))).collect();
    for round in 0..=runs {
        for (peer, series) in peers.iter_mut().zip(&mut all) {
            let values = once(peer)?;
            if round > 0 {
                series.iter_mut().zip(values).for_each(|(series, value)| series.0.push(value));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_count() {
        let mut next = 0.0;
        let mut peers = ["a", "b"];
        let all = interleave(3, &mut peers, |_| {
            next += 1.0;
            Ok([next])
        });
        assert_eq!(all.unwrap(), [[Series(vec![3.0, 5.0, 7.0])], [Series(vec![4.0, 6.0, 8.0])]]);
    }

    #[test]
    fn a_ratio_is_that_of_pairs() {
        let (a, b) = (Series(vec![2.0, 4.0, 6.0]), Series(vec![1.0, 2.0, 6.0]));
        assert_eq!(a.over(&b), Figure { value: 2.0, low: 1.5, high: 2.0 });
        assert_eq!(Series(vec![1.0, 2.0]).median(), 1.5);
        assert!(Series(Vec::new()).median().is_nan());
    }
}
