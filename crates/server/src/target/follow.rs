//! Reads the history of a run for one client: from where, how far, and what it is told about gaps.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    history::{Missed, Position, Progress},
    logs::LogOptions,
    run::Run,
};

/// How much is copied out of the history at a time, beyond which at most one line is added.
const CHUNK: usize = 32 * 1024;

/// One reader.
struct Reader {
    run: Arc<Run>,
    position: Position,
    progress: watch::Receiver<Progress>,
    /// Where to end when not following: the end of the log as it was at the request.
    until: Option<u64>,
    timestamps: bool,
    /// How many bytes may still be sent.
    left: u64,
    /// What was sent last was not the end of a line.
    within_line: bool,
}

/// The chunks of a log as the options ask for them.
pub(crate) fn chunks(run: Arc<Run>, options: &LogOptions) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let progress = run.log.progress();
    let until = (!options.follow).then(|| progress.borrow().next);
    let position = run.log.position(options.tail_lines, options.since(Timestamp::now()));
    let reader = Reader {
        run,
        position,
        progress,
        until,
        timestamps: options.timestamps,
        left: options.limit_bytes.unwrap_or(u64::MAX),
        within_line: false,
    };
    unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok(chunk), reader))
    })
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        loop {
            let Progress { next, closed } = *self.progress.borrow_and_update();
            let end = self.until.unwrap_or(next);
            let mut text = Vec::new();
            let missed = self.run.log.read(&mut self.position, end, CHUNK, &mut text, self.timestamps);
            if let Some(notice) = self.notice(missed) {
                text.splice(..0, notice.into_bytes());
            }
            if let Some(last) = text.last() {
                self.within_line = *last != b'\n';
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                text.truncate(left);
                self.left -= text.len() as u64;
                return Some(text.into());
            }
            if self.until.is_some() || closed {
                return None;
            }
            // Fails when the history is gone, and we hold it.
            self.progress.changed().await.ok()?;
        }
    }

    /// The line that stands in the place of what was lost.
    fn notice(&self, Missed(bytes): Missed) -> Option<String> {
        if bytes == 0 {
            return None;
        }
        let newline = if self.within_line { "\n" } else { "" };
        let time = if self.timestamps { format!("{:.9} ", Timestamp::now()) } else { String::new() };
        Some(format!(
            "{newline}{time}[wsstream: {bytes} bytes of this log are missing here: \
             they left the history before this reader had taken them]\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::history::OutputStream::Stdout, super::logs::LogStream, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn written(history: usize, lines: &[&str]) -> Arc<Run> {
        let (run, _) = Run::new(history, false);
        lines.iter().for_each(|line| run.log.append(Stdout, line.as_bytes(), at(1)));
        run
    }

    async fn all(mut log: LogStream) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = log.next_chunk().await.unwrap() {
            assert!(!chunk.is_empty());
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).unwrap()
    }

    fn open(run: &Arc<Run>, options: &LogOptions) -> LogStream {
        LogStream::new(chunks(Arc::clone(run), options))
    }

    #[tokio::test]
    async fn a_log_that_is_not_followed_ends_where_it_was_at_the_request() {
        let run = written(1 << 20, &["a\n", "b\n"]);
        let log = open(&run, &LogOptions::default());
        run.log.append(Stdout, b"c\n", at(2));
        assert_eq!(all(log).await, "a\nb\n");
    }

    #[tokio::test]
    async fn a_follower_gets_what_comes_and_the_end() {
        let run = written(1 << 20, &["a\n", "b\n"]);
        let options = LogOptions { follow: true, tail_lines: Some(1), ..LogOptions::default() };
        let mut log = open(&run, &options);
        assert_eq!(log.next_chunk().await.unwrap().unwrap(), "b\n");
        let (next, ()) = tokio::join!(log.next_chunk(), async { run.log.append(Stdout, b"c\n", at(2)) });
        assert_eq!(next.unwrap().unwrap(), "c\n");
        run.log.append(Stdout, b"no newline", at(3));
        run.end();
        assert_eq!(all(log).await, "no newline");
    }

    #[tokio::test]
    async fn the_byte_limit_is_exact_and_counts_timestamps() {
        let run = written(1 << 20, &["hello\n", "world\n"]);
        let options = LogOptions { limit_bytes: Some(8), ..LogOptions::default() };
        assert_eq!(all(open(&run, &options)).await, "hello\nwo");
        let options = LogOptions { limit_bytes: Some(33), timestamps: true, ..LogOptions::default() };
        assert_eq!(all(open(&run, &options)).await, "1970-01-01T00:00:01.000000000Z he");
        let options = LogOptions { limit_bytes: Some(0), follow: true, ..LogOptions::default() };
        assert_eq!(all(open(&run, &options)).await, "");
    }

    #[tokio::test]
    async fn a_follower_that_lags_is_told_how_much_it_missed() {
        let run = written(4096, &["first\n"]);
        let mut log = open(&run, &LogOptions { follow: true, ..LogOptions::default() });
        assert_eq!(log.next_chunk().await.unwrap().unwrap(), "first\n");
        let mut total = 0;
        for number in 0..1000 {
            let line = format!("line {number}\n");
            total += line.len();
            run.log.append(Stdout, line.as_bytes(), at(2));
        }
        run.end();
        let text = all(log).await;
        let (notice, rest) = text.split_once('\n').unwrap();
        let missing = format!("[wsstream: {} bytes of this log are missing here: ", total - rest.len());
        assert!(notice.starts_with(&missing), "{notice}");
        assert!(rest.ends_with("line 998\nline 999\n"));
    }

    #[tokio::test]
    async fn large_logs_come_in_bounded_chunks() {
        let line = "x".repeat(99) + "\n";
        let lines = vec![line.as_str(); 10_000];
        let run = written(1 << 22, &lines);
        let mut log = open(&run, &LogOptions::default());
        let mut total = 0;
        while let Some(chunk) = log.next_chunk().await.unwrap() {
            assert!(chunk.len() <= CHUNK + 100);
            total += chunk.len();
        }
        assert_eq!(total, 1_000_000);
    }
}
