//! What a reader of a log asks for and gets: the vocabulary of `GET …/pods/NAME/log`.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use jiff::Timestamp;

/// Which part of a log, and in which form. The fields are the query parameters of the Kubernetes API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is still to come, until the current run of the container ends.
    pub follow: bool,
    /// Begin with this many lines from the end; `None`: with the oldest line that is kept.
    pub tail_lines: Option<u64>,
    /// Put the time at which a line was complete before it, as RFC 3339 with nine digits and one space.
    pub timestamps: bool,
    /// Only lines that are at most this many seconds old.
    pub since_seconds: Option<u64>,
    /// Only lines from this time on. With both, the later one counts.
    pub since_time: Option<Timestamp>,
    /// End after this many bytes of answer (timestamps included), even within a line.
    pub limit_bytes: Option<u64>,
    /// The log of the run before the current one.
    pub previous: bool,
}

impl LogOptions {
    /// The earliest time of a wanted line; `None`: all.
    pub(crate) fn since(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = self.since_seconds.map(|seconds| {
            let span = std::time::Duration::from_secs(seconds);
            // Older than any clock can say is as good as everything.
            now.checked_sub(span).unwrap_or(Timestamp::MIN)
        });
        seconds.max(self.since_time)
    }
}

/// Why there is no log to read. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// This kind of container writes no log.
    #[error("container {container:?} in pod {pod:?} has no logs: {cause}")]
    NoLogs {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
        /// What to know or to do.
        cause: String,
    },
    /// The container has not run before the current run.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// The container has not run yet.
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    NotStarted {
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
        /// The state's reason.
        reason: String,
    },
}

/// The bytes of a log, in chunks of any size.
///
/// Dropping it ends the reading and frees what it held. It is a [`Stream`] and so can be an HTTP body as it is.
pub struct LogStream(BoxStream<'static, io::Result<Bytes>>);

impl LogStream {
    /// A log from a stream of chunks.
    pub fn new(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(chunks.boxed())
    }

    /// The next chunk, never empty; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// When the source of the log failed; nothing follows.
    pub async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.0.next().await.transpose()
    }
}

impl Stream for LogStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_later_of_the_two_limits_counts() {
        let options = |seconds, time: Option<i64>| LogOptions {
            since_seconds: seconds,
            since_time: time.map(at),
            ..LogOptions::default()
        };
        assert_eq!(options(None, None).since(at(1000)), None);
        assert_eq!(options(Some(10), None).since(at(1000)), Some(at(990)));
        assert_eq!(options(Some(10), Some(995)).since(at(1000)), Some(at(995)));
        assert_eq!(options(Some(10), Some(5)).since(at(1000)), Some(at(990)));
        assert_eq!(options(Some(u64::MAX), None).since(at(1000)), Some(Timestamp::MIN));
    }

    #[test]
    fn the_errors_read_as_the_kubelet_words_them() {
        let error = LogError::NoPrevious { pod: "web".into(), container: "main".into() };
        assert_eq!(error.to_string(), r#"previous terminated container "main" in pod "web" not found"#);
    }
}
