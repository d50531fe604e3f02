//! Threads that help queries of lines: to look into several blocks at once, and to compute.

use std::sync::atomic::{AtomicUsize, Ordering};

use logstore::Together;

/// Threads that help at once, over all queries of the process, for each processor: most of their time they wait for the
/// disk or the store.
const PER_PROCESSOR: usize = 4;
/// One query has at most so many of them.
const OF_ONE_QUERY: usize = 8;

/// How many threads help now.
static HELPING: AtomicUsize = AtomicUsize::new(0);
/// How many threads help to compute now, over all queries of the process: one for each processor at most.
static COMPUTING: AtomicUsize = AtomicUsize::new(0);

/// Processors of this machine.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `job` once with each number below `jobs`, by the thread that asks and by as many others as there are free
/// processors.
pub(crate) fn compute(jobs: usize, job: &(dyn Fn(usize) + Sync)) {
    let processors = processors();
    let wanted = jobs.min(processors).saturating_sub(1);
    let taken = Taken::new(&COMPUTING, wanted, processors);
    run_with(taken.count, jobs, job);
}

/// Does jobs by the thread that asks and by as many others as are free: a query goes on also when none is.
pub(crate) struct Helpers;

/// Threads that were taken, until they are given back.
struct Taken {
    helping: &'static AtomicUsize,
    count: usize,
}

impl Taken {
    /// As many as are free, at most `wanted`.
    fn new(helping: &'static AtomicUsize, wanted: usize, most: usize) -> Taken {
        let mut count = 0;
        let take = |now: usize| {
            count = wanted.min(most.saturating_sub(now));
            Some(now + count)
        };
        let _ = helping.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        Taken { helping, count }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.helping.fetch_sub(self.count, Ordering::AcqRel);
    }
}

impl Together for Helpers {
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        let wanted = jobs.saturating_sub(1).min(OF_ONE_QUERY);
        let taken = Taken::new(&HELPING, wanted, processors() * PER_PROCESSOR);
        run_with(taken.count, jobs, job);
    }
}

fn run_with(helpers: usize, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= jobs {
                return;
            }
            job(number);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            let thread = std::thread::Builder::new().name("log-query".to_owned());
            // Without one more thread it takes longer.
            if thread.spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn each_job_is_done_once_and_several_at_once() {
        // Nobody gets on before three do.
        let all_there = Barrier::new(3);
        let done = Mutex::new(Vec::new());
        run_with(2, 3, &|number| {
            all_there.wait();
            done.lock().push(number);
        });
        let mut done = done.into_inner();
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2]);
        let counted = AtomicUsize::new(0);
        run_with(0, 100, &|_| _ = counted.fetch_add(1, Ordering::Relaxed));
        run_with(3, 100, &|_| _ = counted.fetch_add(1, Ordering::Relaxed));
        assert_eq!(counted.into_inner(), 200);
    }

    #[test]
    fn no_more_threads_help_than_there_may() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        let first = Taken::new(&NOW, 5, 8);
        let second = Taken::new(&NOW, 5, 8);
        let third = Taken::new(&NOW, 5, 8);
        assert_eq!((first.count, second.count, third.count), (5, 3, 0));
        drop(first);
        assert_eq!(Taken::new(&NOW, 9, 8).count, 5);
        drop((second, third));
        assert_eq!(NOW.load(Ordering::Relaxed), 0);
    }
}
