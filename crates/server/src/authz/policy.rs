//! A policy file: rules that allow. What no rule allows is refused, so a rule that was forgotten fails closed, and there
//! is no order to get wrong.

use super::{Attributes, Authorizer, Forbidden};
use crate::reload::{Reloading, Stale, line_of, read_text};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;
use toml::Spanned;

/// A million bytes are thousands of rules.
const FILE_BYTES: u64 = 1 << 20;

/// Allows what the rules of a file allow, and reads the file again when it changes.
///
/// The file is TOML:
///
/// ```toml
/// [[rule]]
/// groups = ["ops"]
/// verbs = ["*"]
/// resources = ["*"]
///
/// [[rule]]                       # may look, also at logs, and run nothing
/// users = ["ann", "unix:ben"]
/// read_only = true
/// namespaces = ["default"]
///
/// [[rule]]
/// users = ["ann"]
/// verbs = ["create"]
/// resources = ["pods/exec"]
/// pods = ["web", "batch-*"]
/// containers = ["shell"]
///
/// [[rule]]                       # what the server counts
/// users = ["prometheus"]
/// verbs = ["get"]
/// resources = ["/metrics"]
/// ```
///
/// `users` and `groups` say whom a rule is for (one of the two must name them), `verbs` and `resources` what it allows;
/// `read_only = true` stands for `get`, `list` and `watch` of everything. `namespaces`, `pods` and `containers` narrow
/// it; left out they mean any. A `*` at the end of a word stands for any rest. A rule that narrows to pods does not
/// allow to list them all, one that narrows to containers does not allow port-forward, which has none. `/metrics` is no
/// resource, as in Kubernetes: a rule has to name it, `*` and `read_only` do not mean it.
#[derive(Debug)]
pub struct Policy {
    rules: Reloading<Rules>,
}

impl Policy {
    /// Reads the file for the first time. One that is broken or gone later on changes nothing, and is named in the log.
    ///
    /// # Errors
    /// When it cannot be read or is not as described above. The text names the line.
    pub fn read_file(path: &Path) -> Result<Self, PolicyError> {
        let file = path.to_owned();
        Ok(Self { rules: Reloading::start("policy", vec![file.clone()], move || Rules::read(&file))? })
    }

    pub(crate) fn stale(&self) -> Stale {
        self.rules.stale()
    }
}

impl Authorizer for Policy {
    fn authorize<'a>(&'a self, asked: Attributes<'a>) -> BoxFuture<'a, Result<(), Forbidden>> {
        let allowed = self.rules.current().allow(&asked);
        Box::pin(std::future::ready(if allowed { Ok(()) } else { Err(Forbidden::default()) }))
    }

    fn version(&self) -> u64 {
        self.rules.version()
    }
}

#[derive(Debug)]
struct Rules(Vec<Rule>);

/// Empty lists allow nothing, but for the last three: there they mean any.
#[derive(Debug)]
struct Rule {
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    pods: Vec<String>,
    containers: Vec<String>,
}

const VERBS: [&str; 5] = ["get", "list", "watch", "create", "*"];
const RESOURCES: [&str; 9] = [
    "namespaces",
    "pods",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/log",
    "pods/*",
    "*",
    "/metrics",
];

/// Whether a word of a rule means `name`. An empty name is no name: only `*` means it, too.
fn means(word: &str, name: &str) -> bool {
    match word.strip_suffix('*') {
        Some("") => true,
        Some(start) => name.starts_with(start),
        None => word == name && !name.is_empty(),
    }
}

fn any(words: &[String], name: &str) -> bool {
    words.iter().any(|word| means(word, name))
}

impl Rule {
    fn allows(&self, asked: &Attributes<'_>, resource: &str) -> bool {
        let user = asked.user;
        let narrows = |words: &[String], name: &str| words.is_empty() || any(words, name);
        // The names of namespaces are not those of pods.
        let pod = if asked.resource == "pods" { asked.name } else { "" };
        (any(&self.users, &user.user) || user.groups.iter().any(|group| any(&self.groups, group)))
            && any(&self.verbs, asked.verb)
            && self.resources.iter().any(|word| match resource.starts_with('/') {
                // A path is no resource, whatever stars say.
                true => word == resource,
                false => means(word, resource),
            })
            && narrows(&self.namespaces, asked.namespace)
            && narrows(&self.pods, pod)
            && narrows(&self.containers, asked.container)
    }
}

impl Rules {
    fn allow(&self, asked: &Attributes<'_>) -> bool {
        let resource = asked.full_resource();
        self.0.iter().any(|rule| rule.allows(asked, &resource))
    }

    fn read(path: &Path) -> Result<Self, PolicyError> {
        let fail = |fault| PolicyError { path: path.to_owned(), fault };
        let text = read_text(path, FILE_BYTES).map_err(|error| fail(PolicyFault::Read(error)))?;
        Self::parse(&text).map_err(|(at, message)| fail(PolicyFault::Line(line_of(&text, at), message)))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let raw: RawFile = toml::from_str(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        raw.rule.into_iter().map(RawRule::check).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    users: Option<Spanned<Vec<String>>>,
    groups: Option<Spanned<Vec<String>>>,
    verbs: Option<Spanned<Vec<String>>>,
    resources: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    read_only: bool,
    namespaces: Option<Spanned<Vec<String>>>,
    pods: Option<Spanned<Vec<String>>>,
    containers: Option<Spanned<Vec<String>>>,
}

impl RawRule {
    /// What would mean nothing, or something else than it seems to, is an error.
    fn check(rule: Spanned<Self>) -> Result<Rule, (usize, String)> {
        let at = rule.span().start;
        let raw = rule.into_inner();
        if raw.users.is_none() && raw.groups.is_none() {
            return Err((at, "the rule is for nobody: give users or groups (\"*\" is everybody)".to_owned()));
        }
        let (verbs, resources) = match (raw.read_only, raw.verbs, raw.resources) {
            (true, None, None) => {
                (["get", "list", "watch"].map(str::to_owned).to_vec(), vec!["*".to_owned()])
            }
            (true, ..) => return Err((at, "read_only stands in place of verbs and resources".to_owned())),
            (false, Some(verbs), Some(resources)) => {
                (words("verbs", Some(verbs), &VERBS)?, words("resources", Some(resources), &RESOURCES)?)
            }
            (false, ..) => {
                return Err((
                    at,
                    "the rule allows nothing: give verbs and resources, or read_only = true".to_owned(),
                ));
            }
        };
        Ok(Rule {
            users: words("users", raw.users, &[])?,
            groups: words("groups", raw.groups, &[])?,
            verbs,
            resources,
            namespaces: words("namespaces", raw.namespaces, &[])?,
            pods: words("pods", raw.pods, &[])?,
            containers: words("containers", raw.containers, &[])?,
        })
    }
}

/// A list that is there has something in it: an empty one could be meant as none or as all.
fn words(
    key: &str,
    typed: Option<Spanned<Vec<String>>>,
    known: &[&str],
) -> Result<Vec<String>, (usize, String)> {
    let Some(typed) = typed else { return Ok(Vec::new()) };
    let at = typed.span().start;
    let words = typed.into_inner();
    if words.is_empty() {
        return Err((at, format!("{key} is empty: leave it out, or write \"*\"")));
    }
    for word in &words {
        let star = word.find('*').is_some_and(|found| found + 1 < word.len());
        if word.is_empty() || star {
            return Err((at, format!("{key}: {word:?} is not a name; a `*` stands at its end")));
        }
        if !known.is_empty() && !known.contains(&word.as_str()) {
            return Err((at, format!("{key}: {word:?} is none of {}", known.join(", "))));
        }
    }
    Ok(words)
}

/// A policy that cannot be used. The text names the file and the line.
#[derive(Debug, Error)]
#[error("policy {path}: {fault}", path = path.display())]
pub struct PolicyError {
    path: PathBuf,
    fault: PolicyFault,
}

#[derive(Debug, Error)]
enum PolicyFault {
    #[error("{0}")]
    Read(io::Error),
    #[error("line {0}: {1}")]
    Line(usize, String),
}

#[cfg(test)]
mod tests;
