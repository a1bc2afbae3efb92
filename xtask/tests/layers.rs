//! The rules of `cargo xtask layers`, as part of `cargo test --workspace`.

use xtask::{layers, workspace::Workspace};

#[test]
fn crates_keep_to_their_layer() {
    let workspace = Workspace::find().unwrap();
    assert_eq!(layers::crate_faults(&workspace).unwrap(), Vec::<String>::new());
}

#[test]
fn modules_keep_to_their_layer() {
    let workspace = Workspace::find().unwrap();
    assert_eq!(layers::module_faults(&workspace.root).unwrap(), Vec::<String>::new());
}
