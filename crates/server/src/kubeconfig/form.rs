//! Telling a kubeconfig that we wrote from somebody else's, which must never be replaced.
//!
//! This is no YAML parser. It knows the block form that we write and that kubectl writes when it edits the file, and
//! takes every line it does not know for somebody else's. The comment in the first line is no mark: kubectl drops it.

/// The one name of everything in a kubeconfig of ours.
const NAME: &str = "wsstream";

/// Empty, or exactly one cluster, one user and one context, all of our name, and nothing besides.
pub(super) fn is_ours(text: &str) -> bool {
    text.trim().is_empty() || Form::default().read(text).is_some_and(|form| form.is_whole())
}

/// A list at the top level, and how many entries and names of ours it has had.
#[derive(Debug, Clone, Copy, Default)]
struct List {
    keys: u32,
    entries: u32,
    names: u32,
}

impl List {
    fn is_one_of_ours(self) -> bool {
        (self.keys, self.entries, self.names) == (1, 1, 1)
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Form {
    clusters: List,
    users: List,
    contexts: List,
    /// The list that an indented line belongs to.
    current: Option<Kind>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Clusters,
    Users,
    Contexts,
}

impl Form {
    /// `None` at the first line that neither we nor kubectl would have written here.
    fn read(mut self, text: &str) -> Option<Self> {
        for line in text.lines() {
            if !line.starts_with('#') {
                self.line(line)?;
            }
        }
        Some(self)
    }

    fn is_whole(&self) -> bool {
        [self.clusters, self.users, self.contexts].into_iter().all(List::is_one_of_ours)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        // An entry's own fields, at any depth: addresses, keys and tokens are as they may be.
        if let Some(field) = line.strip_prefix("    ") {
            return self.field(field);
        }
        if let Some(key) = line.strip_prefix("- ") {
            self.list()?.entries += 1;
            return self.entry(key);
        }
        if let Some(key) = line.strip_prefix("  ") {
            return self.entry(key);
        }
        self.current = None;
        let kind = match line {
            "apiVersion: v1" | "kind: Config" | "preferences: {}" | "current-context: wsstream" => {
                return Some(());
            }
            "clusters:" => Kind::Clusters,
            "users:" => Kind::Users,
            "contexts:" => Kind::Contexts,
            _ => return None,
        };
        self.current = Some(kind);
        self.list()?.keys += 1;
        Some(())
    }

    fn list(&mut self) -> Option<&mut List> {
        Some(match self.current? {
            Kind::Clusters => &mut self.clusters,
            Kind::Users => &mut self.users,
            Kind::Contexts => &mut self.contexts,
        })
    }

    /// A key of an entry: its name, or what it holds.
    fn entry(&mut self, key: &str) -> Option<()> {
        if key.strip_prefix("name: ") == Some(NAME) {
            self.list()?.names += 1;
            return Some(());
        }
        matches!(
            (self.current?, key),
            (Kind::Clusters, "cluster:") | (Kind::Users, "user:" | "user: {}") | (Kind::Contexts, "context:")
        )
        .then_some(())
    }

    /// The context must join our cluster and our user.
    fn field(&mut self, field: &str) -> Option<()> {
        let foreign = match self.current? {
            Kind::Contexts => ["cluster: ", "user: "]
                .into_iter()
                .any(|key| field.strip_prefix(key).is_some_and(|name| name != NAME)),
            Kind::Clusters | Kind::Users => false,
        };
        (!foreign).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_ours;
    use crate::kubeconfig::Kubeconfig;

    fn rendered() -> String {
        let example = Kubeconfig {
            server: "https://127.0.0.1:7443",
            tls_server_name: Some("localhost"),
            certificate_authority_pem: Some("PEM"),
            token: Some("se\"cret\nclusters:"),
            namespace: "default",
        };
        example.render()
    }

    /// `kubectl config set-context --current --namespace=lab` has rewritten it: sorted, without quotes and comment.
    const REWRITTEN: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: UEVN\n    \
        server: https://127.0.0.1:7443\n  name: wsstream\ncontexts:\n- context:\n    cluster: wsstream\n    \
        namespace: lab\n    user: wsstream\n  name: wsstream\ncurrent-context: wsstream\nkind: Config\n\
        preferences: {}\nusers:\n- name: wsstream\n  user:\n    token: secret\n";

    #[test]
    fn what_we_write_is_ours_also_after_kubectl() {
        assert!(is_ours(&rendered()), "{}", rendered());
        let bare = Kubeconfig {
            server: "http://127.0.0.1:1",
            tls_server_name: None,
            certificate_authority_pem: None,
            token: None,
            namespace: "a",
        };
        let bare = bare.render();
        assert!(is_ours(&bare), "{bare}");
        assert!(is_ours(REWRITTEN), "{REWRITTEN}");
        assert!(is_ours(&REWRITTEN.replace("user:\n    token: secret", "user: {}")));
        assert!(is_ours("") && is_ours(" \n"));
    }

    #[test]
    fn a_foreign_cluster_with_our_name_in_a_path_is_foreign() {
        let prod = "apiVersion: v1\nkind: Config\ncurrent-context: prod\nclusters:\n- name: prod\n  cluster:\n    \
            certificate-authority: /home/me/wsstream/ca.pem\n    server: https://prod\nusers:\n- name: me\n  user:\n    \
            token: x\ncontexts:\n- name: prod\n  context:\n    cluster: prod\n    user: me\n";
        assert!(!is_ours(prod));
    }

    #[test]
    fn json_is_foreign_whatever_it_names() {
        let two = r#"{"clusters":[{"name":"a","cluster":{"server":"https://a"}},{"name":"b","cluster":{"server":
            "https://b"}}],"users":[{"name":"wsstream-dev","user":{"token":"x"}}]}"#;
        assert!(!is_ours(two));
        assert!(!is_ours(r#"{"clusters":[{"name":"wsstream"}]}"#));
    }

    #[test]
    fn one_of_anything_else_makes_it_foreign() {
        let with = |from: &str, to: &str| {
            let text = REWRITTEN.replacen(from, to, 1);
            assert_ne!(text, REWRITTEN, "{from}");
            text
        };
        for text in [
            // Somebody added theirs to ours, or used ours as a form for theirs.
            with("contexts:\n", "- cluster:\n    server: https://prod\n  name: prod\ncontexts:\n"),
            with("users:\n", "users:\n- name: me\n  user:\n    token: x\n"),
            with("current-context: wsstream", "current-context: prod"),
            with("current-context: wsstream", "current-context: wsstream-dev"),
            with("- name: wsstream\n  user", "- name: wsstream-dev\n  user"),
            with("    cluster: wsstream\n", "    cluster: prod\n"),
            with("    user: wsstream\n", "    user: wsstream-dev\n"),
            with("kind: Config", "kind: Secret"),
            with("preferences: {}\n", "preferences: {}\nextensions: []\n"),
            // Not whole, or twice.
            with("users:\n- name: wsstream\n  user:\n    token: secret\n", ""),
            with("users:\n", "users:\n- name: wsstream\n  user: {}\n"),
            format!("{REWRITTEN}---\n{REWRITTEN}"),
            format!("{REWRITTEN}{REWRITTEN}"),
            // Other ways to write YAML, and no YAML.
            with("clusters:\n- cluster:\n", "clusters:\n  - cluster:\n"),
            "clusters: [{name: wsstream, cluster: {server: a}}]\n".to_owned(),
            "wsstream".to_owned(),
            "# Written by `wsstream serve`\n".to_owned(),
        ] {
            assert!(!is_ours(&text), "{text}");
        }
    }
}
