//! Forward attention: from a problem to tasks.

use std::ops::Range;

use super::decode::{self, Group};
use super::dense::{self, Report};
use super::lags::Tables;
use super::toeplitz;
use super::{Compute, Kernel, Output, Plan, Problem, Stats, check_outputs};
use crate::Result;
use crate::par::Par;
use crate::scratch::Pool;
use crate::simd::Isa;

/// Queries that read keys and values together at most, but for those of one head.
const GROUP_ROWS: usize = 32;
/// Bytes of keys and values that are worth a task of their own.
const TASK_BYTES: u64 = 256 << 10;

/// Computes attention for every head of a problem.
///
/// Takes `O(L S (E + Ev))` operations per head, `O(L w (E + Ev))` with a window of `w` keys, and
/// `O(L + tile)` memory per thread.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) if the outputs do not fit the heads,
/// [`Error::Stopped`](crate::Error::Stopped) if the caller asked to.
///
/// # Panics
///
/// If rows of an output are not contiguous.
pub fn forward<T: Compute>(
    problem: &Problem<'_>,
    outputs: &[Output<'_, T>],
    par: Par<'_>,
) -> Result<Stats> {
    check_outputs(problem, outputs)?;
    let isa = Isa::detect();
    let plan = Plan::new::<T>(problem, isa);
    let par = par.for_work(plan.work());
    match plan.kernel {
        Kernel::Tiled => tiled(problem, outputs, &plan, isa, par),
        Kernel::Decode => few_queries(problem, outputs, isa, par),
    }
}

/// As [`forward`], by the tiled kernel whatever the shapes.
pub(super) fn forward_tiled<T: Compute>(
    problem: &Problem<'_>,
    outputs: &[Output<'_, T>],
    par: Par<'_>,
) -> Result<Stats> {
    check_outputs(problem, outputs)?;
    let isa = Isa::detect();
    tiled(problem, outputs, &Plan::new::<T>(problem, isa), isa, par)
}

fn tiled<T: Compute>(
    problem: &Problem<'_>,
    outputs: &[Output<'_, T>],
    plan: &Plan,
    isa: Isa,
    par: Par<'_>,
) -> Result<Stats> {
    let tasks = plan.tasks();
    let pool = Pool::new();
    let (lags, weights) = (Tables::new(problem, false), toeplitz::Tables::new(problem));
    let reports = par.map(tasks.len(), |i, pulse| {
        let (h, rows) = tasks[i].clone();
        let (head, output) = (&problem.heads[h], &outputs[h]);
        let scale = T::from_f64(problem.scale);
        let (visible, lags, weights) = (problem.visible, lags.of(h), weights.of(h));
        let job = dense::Job { head, visible, scale, rows, output, lags, weights };
        let make = || dense::Scratch::new(plan.rows_per_task, head, T::lanes(isa));
        // SAFETY: tasks have disjoint rows, nobody else has the outputs during the call, and all heads
        // of a problem have one shape.
        pool.with(make, |scratch| unsafe { T::forward(isa, &job, scratch, pulse) })
    })?;
    Ok(Stats::of(&reports))
}

fn few_queries<T: Compute>(
    problem: &Problem<'_>,
    outputs: &[Output<'_, T>],
    isa: Isa,
    par: Par<'_>,
) -> Result<Stats> {
    let (heads, visible) = (&problem.heads, problem.visible);
    let scale = T::from_f64(problem.scale);
    let groups = groups(problem);
    let lags = Tables::new(problem, true);
    let keys = heads.first().map_or(0, |head| head.key.rows());
    let chunks = keys.div_ceil(decode::CHUNK).max(1);
    let chunk = |c: usize| c * decode::CHUNK..keys.min((c + 1) * decode::CHUNK);
    let bytes = heads.first().map_or(1, |head| {
        let rows = keys.min(decode::CHUNK);
        (head.key.bytes(rows) + head.value.bytes(rows)).max(1)
    });
    let batch = TASK_BYTES.div_ceil(bytes) as usize;
    let units = groups.len() * chunks;
    let tasks: Vec<Range<usize>> =
        (0..units).step_by(batch).map(|u| u..units.min(u + batch)).collect();
    let pool = Pool::new();
    let most_rows = groups.iter().map(|group| group.rows.len()).max().unwrap_or(0);
    let results = par.map(tasks.len(), |t, pulse| {
        let make = || decode::Scratch::new(most_rows, &groups[0].head, T::lanes(isa));
        let work = |scratch: &mut decode::Scratch<T>| {
            let unit = |u: usize| {
                let (group, keys) = (&groups[u / chunks], chunk(u % chunks));
                let job = decode::Job { heads, visible, scale, group, keys, lags: &lags };
                // SAFETY: all heads of a problem have one shape.
                unsafe { T::decode(isa, &job, scratch, pulse) }
            };
            tasks[t].clone().map(unit).collect::<Vec<_>>()
        };
        pool.with(make, work)
    })?;
    let (partials, reports): (Vec<_>, Vec<Report>) = results.into_iter().flatten().unzip();
    let mut stats = Stats::of(&reports);
    stats.tasks = tasks.len() as u64;
    for (g, group) in groups.iter().enumerate() {
        let parts = &partials[g * chunks..(g + 1) * chunks];
        for (q, &(h, i)) in group.rows.iter().enumerate() {
            // SAFETY: the tasks are over, and nobody else has the outputs during the call.
            stats.suspicious |=
                unsafe { decode::finish(&heads[h], &visible, (q, i), parts, &outputs[h]) };
        }
    }
    Ok(stats)
}

/// Neighbouring heads that read the same keys and values, with all their rows: as many as it takes for
/// the arithmetic to outweigh the reading.
fn groups<'a>(problem: &Problem<'a>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (h, head) in problem.heads.iter().enumerate() {
        let rows = (0..head.query.rows()).map(|i| (h, i));
        match groups.last_mut() {
            Some(group)
                if group.rows.len() < GROUP_ROWS
                    && group.head.key.is_same_view(&head.key)
                    && group.head.value.is_same_view(&head.value) =>
            {
                group.rows.extend(rows);
            }
            _ => groups.push(Group { rows: rows.collect(), head: *head }),
        }
    }
    groups.retain(|group| !group.rows.is_empty());
    groups
}
