//! Files and trees to copy, and the digest that says whether a copy is the same.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::payload::{Payload, hex};

/// Writes one file of that many bytes of the pattern.
pub(super) fn write_big(path: &Path, length: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut payload = Payload::new(length);
    while let Some(chunk) = payload.chunk() {
        file.write_all(chunk)?;
    }
    Ok(())
}

/// Writes a tree of small files, 0 to about 9 KB, with awkward names, twenty to a folder.
pub(super) fn write_tree(root: &Path, count: usize) -> Result<()> {
    for index in 0..count {
        let folder = root.join(format!("folder {}", index / 20)).join("deep");
        fs::create_dir_all(&folder)?;
        let name = match index % 3 {
            0 => format!("plain-{index}"),
            1 => format!("with space {index}.txt"),
            _ => format!("ünïcode-{index}"),
        };
        let line = format!("file {index}\n");
        fs::write(folder.join(name), line.repeat(index * 7 % 800))?;
    }
    Ok(())
}

/// SHA-256 of one file, read in pieces.
pub(super) fn digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

/// Every file below a folder with its digest.
pub(super) fn digests(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root)?.to_string_lossy().into_owned(), digest(&path)?);
            }
        }
    }
    Ok(found)
}

/// Fails unless both trees hold the same files with the same content.
pub(super) fn same_tree(want: &Path, got: &Path) -> Result<()> {
    let (want, got) = (digests(want)?, digests(got)?);
    if want == got {
        return Ok(());
    }
    let differs: Vec<&str> = want
        .iter()
        .filter(|(name, digest)| got.get(*name) != Some(digest))
        .map(|(name, _)| name.as_str())
        .collect();
    bail!(
        "{} files expected, {} came; missing or different: {} such as {:?}",
        want.len(),
        got.len(),
        differs.len(),
        differs.first()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_compared_by_name_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        write_tree(&a, 45).unwrap();
        write_tree(&b, 45).unwrap();
        same_tree(&a, &b).unwrap();
        assert_eq!(digests(&a).unwrap().len(), 45);
        fs::write(b.join("folder 1/deep/plain-21"), "x").unwrap();
        assert!(same_tree(&a, &b).unwrap_err().to_string().contains("plain-21"));
    }

    #[test]
    fn a_big_file_is_the_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        write_big(&path, 100_000).unwrap();
        assert_eq!(digest(&path).unwrap(), Payload::hash(100_000));
    }
}
