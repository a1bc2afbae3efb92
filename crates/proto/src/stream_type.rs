//! The headers of a SPDY stream, which say what it carries.
//!
//! Go spells them `streamType`, `port` and `requestID`; on the wire header names are lower case (SPDY/3.1 section 2.6.10).

use std::fmt;

/// The header that names a stream's [`StreamType`].
pub const STREAM_TYPE: &str = "streamtype";

/// What a stream of remote command or port-forward carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamType {
    /// The status of a command, or why a connection could not be forwarded.
    Error,
    /// A command's input.
    Stdin,
    /// A command's output.
    Stdout,
    /// A command's error output.
    Stderr,
    /// Terminal sizes.
    Resize,
    /// The bytes of a forwarded connection.
    Data,
}

impl StreamType {
    /// Every type.
    pub const ALL: [Self; 6] =
        [Self::Error, Self::Stdin, Self::Stdout, Self::Stderr, Self::Resize, Self::Data];

    /// The value on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Resize => "resize",
            Self::Data => "data",
        }
    }

    /// The type of this exact name.
    #[must_use]
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }
}

impl fmt::Display for StreamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_exactly() {
        for kind in StreamType::ALL {
            assert_eq!(StreamType::by_name(kind.name().as_bytes()), Some(kind));
        }
        for other in ["", "Error", "stdin ", "foo"] {
            assert_eq!(StreamType::by_name(other.as_bytes()), None);
        }
    }
}
