//! The loop that accepts connections, and how many there may be. How long one may take is for whoever answers it.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long answers under way are waited for at shutdown.
const DRAIN: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept (out of file descriptors) before the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What connections come from.
pub trait Accept {
    /// One of them.
    type Connection: Send + 'static;

    /// Waits for the next connection. Cancel safe.
    ///
    /// # Errors
    /// The system's refusal.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// That have not asked for anything yet. One more ends the oldest of them, so that idle clients lock nobody out.
    pub asking: usize,
    /// That get an answer; `None` where these are not told apart from those that ask.
    pub answered: Option<usize>,
    /// That get the answer to a health check. Other answers take none of these slots, and checks take none of theirs.
    pub checked: usize,
    /// How long one that asks keeps its place, whoever else comes: those wait until then. It is measured by the connection's own task:
    /// on a machine that is slow to look at what came, it lasts longer.
    pub sure: Duration,
}

/// The place of one connection among the others: among those that ask, until it says that it is answered.
#[derive(Debug)]
pub struct Place(Shared);

/// What the loop and its connections share.
type Shared = Arc<Mutex<Crowd>>;

#[derive(Debug)]
struct Crowd {
    bounds: Bounds,
    /// The oldest first.
    asking: VecDeque<Asking>,
    /// The oldest first.
    answered: VecDeque<AbortHandle>,
    /// The oldest first.
    checked: VecDeque<AbortHandle>,
}

/// A connection that has not asked yet.
#[derive(Debug)]
struct Asking {
    connection: AbortHandle,
    /// Whether its sure time is over, so that it may be ended.
    dawdles: Arc<AtomicBool>,
}

/// Lets connections in until `shutdown`, then ends within a second. `answer` is dropped when its connection has to go. Dropping the
/// future closes every connection.
pub async fn serve<L, F>(
    listener: L,
    bounds: Bounds,
    shutdown: CancellationToken,
    answer: impl Fn(L::Connection, Place) -> F,
) where
    L: Accept,
    F: Future<Output = ()> + Send + 'static,
{
    let crowd = Arc::new(Mutex::new(Crowd::new(bounds)));
    let (mut connections, ripe) = (JoinSet::new(), Arc::new(Notify::new()));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                tokio::select! {
                    () = place_for_one_more(&crowd, &mut connections, &ripe) => {}
                    () = shutdown.cancelled() => break,
                }
                let dawdles = Arc::new(AtomicBool::new(false));
                let answer = answer(connection, Place(crowd.clone()));
                let answer = surely(answer, bounds.sure, dawdles.clone(), ripe.clone());
                // Locked, so that the connection is in the line before it can leave it.
                let mut crowd = lock(&crowd);
                let connection = connections.spawn(answer);
                crowd.asking.push_back(Asking { connection, dawdles });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    if bounds.answered.is_some() {
        lock(&crowd).asking.drain(..).for_each(|asking| asking.connection.abort());
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    // Whoever is still reading after this is closed when the set is dropped.
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

impl Place {
    /// This connection has asked, and only another one that has can end it. Where there are too many of these, the oldest goes.
    pub fn be_answered(&self) {
        let mut crowd = lock(&self.0);
        let Some(most) = crowd.bounds.answered else { return };
        end_the_oldest(&mut crowd.answered, most);
        let me = crowd.take_me();
        crowd.answered.extend(me);
    }

    /// The same for a health check: only another check can end it, and it ends no answer.
    pub fn be_checked(&self) {
        let mut crowd = lock(&self.0);
        let most = crowd.bounds.checked;
        end_the_oldest(&mut crowd.checked, most);
        let me = crowd.take_me();
        crowd.checked.extend(me);
    }

    /// The same, for answers that may take long: `false` where there are too many of these, and then nothing has changed.
    #[must_use]
    pub fn be_answered_if_there_is_room(&self) -> bool {
        let mut crowd = lock(&self.0);
        let Some(most) = crowd.bounds.answered else { return true };
        crowd.answered.retain(|connection| !connection.is_finished());
        let has_room = crowd.answered.len() < most;
        if has_room {
            let me = crowd.take_me();
            crowd.answered.extend(me);
        }
        has_room
    }
}

impl Crowd {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, asking: VecDeque::new(), answered: VecDeque::new(), checked: VecDeque::new() }
    }

    /// Takes the connection of this task out of those that ask.
    fn take_me(&mut self) -> Option<AbortHandle> {
        let me: Option<Id> = tokio::task::try_id();
        let place = self.asking.iter().position(|asking| Some(asking.connection.id()) == me)?;
        self.asking.remove(place).map(|asking| asking.connection)
    }
}

/// Makes room for one more.
fn end_the_oldest(line: &mut VecDeque<AbortHandle>, most: usize) {
    line.retain(|connection| !connection.is_finished());
    while line.len() >= most
        && let Some(oldest) = line.pop_front()
    {
        oldest.abort();
    }
}

/// Does the work of a connection, and says when its sure time is over.
async fn surely(work: impl Future<Output = ()>, sure: Duration, dawdles: Arc<AtomicBool>, ripe: Arc<Notify>) {
    let mut work = pin!(work);
    // The runtime looks at sockets before it looks at timers: what was there by then has been read.
    tokio::select! {
        biased;
        () = &mut work => return,
        () = tokio::time::sleep(sure) => {}
    }
    dawdles.store(true, Ordering::Relaxed);
    ripe.notify_one();
    work.await;
}

/// Waits until there is a place among those that ask: the oldest loses its own once it had what is sure.
async fn place_for_one_more(crowd: &Shared, connections: &mut JoinSet<()>, ripe: &Notify) {
    while !make_room(&mut lock(crowd)) {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            () = ripe.notified() => {}
        }
    }
}

/// Ends the oldest of those that ask if there are too many; `false` where it cannot be ended yet.
fn make_room(Crowd { bounds, asking, .. }: &mut Crowd) -> bool {
    asking.retain(|asking| !asking.connection.is_finished());
    while asking.len() >= bounds.asking
        && let Some(oldest) = asking.front().filter(|oldest| oldest.dawdles.load(Ordering::Relaxed))
    {
        oldest.connection.abort();
        asking.pop_front();
    }
    asking.len() < bounds.asking
}

fn lock(crowd: &Shared) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const BOUNDS: Bounds = Bounds { asking: 3, answered: Some(2), checked: 2, sure: Duration::from_millis(25) };

    /// A crowd of connections that stay until they are ended.
    struct Stage {
        crowd: Shared,
        connections: JoinSet<()>,
        ripe: Arc<Notify>,
    }

    impl Stage {
        fn new() -> Self {
            let crowd = Arc::new(Mutex::new(Crowd::new(BOUNDS)));
            Self { crowd, connections: JoinSet::new(), ripe: Arc::default() }
        }

        /// One more connection, which does this with its place as soon as it is polled.
        fn connect(&mut self, act: impl FnOnce(&Place) + Send + 'static) -> AbortHandle {
            let (place, dawdles) = (Place(self.crowd.clone()), Arc::new(AtomicBool::new(false)));
            let work = async move {
                act(&place);
                std::future::pending().await
            };
            let connection = self.connections.spawn(surely(work, BOUNDS.sure, dawdles.clone(), self.ripe.clone()));
            lock(&self.crowd).asking.push_back(Asking { connection: connection.clone(), dawdles });
            connection
        }
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    fn ended(all: &[AbortHandle]) -> Vec<bool> {
        all.iter().map(AbortHandle::is_finished).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn client_has_its_sure_time_to_ask_whoever_else_comes() {
        let mut stage = Stage::new();
        let crowd: Vec<_> = (0..BOUNDS.asking).map(|_| stage.connect(|_| {})).collect();
        settle().await;
        assert!(!make_room(&mut lock(&stage.crowd)), "the next one waits");
        let began = Instant::now();
        place_for_one_more(&stage.crowd.clone(), &mut stage.connections, &stage.ripe.clone()).await;
        assert!(began.elapsed() >= BOUNDS.sure && began.elapsed() < 2 * BOUNDS.sure);
        settle().await;
        assert_eq!(ended(&crowd), [true, false, false], "the oldest made room");
    }

    #[tokio::test(start_paused = true)]
    async fn health_checks_and_other_answers_end_only_their_own_kind() {
        let mut stage = Stage::new();
        let answers: Vec<_> = (0..2).map(|_| stage.connect(Place::be_answered)).collect();
        settle().await;
        let checks: Vec<_> = (0..2).map(|_| stage.connect(Place::be_checked)).collect();
        settle().await;
        assert!(!ended(&answers).contains(&true) && !ended(&checks).contains(&true));
        assert!(lock(&stage.crowd).asking.is_empty(), "who asked has left the others that ask");
        let more = stage.connect(Place::be_answered);
        settle().await;
        assert_eq!((ended(&answers), ended(&checks)), (vec![true, false], vec![false, false]));
        let check = stage.connect(Place::be_checked);
        settle().await;
        assert_eq!(ended(&checks), [true, false]);
        assert!(!more.is_finished() && !check.is_finished());
    }
}
