//! Whether something could be written, without writing it: what `--check-config` asks of places that the server writes to.

use rustix::fs::{Access, access};
use std::{fs, io, path::Path};

/// Whether files can be made in a directory that is there.
pub(crate) fn writable(directory: &Path) -> io::Result<()> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The same where the directory and those above it are made when they are missing.
pub(crate) fn writable_or_missing(directory: &Path) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let missing =
        |path: &&Path| fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    writable(directory.ancestors().find(|path| !missing(path)).unwrap_or(Path::new("/")))
}

/// The directory that a file is in.
pub(crate) fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_fine_and_a_file_in_its_place_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (file, new) = (folder.path().join("file"), folder.path().join("new/deep"));
        fs::write(&file, "").unwrap();
        writable(folder.path()).unwrap();
        writable_or_missing(&new).unwrap();
        assert_eq!(writable(&new).unwrap_err().kind(), io::ErrorKind::NotFound);
        for place in [&file, &file.join("below")] {
            assert_eq!(writable_or_missing(place).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        }
        assert!(!new.exists());
    }
}
