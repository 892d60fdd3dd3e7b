//! Accept loop for connections, with limits on the number of connections. The handler of a connection must limit the
//! duration of the connection.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// Maximum wait at shutdown for connections that are being answered.
const DRAIN: Duration = Duration::from_secs(1);
/// Wait after a failed accept before the next accept. For example, an accept fails if no file descriptor is free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Source of connections.
pub trait Accept {
    /// An accepted connection.
    type Connection: Send + 'static;

    /// Waits for the next connection. Cancel safe.
    ///
    /// # Errors
    /// Errors of the system.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

/// Limits on the number of connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Maximum number of connections that have not sent a request yet. If this number is reached, a new connection
    /// closes the oldest of these connections. So idle clients cannot lock out other clients.
    pub waiting: usize,
    /// Maximum number of connections that are being answered. If `None`, a connection that is being answered still
    /// counts in `waiting`.
    pub answered: Option<usize>,
    /// Maximum number of health checks that are being answered. Health checks and other requests have separate slots.
    pub checked: usize,
    /// Grace period: the minimum time for which a connection without a request keeps its slot. If no slot is free, a
    /// new connection waits until the grace period of the oldest connection ends.
    pub grace: Duration,
}

/// Slot of one connection. The connection counts as waiting for a request until its handler calls a method of the slot.
#[derive(Debug)]
pub struct Slot(Shared);

/// State that the accept loop and its connections share.
type Shared = Arc<Mutex<Connections>>;

#[derive(Debug)]
struct Connections {
    bounds: Bounds,
    /// Connections without a request, the oldest first.
    waiting: VecDeque<Waiting>,
    /// Connections that are being answered, the oldest first.
    answered: VecDeque<AbortHandle>,
    /// Health checks that are being answered, the oldest first.
    checked: VecDeque<AbortHandle>,
}

/// Connection that has not sent a request yet.
#[derive(Debug)]
struct Waiting {
    connection: AbortHandle,
    /// True after the grace period. From then on, a new connection can close this connection.
    grace_over: Arc<AtomicBool>,
}

/// Accepts connections until `shutdown`, then ends within a second. `answer` handles a connection. When a connection
/// closes, this function drops the future of `answer`. If the caller drops the future of this function, all connections
/// close.
pub async fn serve<L, F>(
    listener: L,
    bounds: Bounds,
    shutdown: CancellationToken,
    answer: impl Fn(L::Connection, Slot) -> F,
) where
    L: Accept,
    F: Future<Output = ()> + Send + 'static,
{
    let state = Arc::new(Mutex::new(Connections::new(bounds)));
    let (mut connections, grace_ended) = (JoinSet::new(), Arc::new(Notify::new()));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                tokio::select! {
                    () = wait_for_slot(&state, &mut connections, &grace_ended) => {}
                    () = shutdown.cancelled() => break,
                }
                let grace_over = Arc::new(AtomicBool::new(false));
                let answer = answer(connection, Slot(state.clone()));
                let answer = run_with_grace(answer, bounds.grace, grace_over.clone(), grace_ended.clone());
                // The lock ensures that the connection is in the queue before its task can remove the connection from
                // the queue.
                let mut state = lock(&state);
                let connection = connections.spawn(answer);
                state.waiting.push_back(Waiting { connection, grace_over });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    if bounds.answered.is_some() {
        lock(&state).waiting.drain(..).for_each(|waiting| waiting.connection.abort());
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    // Dropping the set closes the remaining connections.
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

impl Slot {
    /// Counts this connection as answered. If no slot for answers is free, closes the oldest answered connection. After
    /// this call, a new connection without a request cannot close this connection.
    pub fn start_answer(&self) {
        let mut state = lock(&self.0);
        let Some(max) = state.bounds.answered else { return };
        close_oldest(&mut state.answered, max);
        let current = state.take_current();
        state.answered.extend(current);
    }

    /// Counts this connection as a health check. If no slot for health checks is free, closes the oldest health check.
    /// After this call, only a new health check can close this connection.
    pub fn start_check(&self) {
        let mut state = lock(&self.0);
        let max = state.bounds.checked;
        close_oldest(&mut state.checked, max);
        let current = state.take_current();
        state.checked.extend(current);
    }

    /// If a slot for answers is free, counts this connection as answered, and returns true. If no slot is free, returns
    /// false and changes nothing. Unlike [`Self::start_answer`], this method never closes another connection. Use this
    /// method for answers that can take long.
    #[must_use]
    pub fn try_start_answer(&self) -> bool {
        let mut state = lock(&self.0);
        let Some(max) = state.bounds.answered else { return true };
        state.answered.retain(|connection| !connection.is_finished());
        let has_slot = state.answered.len() < max;
        if has_slot {
            let current = state.take_current();
            state.answered.extend(current);
        }
        has_slot
    }
}

impl Connections {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: VecDeque::new(), answered: VecDeque::new(), checked: VecDeque::new() }
    }

    /// Removes and returns the connection of the current task from the waiting connections.
    fn take_current(&mut self) -> Option<AbortHandle> {
        let current: Option<Id> = tokio::task::try_id();
        let index = self.waiting.iter().position(|waiting| Some(waiting.connection.id()) == current)?;
        self.waiting.remove(index).map(|waiting| waiting.connection)
    }
}

/// Closes the oldest connections until a slot is free.
fn close_oldest(queue: &mut VecDeque<AbortHandle>, max: usize) {
    queue.retain(|connection| !connection.is_finished());
    while queue.len() >= max
        && let Some(oldest) = queue.pop_front()
    {
        oldest.abort();
    }
}

/// Runs the handler of a connection, and reports the end of its grace period.
async fn run_with_grace(
    work: impl Future<Output = ()>,
    grace: Duration,
    grace_over: Arc<AtomicBool>,
    grace_ended: Arc<Notify>,
) {
    let mut work = pin!(work);
    // The runtime polls sockets before timers. So `work` has already read all data that arrived during the grace
    // period.
    tokio::select! {
        biased;
        () = &mut work => return,
        () = tokio::time::sleep(grace) => {}
    }
    grace_over.store(true, Ordering::Relaxed);
    grace_ended.notify_one();
    work.await;
}

/// Waits until a slot for a connection without a request is free. The oldest of these connections loses its slot after
/// its grace period.
async fn wait_for_slot(state: &Shared, connections: &mut JoinSet<()>, grace_ended: &Notify) {
    while !close_oldest_waiting(&mut lock(state)) {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            () = grace_ended.notified() => {}
        }
    }
}

/// Closes the oldest waiting connections until a slot is free. During its grace period, a connection stays open.
/// Returns true if a slot is free.
fn close_oldest_waiting(Connections { bounds, waiting, .. }: &mut Connections) -> bool {
    waiting.retain(|waiting| !waiting.connection.is_finished());
    while waiting.len() >= bounds.waiting
        && let Some(oldest) = waiting.front().filter(|oldest| oldest.grace_over.load(Ordering::Relaxed))
    {
        oldest.connection.abort();
        waiting.pop_front();
    }
    waiting.len() < bounds.waiting
}

fn lock(state: &Shared) -> MutexGuard<'_, Connections> {
    state.lock()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const BOUNDS: Bounds = Bounds { waiting: 3, answered: Some(2), checked: 2, grace: Duration::from_millis(25) };

    /// Set of connections that end only if the server closes the connections.
    struct Fixture {
        state: Shared,
        connections: JoinSet<()>,
        grace_ended: Arc<Notify>,
    }

    impl Fixture {
        fn new() -> Self {
            let state = Arc::new(Mutex::new(Connections::new(BOUNDS)));
            Self { state, connections: JoinSet::new(), grace_ended: Arc::default() }
        }

        /// Adds a connection. Its task first calls `act` with the slot of the connection.
        fn connect(&mut self, act: impl FnOnce(&Slot) + Send + 'static) -> AbortHandle {
            let (slot, grace_over) = (Slot(self.state.clone()), Arc::new(AtomicBool::new(false)));
            let work = async move {
                act(&slot);
                std::future::pending().await
            };
            let connection = self.connections.spawn(run_with_grace(
                work,
                BOUNDS.grace,
                grace_over.clone(),
                self.grace_ended.clone(),
            ));
            lock(&self.state).waiting.push_back(Waiting { connection: connection.clone(), grace_over });
            connection
        }
    }

    /// Runs the other tasks until they wait.
    async fn run_tasks() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    fn finished(handles: &[AbortHandle]) -> Vec<bool> {
        handles.iter().map(AbortHandle::is_finished).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn client_keeps_its_slot_during_grace_period() {
        let mut fixture = Fixture::new();
        let waiting: Vec<_> = (0..BOUNDS.waiting).map(|_| fixture.connect(|_| {})).collect();
        run_tasks().await;
        assert!(!close_oldest_waiting(&mut lock(&fixture.state)), "a further connection must wait");
        let started = Instant::now();
        wait_for_slot(&fixture.state.clone(), &mut fixture.connections, &fixture.grace_ended.clone()).await;
        assert!(started.elapsed() >= BOUNDS.grace && started.elapsed() < 2 * BOUNDS.grace);
        run_tasks().await;
        assert_eq!(finished(&waiting), [true, false, false], "the oldest connection was closed");
    }

    #[tokio::test(start_paused = true)]
    async fn health_checks_and_answers_close_only_their_own_kind() {
        let mut fixture = Fixture::new();
        let answers: Vec<_> = (0..2).map(|_| fixture.connect(Slot::start_answer)).collect();
        run_tasks().await;
        let checks: Vec<_> = (0..2).map(|_| fixture.connect(Slot::start_check)).collect();
        run_tasks().await;
        assert!(!finished(&answers).contains(&true) && !finished(&checks).contains(&true));
        assert!(lock(&fixture.state).waiting.is_empty(), "answered connections do not wait");
        let more = fixture.connect(Slot::start_answer);
        run_tasks().await;
        assert_eq!((finished(&answers), finished(&checks)), (vec![true, false], vec![false, false]));
        let check = fixture.connect(Slot::start_check);
        run_tasks().await;
        assert_eq!(finished(&checks), [true, false]);
        assert!(!more.is_finished() && !check.is_finished());
    }
}
