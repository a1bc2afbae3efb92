//! Who may import whom. The rules stand in two tables, each row with its reason; the check reads the
//! dependency graph from cargo and the module paths from the sources.
//!
//! It runs as `cargo xtask layers` and, so that nobody has to remember it, as a test of `cargo test --workspace`.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, rust_files},
};

/// What the shipped dependency tree of a crate may not contain.
struct CrateRule {
    /// The arguments that select the tree: the package, and the features where the rule is about them.
    tree: &'static [&'static str],
    /// Package names; a trailing `*` stands for any rest.
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const CRATES: &[CrateRule] = &[
    CrateRule {
        tree: &["-p", "wsstream-proto", "--all-features"],
        forbidden: &[
            "tokio*",
            "mio",
            "hyper*",
            "http*",
            "futures*",
            "tracing*",
            "log",
            "async-*",
            "rand",
            "socket2",
            "wsstream*",
        ],
        reason: "proto is sans-IO: no runtime, socket, clock, log or randomness, so that it runs in a browser and under a fuzzer",
    },
    CrateRule {
        tree: &["-p", "wsstream", "--no-default-features"],
        forbidden: &[
            "hyper*",
            "axum*",
            "tower*",
            "rustls*",
            "tokio-rustls",
            "ring",
            "clap*",
            "kube*",
            "k8s-openapi",
        ],
        reason: "the connection API over a stream one already has costs neither an HTTP stack nor TLS",
    },
    CrateRule {
        tree: &["-p", "wsstream"],
        forbidden: &[
            "axum*",
            "rustls*",
            "tokio-rustls",
            "ring",
            "clap*",
            "kube*",
            "k8s-openapi",
            "tokio-websockets",
            "*tungstenite",
        ],
        reason: "axum is a feature, TLS is the caller's, and the WebSocket engine is ours",
    },
    CrateRule {
        tree: &["-p", "wsstream", "--all-features"],
        forbidden: &["proptest", "wsstream-testing", "wsstream-server", "wsstream-cli", "pty-process"],
        reason: "the library moves bytes: it knows no processes and ships no test code",
    },
    CrateRule {
        tree: &["-p", "wsstream-server", "--all-features"],
        forbidden: &[
            "clap*",
            "kube*",
            "k8s-openapi",
            "proptest",
            "wsstream-testing",
            "wsstream-cli",
            "openssl*",
            "aws-lc*",
            "native-tls",
        ],
        reason: "the server is embeddable: arguments and kubeconfigs are the program's, TLS is rustls with ring, tests stay at home",
    },
    CrateRule {
        tree: &["-p", "wsstream-cli", "--all-features"],
        forbidden: &["proptest", "wsstream-testing", "openssl", "openssl-sys", "aws-lc*", "native-tls"],
        reason: "nobody ships test code, and one TLS stack is enough",
    },
];

/// What the sources of a place may not name.
struct ModuleRule {
    name: &'static str,
    /// Whether the rule speaks of the file, given its path from the root with `/`.
    applies: fn(&str) -> bool,
    /// Paths (or, for wire constants, text); matched where no identifier character stands beside them.
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const MODULES: &[ModuleRule] = &[
    ModuleRule {
        name: "one place knows the engine",
        applies: |path| {
            path.starts_with("crates/")
                && path.contains("/src/")
                && !path.starts_with("crates/testing/")
                && !in_engine(path)
        },
        forbidden: ENGINE,
        reason: "only proto's `ws` and the state machines above it know how a frame is cut, so that the engine can be replaced and fuzzed in one place; the close codes are everybody's",
    },
    ModuleRule {
        name: "spdy stands alone",
        applies: |path| path.starts_with("crates/proto/src/spdy/"),
        forbidden: &["crate", "wsstream_proto"],
        reason: "sessions and frames know nothing of Kubernetes, so that they can be fuzzed, and lifted out, by themselves",
    },
    ModuleRule {
        name: "connection is below remotecommand",
        // Not every folder with a `spdy` in it: remote commands have files of that name, which are above.
        applies: |path| {
            ["connection", "spdy"].iter().any(|name| {
                let rest = path.strip_prefix("crates/wsstream/src/").and_then(|path| path.strip_prefix(name));
                rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            })
        },
        forbidden: &["remotecommand", "portforward"],
        reason: "a connection carries channels or streams and does not know what for",
    },
    ModuleRule {
        name: "a tunnel carries bytes",
        applies: |path| path == "crates/wsstream/src/tunnel.rs" || path == "crates/proto/src/tunnel.rs",
        forbidden: &["spdy", "remotecommand", "portforward"],
        reason: "what runs through a tunnel does not notice it, and the tunnel does not look at what runs through it",
    },
    ModuleRule {
        name: "server never imports client",
        applies: |path| path.starts_with("crates/wsstream/src/") && in_module(path, "server"),
        forbidden: &["client"],
        reason: "the roles meet on the wire only; either is a feature that the other must not need",
    },
    ModuleRule {
        name: "client never imports server",
        applies: |path| path.starts_with("crates/wsstream/src/") && in_module(path, "client"),
        forbidden: &["server"],
        reason: "the roles meet on the wire only; either is a feature that the other must not need",
    },
    ModuleRule {
        name: "the server crate has no client",
        applies: |path| path.starts_with("crates/server/src/"),
        forbidden: &["wsstream::client", "remotecommand::client"],
        reason: "what serves does not connect",
    },
    ModuleRule {
        name: "wire constants live in proto",
        applies: |path| {
            path.starts_with("crates/")
                && path.contains("/src/")
                && !path.starts_with("crates/proto/")
                && !path.starts_with("crates/testing/")
        },
        forbidden: &["channel.k8s.io", "binary.k8s.io", "portforward.k8s.io", "SPDY/3.1"],
        reason: "versions are rows of one table: a name written twice is a row that can be forgotten",
    },
];

/// The engine's own words.
const ENGINE: &[&str] = &[
    "Outbox",
    "Opcode",
    "ws::Decoder",
    "ws::Frame",
    "encode_header",
    "apply_mask",
    "tokio_websockets",
    "tungstenite",
];

fn in_engine(path: &str) -> bool {
    path.starts_with("crates/proto/src/ws/")
        || path == "crates/proto/src/connection.rs"
        || path.starts_with("crates/proto/src/connection/")
        || path == "crates/proto/src/tunnel.rs"
}

/// Whether a file is the module `name` of its crate or lies below it: `…/name.rs`, `…/name/…`.
fn in_module(path: &str, name: &str) -> bool {
    path.split('/').any(|part| part == name || part.strip_suffix(".rs") == Some(name))
}

/// `cargo xtask layers`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("layers: crates", || outcome(crate_faults(workspace)));
    totals.case("layers: modules", || outcome(module_faults(&workspace.root)));
}

fn outcome(faults: Result<Vec<String>>) -> Outcome {
    match faults {
        Ok(faults) => Outcome::from_faults(&faults),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// Every breach of the crate rules.
pub fn crate_faults(workspace: &Workspace) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for rule in CRATES {
        let mut args = vec!["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
        args.extend(rule.tree);
        let tree = capture(&mut workspace.cargo(&args))?;
        let mut lines = tree.lines().filter_map(|line| line.split_whitespace().next());
        let own = lines.next().unwrap_or_default();
        let names: BTreeSet<&str> = lines.filter(|name| *name != own).collect();
        for name in names {
            if rule.forbidden.iter().any(|pattern| matches(pattern, name)) {
                faults.push(format!("{} depends on {name}: {}", rule.tree.join(" "), rule.reason));
            }
        }
    }
    Ok(faults)
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (_, Some(prefix)) => name.starts_with(prefix),
        _ => pattern == name,
    }
}

/// Every breach of the module rules, and every rule that speaks of no file any more.
pub fn module_faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut spoken_of = vec![false; MODULES.len()];
    for file in rust_files(&root.join("crates")) {
        let path = file.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        for (rule, spoken) in MODULES.iter().zip(&mut spoken_of) {
            *spoken |= (rule.applies)(&path);
        }
        faults.extend(source_faults(&path, &std::fs::read_to_string(&file)?));
    }
    for (rule, spoken) in MODULES.iter().zip(spoken_of) {
        if !spoken {
            faults
                .push(format!("the rule \"{}\" matches no file: the module moved, move the rule", rule.name));
        }
    }
    Ok(faults)
}

/// The breaches in one file.
fn source_faults(path: &str, source: &str) -> Vec<String> {
    let rules: Vec<&ModuleRule> = MODULES.iter().filter(|rule| (rule.applies)(path)).collect();
    let mut faults = Vec::new();
    for (number, line) in shipped_lines(source) {
        for rule in &rules {
            for word in rule.forbidden.iter().filter(|word| names(line, word)) {
                faults.push(format!("{path}:{number}: names `{word}`: {} ({})", rule.reason, rule.name));
            }
        }
    }
    faults
}

/// The lines that ship: no comments, nothing from `#[cfg(test)]` on (test modules close their file here).
fn shipped_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]").map(|(index, line)| {
        (
            index + 1,
            line.split_once("//").map_or(line, |(code, rest)| {
                // A `//` inside a string follows the colon of a URL; a comment does not.
                if code.ends_with(':') && !rest.is_empty() { line } else { code }
            }),
        )
    })
}

/// Whether `word` stands in the line as a path of its own: `client` does not match `client_key`, and for a
/// module name it must be part of a path (`client::`, `::client`, `{client`), not a variable.
fn names(line: &str, word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_lowercase());
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + word.len()..).unwrap_or_default();
        let bounded = !before.ends_with(is_word) && !after.starts_with(is_word);
        let wire = word.contains('.') || word.contains('-');
        let in_path =
            after.starts_with("::") || before.ends_with("::") || line.trim_start().starts_with("use ");
        wire || (bounded && (!plain || in_path))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_import_outside_the_engine_is_a_fault() {
        let source = "use wsstream_proto::ws::{CloseCode, Outbox};\n";
        assert_eq!(source_faults("crates/wsstream/src/connection/driver.rs", source).len(), 1);
        assert_eq!(source_faults("crates/proto/src/status.rs", source).len(), 1);
        assert!(source_faults("crates/proto/src/connection.rs", source).is_empty());
        assert!(source_faults("crates/proto/src/ws/mod.rs", source).is_empty());
        assert!(
            source_faults("crates/wsstream/src/reader.rs", "use wsstream_proto::ws::CloseCode;").is_empty()
        );
    }

    #[test]
    fn a_connection_that_knows_remotecommand_is_a_fault() {
        let path = "crates/wsstream/src/connection.rs";
        assert_eq!(source_faults(path, "use crate::{limits, remotecommand};").len(), 1);
        assert_eq!(source_faults(path, "let x = crate::remotecommand::Streams::new();").len(), 1);
        assert!(source_faults(path, "/// Used by [`crate::remotecommand`].").is_empty());
        let core = "crates/wsstream/src/spdy/core/handles.rs";
        assert_eq!(source_faults(core, "use crate::portforward::Pair;").len(), 1);
        let above = "crates/wsstream/src/remotecommand/server/spdy.rs";
        assert!(source_faults(above, "use crate::remotecommand::Streams;").is_empty());
    }

    #[test]
    fn spdy_that_knows_the_rest_of_proto_is_a_fault() {
        let path = "crates/proto/src/spdy/session/input.rs";
        assert_eq!(source_faults(path, "use crate::channel::ChannelId;").len(), 1);
        assert!(
            source_faults(path, "use super::super::frame::{self, Kind};\npub(crate) fn x() {}").is_empty()
        );
        assert!(source_faults("crates/proto/src/portforward.rs", "use crate::spdy::Headers;").is_empty());
    }

    #[test]
    fn roles_do_not_import_each_other_but_may_use_the_word() {
        let server = "crates/wsstream/src/remotecommand/server.rs";
        assert_eq!(source_faults(server, "use super::client::Exec;").len(), 1);
        assert!(source_faults(server, "let client = peer; // client::x").is_empty());
        assert!(source_faults(server, "let client_gone = true;").is_empty());
        assert_eq!(
            source_faults("crates/wsstream/src/remotecommand/client/exec.rs", "use crate::server;").len(),
            1
        );
    }

    #[test]
    fn a_wire_constant_outside_proto_is_a_fault_unless_it_is_a_test_or_a_comment() {
        let path = "crates/cli/src/exec.rs";
        assert_eq!(source_faults(path, "const V5: &str = \"v5.channel.k8s.io\";").len(), 1);
        assert!(source_faults(path, "/// offers `v5.channel.k8s.io`").is_empty());
        assert!(
            source_faults(path, "#[cfg(test)]\nmod tests { const X: &str = \"v4.channel.k8s.io\"; }")
                .is_empty()
        );
        assert!(source_faults("crates/proto/src/subprotocol.rs", "\"v5.channel.k8s.io\"").is_empty());
    }

    #[test]
    fn a_url_is_not_a_comment() {
        assert_eq!(shipped_lines("let u = \"https://x/v4.channel.k8s.io\"; // no").count(), 1);
        assert_eq!(source_faults("crates/cli/src/a.rs", "let u = \"https://x/v4.channel.k8s.io\";").len(), 1);
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("tokio*", "tokio-util"));
        assert!(matches("*tungstenite", "tokio-tungstenite"));
        assert!(matches("mio", "mio"));
        assert!(!matches("mio", "miow"));
        assert!(!matches("tokio*", "mytokio"));
    }
}
