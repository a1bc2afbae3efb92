//! What rules allow, and above all what they do not.

use super::*;
use crate::auth::Identity;

const POLICY: &str = r#"
[[rule]]
groups = ["ops"]
verbs = ["*"]
resources = ["*"]

[[rule]]
users = ["ann", "unix:*"]
read_only = true
namespaces = ["default"]

[[rule]]
users = ["ann"]
verbs = ["create"]
resources = ["pods/exec"]
pods = ["web", "batch-*"]
containers = ["shell"]

[[rule]]
users = ["ben"]
verbs = ["list", "get"]
resources = ["pods"]
pods = ["web"]
"#;

/// `verb resource namespace name container`, `-` for empty.
fn ask(user: &Identity, line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let [verb, resource, namespace, name, container] = words[..] else { panic!("{line}") };
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    // The attributes are ours to spell: leaking a few words is how a test gets them.
    let fixed = |word: &str| -> &'static str { Box::leak(word.to_owned().into_boxed_str()) };
    let (verb, resource, subresource) = (fixed(verb), fixed(resource), fixed(subresource));
    Rules::parse(POLICY).unwrap().allow(&Attributes {
        user,
        verb,
        resource,
        subresource,
        namespace,
        name,
        container,
    })
}

#[test]
fn only_what_a_rule_allows_is_allowed() {
    let (ann, ben) = (Identity::new("ann"), Identity::new("ben"));
    let ops = Identity::new("eve").groups(["dev", "ops"]);
    let root = Identity::new("unix:root");
    for (user, line, allowed) in [
        (&ops, "create pods/portforward prod db -", true),
        (&ops, "list namespaces - - -", true),
        (&ann, "get pods default web -", true),
        (&ann, "get pods/log default web shell", true),
        (&ann, "watch pods default - -", true),
        (&ann, "get namespaces default default -", true),
        (&ann, "get pods prod web -", false),
        (&ann, "list pods - - -", false),
        (&ann, "create pods/exec default web shell", true),
        (&ann, "create pods/exec prod batch-7 shell", true),
        (&ann, "create pods/exec default batch- shell", true),
        (&ann, "create pods/exec default web app", false),
        (&ann, "create pods/exec default web -", false),
        (&ann, "create pods/exec default batch shell", false),
        (&ann, "create pods/exec default webb shell", false),
        (&ann, "create pods/attach default web shell", false),
        (&ann, "create pods/portforward default web -", false),
        (&root, "list pods default - -", true),
        (&root, "create pods/exec default web shell", false),
        (&ben, "get pods default web -", true),
        (&ben, "list pods default web -", true),
        (&ben, "list pods default - -", false),
        (&ben, "get pods/log default web -", false),
        (&ben, "get namespaces web web -", false),
        (&Identity::new("ops"), "get pods default web -", false),
        (&Identity::new(""), "get pods default web -", false),
        (&Identity::new("*"), "get pods default web -", false),
        (&Identity::new("Ann"), "get pods default web -", false),
    ] {
        assert_eq!(ask(user, line), allowed, "{user:?} {line}");
    }
    let nothing = Rules::parse("").unwrap();
    let (verb, resource) = ("get", "pods");
    let asked =
        Attributes { user: &ops, verb, resource, subresource: "", namespace: "", name: "", container: "" };
    assert!(!nothing.allow(&asked), "no rules allow nothing");
}

#[test]
fn what_would_be_misread_is_refused_with_its_line() {
    for (text, line, part) in [
        ("[[rule]]\nverbs = ['*']\nresources = ['*']", 1, "for nobody"),
        ("[[rule]]\nusers = ['a']", 1, "allows nothing"),
        ("[[rule]]\nusers = ['a']\nverbs = ['get']", 1, "allows nothing"),
        ("[[rule]]\nusers = ['a']\nread_only = true\nverbs = ['create']", 1, "in place of"),
        ("[[rule]]\nusers = []\nread_only = true", 2, "users is empty"),
        ("[[rule]]\nusers = ['a']\nread_only = true\npods = []", 4, "pods is empty"),
        ("[[rule]]\nusers = ['a*b']\nread_only = true", 2, "stands at its end"),
        ("[[rule]]\nusers = ['']\nread_only = true", 2, "not a name"),
        ("[[rule]]\nusers = ['a']\nverbs = ['exec']\nresources = ['pods']", 3, "none of get, list"),
        (
            "[[rule]]\nusers = ['a']\nverbs = ['get']\nresources = ['pods/portForward']",
            4,
            "none of namespaces",
        ),
        ("[[rule]]\nuser = ['a']", 2, "unknown field"),
    ] {
        let (at, message) = Rules::parse(text).unwrap_err();
        assert_eq!(line_of(text, at), line, "{text}: {message}");
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn the_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, POLICY).unwrap();
    let policy = Policy::read_file(&path).unwrap();
    let policy = Policy { rules: policy.rules.always() };
    let ann = Identity::new("ann");
    let asked = Attributes {
        user: &ann,
        verb: "list",
        resource: "pods",
        subresource: "",
        namespace: "default",
        name: "",
        container: "",
    };
    assert_eq!(policy.authorize(asked).await, Ok(()));
    std::fs::write(&path, "[[rule").unwrap();
    assert_eq!(policy.authorize(asked).await, Ok(()), "a broken file changes nothing");
    std::fs::write(&path, "").unwrap();
    assert_eq!(policy.authorize(asked).await, Err(Forbidden::default()));
}

/// As Kubernetes' `nonResourceURLs`: a role that may do everything with resources may not read what the server counts.
#[test]
fn metrics_are_for_whom_a_rule_names_them() {
    let rules = |text: &str| Rules::parse(text).unwrap();
    let may = |text: &str, verb| {
        let (user, empty) = (&Identity::new("ann"), "");
        rules(text).allow(&Attributes {
            user,
            verb,
            resource: "/metrics",
            subresource: empty,
            namespace: empty,
            name: empty,
            container: empty,
        })
    };
    let named = "[[rule]]\nusers = ['ann']\nverbs = ['get']\nresources = ['pods', '/metrics']\n";
    assert!(may(named, "get") && !may(named, "list"));
    assert!(may(&named.replace("get", "*"), "get"));
    for other in [
        "[[rule]]\nusers = ['*']\nverbs = ['*']\nresources = ['*']\n".to_owned(),
        "[[rule]]\nusers = ['*']\nread_only = true\n".to_owned(),
        named.replace("ann", "ben"),
        format!("{named}namespaces = ['default']\n"),
        format!("{named}pods = ['web']\n"),
    ] {
        assert!(!may(&other, "get"), "{other}");
    }
    assert!(Rules::parse(&named.replace("/metrics", "/metrics/x")).is_err());
}
