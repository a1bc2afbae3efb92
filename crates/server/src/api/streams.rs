//! Watches and logs that are no sessions: counted, and ended when whose they are may not have them any more.

use super::{answer::Refusal, recheck::Question, sessions::Sessions};
use crate::auth::Identity;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// One that goes on.
#[derive(Debug)]
pub(super) struct Stream {
    /// `None` where nobody was authenticated: a router behind another one.
    pub(super) who: Option<Identity>,
    /// What was allowed.
    pub(super) question: Question,
    pub(super) end: CancellationToken,
}

impl Stream {
    fn user(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.user)
    }
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<BTreeMap<u64, Arc<Stream>>>);

impl Streams {
    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        self.running().values().cloned().collect()
    }
}

/// A watch or a log is counted for as long as this lives, which is as long as its body.
#[derive(Debug)]
pub(super) struct StreamPlace {
    sessions: Sessions,
    number: u64,
    stream: Arc<Stream>,
}

impl StreamPlace {
    /// Cancelled when it has to end.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.stream.end
    }
}

impl Sessions {
    /// A place for a watch or a log that is no session, or why there is none.
    pub(super) fn stream(&self, who: Option<Identity>, question: Question) -> Result<StreamPlace, Refusal> {
        let stream = Arc::new(Stream { who, question, end: CancellationToken::new() });
        if let Err(over) = self.registry().add_stream(stream.user()) {
            self.metrics().over(over.limit.flag());
            tracing::info!(user = stream.user(), limit = over.limit.flag(), "watch or log refused");
            return Err(Refusal::from(&over));
        }
        let number = self.number_of_stream();
        self.streams().running().insert(number, Arc::clone(&stream));
        Ok(StreamPlace { sessions: self.clone(), number, stream })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.sessions.streams().running().remove(&self.number);
        self.sessions.registry().remove_stream(self.stream.user());
    }
}
