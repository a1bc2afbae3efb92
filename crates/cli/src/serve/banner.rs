//! What a person needs to know once the server serves: where it is, what it serves, and a line to paste.

use crate::words::quote;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use wsstream_server::{ContainerSpec, Kind, PodSpec};

/// What is printed. The token is not part of it: it is in the kubeconfig, which only the person can read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Banner<'a> {
    /// `https://127.0.0.1:7443`
    pub(crate) url: &'a str,
    /// Absolute; none where kubectl cannot connect.
    pub(crate) kubeconfig: Option<&'a Path>,
    /// Whether the kubeconfig holds a token.
    pub(crate) credential: bool,
    /// What is served.
    pub(crate) pods: &'a [PodSpec],
}

impl Banner<'_> {
    /// Prints it on standard output. A reader that has gone away is no reason to stop serving.
    pub(crate) fn print(self) {
        let _ = std::io::stdout().lock().write_all(self.text().as_bytes());
    }

    fn text(self) -> String {
        let mut text = format!("wsstream is serving {}\n", self.url);
        let namespace = self.namespace();
        // Writing to a String does not fail.
        for pod in self.pods {
            for container in &pod.containers {
                let place = match &pod.containers[..] {
                    [_] => pod.name.clone(),
                    _ => format!("{}/{}", pod.name, container.name),
                };
                let place =
                    if pod.namespace == namespace { place } else { format!("{place} -n {}", pod.namespace) };
                let _ = writeln!(text, "  pod {place}: {}", describe(container));
            }
        }
        if let Some(line) = self.line() {
            let _ = writeln!(text, "\n{line}");
            if !self.credential {
                let hint =
                    "(the kubeconfig holds no credential: put your token or certificate into its `user`)";
                let _ = writeln!(text, "{hint}");
            }
        }
        text
    }

    /// The namespace of the kubeconfig, for which kubectl needs no `-n`: the one of all pods, else `default`.
    fn namespace(&self) -> &str {
        match self.pods.split_first() {
            Some((first, rest)) if rest.iter().all(|pod| pod.namespace == first.namespace) => {
                &first.namespace
            }
            _ => "default",
        }
    }

    /// A kubectl line that works as pasted.
    fn line(self) -> Option<String> {
        let kubeconfig = self.kubeconfig?;
        let all =
            || self.pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
        let (pod, container) =
            all().find(|(_, container)| container.kind == Kind::Host).or_else(|| all().next())?;
        let mut line = format!("kubectl --kubeconfig {}", quote(&kubeconfig.to_string_lossy()));
        if pod.namespace != self.namespace() {
            let _ = write!(line, " -n {}", pod.namespace);
        }
        let place = match &pod.containers[..] {
            [_] => pod.name.clone(),
            _ => format!("{} -c {}", pod.name, container.name),
        };
        let _ = match container.kind {
            Kind::Host => write!(line, " exec -it {place} -- sh"),
            _ => write!(line, " logs -f {place}"),
        };
        Some(line)
    }
}

fn describe(container: &ContainerSpec) -> String {
    match container.kind {
        Kind::Host => "runs commands on this machine".to_owned(),
        _ => {
            let words: Vec<String> = container.command.iter().map(|word| quote(word)).collect();
            format!("{}{}", words.join(" "), if container.tty { " (on a terminal)" } else { "" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Banner;
    use crate::serve::pods::{Connected, from_flags, parse_host, parse_run};
    use std::path::Path;
    use wsstream_server::PodSpec;

    #[test]
    fn the_line_can_be_pasted() {
        let pods = from_flags(
            "default",
            vec![parse_host("web/shell").unwrap()],
            vec![(parse_run("web/app=./app 'a b'").unwrap(), Connected::Terminal)],
        )
        .unwrap();
        let banner = Banner {
            url: "https://127.0.0.1:7443",
            kubeconfig: Some(Path::new("/home/a b/k")),
            credential: true,
            pods: &pods,
        };
        assert_eq!(
            banner.text(),
            "wsstream is serving https://127.0.0.1:7443\n  \
             pod web/shell: runs commands on this machine\n  \
             pod web/app: ./app 'a b' (on a terminal)\n\n\
             kubectl --kubeconfig '/home/a b/k' exec -it web -c shell -- sh\n"
        );
        let mut pods =
            from_flags("lab", vec![], vec![(parse_run("web=./app").unwrap(), Connected::Output)]).unwrap();
        let line = Banner { kubeconfig: Some(Path::new("/k")), pods: &pods, ..banner }.line();
        assert_eq!(line.unwrap(), "kubectl --kubeconfig /k logs -f web");
        pods.push(PodSpec::host("host"));
        let banner = Banner { kubeconfig: Some(Path::new("/k")), pods: &pods[..], ..banner };
        assert_eq!(banner.line().unwrap(), "kubectl --kubeconfig /k exec -it host -- sh");
        assert!(banner.text().contains("pod web -n lab: ./app\n"));
    }
}
