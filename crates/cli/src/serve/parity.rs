//! Every flag of `serve` is a key of the configuration file and the other way round: an operator who moves a flag into the
//! file types the same word.

use super::ServeArgs;
use clap::{Args as _, Command};
use std::collections::BTreeSet;
use wsstream_server::Config;

/// Flags that are no keys of `[server]`, and why.
const ONLY_FLAGS: &[(&str, &str)] = &[
    ("config", "names the file"),
    ("check-config", "is a question and no setting"),
    ("pod", "pods are tables, [[pod]]"),
    ("run", "pods are tables, [[pod]]"),
    ("run-stdin", "pods are tables, [[pod]]"),
    ("run-tty", "pods are tables, [[pod]]"),
    ("namespace", "is about the pods of the other flags; a table says its own"),
    ("forward", "names a pod; a table says it as `forward`"),
];

#[test]
fn every_flag_is_a_key_and_every_key_a_flag() {
    let command = ServeArgs::augment_args(Command::new("serve"));
    let flags: BTreeSet<String> =
        command.get_arguments().filter_map(|arg| arg.get_long()).map(|flag| flag.replace('-', "_")).collect();
    let excepted: BTreeSet<String> = ONLY_FLAGS.iter().map(|(flag, _)| flag.replace('-', "_")).collect();
    let keys: BTreeSet<String> = Config::server_keys().iter().map(|key| (*key).to_owned()).collect();
    assert!(keys.len() > 10, "{keys:?}");
    let expected: BTreeSet<String> = flags.difference(&excepted).cloned().collect();
    let missing: Vec<_> = expected.difference(&keys).collect();
    assert!(missing.is_empty(), "flags that the file does not know: {missing:?}");
    let more: Vec<_> = keys.difference(&expected).collect();
    assert!(more.is_empty(), "keys that are no flags: {more:?}");
    let gone: Vec<_> = excepted.difference(&flags).collect();
    assert!(gone.is_empty(), "exceptions that are no flags: {gone:?}");
}
