//! Terminal sizes as channel 4 carries them: a stream of JSON objects, cut into messages anywhere.
//!
//! Upstream decodes with a general JSON decoder and stops for the rest of the session at the first value it does
//! not like; the next message on the channel then blocks the connection. Here a bad value costs itself only, and
//! the decoder keeps no text: a few numbers of state, whatever is sent.

use std::fmt;

/// The size of a terminal in character cells, each 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl TerminalSize {
    /// `None` if either is 0, which is what a terminal says that does not know its size.
    #[must_use]
    pub const fn new(width: u16, height: u16) -> Option<Self> {
        if width == 0 || height == 0 { None } else { Some(Self { width, height }) }
    }

    /// The payload of one message on channel 4, as Go's encoder writes it: `{"Width":80,"Height":24}` and a newline.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        format!("{{\"Width\":{},\"Height\":{}}}\n", self.width, self.height).into_bytes()
    }
}

impl fmt::Display for TerminalSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How deep arrays and objects may nest in a value; a size needs one level.
const MAX_DEPTH: u32 = u64::BITS;
/// Of a key no more than this is kept: `height` is the longest that matters, in bytes.
const KEY: usize = "height".len();

/// Decodes the stream of sizes.
///
/// 1. [`push`](Self::push) the payload of each message on channel 4, in order.
/// 2. Take the sizes from the iterator it returns.
///
/// Keys match without regard to ASCII case; other keys are ignored with all they hold; the last of several equal
/// keys counts; `null` leaves a dimension as it was, as in Go. A value that is no size (another type, a dimension
/// missing, not a plain decimal or outside 1 to 65535) is dropped and counted.
///
/// # After malformed JSON
///
/// The value is given up at the first byte that cannot continue it. What follows is skipped up to the next `{`,
/// where a new value begins (that byte itself if it was the one that did not fit), or up to the end of the line.
/// One such run counts as one drop. An unterminated value can therefore take at most the one size behind it: two
/// sizes never follow each other inside a JSON value without a comma. Neither newlines nor message ends close a
/// value, because some clients send no newline and a size may be split over messages.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// One bit for each open container, the innermost lowest: object or array.
    containers: u64,
    depth: u32,
    key: [u8; KEY],
    /// Length of the current key in bytes, saturating above `KEY`.
    key_len: usize,
    /// What the value after the current key of the outermost object sets.
    target: Option<Dimension>,
    /// `u32::MAX`: not a plain decimal, or far too large.
    number: u32,
    /// 0: not seen, or not acceptable.
    width: u16,
    height: u16,
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
enum Dimension {
    Width,
    Height,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A new outermost value.
    Between,
    /// Anything: skipping to where a value may begin.
    Garbage,
    /// After `{`.
    KeyOrEnd,
    /// After `,` in an object.
    Key,
    Colon,
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After a value in a container: `,` or its end.
    Comma,
    Text(Text, Role),
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Literal(&'static [u8]),
}

/// Where in a string.
#[derive(Debug, Clone, Copy)]
enum Text {
    Plain,
    Escape,
    /// Digits still to come, and the code point so far.
    Hex(u8, u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Key,
    Value,
}

/// Which part of a number was last (RFC 8259 section 6).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::Zero),
            (Self::Minus | Self::Integer, b'0'..=b'9') => Some(Self::Integer),
            (Self::Zero | Self::Integer, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Some(Self::E),
            (Self::E, b'+' | b'-') => Some(Self::Sign),
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Some(Self::Exponent),
            _ => None,
        }
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::Exponent)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of the stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Between,
            containers: 0,
            depth: 0,
            key: [0; KEY],
            key_len: 0,
            target: None,
            number: 0,
            width: 0,
            height: 0,
            dropped: 0,
        }
    }

    /// Takes the next bytes of the stream; the iterator yields the sizes that are complete with them, in order.
    /// Where only the newest matters, that is `push(bytes).last()`. What is left when the iterator is dropped is
    /// still decoded, and its sizes are lost.
    #[must_use = "the sizes are in the iterator"]
    pub fn push<'a>(&'a mut self, bytes: &'a [u8]) -> Sizes<'a> {
        Sizes { decoder: self, bytes: bytes.iter() }
    }

    /// How many values, or runs of bytes that are none, have been dropped so far. A value that has not ended is
    /// not counted yet.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn step(&mut self, byte: u8) -> Option<TerminalSize> {
        if let State::Number(part) = self.state {
            match part.next(byte) {
                Some(next) => {
                    self.digit(next, byte);
                    return None;
                }
                // A number ends only where something else begins.
                None if part.may_end() => {
                    self.set(u16::try_from(self.number).unwrap_or(0));
                    self.end_of_value();
                }
                None => {
                    self.fail(byte);
                    return None;
                }
            }
        }
        match (self.state, byte) {
            (State::Text(at, role), _) => self.text(at, role, byte),
            (State::Literal(rest), _) => match rest.split_first() {
                Some((first, [])) if *first == byte => self.end_of_value(),
                Some((first, rest)) if *first == byte => self.state = State::Literal(rest),
                _ => self.fail(byte),
            },
            (State::Garbage, b'\n') => self.state = State::Between,
            (State::Garbage, b'{') => self.value(byte),
            (State::Garbage, _) | (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Between | State::Value, _) => self.value(byte),
            (State::KeyOrEnd | State::Key, b'"') => {
                self.key_len = 0;
                self.state = State::Text(Text::Plain, Role::Key);
            }
            (State::KeyOrEnd, b'}') => return self.close(),
            (State::Colon, b':') => self.state = State::Value,
            (State::ValueOrEnd, b']') => return self.close(),
            (State::ValueOrEnd, _) => self.value(byte),
            (State::Comma, b',') => self.state = if self.in_object() { State::Key } else { State::Value },
            (State::Comma, b'}') if self.in_object() => return self.close(),
            (State::Comma, b']') if !self.in_object() => return self.close(),
            _ => self.fail(byte),
        }
        None
    }

    /// Begins a value.
    fn value(&mut self, byte: u8) {
        if matches!(self.state, State::Between | State::Garbage) {
            *self = Self { dropped: self.dropped, ..Self::new() };
        }
        if byte != b'n' {
            self.set(0);
        }
        match byte {
            b'{' | b'[' if self.depth == MAX_DEPTH => self.fail(byte),
            b'{' => self.open(1, State::KeyOrEnd),
            b'[' => self.open(0, State::ValueOrEnd),
            b'"' => self.state = State::Text(Text::Plain, Role::Value),
            b'-' | b'0'..=b'9' => {
                self.number = 0;
                let part = match byte {
                    b'-' => Number::Minus,
                    b'0' => Number::Zero,
                    _ => Number::Integer,
                };
                self.digit(part, byte);
            }
            b't' => self.state = State::Literal(b"rue"),
            b'f' => self.state = State::Literal(b"alse"),
            b'n' => self.state = State::Literal(b"ull"),
            _ => self.fail(byte),
        }
    }

    fn open(&mut self, object: u64, state: State) {
        self.containers = self.containers << 1 | object;
        self.depth += 1;
        self.state = state;
    }

    fn in_object(&self) -> bool {
        self.containers & 1 == 1
    }

    /// Ends a container; the end of the outermost object may be a size.
    fn close(&mut self) -> Option<TerminalSize> {
        let size = TerminalSize::new(self.width, self.height).filter(|_| self.depth == 1 && self.in_object());
        self.containers >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if size.is_some() {
            self.state = State::Between;
        } else {
            self.end_of_value();
        }
        size
    }

    /// Ends a value that is no size.
    fn end_of_value(&mut self) {
        if self.depth == 0 {
            self.dropped = self.dropped.saturating_add(1);
            self.state = State::Between;
        } else {
            self.state = State::Comma;
        }
    }

    /// `byte` cannot continue the value.
    fn fail(&mut self, byte: u8) {
        self.dropped = self.dropped.saturating_add(1);
        self.state = match byte {
            b'\n' => State::Between,
            _ => State::Garbage,
        };
        if byte == b'{' {
            self.value(byte);
        }
    }

    /// Sets the dimension that the current key of the outermost object names, if it names one.
    fn set(&mut self, value: u16) {
        match self.target {
            Some(Dimension::Width) if self.depth == 1 => self.width = value,
            Some(Dimension::Height) if self.depth == 1 => self.height = value,
            _ => {}
        }
    }

    fn digit(&mut self, part: Number, byte: u8) {
        self.number = match part {
            Number::Zero | Number::Integer => {
                self.number.saturating_mul(10).saturating_add(u32::from(byte.wrapping_sub(b'0')))
            }
            // `-1`, `80.0` and `8e1` are no unsigned integers for Go either; this value saturates above.
            _ => u32::MAX,
        };
        self.state = State::Number(part);
    }

    fn text(&mut self, at: Text, role: Role, byte: u8) {
        let next = match (at, byte) {
            (Text::Plain, b'"') => return self.end_of_text(role),
            (Text::Plain, b'\\') => Text::Escape,
            // A bare control character ends no string, it breaks it: so an unterminated string ends with its line.
            (Text::Plain, 0..0x20) => return self.fail(byte),
            (Text::Plain, _) | (Text::Escape, b'"' | b'\\' | b'/') => {
                self.key_byte(byte);
                Text::Plain
            }
            (Text::Escape, b'b' | b'f' | b'n' | b'r' | b't') => {
                self.key_byte(0);
                Text::Plain
            }
            (Text::Escape, b'u') => Text::Hex(4, 0),
            (Text::Hex(left, code), _) => {
                let Some(digit) = char::from(byte).to_digit(16) else { return self.fail(byte) };
                let code = code << 4 | digit;
                if left > 1 {
                    Text::Hex(left - 1, code)
                } else {
                    self.key_byte(u8::try_from(code).unwrap_or(0));
                    Text::Plain
                }
            }
            (Text::Escape, _) => return self.fail(byte),
        };
        self.state = State::Text(next, role);
    }

    fn key_byte(&mut self, byte: u8) {
        if let Some(slot) = self.key.get_mut(self.key_len) {
            *slot = byte;
        }
        self.key_len = self.key_len.saturating_add(1);
    }

    fn end_of_text(&mut self, role: Role) {
        if role == Role::Value {
            return self.end_of_value();
        }
        if self.depth == 1 {
            self.target = match self.key.get(..self.key_len) {
                Some(key) if key.eq_ignore_ascii_case(b"width") => Some(Dimension::Width),
                Some(key) if key.eq_ignore_ascii_case(b"height") => Some(Dimension::Height),
                _ => None,
            };
        }
        self.state = State::Colon;
    }
}

/// The sizes in the bytes given to [`Decoder::push`], decoded as they are asked for.
#[derive(Debug)]
pub struct Sizes<'a> {
    decoder: &'a mut Decoder,
    bytes: std::slice::Iter<'a, u8>,
}

impl Iterator for Sizes<'_> {
    type Item = TerminalSize;

    fn next(&mut self) -> Option<TerminalSize> {
        self.bytes.by_ref().find_map(|byte| self.decoder.step(*byte))
    }
}

impl Drop for Sizes<'_> {
    fn drop(&mut self) {
        // The next message continues where this one ends, so nothing in between may be skipped.
        while self.next().is_some() {}
    }
}
