//! Gradients of attention: from a problem to tasks.
//!
//! Tasks write `dK`, `dV` and the gradient of the bias in place. So tasks that could meet there run
//! one after the other, in *waves*: first the heads that share no gradient with an earlier one, then
//! those that share with one of them, and so on; within a head, block after block of rows. Within a
//! wave, a head's keys are cut into parts with a `dQ` of their own, which are added up in order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dense_grad::{self, HeadGradients, Job, KEY_UNIT, RowState};
use super::forward::forward_tiled;
use super::lags::{self, Tables};
use super::toeplitz::{self, TaskSums};
use super::{Compute, Kernel, Output, Plan, Problem, Stats};
use crate::mat::{MatCell, Rows, with_rows};
use crate::par::Par;
use crate::scratch::Pool;
use crate::simd::{Element, Isa};
use crate::{Error, Result};

/// Rows of a head that one wave covers: bounds the memory for parts of `dQ`.
const WAVE_ROWS: usize = 2048;
/// Tasks that a wave should have, if there are keys for them.
const TASKS: usize = 8;
/// Rows whose states are one task.
const STATE_ROWS: usize = 4096;
/// Keys of a part at least, else packing the queries for each part costs too much.
const PART_KEYS: usize = 512;

/// The forward pass that a gradient belongs to, head by head, and the gradient of the loss with
/// respect to its output.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// `L x Ev`
    pub grad_out: Rows<'a>,
    /// `L x Ev`
    pub out: Rows<'a>,
    /// `L x 1`
    pub lse: Rows<'a>,
}

/// Adds the gradients of attention to those of every head.
///
/// Takes 2.5 times the operations of [`forward`](super::forward()) and `O((L + S)(E + Ev))` memory.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not fit the heads, [`Error::Stopped`] if the caller asked to.
///
/// # Panics
///
/// If rows of a gradient other than the bias's are not contiguous.
pub fn backward<T: Compute>(
    problem: &Problem<'_>,
    upstream: &[Upstream<'_>],
    gradients: &[HeadGradients<'_, T>],
    par: Par<'_>,
) -> Result<Stats> {
    check(problem, upstream, gradients)?;
    let isa = Isa::detect();
    let par = par.for_work(Plan::new::<T>(problem, isa).flops * 5 / 2);
    let mut stats = Stats::default();
    let (states, suspicious) = row_states::<T>(problem, upstream, par)?;
    stats.suspicious = suspicious;
    let rows = problem.heads.first().map_or(0, |head| head.query.rows());
    let pool = Pool::new();
    let (lags, weights) = (Tables::new(problem, false), toeplitz::Tables::new(problem));
    for heads in ranks(gradients) {
        for start in (0..rows).step_by(WAVE_ROWS) {
            let wave = Wave {
                problem,
                upstream,
                gradients,
                states: &states,
                lags: &lags,
                weights: &weights,
                heads: &heads,
                rows: start..rows.min(start + WAVE_ROWS),
            };
            stats.add(&wave.run(isa, &pool, par)?);
        }
    }
    Ok(stats)
}

fn check<T>(
    problem: &Problem<'_>,
    upstream: &[Upstream<'_>],
    gradients: &[HeadGradients<'_, T>],
) -> Result<()> {
    let agree = Error::unless_equal;
    agree("grad_out", "heads", problem.heads.len(), upstream.len())?;
    agree("gradients", "heads", problem.heads.len(), gradients.len())?;
    for ((head, up), to) in problem.heads.iter().zip(upstream).zip(gradients) {
        let (l, s) = (head.query.rows(), head.key.rows());
        let (e, ev) = (head.query.cols(), head.value.cols());
        for (name, rows) in [("grad_out", &up.grad_out), ("out", &up.out)] {
            agree(name, "L", l, rows.rows())?;
            agree(name, "Ev", ev, rows.cols())?;
        }
        agree("lse", "L", l, up.lse.rows())?;
        let has = |to: &HeadGradients<'_, T>| {
            let of_arrays = [to.query.is_some(), to.key.is_some(), to.value.is_some()];
            let [query, key, value] = of_arrays;
            let by_lag = [to.lags.is_some(), to.weights.is_some()];
            [query, key, value, to.bias.is_some(), by_lag[0], by_lag[1]]
        };
        if has(to) != has(&gradients[0]) {
            let (expected, found) = (has(&gradients[0]), has(to));
            let count = |has: [bool; 6]| has.into_iter().filter(|&x| x).count();
            return Err(Error::Shape {
                name: "gradients",
                dim: "the same fields for all heads, as many as",
                expected: count(expected),
                found: count(found),
            });
        }
        let shapes = [
            ("grad_query", &to.query, (l, e)),
            ("grad_key", &to.key, (s, e)),
            ("grad_value", &to.value, (s, ev)),
            ("grad_bias", &to.bias, (l, s)),
        ];
        for (name, cell, (rows, cols)) in shapes {
            if let Some(cell) = cell {
                agree(name, "rows", rows, cell.rows())?;
                agree(name, "columns", cols, cell.cols())?;
            }
        }
        if let Some(cell) = to.lags {
            agree("grad_lags", "given `lags`", 1, usize::from(head.lags.is_some()))?;
            agree("grad_lags", "L + S - 1", lags::count(l, s), cell.rows())?;
            agree("grad_lags", "columns", 1, cell.cols())?;
        }
        if let Some(cell) = to.weights {
            agree("grad_weights", "given `weights`", 1, usize::from(head.weights.is_some()))?;
            agree("grad_weights", "E", e, cell.rows())?;
            agree("grad_weights", "L + S - 1", lags::count(l, s), cell.cols())?;
        }
    }
    Ok(())
}

/// What the backward pass needs of the rows of every head. The flag is set if the forward pass given
/// cannot be one of this problem: a log-sum-exp of infinity, or of minus infinity although the row
/// sees keys, or a number that is none.
fn row_states<T: Compute>(
    problem: &Problem<'_>,
    upstream: &[Upstream<'_>],
    par: Par<'_>,
) -> Result<(Vec<Vec<RowState<T>>>, bool)> {
    let suspicious = AtomicBool::new(false);
    let states = upstream.iter().enumerate().map(|(h, up)| {
        let parts = parts_of_lse(problem, h, up, par)?;
        let rows = up.out.rows();
        let block = |b: usize| b * STATE_ROWS..rows.min((b + 1) * STATE_ROWS);
        let states = par.map(rows.div_ceil(STATE_ROWS), |b, _| {
            let state = |i| {
                let state = row_state::<T>(up, parts.as_ref(), i);
                let sees_nothing = state.shift == -T::NEG_INFINITY;
                let lost = sees_nothing && problem.heads[h].sees_a_key(&problem.visible, i);
                if lost || !(state.minus_dot.is_finite() && up.lse.get(i, 0) < f64::INFINITY) {
                    suspicious.store(true, Ordering::Relaxed);
                }
                state
            };
            block(b).map(state).collect::<Vec<_>>()
        })?;
        Ok(states.concat())
    });
    let states = states.collect::<Result<Vec<_>>>()?;
    Ok((states, suspicious.into_inner()))
}

fn row_state<T: Compute>(up: &Upstream<'_>, parts: Option<&[Vec<T>; 2]>, i: usize) -> RowState<T> {
    let (reference, weight) = match parts {
        Some([reference, mass]) => (reference[i], T::ONE / mass[i]),
        None => (T::from_f64(up.lse.get(i, 0)), T::ONE),
    };
    if reference == T::NEG_INFINITY {
        return RowState { shift: -reference, weight: T::ONE, minus_dot: T::ZERO };
    }
    let dot = with_rows!(up.grad_out, grad => with_rows!(up.out, out => {
        dot(grad.row(i), out.row(i))
    }));
    RowState { shift: reference, weight, minus_dot: -(T::from_f64(dot) * weight) }
}

fn dot<A: Element, B: Element>(a: &[A], b: &[B]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x.to_f64() * y.to_f64()).sum()
}

/// References and masses of the rows of head `h` from a forward pass of its own, where the given one
/// will not do: its log-sum-exps are so large that their rounding would show, or it was not tiled.
fn parts_of_lse<T: Compute>(
    problem: &Problem<'_>,
    h: usize,
    up: &Upstream<'_>,
    par: Par<'_>,
) -> Result<Option<[Vec<T>; 2]>> {
    /// Relative error of the probabilities that the rounding of a log-sum-exp may cause.
    const TOLERATED: f64 = 6e-5;
    let (rows, cols) = (up.out.rows(), up.out.cols());
    let is_large = |x: f64| x.is_finite() && x.abs() > TOLERATED / T::UNIT_ROUNDOFF;
    // The decoding kernel adds up in another order than the backward pass, which must find the logits
    // of the forward pass again, bit for bit.
    let head = &problem.heads[h];
    let was_decoded = Kernel::of(rows, head.key.rows()) == Kernel::Decode && head.weights.is_none();
    if !was_decoded && !(0..rows).any(|i| is_large(up.lse.get(i, 0))) {
        return Ok(None);
    }
    let mut parts = [vec![T::ZERO; rows], vec![T::ZERO; rows]];
    let mut out = vec![T::ZERO; rows * cols];
    let one = Problem { heads: vec![problem.heads[h]], ..*problem };
    let output = Output {
        out: MatCell::from_slice(&mut out, rows, cols),
        lse: None,
        parts: Some(parts.each_mut().map(|part| MatCell::from_slice(part, rows, 1))),
    };
    forward_tiled(&one, &[output], par)?;
    Ok(Some(parts))
}

/// Heads in groups that share no gradient; who shares with an earlier head comes in a later group.
fn ranks<T>(gradients: &[HeadGradients<'_, T>]) -> Vec<Vec<usize>> {
    let mut uses = HashMap::new();
    let mut ranks: Vec<Vec<usize>> = Vec::new();
    for (h, to) in gradients.iter().enumerate() {
        let cells = [to.query, to.key, to.value, to.bias];
        let places: Vec<_> = cells.iter().flatten().map(|cell| cell.at(0, 0)).collect();
        let rank = places.iter().filter_map(|place| uses.get(place)).max().map_or(0, |r| r + 1);
        for place in places {
            uses.insert(place, rank);
        }
        if ranks.len() <= rank {
            ranks.push(Vec::new());
        }
        ranks[rank].push(h);
    }
    ranks
}

/// Some rows of heads that share no gradient.
struct Wave<'a, T> {
    problem: &'a Problem<'a>,
    upstream: &'a [Upstream<'a>],
    gradients: &'a [HeadGradients<'a, T>],
    states: &'a [Vec<RowState<T>>],
    lags: &'a Tables<T>,
    weights: &'a toeplitz::Tables<T>,
    heads: &'a [usize],
    rows: Range<usize>,
}

impl<T: Compute> Wave<'_, T> {
    fn run(&self, isa: Isa, pool: &Pool<dense_grad::Scratch<T>>, par: Par<'_>) -> Result<Stats> {
        let first = &self.problem.heads[self.heads[0]];
        let (e, most_rows) = (first.query.cols(), first.query.rows().min(WAVE_ROWS));
        let seen = self.problem.visible.union(self.rows.clone(), first.key.rows());
        let keys = seen.len();
        if keys == 0 {
            return Ok(Stats::default());
        }
        // A bias that is the same for all keys has a gradient that all parts would write.
        let bias = |h: &usize| self.gradients[*h].bias.is_some_and(|bias| bias.broadcasts().1);
        let wanted = if self.heads.iter().any(bias) {
            1
        } else {
            TASKS.div_ceil(self.heads.len()).min(keys.div_ceil(PART_KEYS)).max(1)
        };
        let part = keys.div_ceil(wanted).next_multiple_of(KEY_UNIT);
        let parts = keys.div_ceil(part);
        // A part that is not the only one gets a `dQ` of its own.
        let apart = parts > 1 && self.gradients[self.heads[0]].query.is_some();
        let size = self.rows.len() * e;
        let mut sums = vec![T::ZERO; if apart { self.heads.len() * parts * size } else { 0 }];
        let cells: Vec<_> = sums
            .chunks_exact_mut(size.max(1))
            .map(|part| MatCell::from_slice(part, self.rows.len(), e))
            .collect();
        let tasks = self.heads.len() * parts;
        let keys_of = |p: usize| seen.start + p * part..seen.end.min(seen.start + (p + 1) * part);
        // Every task sums over lags of its own.
        let wants_lags = self.gradients[self.heads[0]].lags.is_some();
        let most_lags = lags::count(self.rows.len(), part);
        let mut lag_sums = vec![0.0; if wants_lags { tasks * most_lags } else { 0 }];
        let lag_cells: Vec<_> = lag_sums
            .chunks_exact_mut(most_lags)
            .map(|sums| MatCell::from_slice(sums, most_lags, 1))
            .collect();
        let mut weight_sums =
            TaskSums::new(&self.gradients[self.heads[0]], tasks, self.rows.len(), part);
        let weight_cells = weight_sums.cells();
        let reports = par.map(tasks, |task, pulse| {
            let (h, p) = (self.heads[task / parts], task % parts);
            let mut gradients = self.gradients[h];
            gradients.lags = lag_cells.get(task).copied();
            gradients.weights = weight_cells.get(task).copied();
            if apart {
                gradients.query = cells.get(task).copied();
            }
            let job = Job {
                head: &self.problem.heads[h],
                grad_out: self.upstream[h].grad_out,
                visible: self.problem.visible,
                scale: T::from_f64(self.problem.scale),
                rows: self.rows.clone(),
                keys: keys_of(p),
                lags: self.lags.of(h),
                weights: self.weights.of(h),
                states: &self.states[h],
                gradients,
                first_query_row: if apart { 0 } else { self.rows.start },
            };
            let make = || dense_grad::Scratch::new(first, most_rows, T::lanes(isa));
            // SAFETY: the heads of a wave share no gradient, the parts of a head no keys, and each
            // has its own `dQ`; all heads of a problem have one shape.
            pool.with(make, |scratch| unsafe { T::backward(isa, &job, scratch, pulse) })
        })?;
        let mut stats = Stats::of(&reports);
        for (task, part) in cells.iter().enumerate() {
            let to = self.gradients[self.heads[task / parts]].query;
            for (r, i) in self.rows.clone().enumerate() {
                // SAFETY: the tasks are over, and nobody else has the gradients during the call.
                let (to, from) = unsafe { (to.map(|to| to.row_mut(i)), part.row_mut(r)) };
                for (to, &mut x) in to.into_iter().flatten().zip(from) {
                    *to = *to + x;
                    stats.suspicious |= !to.is_finite();
                }
            }
        }
        drop((lag_cells, weight_cells));
        for task in 0..tasks {
            let (h, keys) = (self.heads[task / parts], keys_of(task % parts));
            let (to, s) = (&self.gradients[h], self.problem.heads[h].key.rows());
            let first = self.rows.start + s - keys.end;
            let count = lags::count(self.rows.len(), keys.len());
            if let Some(to) = to.lags {
                for (m, x) in lag_sums[task * most_lags..][..count].iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { *to.at(first + m, 0) += x };
                    stats.suspicious |= !x.is_finite();
                }
            }
            if let Some(to) = &to.weights {
                // SAFETY: as above.
                stats.suspicious |= !unsafe { weight_sums.add(task, to, first, count) };
            }
        }
        Ok(stats)
    }
}
