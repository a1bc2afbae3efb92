//! The pods named on the command line.

use crate::words;
use wsstream_server::{ContainerSpec, Kind, PodSpec};

/// `NAME` or `NAME/CONTAINER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFlag {
    pod: String,
    container: String,
}

/// `NAME=COMMAND` or `NAME/CONTAINER=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFlag {
    place: HostFlag,
    command: Vec<String>,
}

/// How the main process of a supervised container is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connected {
    /// Standard input is empty.
    Output,
    /// Standard input is a pipe that `attach -i` writes to.
    Stdin,
    /// A terminal, for `attach -it`.
    Terminal,
}

/// Value parser of `--pod`.
pub(crate) fn parse_host(typed: &str) -> Result<HostFlag, String> {
    let (pod, container) = typed.split_once('/').unwrap_or((typed, typed));
    for name in [pod, container] {
        check_name(name)?;
    }
    Ok(HostFlag { pod: pod.to_owned(), container: container.to_owned() })
}

/// Value parser of `--run` and the like.
pub(crate) fn parse_run(typed: &str) -> Result<RunFlag, String> {
    let (place, command) =
        typed.split_once('=').ok_or("write NAME=COMMAND, for example web=./app or 'web=./app --port 80'")?;
    let place = parse_host(place)?;
    let command = words::split(command)?;
    if command.is_empty() {
        return Err(format!("no command follows {}=", place.pod));
    }
    Ok(RunFlag { place, command })
}

/// A DNS-1123 label, as Kubernetes asks of names.
fn check_name(name: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if (1..=63).contains(&name.len())
        && name.chars().all(|c| inner(c) || c == '-')
        && name.starts_with(inner)
        && name.ends_with(inner)
    {
        Ok(())
    } else {
        Err(format!("`{name}` is not a name: use at most 63 of a-z, 0-9 and -, with - only inside"))
    }
}

impl HostFlag {
    fn add_to(self, pods: &mut Pods<'_>) -> Result<(), String> {
        let container = ContainerSpec::new(&self.container, Kind::Host);
        pods.add(self.pod, container)
    }
}

impl RunFlag {
    fn add_to(self, pods: &mut Pods<'_>, connected: Connected) -> Result<(), String> {
        let mut container = ContainerSpec::new(&self.place.container, Kind::Process);
        container.command = self.command;
        container.tty = connected == Connected::Terminal;
        container.stdin = connected != Connected::Output;
        pods.add(self.place.pod, container)
    }
}

/// The pods of the flags, in the order of `--pod`, `--run`, `--run-stdin`, `--run-tty`. Flags that name the same
/// pod give it several containers.
///
/// # Errors
/// Names a container that is there twice.
pub(crate) fn from_flags(
    namespace: &str,
    hosts: Vec<HostFlag>,
    runs: impl IntoIterator<Item = (RunFlag, Connected)>,
) -> Result<Vec<PodSpec>, String> {
    let mut pods = Pods { namespace, list: Vec::new() };
    for flag in hosts {
        flag.add_to(&mut pods)?;
    }
    for (flag, connected) in runs {
        flag.add_to(&mut pods, connected)?;
    }
    Ok(pods.list)
}

struct Pods<'a> {
    namespace: &'a str,
    list: Vec<PodSpec>,
}

impl Pods<'_> {
    fn add(&mut self, name: String, container: ContainerSpec) -> Result<(), String> {
        if let Some(pod) = self.list.iter_mut().find(|pod| pod.name == name) {
            if pod.containers.iter().any(|other| other.name == container.name) {
                return Err(format!(
                    "the pod {name} has two containers {}: write {name}/CONTAINER to give each a name",
                    container.name
                ));
            }
            pod.containers.push(container);
        } else {
            let mut pod = PodSpec::new(name);
            self.namespace.clone_into(&mut pod.namespace);
            pod.containers.push(container);
            self.list.push(pod);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Connected, from_flags, parse_host, parse_run};
    use wsstream_server::Kind;

    #[test]
    fn flags_become_pods() {
        let pods = from_flags(
            "lab",
            vec![parse_host("tools").unwrap(), parse_host("web/shell").unwrap()],
            vec![
                (parse_run("web/app=./app --name 'a b' x=y").unwrap(), Connected::Output),
                (parse_run("calc=bc").unwrap(), Connected::Terminal),
                (parse_run("sink=cat").unwrap(), Connected::Stdin),
            ],
        )
        .unwrap();
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["tools", "web", "calc", "sink"]);
        assert!(pods.iter().all(|pod| pod.namespace == "lab"));
        let web = &pods[1].containers;
        assert_eq!((web[0].name.as_str(), web[0].kind), ("shell", Kind::Host));
        assert_eq!((web[1].name.as_str(), web[1].kind), ("app", Kind::Process));
        assert_eq!(web[1].command, ["./app", "--name", "a b", "x=y"]);
        assert!(!web[1].tty && !web[1].stdin);
        assert!(pods[2].containers[0].tty && pods[2].containers[0].stdin);
        assert!(!pods[3].containers[0].tty && pods[3].containers[0].stdin);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (typed, part) in
            [("web", "NAME=COMMAND"), ("web=", "no command"), ("Web=x", "`Web`"), ("web='x", "not closed")]
        {
            let error = parse_run(typed).unwrap_err();
            assert!(error.contains(part), "{typed}: {error}");
        }
        for typed in ["", "/", "a/", "-a", "a-", "a_b", "a/b/c", &"x".repeat(64)] {
            parse_host(typed).expect_err(typed);
        }
        let twice = from_flags(
            "d",
            vec![parse_host("a").unwrap()],
            vec![(parse_run("a=b").unwrap(), Connected::Output)],
        );
        assert!(twice.unwrap_err().contains("a/CONTAINER"));
    }
}
