//! Limit on the number of concurrent blocking calls of one layout. Each call runs in its own thread.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::fault::Fault;

/// Maximum number of concurrent calls of one layout. The maximum limits the memory of the threads, and the number of
/// threads that a hanging file system can block.
const MAX_CALLS: usize = 16;

/// Semaphore of one layout's blocking calls.
#[derive(Debug, Clone)]
pub(super) struct Calls(Arc<Semaphore>);

impl Calls {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CALLS)))
    }

    /// Waits until fewer than 16 other calls run ([`MAX_CALLS`]). Then runs `work` in a thread for blocking calls. If
    /// the caller drops the future after `work` has started, `work` still runs to its end. Until this end, `work`
    /// counts as a running call.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let Ok(permit) = Arc::clone(&self.0).acquire_owned().await else { return Err(Fault::Ending) };
        let call = move || {
            let result = work();
            drop(permit);
            result
        };
        match tokio::task::spawn_blocking(call).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Fault::Ending),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Returns a call that increments `counter`.
    fn counted_call(counter: &Arc<AtomicUsize>) -> impl FnOnce() -> Result<(), Fault> + use<> {
        let counter = Arc::clone(counter);
        move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn call_beyond_limit_waits_until_another_ends() {
        let calls = Calls::new();
        let (mut ends, mut running) = (Vec::new(), Vec::new());
        for _ in 0..MAX_CALLS {
            let (end, ended) = mpsc::channel::<()>();
            let (start, started) = tokio::sync::oneshot::channel();
            let calls = calls.clone();
            running.push(tokio::spawn(async move {
                let work = move || {
                    _ = start.send(());
                    _ = ended.recv();
                    Ok(())
                };
                calls.run(work).await
            }));
            started.await.unwrap();
            ends.push(end);
        }
        let counter = Arc::default();
        let mut one_more = std::pin::pin!(calls.run(counted_call(&counter)));
        assert!(futures_util::poll!(&mut one_more).is_pending());
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(counter.load(Ordering::SeqCst), 0, "no thread has run it");
        // If the task that awaits a call is aborted, the call still runs and counts.
        running[0].abort();
        assert!(futures_util::poll!(&mut one_more).is_pending());
        drop(ends.pop());
        one_more.await.unwrap();
        assert_eq!(counter.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn panicking_call_releases_its_permit() {
        let calls = Calls::new();
        for _ in 0..MAX_CALLS {
            let calls = calls.clone();
            let panicked = tokio::spawn(async move { calls.run(|| -> Result<(), _> { panic!("on purpose") }).await });
            assert!(panicked.await.unwrap_err().is_panic());
        }
        let counter = Arc::default();
        calls.run(counted_call(&counter)).await.unwrap();
        assert_eq!(counter.load(Ordering::SeqCst), 1);
    }
}
