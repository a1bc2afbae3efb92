//! Which ports of the pods can be forwarded: the flags, and where they go.

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use wsstream::portforward::{Route, server::Errors};
use wsstream_server::Config;
use wsstream_server::config::{ForwardPorts, parse_route};

/// What was typed. What was not typed stays as the configuration file or the default has it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Port-forward")]
pub(crate) struct ForwardArgs {
    /// The ports of this machine's loopback that port-forward reaches: `any`, `none`, or a list such as
    /// 80,8000-8099. For all pods, those of the file too [default: any]
    #[arg(long, value_name = "PORTS")]
    forward_ports: Option<ForwardPorts>,
    /// Lead port PORT of the pod NAME to a unix socket, unix:PATH, or to ADDRESS:PORT, whatever --forward-ports
    /// says. May be repeated
    #[arg(long, value_name = "NAME:PORT=TARGET", value_parser = parse_forward)]
    forward: Vec<ForwardFlag>,
    /// What a client is told of a connection that failed: `reset` ends that connection alone; `report` sends the
    /// cause as well, as Kubernetes does, at which kubectl ends with all its connections [default: reset]
    #[arg(long, value_name = "POLICY", value_enum, hide_possible_values = true)]
    port_forward_errors: Option<ErrorsArg>,
}

/// The words for [`Errors`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ErrorsArg {
    /// End that connection
    Reset,
    /// And say why
    Report,
}

/// `NAME:PORT=TARGET`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForwardFlag {
    pod: String,
    port: u16,
    route: Route,
}

fn parse_forward(typed: &str) -> Result<ForwardFlag, String> {
    let form = "write NAME:PORT=TARGET, for example web:2375=unix:/run/docker.sock";
    let (place, target) = typed.split_once('=').ok_or(form)?;
    let (pod, port) = place.split_once(':').ok_or(form)?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("the port in `{place}` must be 1 to 65535; {form}"))?;
    Ok(ForwardFlag { pod: pod.to_owned(), port, route: parse_route(target)? })
}

impl ForwardArgs {
    /// Puts what was typed over what the file said, when all pods are there.
    pub(crate) fn apply(self, config: &mut Config) -> Result<(), Failure> {
        if let Some(ports) = self.forward_ports {
            for pod in &mut config.pods {
                pod.forward.ports.clone_from(&ports);
            }
        }
        for ForwardFlag { pod: name, port, route } in self.forward {
            let mut named = config.pods.iter_mut().filter(|pod| pod.name == name).peekable();
            if named.peek().is_none() {
                return Err(Failure::usage(format!("--forward names the pod {name}, which is not served"))
                    .next(
                        "name a pod of --pod, --run or the configuration file; without these there is `host`",
                    ));
            }
            for pod in named {
                pod.forward.routes.insert(port, route.clone());
            }
        }
        config.forward_errors = match self.port_forward_errors {
            None => config.forward_errors,
            Some(ErrorsArg::Reset) => Errors::Reset,
            Some(ErrorsArg::Report) => Errors::Report,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ForwardArgs, parse_forward};
    use clap::{Args as _, Command, FromArgMatches as _};
    use wsstream::portforward::{Route, server::Errors};
    use wsstream_server::config::ForwardPorts;
    use wsstream_server::{Config, PodSpec};

    fn applied(typed: &str) -> Result<Config, String> {
        let command = ForwardArgs::augment_args(Command::new("serve").no_binary_name(true));
        let matches =
            command.try_get_matches_from(typed.split_whitespace()).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        config.pods = vec![PodSpec::host("host"), PodSpec::host("web")];
        let args = ForwardArgs::from_arg_matches(&matches).unwrap();
        args.apply(&mut config).map_err(|failure| failure.to_string())?;
        Ok(config)
    }

    #[test]
    fn flags_go_to_their_pods() {
        let config =
            applied("--forward-ports 80 --forward web:2375=unix:/run/x --port-forward-errors report")
                .unwrap();
        let only = ForwardPorts::Only([80].into());
        assert!(config.pods.iter().all(|pod| pod.forward.ports == only));
        assert!(config.pods[0].forward.routes.is_empty());
        assert_eq!(config.pods[1].forward.routes[&2375], Route::Unix("/run/x".into()));
        assert_eq!(config.forward_errors, Errors::Report);
        assert_eq!(applied("").unwrap().pods, [PodSpec::host("host"), PodSpec::host("web")]);
    }

    #[test]
    fn slips_are_named() {
        for (typed, part) in [
            ("--forward nope:80=unix:/x", "the pod nope"),
            ("--forward-ports 80,x", "\"x\" is not a port"),
            ("--forward web=unix:/x", "NAME:PORT=TARGET"),
            ("--forward web:0=unix:/x", "1 to 65535"),
            ("--forward web:80=db:5432", "unix:PATH"),
        ] {
            let error = applied(typed).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        parse_forward("web:80").unwrap_err();
    }
}
