//! The worker threads of this process.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Bytes of the stack of a worker: frames of kernels are large where nothing is optimised.
pub(super) const STACK: usize = if cfg!(debug_assertions) { 16 << 20 } else { 2 << 20 };

struct Owned {
    pid: u32,
    /// `None` where the operating system refused to start threads.
    pool: Option<rayon::ThreadPool>,
}

/// The pool of this process, or `None` where it cannot have threads.
///
/// It is private to the crate, so it neither disturbs nor obeys rayon's global pool, and it is
/// keyed by process id: a child made by `fork` inherits the pointer but not the worker threads, and
/// must build its own instead of waiting for them.
pub(super) fn pool() -> Option<&'static rayon::ThreadPool> {
    static POOL: AtomicPtr<Owned> = AtomicPtr::new(ptr::null_mut());

    let pid = std::process::id();
    let current = POOL.load(Ordering::Acquire);
    // SAFETY: the pointer is null or was leaked below, and nothing is ever freed.
    if let Some(owned) = unsafe { current.as_ref() }
        && owned.pid == pid
    {
        return owned.pool.as_ref();
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(cores())
        .stack_size(STACK)
        .thread_name(|i| format!("subquad-{i}"))
        .build()
        .ok();
    let mine = Box::into_raw(Box::new(Owned { pid, pool }));
    let winner = match POOL.compare_exchange(current, mine, Ordering::AcqRel, Ordering::Acquire) {
        // The parent's pool stays leaked in a forked child: dropping it would join threads that
        // the child does not have.
        Ok(_) => mine,
        Err(theirs) => {
            // SAFETY: `mine` was never shared.
            drop(unsafe { Box::from_raw(mine) });
            theirs
        }
    };
    // SAFETY: as above.
    unsafe { (*winner).pool.as_ref() }
}

/// Threads that this process may run at the same time (the scheduler's affinity respected).
pub fn cores() -> usize {
    static CORES: AtomicUsize = AtomicUsize::new(0);
    match CORES.load(Ordering::Relaxed) {
        0 => {
            let n = std::thread::available_parallelism().map_or(1, usize::from);
            CORES.store(n, Ordering::Relaxed);
            n
        }
        n => n,
    }
}
