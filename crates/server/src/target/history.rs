//! The log of one run of a process: its last lines, within a bound in bytes, and readers that may lag behind.
//!
//! Writing never waits for a reader. A reader that follows and falls so far behind that lines it has not seen were
//! evicted gets a line that says how many bytes are missing; nothing is skipped in silence.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

/// A line is kept whole up to this length; longer ones are kept in pieces. It is containerd's
/// `max_container_log_line_size`, and bounds what is held back while a line is incomplete.
pub(crate) const LINE_MAX: usize = 16 * 1024;

/// Which output of the process a line came from. A terminal has only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

/// A bounded log with one writer per stream and any number of readers.
#[derive(Debug)]
pub(crate) struct History {
    kept: Mutex<Kept>,
    /// How many lines there have been, and whether more may come.
    progress: watch::Sender<Progress>,
}

/// What readers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of the next line.
    pub(crate) next: u64,
    /// The run has ended.
    pub(crate) closed: bool,
}

/// A line, or a piece of a long one, in `Kept::text`.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// When it was complete.
    time: Timestamp,
    /// Offset of its first byte since the run began.
    offset: u64,
    length: usize,
    /// False for the later pieces of a long line: they get no timestamp.
    starts: bool,
}

/// The start of a line whose end has not come yet.
#[derive(Debug, Default)]
struct Incomplete {
    text: Vec<u8>,
    /// A piece of this line has been kept already.
    continues: bool,
}

#[derive(Debug)]
struct Kept {
    text: VecDeque<u8>,
    lines: VecDeque<Line>,
    /// The number of the first line kept.
    first: u64,
    /// The offset behind the last byte kept.
    end: u64,
    /// In bytes of text and of bookkeeping: many empty lines are not free.
    limit: usize,
    stdout: Incomplete,
    stderr: Incomplete,
}

impl Kept {
    fn incomplete(&mut self, stream: OutputStream) -> &mut Incomplete {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn used(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Line>()
    }

    fn keep(&mut self, text: &[u8], starts: bool, time: Timestamp) {
        let cost = text.len() + size_of::<Line>();
        while self.used() + cost > self.limit {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.text.drain(..oldest.length.min(self.text.len()));
            self.first += 1;
        }
        self.text.extend(text);
        self.lines.push_back(Line { time, offset: self.end, length: text.len(), starts });
        self.end += text.len() as u64;
    }

    fn append(&mut self, stream: OutputStream, data: &[u8], time: Timestamp) {
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = part;
            while !rest.is_empty() {
                let held = std::mem::take(self.incomplete(stream));
                let room = LINE_MAX.saturating_sub(held.text.len());
                let (piece, behind) = rest.split_at(room.min(rest.len()));
                rest = behind;
                let complete = piece.ends_with(b"\n");
                let mut text = held.text;
                text.extend_from_slice(piece);
                if complete || text.len() >= LINE_MAX {
                    self.keep(&text, !held.continues, time);
                    // The buffer goes on to the next line: one allocation per stream, not per line.
                    text.clear();
                    *self.incomplete(stream) = Incomplete { text, continues: !complete };
                } else {
                    *self.incomplete(stream) = Incomplete { text, continues: held.continues };
                }
            }
        }
    }

    fn flush(&mut self, stream: OutputStream, time: Timestamp) {
        let held = std::mem::take(self.incomplete(stream));
        if !held.text.is_empty() {
            self.keep(&held.text, !held.continues, time);
        }
    }

    fn next(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    /// The lines from `number` on with their texts, each in the two halves of the ring.
    fn from(&self, number: u64) -> impl Iterator<Item = (&Line, [&[u8]; 2])> {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let start = self.end - self.text.len() as u64;
        self.lines.range(skip.min(self.lines.len())..).map(move |line| {
            let from = usize::try_from(line.offset - start).unwrap_or(usize::MAX);
            (line, self.slice(from, line.length))
        })
    }

    fn slice(&self, from: usize, length: usize) -> [&[u8]; 2] {
        let (a, b) = self.text.as_slices();
        let to = from.saturating_add(length);
        let in_a = a.get(from.min(a.len())..to.min(a.len())).unwrap_or_default();
        let in_b = b.get(from.saturating_sub(a.len())..to.saturating_sub(a.len())).unwrap_or_default();
        [in_a, in_b]
    }
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the next line to read.
    pub(crate) line: u64,
    /// Its offset.
    offset: u64,
}

impl History {
    /// An empty log that keeps about `limit` bytes: at least the newest line whatever its length.
    pub(crate) fn new(limit: usize) -> Self {
        let kept = Kept {
            text: VecDeque::new(),
            lines: VecDeque::new(),
            first: 0,
            end: 0,
            limit,
            stdout: Incomplete::default(),
            stderr: Incomplete::default(),
        };
        Self { kept: Mutex::new(kept), progress: watch::Sender::new(Progress { next: 0, closed: false }) }
    }

    /// Adds output as it came. A line becomes part of the log when it is complete, long, or the last one.
    pub(crate) fn append(&self, stream: OutputStream, data: &[u8], time: Timestamp) {
        let next = {
            let mut kept = self.kept();
            kept.append(stream, data, time);
            kept.next()
        };
        self.progress.send_if_modified(|progress| {
            let grown = next > progress.next;
            progress.next = progress.next.max(next);
            grown
        });
    }

    /// Ends the log.
    pub(crate) fn close(&self, time: Timestamp) {
        let next = {
            let mut kept = self.kept();
            kept.flush(OutputStream::Stdout, time);
            kept.flush(OutputStream::Stderr, time);
            kept.next()
        };
        self.progress.send_replace(Progress { next, closed: true });
    }

    /// How far the log is, and its changes.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Where a reader begins who wants these many lines from the end, none of them older than `since`.
    pub(crate) fn position(&self, tail: Option<u64>, since: Option<Timestamp>) -> Position {
        let kept = self.kept();
        let skipped = match tail {
            None => 0,
            Some(0) => kept.lines.len(),
            Some(tail) => {
                let starts = kept.lines.iter().enumerate().rev().filter(|(_, line)| line.starts);
                let nth = usize::try_from(tail - 1).unwrap_or(usize::MAX);
                starts.map(|(index, _)| index).nth(nth).unwrap_or(0)
            }
        };
        let recent =
            kept.lines.range(skipped..).position(|line| since.is_none_or(|since| line.time >= since));
        let index = recent.map_or(kept.lines.len(), |recent| skipped + recent);
        let offset = kept.lines.get(index).map_or(kept.end, |line| line.offset);
        Position { line: kept.first + index as u64, offset }
    }

    /// Appends lines from `position` up to the line `end` to `into`, at most about `room` bytes of them and at least
    /// one, and moves the position behind them. Returns how many bytes were evicted before they could be read.
    pub(crate) fn read(
        &self,
        position: &mut Position,
        end: u64,
        room: usize,
        into: &mut Vec<u8>,
        timestamps: bool,
    ) -> Missed {
        use std::io::Write as _;
        let kept = self.kept();
        let mut missed = 0;
        if position.line < kept.first {
            let offset = kept.lines.front().map_or(kept.end, |line| line.offset);
            missed = offset - position.offset;
            *position = Position { line: kept.first, offset };
        }
        for (line, text) in kept.from(position.line) {
            if position.line >= end || into.len() >= room {
                break;
            }
            if timestamps && line.starts {
                // Nine digits always, as the kubelet writes them. A Vec takes every write.
                write!(into, "{:.9} ", line.time).ok();
            }
            text.iter().for_each(|half| into.extend_from_slice(half));
            *position = Position { line: position.line + 1, offset: line.offset + line.length as u64 };
        }
        Missed(missed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of text that a reader has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Missed(pub(crate) u64);

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn all(history: &History, mut position: Position, timestamps: bool) -> (String, u64) {
        let mut text = Vec::new();
        let end = history.progress().borrow().next;
        let missed = history.read(&mut position, end, usize::MAX, &mut text, timestamps);
        (String::from_utf8(text).unwrap(), missed.0)
    }

    fn from_start(history: &History) -> String {
        all(history, history.position(None, None), false).0
    }

    #[test]
    fn lines_are_whole_even_when_the_streams_interleave() {
        let history = History::new(1 << 20);
        history.append(Stdout, b"out ", at(1));
        history.append(Stderr, b"err\n", at(2));
        assert_eq!(from_start(&history), "err\n");
        history.append(Stdout, b"put\nlast", at(3));
        history.close(at(4));
        let (text, _) = all(&history, history.position(None, None), true);
        let expected = "1970-01-01T00:00:02.000000000Z err\n\
                        1970-01-01T00:00:03.000000000Z out put\n\
                        1970-01-01T00:00:04.000000000Z last";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_line_is_kept_in_pieces_and_stamped_once() {
        let history = History::new(1 << 20);
        let long = "x".repeat(2 * LINE_MAX + 10) + "\ny\n";
        for chunk in long.as_bytes().chunks(1000) {
            history.append(Stdout, chunk, at(1));
        }
        assert_eq!(history.progress().borrow().next, 4);
        assert_eq!(from_start(&history), long);
        let (text, _) = all(&history, history.position(None, None), true);
        assert_eq!(text.matches("1970").count(), 2);
        let (text, _) = all(&history, history.position(Some(2), None), false);
        assert_eq!(text, long, "the tail counts lines, not pieces");
    }

    #[test]
    fn the_tail_and_the_time_both_limit() {
        let history = History::new(1 << 20);
        for second in 1..=5 {
            history.append(Stdout, format!("{second}\n").as_bytes(), at(second));
        }
        let read = |tail, since: Option<i64>| all(&history, history.position(tail, since.map(at)), false).0;
        assert_eq!(read(Some(2), None), "4\n5\n");
        assert_eq!(read(Some(0), None), "");
        assert_eq!(read(Some(100), None), "1\n2\n3\n4\n5\n");
        assert_eq!(read(None, Some(4)), "4\n5\n");
        assert_eq!(read(Some(1), Some(2)), "5\n");
        assert_eq!(read(Some(4), Some(5)), "5\n");
        assert_eq!(read(None, Some(6)), "");
    }

    #[test]
    fn the_bound_holds_and_a_reader_learns_what_it_missed() {
        let limit = 64 * 1024;
        let history = History::new(limit);
        let start = history.position(None, None);
        let mut written = 0;
        for number in 0..10_000 {
            let line = format!("line {number}\n");
            history.append(Stdout, line.as_bytes(), at(number));
            written += line.len() as u64;
        }
        assert!(history.kept().used() <= limit);
        let (text, missed) = all(&history, start, false);
        assert_eq!(missed + text.len() as u64, written);
        assert!(missed > 0 && text.ends_with("line 9998\nline 9999\n"));
        assert!(text.starts_with("line "));
        assert_eq!(
            all(&history, history.position(None, None), false).1,
            0,
            "a new reader has missed nothing"
        );
    }

    #[test]
    fn empty_lines_are_bounded_too() {
        let history = History::new(10_000);
        history.append(Stdout, &[b'\n'; 100_000], at(1));
        assert!(history.kept().lines.len() <= 10_000 / size_of::<Line>());
    }
}
