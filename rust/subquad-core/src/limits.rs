//! What this machine can do at best: the denominators of every benchmark.
//!
//! A speed means little by itself on a shared server whose kind nobody chose. Kernels are therefore
//! judged by their share of a limit measured in the same run: the multiply-add peak where
//! arithmetic bounds them, the read bandwidth of main memory where bytes do.
//! `python -m subquad info --measure` prints the same figures.
//!
//! - *Peaks* come from instructions that work on registers alone, enough of them in
//!   flight to hide their latency, on random operands: zeros draw less power and flatter the clock.
//!   They are the peaks of the instruction set in use, [`Isa::detect`], so a run under
//!   `SUBQUAD_ISA=v3` is held against what AVX2 can do.
//! - *Bandwidth* is that of a plain sum over a buffer that no cache holds.
//!
//! Every figure is the best of several passes, because a busy neighbour only ever slows a pass down.
//! A machine slower or busier than usual gets fewer passes, not more time.

mod peak;
mod stream;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::simd::Isa;
use peak::Peak;

/// Longest time that [`measure`] accepts, in seconds.
const MOST_SECONDS: f64 = 60.0;

/// The best this machine does, for kernels compiled for the instruction set in use.
///
/// A fused multiply-add counts as two operations, and so does a product of two bytes that is added
/// up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Multiply-add peak of one thread in `f32`, GF/s.
    pub fma_f32: f64,
    /// Multiply-add peak of one thread in `f64`, GF/s.
    pub fma_f64: f64,
    /// Multiply-add peak of all threads together in `f32`, GF/s.
    pub fma_f32_all: f64,
    /// Products of bytes, added up, on one thread, Gop/s.
    pub int8: f64,
    /// Bytes that one thread reads from main memory, GB/s.
    pub stream: f64,
    /// Bytes that all threads together read from main memory, GB/s.
    pub stream_all: f64,
}

impl Limits {
    /// Name and value of every figure, in the order of the fields.
    pub fn entries(&self) -> [(&'static str, f64); 6] {
        let Self { fma_f32, fma_f64, fma_f32_all, int8, stream, stream_all } = *self;
        [
            ("fma_f32", fma_f32),
            ("fma_f64", fma_f64),
            ("fma_f32_all", fma_f32_all),
            ("int8", int8),
            ("stream", stream),
            ("stream_all", stream_all),
        ]
    }
}

/// Measures the limits of this machine in about `seconds` seconds, 60 at most; 1.6 gives steady
/// figures.
///
/// Takes 256 MiB of memory meanwhile. Every figure gets one pass at least, whatever `seconds` is.
/// "All threads" are those that the process may use, not the limit that the user has set.
pub fn measure(seconds: f64) -> Limits {
    let isa = Isa::detect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    // What filling the buffer costs is the least predictable, so it goes first and the passes share
    // the time that is left.
    let mut budget = Budget::new(seconds, 6);
    let buffer = stream::buffer();
    let stream = budget.best(|| stream::pass(isa, &buffer, 1));
    let stream_all = budget.best(|| stream::pass(isa, &buffer, threads));
    drop(buffer);

    let (f32, f64, int8) = (Peak::f32(isa), Peak::f64(isa), Peak::int8(isa));
    Limits {
        fma_f32: budget.best(|| f32.pass(1)),
        fma_f64: budget.best(|| f64.pass(1)),
        fma_f32_all: budget.best(|| f32.pass(threads)),
        int8: budget.best(|| int8.pass(1)),
        stream,
        stream_all,
    }
}

/// Time to be shared by a known number of figures.
struct Budget {
    start: Instant,
    seconds: f64,
    figures: u32,
}

impl Budget {
    fn new(seconds: f64, figures: u32) -> Self {
        Self { start: Instant::now(), seconds: seconds.clamp(0.0, MOST_SECONDS), figures }
    }

    /// The best of the passes that fit into an equal share of the time left; one pass always runs.
    fn best(&mut self, pass: impl Fn() -> f64) -> f64 {
        let share = (self.seconds - self.start.elapsed().as_secs_f64()) / f64::from(self.figures);
        self.figures -= 1;
        let start = Instant::now();
        let mut best = pass();
        while start.elapsed().as_secs_f64() < share {
            best = best.max(pass());
        }
        best
    }
}

/// Runs `work(i)` for every `i < threads` at one moment, each on a thread of its own, and returns
/// what they did together per nanosecond, from the common start to the end of the last.
///
/// Threads of its own instead of the pool's tasks: a pool may run two tasks on one thread.
/// What a thread that the system refuses would have done is not counted.
fn rate(threads: usize, work: impl Fn(usize) -> f64 + Sync) -> f64 {
    let (ready, go) = (AtomicUsize::new(0), AtomicBool::new(false));
    let help = |i| {
        ready.fetch_add(1, Ordering::Release);
        while !go.load(Ordering::Acquire) {
            thread::yield_now();
        }
        (work(i), Instant::now())
    };
    thread::scope(|scope| {
        let help = &help;
        let spawn = |i| thread::Builder::new().spawn_scoped(scope, move || help(i)).ok();
        let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
        while ready.load(Ordering::Acquire) < helpers.len() {
            thread::yield_now();
        }
        let start = Instant::now();
        go.store(true, Ordering::Release);
        let mut done = work(0);
        let mut end = Instant::now();
        for helper in helpers {
            let (more, at) = helper.join().expect("measuring never panics");
            done += more;
            end = end.max(at);
        }
        done / (end - start).as_nanos().max(1) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_a_finite_positive_number_however_short_the_time() {
        for (name, value) in measure(0.0).entries() {
            assert!(value.is_finite() && value > 0.0, "{name} is {value}");
        }
    }

    #[test]
    fn entries_name_the_fields() {
        let limits = Limits {
            fma_f32: 1.0,
            fma_f64: 2.0,
            fma_f32_all: 3.0,
            int8: 4.0,
            stream: 5.0,
            stream_all: 6.0,
        };
        let shown = format!("{limits:?}");
        for (name, value) in limits.entries() {
            assert!(shown.contains(&format!("{name}: {value:?}")), "{name} is not {value}");
        }
    }

    #[test]
    fn a_budget_that_is_spent_still_buys_one_pass() {
        for seconds in [0.0, -1.0, f64::NAN] {
            let runs = AtomicUsize::new(0);
            Budget::new(seconds, 1).best(|| runs.fetch_add(1, Ordering::Relaxed) as f64);
            assert_eq!(runs.into_inner(), 1, "{seconds} seconds");
        }
    }

    #[test]
    fn a_budget_buys_the_best_of_its_passes() {
        let runs = AtomicUsize::new(0);
        let rates = [2.0, 7.0, 5.0];
        let pass = || {
            thread::sleep(std::time::Duration::from_micros(10));
            rates.get(runs.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or(1.0)
        };
        let best = Budget::new(0.01, 1).best(pass);
        let seen = &rates[..runs.into_inner().min(rates.len())];
        assert!(
            seen.contains(&best) && seen.iter().all(|rate| *rate <= best),
            "{best} of {seen:?}"
        );
    }

    #[test]
    fn all_threads_run_at_once_and_their_work_is_added_up() {
        for threads in 1..4 {
            // Nobody gets past the barrier unless all are there together.
            let barrier = std::sync::Barrier::new(threads);
            let seen = AtomicUsize::new(0);
            let rate = rate(threads, |i| {
                barrier.wait();
                seen.fetch_add(1 << i, Ordering::Relaxed);
                1e18
            });
            assert_eq!(seen.into_inner(), (1 << threads) - 1);
            assert!(rate.is_finite() && rate > 0.0);
        }
    }
}
