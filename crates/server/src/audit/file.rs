//! The file of the record: one that only its owner writes to, never through a link, rotated by size.

use super::{AuditError, AuditOptions, AuditTo};
use crate::dry;
use rustix::fs::OFlags;
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use thiserror::Error;

/// What is wrong with it.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Io(io::Error),
    #[error("is not a regular file (links are not followed)")]
    NotAFile,
    #[error("belongs to user {0}, not to the one that the server runs as")]
    Owner(u32),
    #[error("others may write to it (mode {0:o}): chmod go-w")]
    Mode(u32),
    #[error("has several names (hard links), one of which may be somebody else's")]
    Links,
}

/// Where lines go.
pub(super) enum Out {
    Stdout,
    File(Log),
}

pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    keep: usize,
    /// When it was last seen that the path still names the file.
    looked: Instant,
    /// A line was cut in the middle and could not be taken back.
    cut: bool,
}

/// How often is looked whether somebody else has moved the file away.
const LOOK: Duration = Duration::from_secs(1);

impl Out {
    pub(super) fn open(to: &AuditTo, options: &AuditOptions) -> Result<Self, AuditError> {
        let path = match to {
            AuditTo::Stdout => return Ok(Self::Stdout),
            AuditTo::File(path) => path.clone(),
        };
        let (file, size) = open(&path).map_err(|fault| AuditError { path: path.clone(), fault })?;
        let (max_size, keep) = (options.max_size as u64, options.keep.max(1));
        Ok(Self::File(Log { path, file, size, max_size, keep, looked: Instant::now(), cut: false }))
    }

    /// Writes one line, whole or not at all.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line)?;
                stdout.flush()
            }
            Self::File(log) => log.write(line),
        }
    }

    /// What was written is on the disk.
    pub(super) fn sync(&self) {
        if let Self::File(log) = self {
            log.sync();
        }
    }
}

impl Log {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.look()?;
        }
        if self.size > 0 && self.size.saturating_add(line.len() as u64) > self.max_size {
            self.rotate()?;
        }
        if self.cut {
            self.file.write_all(b"\n")?;
            (self.cut, self.size) = (false, self.size + 1);
        }
        if let Err(error) = self.file.write_all(line) {
            // A disk that is full may have taken a part.
            self.cut = self.file.set_len(self.size).is_err();
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// Somebody else's rotation is as good as ours: what has been moved away or removed is begun anew.
    fn look(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let there = fs::symlink_metadata(&self.path);
        if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            self.sync();
            self.reopen()?;
        }
        self.looked = Instant::now();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.sync();
        for number in (1..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))?;
        self.reopen()
    }

    /// What is closed is on the disk. A disk that cannot is no reason to lose the lines that come: it is told, not returned.
    fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(path = %self.path.display(), %error, "the audit log cannot be synced to the disk");
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path).map_err(|fault| match fault {
            Fault::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        self.cut = false;
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> Result<(File, u64), Fault> {
    // Not blocking: a FIFO would hold up the start until somebody reads it.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(flags.cast_signed());
    let file = options.open(path).map_err(|error| {
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Fault::NotAFile,
            _ => Fault::Io(error),
        }
    })?;
    // Of what was opened, whatever the path names by now.
    let found = file.metadata().map_err(Fault::Io)?;
    verify(&found)?;
    crate::tls::warn_if_readable_by_others(path, "audit log");
    Ok((file, found.len()))
}

/// Whether it could be opened, without making it.
pub(super) fn check(path: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Ok(found) => verify(&found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Fault::Io(error)),
    }
    // Also where the file is there already: it is rotated.
    dry::writable(dry::directory_of(path)).map_err(Fault::Io)
}

fn verify(found: &fs::Metadata) -> Result<(), Fault> {
    if !found.is_file() {
        return Err(Fault::NotAFile);
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Fault::Owner(found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(Fault::Mode(found.mode() & 0o777));
    }
    if found.nlink() > 1 {
        return Err(Fault::Links);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn log(path: &Path, max_size: usize, keep: usize) -> Result<Out, String> {
        let options = AuditOptions { max_size, keep, ..AuditOptions::default() };
        Out::open(&AuditTo::File(path.to_owned()), &options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_rotated_before_it_grows_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let mut log = log(&path, 10, 2).unwrap();
        for line in
            ["one\n", "two\n", "three\n", "four\n", "five\n", "a line of its own, too long\n", "six\n"]
        {
            log.write(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            (read("audit").as_str(), read("audit.1").as_str()),
            ("six\n", "a line of its own, too long\n")
        );
        assert_eq!(read("audit.2"), "four\nfive\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let mut out = log(&path, 1000, 1).unwrap();
        out.write(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let Out::File(log) = &mut out else { panic!("no file") };
        log.looked = log.looked.checked_sub(LOOK).unwrap();
        out.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn links_and_files_of_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let refused = |what: &str| {
            let error = log(&path, 10, 1).err().unwrap_or_default();
            assert!(error.contains("audit log") && error.contains(what), "{error:?} for {what}");
        };
        let victim = folder.path().join("victim");
        fs::write(&victim, "").unwrap();
        symlink(&victim, &path).unwrap();
        refused("links are not followed");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        refused("hard links");
        fs::remove_file(&victim).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        refused("mode 620");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused("directory");
        fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        refused("not a regular file");
    }
}
