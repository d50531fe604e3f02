//! The threads of one query.

use std::sync::atomic::{AtomicUsize, Ordering};

use promql::Parallel;

/// Spreads the pieces of one query over threads that live as long as the piece of work.
pub(super) struct Threads {
    pub(super) width: usize,
}

impl Parallel for Threads {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let threads = self.width.min(count);
        if threads <= 1 {
            for index in 0..count {
                task(index);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                task(index);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where the system gives no more threads, those there are do all the work.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
    }

    fn width(&self) -> usize {
        self.width
    }
}
