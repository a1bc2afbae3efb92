//! Which pods of a list or a watch the client wants: `labelSelector` and `fieldSelector`.

use super::{answer::Refusal, query::Query};
use crate::pod::PodSnapshot;

/// What to keep. All parts must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    namespace: Option<String>,
    labels: Vec<(String, Test)>,
    fields: Vec<(Field, Test)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// As upstream has it, a pod without the label passes.
    NotIn(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Node,
    Phase,
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => among(values),
            Self::NotIn(values) => !among(values),
        }
    }
}

impl Selector {
    /// Reads both selectors of a query.
    pub(crate) fn parse(namespace: Option<&str>, query: &Query<'_>) -> Result<Self, Refusal> {
        let labels = match query.text("labelSelector") {
            Some(text) => requirements(text)
                .map(|part| {
                    label(part).ok_or_else(|| Refusal::bad_request(unreadable("labelSelector", text, part)))
                })
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let fields = match query.text("fieldSelector") {
            Some(text) => requirements(text).map(|part| field(text, part)).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    /// The one name that can match, where there is one: a list of one pod is asked for as that pod.
    pub(crate) fn only_name(&self) -> Option<&str> {
        self.fields.iter().find_map(|(field, test)| match (field, test) {
            (Field::Name, Test::In(names)) => match names.as_slice() {
                [only] => Some(only.as_str()),
                _ => None,
            },
            _ => None,
        })
    }

    pub(crate) fn matches(&self, pod: &PodSnapshot) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace)
            && self.labels.iter().all(|(key, test)| test.holds(pod.labels.get(key).map(String::as_str)))
            && self.fields.iter().all(|(field, test)| {
                test.holds(Some(match field {
                    Field::Name => &pod.name,
                    Field::Namespace => &pod.namespace,
                    Field::Node => &pod.node,
                    Field::Phase => pod.phase.as_str(),
                }))
            })
    }
}

/// Splits at commas that are not inside parentheses; empty parts are dropped, as upstream does.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// `key`, `!key`, `key=value`, `key==value`, `key!=value`, `key in (a, b)`, `key notin (a, b)`.
fn label(part: &str) -> Option<(String, Test)> {
    let (key, test) = if let Some((key, value)) = part.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once('=') {
        (key, Test::In(vec![value.trim_start_matches('=').trim().to_owned()]))
    } else if let Some((head, list)) = part.split_once('(') {
        let values = list.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        match head.trim().rsplit_once(char::is_whitespace)? {
            (key, "in") => (key, Test::In(values)),
            (key, "notin") => (key, Test::NotIn(values)),
            _ => return None,
        }
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Test::Absent)
    } else {
        (part, Test::Exists)
    };
    let key = key.trim();
    let values: &[String] = match &test {
        Test::In(values) | Test::NotIn(values) => values,
        Test::Exists | Test::Absent => &[],
    };
    // Wrong syntax must not turn into a selector that matches nothing, or everything.
    let valid = !values.is_empty() || matches!(test, Test::Exists | Test::Absent);
    let valid = valid && values.iter().all(|value| crate::pod::name::check_pair(key, value).is_ok());
    (valid && crate::pod::name::check_pair(key, "").is_ok()).then(|| (key.to_owned(), test))
}

/// `field=value`, `field==value`, `field!=value`.
fn field(text: &str, part: &str) -> Result<(Field, Test), Refusal> {
    let (key, test) = if let Some((key, value)) = part.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once('=') {
        (key, Test::In(vec![value.trim_start_matches('=').trim().to_owned()]))
    } else {
        return Err(Refusal::bad_request(unreadable("fieldSelector", text, part)));
    };
    let field = match key.trim() {
        "metadata.name" => Field::Name,
        "metadata.namespace" => Field::Namespace,
        "spec.nodeName" => Field::Node,
        "status.phase" => Field::Phase,
        other => return Err(Refusal::bad_request(format!("field label not supported: {other}"))),
    };
    Ok((field, test))
}

fn unreadable(parameter: &str, text: &str, part: &str) -> String {
    format!(
        "unable to parse {parameter} {text:?}: found {part:?}, expected key=value, key!=value or the like"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Phase;
    use jiff::Timestamp;

    fn pod(name: &str, labels: &[(&str, &str)]) -> PodSnapshot {
        PodSnapshot {
            name: name.into(),
            namespace: "default".into(),
            uid: String::new(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            node: "n1".into(),
            created: Timestamp::UNIX_EPOCH,
            phase: Phase::Running,
            containers: Vec::new(),
            resource_version: 1,
        }
    }

    fn select(query: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let uri = format!("/x?{encoded}").parse().unwrap();
        let selector =
            Selector::parse(Some("default"), &Query::of(&uri)).map_err(|refusal| refusal.0.message)?;
        let web = pod("web", &[("app", "web"), ("tier", "front")]);
        let db = pod("db", &[("app", "db")]);
        let bare = pod("bare", &[]);
        let all = [("web", web), ("db", db), ("bare", bare)];
        Ok(all.iter().filter(|(_, pod)| selector.matches(pod)).map(|(name, _)| *name).collect())
    }

    #[test]
    fn labels_select() {
        for (selector, expected) in [
            ("", vec!["web", "db", "bare"]),
            ("app=web", vec!["web"]),
            ("app==web", vec!["web"]),
            ("app!=web", vec!["db", "bare"]),
            ("app", vec!["web", "db"]),
            ("!app", vec!["bare"]),
            ("app,!tier", vec!["db"]),
            ("app in (web, db),tier=front", vec!["web"]),
            ("app notin (web)", vec!["db", "bare"]),
            ("app=none", vec![]),
        ] {
            assert_eq!(select(&[("labelSelector", selector)]).unwrap(), expected, "{selector}");
        }
        for bad in ["=a", "app=a b", "app in web", "app near (web)", "app in ()x", "a b"] {
            let error = select(&[("labelSelector", bad)]).unwrap_err();
            assert!(error.contains("labelSelector"), "{bad}: {error}");
        }
    }

    #[test]
    fn fields_select() {
        for (selector, expected) in [
            ("metadata.name=web", vec!["web"]),
            ("metadata.name!=web,status.phase=Running", vec!["db", "bare"]),
            ("spec.nodeName=n2", vec![]),
            ("metadata.namespace=default", vec!["web", "db", "bare"]),
        ] {
            assert_eq!(select(&[("fieldSelector", selector)]).unwrap(), expected, "{selector}");
        }
        assert_eq!(
            select(&[("fieldSelector", "spec.x=1")]).unwrap_err(),
            "field label not supported: spec.x"
        );
        assert!(select(&[("fieldSelector", "metadata.name")]).unwrap_err().contains("fieldSelector"));
    }
}
