//! The extremes of a bias by lags among the keys that each query sees.

use std::collections::VecDeque;

use super::{Problem, Visible};
use crate::Result;
use crate::mat::Rows;
use crate::par::Par;

/// Smallest and largest finite bias of every row, for heads whose bias is one by lags and not beside a
/// mask: by positions, those are windows of lags.
pub struct Extremes {
    found: Vec<Option<Vec<[f64; 2]>>>,
    /// The first head with the same lags.
    leaders: Vec<usize>,
}

impl Extremes {
    /// Looks at lags that several heads share once.
    pub fn new(problem: &Problem<'_>, par: Par<'_>) -> Result<Self> {
        let heads = &problem.heads;
        let lags =
            |h: usize| heads[h].lags.filter(|_| heads[h].mask.is_none() && heads[h].bias.is_none());
        let leader = |h: usize| {
            let same = |g: &usize| lags(*g).zip(lags(h)).is_some_and(|(a, b)| a.is_same_view(&b));
            lags(h).and_then(|_| (0..h).find(same)).unwrap_or(h)
        };
        let leaders: Vec<usize> = (0..heads.len()).map(leader).collect();
        let found = par.map(heads.len(), |h, _| {
            let (queries, keys) = (heads[h].query.rows(), heads[h].key.rows());
            let own = lags(h).filter(|_| leaders[h] == h);
            own.map(|lags| extremes(&lags, &problem.visible, queries, keys))
        })?;
        Ok(Self { found, leaders })
    }

    /// Those of head `h`.
    pub fn of(&self, h: usize) -> Option<&[[f64; 2]]> {
        self.found[self.leaders[h]].as_deref()
    }
}

/// Smallest and largest finite bias among the keys that each query sees by position, infinity and minus
/// infinity where there is none. Takes `O(L + S)` operations: what one query sees is a window of lags,
/// and both its ends grow with the query.
fn extremes(lags: &Rows<'_>, visible: &Visible, queries: usize, keys: usize) -> Vec<[f64; 2]> {
    // Lags whose bias is more extreme than that of all later ones in the window.
    let (mut low, mut high) = (VecDeque::new(), VecDeque::new());
    let mut next = 0;
    let mut window = |i: usize| {
        let seen = visible.keys(i, keys);
        let (start, end) = (i + keys - seen.end, i + keys - seen.start);
        for m in next..end {
            let x = lags.get(m, 0);
            if x.is_finite() {
                push(&mut low, (m, x), |old| old >= x);
                push(&mut high, (m, x), |old| old <= x);
            }
        }
        next = next.max(end);
        let first = |queue: &mut VecDeque<(usize, f64)>| {
            while queue.front().is_some_and(|&(m, _)| m < start) {
                queue.pop_front();
            }
            queue.front().map(|&(_, x)| x)
        };
        let (low, high) = (first(&mut low), first(&mut high));
        [low.unwrap_or(f64::INFINITY), high.unwrap_or(f64::NEG_INFINITY)]
    };
    (0..queries).map(&mut window).collect()
}

/// Appends a number to those that it does not make irrelevant.
fn push(
    queue: &mut VecDeque<(usize, f64)>,
    new: (usize, f64),
    is_irrelevant: impl Fn(f64) -> bool,
) {
    while queue.back().is_some_and(|&(_, old)| is_irrelevant(old)) {
        queue.pop_back();
    }
    queue.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::super::lags::count;
    use super::*;
    use crate::mat::MatRef;

    #[test]
    fn extremes_are_those_of_the_keys_seen() {
        let (queries, keys) = (9, 7);
        let hidden = f64::NEG_INFINITY;
        let all = [
            3.0, hidden, -2.0, 8.0, 1.0, hidden, hidden, 4.0, -9.0, 5.0, 0.5, 2.0, 7.0, hidden, 6.0,
        ];
        let lags = Rows::F64(MatRef::from_slice(&all, count(queries, keys), 1));
        let rules = (-10..10).flat_map(|shift| {
            [None, Some(1), Some(3), Some(40)].map(|window| Visible::causal(shift, window))
        });
        for visible in rules.chain([Visible::ALL]) {
            let found = extremes(&lags, &visible, queries, keys);
            for (i, found) in found.iter().enumerate() {
                let seen = visible.keys(i, keys).map(|j| all[i + keys - 1 - j]);
                let finite: Vec<f64> = seen.filter(|x| x.is_finite()).collect();
                let low = finite.iter().fold(f64::INFINITY, |a, &b| a.min(b));
                let high = finite.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                assert_eq!(found, &[low, high], "{visible:?} row {i}");
            }
        }
    }
}
