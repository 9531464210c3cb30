//! How much parallelism a call may use.
//!
//! Tasks are fixed by the shapes of a problem, never by the number of threads, and results are
//! placed by task; so a result is bit-identical whatever the number of threads and whatever the
//! order in which they come to the tasks.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::simd::default_float_mode;
use crate::{Error, Result};

mod pool;

pub use pool::cores;

/// Milliseconds between two questions whether to stop.
const PATIENCE: u64 = 50;

/// How one call may run: on how many threads, and whether somebody wants it to stop.
#[derive(Clone, Copy)]
pub struct Par<'a> {
    threads: usize,
    stop: Option<&'a Stop<'a>>,
}

/// Somebody who may want a call to stop. It is asked now and then, counted over the whole call: a call
/// may consist of many short runs.
pub struct Stop<'a> {
    wanted: &'a (dyn Fn() -> bool + Sync),
    /// When the call began, and milliseconds from then to the last question.
    began: Instant,
    asked: AtomicU64,
    /// Milliseconds between two questions.
    patience: u64,
}

impl<'a> Stop<'a> {
    /// `wanted` is asked about twenty times a second, on the calling thread.
    pub fn new(wanted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { wanted, began: Instant::now(), asked: AtomicU64::new(0), patience: PATIENCE }
    }

    /// As [`new`](Self::new), and asks whenever it can: for tests that stop at every point.
    #[cfg(test)]
    pub(crate) fn impatient(wanted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { patience: 0, ..Self::new(wanted) }
    }

    /// Is it wanted? No, if that was asked a moment ago.
    fn is_wanted(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        if now.saturating_sub(self.asked.load(Ordering::Relaxed)) < self.patience {
            return false;
        }
        let answer = (self.wanted)();
        self.asked.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        answer
    }
}

/// Limit set by the user; `0` means one thread per core.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Number of threads that [`Par::auto`] stands for.
pub fn num_threads() -> usize {
    match LIMIT.load(Ordering::Relaxed) {
        0 => cores(),
        n => n,
    }
}

/// Sets the value of [`num_threads`]; `0` restores one thread per core.
pub fn set_num_threads(n: usize) {
    LIMIT.store(n, Ordering::Relaxed);
}

/// The order in which tasks are handed out. Nothing may depend on it; tests change it to prove so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskOrder {
    /// First to last.
    Forward,
    /// Last to first.
    Reverse,
    /// A fixed permutation without visible order.
    Shuffled,
}

static ORDER: AtomicUsize = AtomicUsize::new(TaskOrder::Forward as usize);

/// Sets the order of the tasks of every later call: a hook for tests.
pub fn set_task_order(order: TaskOrder) {
    ORDER.store(order as usize, Ordering::Relaxed);
}

impl TaskOrder {
    fn current() -> Self {
        let set = ORDER.load(Ordering::Relaxed);
        [Self::Reverse, Self::Shuffled]
            .into_iter()
            .find(|&x| x as usize == set)
            .unwrap_or(Self::Forward)
    }

    /// The `i`-th of `tasks` tasks to be handed out.
    fn task(self, i: usize, tasks: usize) -> usize {
        match self {
            Self::Forward => i,
            Self::Reverse => tasks - 1 - i,
            Self::Shuffled => {
                // A prime that does not divide the number of tasks steps through all of them.
                let prime = if tasks.is_multiple_of(7919) { 7907 } else { 7919 };
                (i * prime + tasks / 2) % tasks
            }
        }
    }
}

/// A running task's view of its call: long tasks ask it between blocks whether to go on.
pub struct Pulse<'a> {
    stopped: &'a AtomicBool,
    /// Only the calling thread asks; the others read the answer.
    stop: Option<&'a Stop<'a>>,
}

impl Pulse<'_> {
    /// Has the caller asked to stop? What a task has computed is then thrown away.
    pub fn stopped(&self) -> bool {
        if self.stop.is_some_and(Stop::is_wanted) {
            self.stopped.store(true, Ordering::Relaxed);
        }
        self.stopped.load(Ordering::Relaxed)
    }
}

impl<'a> Par<'a> {
    /// Stay on the calling thread.
    pub fn seq() -> Self {
        Self::threads(1)
    }

    /// Use as many threads as the user allows, see [`set_num_threads`].
    pub fn auto() -> Self {
        Self::threads(num_threads())
    }

    /// Use at most `n` threads.
    pub fn threads(n: usize) -> Self {
        Self { threads: n, stop: None }
    }

    /// How many threads that may be.
    pub(crate) fn workers(self) -> usize {
        self.threads.max(1)
    }

    /// Ask whether to give up.
    #[must_use]
    pub fn stop_if(self, stop: &'a Stop<'a>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// On the calling thread if so little is to be done that waking another costs more: some 50 us of
    /// work, given its floating-point operations.
    #[must_use]
    pub fn for_work(self, flops: u64) -> Self {
        const WORTH_A_THREAD: u64 = 4_000_000;
        Self { threads: if flops < WORTH_A_THREAD { 1 } else { self.threads }, ..self }
    }

    /// Calls `work(i)` once for every `i < tasks`, in any order, in IEEE arithmetic whatever the mode of
    /// the caller.
    ///
    /// Workers take the next task when they are free, so tasks may differ in cost; make each worth
    /// at least 50 us. A task longer than 50 ms asks its [`Pulse`] now and then.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the caller asked to stop while there was work left.
    pub fn run(self, tasks: usize, work: impl Fn(usize, &Pulse) + Sync) -> Result<()> {
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let order = TaskOrder::current();
        // Threads of the pool have the floating-point mode of whoever started them.
        let take_turns = |stop| {
            default_float_mode(|| {
                let pulse = Pulse { stopped: &stopped, stop };
                while !pulse.stopped() {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        i if i < tasks => work(order.task(i, tasks), &pulse),
                        _ => break,
                    }
                }
            });
        };
        let helpers = self.threads.min(tasks).saturating_sub(1);
        match (helpers > 0).then(pool::pool).flatten() {
            None => take_turns(self.stop),
            Some(pool) => {
                let running = Running::new(helpers.min(pool.current_num_threads()));
                pool.in_place_scope(|scope| {
                    for _ in 0..running.count() {
                        scope.spawn(|_| {
                            let _until_the_end = running.one();
                            take_turns(None);
                        });
                    }
                    take_turns(self.stop);
                    // The others may be at long tasks, and only this thread asks whether to stop.
                    running.wait(|| {
                        if self.stop.is_some_and(Stop::is_wanted) {
                            stopped.store(true, Ordering::Relaxed);
                        }
                    });
                });
            }
        }
        if stopped.into_inner() { Err(Error::Stopped) } else { Ok(()) }
    }

    /// As [`run`](Self::run), and gathers the results in the order of their tasks.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn map<T: Send + Sync>(
        self,
        tasks: usize,
        work: impl Fn(usize, &Pulse) -> T + Sync,
    ) -> Result<Vec<T>> {
        let slots: Vec<OnceLock<T>> = (0..tasks).map(|_| OnceLock::new()).collect();
        self.run(tasks, |i, pulse| assert!(slots[i].set(work(i, pulse)).is_ok()))?;
        Ok(slots.into_iter().filter_map(OnceLock::into_inner).collect())
    }
}

/// The helpers that have not finished.
struct Running {
    count: Mutex<usize>,
    changed: Condvar,
}

/// Counts one helper down when it ends, even by a panic.
struct One<'a>(&'a Running);

impl Drop for One<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}

impl Running {
    fn new(helpers: usize) -> Self {
        Self { count: Mutex::new(helpers), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        *self.lock()
    }

    fn one(&self) -> One<'_> {
        One(self)
    }

    /// Returns when there is none left, and calls `meanwhile` now and then.
    fn wait(&self, meanwhile: impl Fn()) {
        let mut count = self.lock();
        while *count > 0 {
            let waited = self.changed.wait_timeout(count, Duration::from_millis(PATIENCE));
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
            meanwhile();
        }
    }
}

/// Runs a test on a stack like that of a worker.
#[cfg(test)]
pub(crate) fn with_room(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(pool::STACK);
    thread.spawn(test).unwrap().join().unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_order_whatever_the_threads_and_the_order_of_tasks() {
        let squares: Vec<usize> = (0..100).map(|i| i * i).collect();
        for order in [TaskOrder::Reverse, TaskOrder::Shuffled, TaskOrder::Forward] {
            set_task_order(order);
            for par in [Par::seq(), Par::threads(2), Par::threads(64)] {
                assert_eq!(par.map(100, |i, _| i * i), Ok(squares.clone()));
            }
        }
    }

    #[test]
    fn every_order_is_a_permutation() {
        for tasks in [1, 2, 13, 7907, 7919] {
            for order in [TaskOrder::Reverse, TaskOrder::Shuffled, TaskOrder::Forward] {
                let mut seen: Vec<usize> = (0..tasks).map(|i| order.task(i, tasks)).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..tasks));
            }
        }
    }

    #[test]
    fn no_tasks_is_no_work() {
        Par::threads(4).run(0, |_, _| unreachable!()).unwrap();
    }

    #[test]
    fn a_caller_who_wants_to_stop_gets_an_error() {
        let slow = |_, _: &Pulse| std::thread::sleep(Duration::from_millis(30));
        let stop = Stop::new(&|| true);
        assert_eq!(Par::threads(2).stop_if(&stop).run(1000, slow), Err(Error::Stopped));
    }

    #[test]
    fn a_long_task_learns_that_it_should_stop() {
        let patient = |_, pulse: &Pulse| while !pulse.stopped() {};
        let stop = Stop::new(&|| true);
        assert_eq!(Par::threads(2).stop_if(&stop).run(2, patient), Err(Error::Stopped));
    }

    #[test]
    fn a_caller_who_waits_for_a_long_task_is_asked() {
        let stop = Stop::new(&|| true);
        // The first to come keeps the other thread until the call is stopped.
        let caller = std::thread::current().id();
        let work = |_, pulse: &Pulse| {
            while std::thread::current().id() != caller && !pulse.stopped() {
                std::thread::yield_now();
            }
        };
        let par = Par::threads(2).stop_if(&stop);
        let results: Vec<_> = (0..20).map(|_| par.run(64, work)).collect();
        assert!(results.iter().all(|x| matches!(x, Ok(()) | Err(Error::Stopped))));
    }

    #[test]
    fn many_short_runs_are_stopped_like_a_long_one() {
        let stop = Stop::new(&|| true);
        let par = Par::seq().stop_if(&stop);
        let short = |_, _: &Pulse| std::thread::sleep(Duration::from_millis(10));
        let stopped = (0..1000).find(|_| par.run(1, short).is_err());
        assert!(stopped.is_some_and(|runs| runs < 999));
    }
}
