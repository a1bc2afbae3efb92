//! Where the admin socket is.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

/// The place of the admin socket. `FromStr` reads the words of flags and files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AdminPlace {
    /// Where the program puts it, if there is such a place; without it the server runs all the same.
    #[default]
    Default,
    /// There is none (`off`).
    Off,
    /// This file. The server does not start without it.
    At(PathBuf),
}

impl FromStr for AdminPlace {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "off" => Self::Off,
            path => Self::At(path.into()),
        })
    }
}
