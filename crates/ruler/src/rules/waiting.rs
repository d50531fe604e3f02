//! Locks that somebody may hold for as long as queries take.
//!
//! A group is locked while its templates ask, and queries need the runtime's threads to be answered. Whoever
//! waits for such a lock on one of them gives that thread away first; else all of them could wait for what none
//! of them is left to bring.

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The lock, once nobody else has it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Some(guard) => guard,
        None => off_the_runtime(|| mutex.lock()),
    }
}

/// Does what may block, without a thread of the runtime that others need.
pub(super) fn off_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    let runtime = Handle::try_current();
    match runtime.is_ok_and(|one| one.runtime_flavor() == RuntimeFlavor::MultiThread) {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_waits_for_a_query_does_not_keep_it_from_being_answered() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let lock = Arc::new(Mutex::new(0));
        let (held, is_held) = tokio::sync::oneshot::channel();
        let holder = Arc::clone(&lock);
        let asking = runtime.spawn_blocking(move || {
            let mut guard = holder.lock();
            held.send(()).expect("somebody waits");
            // As a template does: an answer that a task on the runtime's only thread has to bring.
            let answer = tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                7
            });
            *guard = Handle::current().block_on(answer).expect("it is answered");
        });
        let waiting = runtime.spawn(async move {
            is_held.await.expect("it is held");
            *locked(&lock)
        });
        let both = async { (waiting.await.expect("no panic"), asking.await.expect("no panic")).0 };
        let both = async { tokio::time::timeout(Duration::from_secs(20), both).await };
        assert_eq!(runtime.block_on(both).expect("nobody waits for ever"), 7);
    }
}
