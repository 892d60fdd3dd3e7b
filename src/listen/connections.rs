//! The loop that accepts connections, and how many there may be. How long one may take is for whoever answers it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
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
    /// How long one that asks keeps its place, whoever else comes: those wait until then.
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
    /// The oldest first, and since when each is here.
    asking: VecDeque<(Instant, AbortHandle)>,
    /// The oldest first.
    answered: VecDeque<AbortHandle>,
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
    let crowd = Arc::new(Mutex::new(Crowd { bounds, asking: VecDeque::new(), answered: VecDeque::new() }));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                tokio::select! {
                    () = place_for_one_more(&crowd, &mut connections) => {}
                    () = shutdown.cancelled() => break,
                }
                let answer = answer(connection, Place(crowd.clone()));
                // Locked, so that the connection is in the line before it can leave it.
                let mut crowd = lock(&crowd);
                crowd.asking.push_back((Instant::now(), connections.spawn(answer)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    if bounds.answered.is_some() {
        lock(&crowd).asking.drain(..).for_each(|(_, connection)| connection.abort());
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
        crowd.answered.retain(|connection| !connection.is_finished());
        while crowd.answered.len() >= most
            && let Some(oldest) = crowd.answered.pop_front()
        {
            oldest.abort();
        }
        crowd.advance();
    }

    /// The same, for answers that may take long: `false` where there are too many of these, and then nothing has changed.
    #[must_use]
    pub fn be_answered_if_there_is_room(&self) -> bool {
        let mut crowd = lock(&self.0);
        let Some(most) = crowd.bounds.answered else { return true };
        crowd.answered.retain(|connection| !connection.is_finished());
        let has_room = crowd.answered.len() < most;
        if has_room {
            crowd.advance();
        }
        has_room
    }
}

impl Crowd {
    /// Lets the connection of this task pass from those that ask to those that are answered.
    fn advance(&mut self) {
        let me: Option<Id> = tokio::task::try_id();
        let place = self.asking.iter().position(|(_, connection)| Some(connection.id()) == me);
        self.answered.extend(place.and_then(|place| self.asking.remove(place)).map(|(_, connection)| connection));
    }
}

/// Waits until there is a place among those that ask: the oldest loses its own once it had what is sure.
async fn place_for_one_more(crowd: &Shared, connections: &mut JoinSet<()>) {
    loop {
        let Some(left) = make_room(&mut lock(crowd)) else { return };
        tokio::select! {
            Some(_) = connections.join_next() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// Ends the oldest of those that ask if there are too many; how long it cannot be ended yet.
fn make_room(Crowd { bounds, asking, .. }: &mut Crowd) -> Option<Duration> {
    asking.retain(|(_, connection)| !connection.is_finished());
    while asking.len() >= bounds.asking
        && let Some((since, oldest)) = asking.front()
    {
        let left = bounds.sure.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Some(left);
        }
        oldest.abort();
        asking.pop_front();
    }
    None
}

fn lock(crowd: &Shared) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}
