//! `kubectl cp`: tar through exec, in both directions.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use super::Kubectl;
use crate::{
    interop::{client::finish, files},
    payload::Payload,
};

pub(super) async fn file_up(kubectl: &Kubectl) -> Result<()> {
    one_file(kubectl, "up").await
}

pub(super) async fn file_down(kubectl: &Kubectl) -> Result<()> {
    one_file(kubectl, "down").await
}

async fn one_file(kubectl: &Kubectl, direction: &str) -> Result<()> {
    let big = kubectl.sizes().big;
    let (from, to) =
        (kubectl.scratch(&format!("big-{direction}")), kubectl.scratch(&format!("big-{direction}-copy")));
    files::write_big(&from, big)?;
    copy(kubectl, direction, &from, &to).await?;
    let got = files::digest(&to)?;
    // A gigabyte each: not left for the end of the run.
    fs::remove_file(&from)?;
    fs::remove_file(&to)?;
    if got != Payload::hash(big) {
        bail!("the copy of {big} bytes differs");
    }
    Ok(())
}

pub(super) async fn tree_up(kubectl: &Kubectl) -> Result<()> {
    tree(kubectl, "up").await
}

pub(super) async fn tree_down(kubectl: &Kubectl) -> Result<()> {
    tree(kubectl, "down").await
}

async fn tree(kubectl: &Kubectl, direction: &str) -> Result<()> {
    let (from, to) =
        (kubectl.scratch(&format!("tree-{direction}")), kubectl.scratch(&format!("tree-{direction}-copy")));
    files::write_tree(&from, kubectl.sizes().files)?;
    copy(kubectl, direction, &from, &to).await?;
    files::same_tree(&from, &to)?;
    fs::remove_dir_all(&from)?;
    fs::remove_dir_all(&to)?;
    Ok(())
}

async fn copy(kubectl: &Kubectl, direction: &str, from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    let (source, target) = match direction {
        "up" => (from.into_owned(), format!("host:{to}")),
        _ => (format!("host:{from}"), to.into_owned()),
    };
    let mut command = kubectl.command(&["cp", &source, &target]);
    finish(&mut command, b"", kubectl.sizes().limit).await?.code(0)?;
    Ok(())
}
