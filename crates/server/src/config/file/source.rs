//! The text of a configuration file and its name. What is wrong in it is told by line, because that is what has to be
//! changed.

use crate::{config::ConfigError, reload::line_of};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};
use toml::Spanned;

/// Text and its name: turns places in it into lines.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) path: &'a Path,
}

impl Source<'_> {
    pub(super) fn error(&self, at: Range<usize>, message: impl Into<String>) -> ConfigError {
        let line = line_of(self.text, at.start);
        ConfigError::File { path: self.path.to_owned(), line, message: message.into() }
    }

    /// Reads a setting that is there; what is wrong with it is told with its name and line.
    pub(super) fn set<T>(
        &self,
        name: &str,
        typed: Option<Spanned<String>>,
        read: impl FnOnce(&str) -> Result<T, String>,
        to: &mut T,
    ) -> Result<(), ConfigError> {
        if let Some(typed) = typed {
            let span = typed.span();
            *to = read(typed.get_ref()).map_err(|fault| self.error(span, format!("{name}: {fault}")))?;
        }
        Ok(())
    }

    /// Relative to the file, so that it means the same wherever the server is started.
    pub(super) fn resolve(&self, path: PathBuf) -> PathBuf {
        self.path.parent().map_or(path.clone(), |directory| directory.join(path))
    }
}
