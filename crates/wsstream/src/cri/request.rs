//! What is asked for over gRPC, in plain types, so that nobody is bound to one gRPC library. The fields are those of the
//! messages of `runtime.v1`.

use wsstream_proto::portforward::check_ports;
use wsstream_proto::remotecommand::Request;

use super::Error;

/// `ExecRequest`: run a command in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container.
    pub container_id: String,
    /// The argument vector.
    pub cmd: Vec<String>,
    /// Run on a terminal.
    pub tty: bool,
    /// The client will send input.
    pub stdin: bool,
    /// The client wants the output.
    pub stdout: bool,
    /// The client wants the error output apart; not together with `tty`.
    pub stderr: bool,
}

/// `AttachRequest`: join a container's main process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container.
    pub container_id: String,
    /// The client will send input.
    pub stdin: bool,
    /// The process has a terminal.
    pub tty: bool,
    /// The client wants the output.
    pub stdout: bool,
    /// The client wants the error output apart; not together with `tty`.
    pub stderr: bool,
}

/// `PortForwardRequest`: reach ports of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortForwardRequest {
    /// The pod's sandbox.
    pub pod_sandbox_id: String,
    /// The ports for a client over WebSocket channels, which cannot name them itself; other clients do, and then these
    /// mean nothing. May be empty.
    pub port: Vec<i32>,
}

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Granted {
    Exec { container_id: String, request: Request },
    Attach { container_id: String, request: Request },
    PortForward { pod_sandbox_id: String, ports: Vec<u16> },
}

impl Granted {
    /// The part of the path before the token.
    pub(super) const fn route(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }
}

impl TryFrom<ExecRequest> for Granted {
    type Error = Error;

    fn try_from(asked: ExecRequest) -> Result<Self, Error> {
        let ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = asked;
        let request = Request::command(cmd).stdin(stdin).stdout(stdout).stderr(stderr).tty(tty);
        let request = checked(&container_id, request, "one of stdin, stdout, or stderr must be set")?;
        if request.command.is_empty() {
            return Err(Error::InvalidArgument("missing required cmd"));
        }
        if request.validate_exec().is_err() {
            return Err(Error::InvalidArgument("cmd contains a NUL byte"));
        }
        Ok(Self::Exec { container_id, request })
    }
}

impl TryFrom<AttachRequest> for Granted {
    type Error = Error;

    fn try_from(asked: AttachRequest) -> Result<Self, Error> {
        let AttachRequest { container_id, stdin, tty, stdout, stderr } = asked;
        let request = Request::default().stdin(stdin).stdout(stdout).stderr(stderr).tty(tty);
        let request = checked(&container_id, request, "one of stdin, stdout, and stderr must be set")?;
        Ok(Self::Attach { container_id, request })
    }
}

fn checked(container_id: &str, request: Request, no_streams: &'static str) -> Result<Request, Error> {
    if container_id.is_empty() {
        return Err(Error::InvalidArgument("missing required container_id"));
    }
    if request.tty && request.stderr {
        return Err(Error::InvalidArgument("tty and stderr cannot both be true"));
    }
    if !request.stdin && !request.stdout && !request.stderr {
        return Err(Error::InvalidArgument(no_streams));
    }
    Ok(request)
}

impl TryFrom<PortForwardRequest> for Granted {
    type Error = Error;

    fn try_from(asked: PortForwardRequest) -> Result<Self, Error> {
        let PortForwardRequest { pod_sandbox_id, port } = asked;
        if pod_sandbox_id.is_empty() {
            return Err(Error::InvalidArgument("missing required pod_sandbox_id"));
        }
        let ports: Option<Vec<u16>> = port.into_iter().map(|port| u16::try_from(port).ok()).collect();
        // None at all is fine here: only a client over channels needs them.
        let ports = ports.filter(|ports| ports.is_empty() || check_ports(ports).is_ok());
        let ports = ports.ok_or(Error::InvalidArgument("port must be 1 to 65535, and 40 ports at most"))?;
        Ok(Self::PortForward { pod_sandbox_id, ports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of upstream's validation.
    #[test]
    fn streams_and_terminals_that_go_together() {
        let texts =
            ["one of stdin, stdout, or stderr must be set", "one of stdin, stdout, and stderr must be set"];
        for bits in 0..16_u8 {
            let [tty, stdin, stdout, stderr] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let exec =
                ExecRequest { container_id: "c".into(), cmd: vec!["x".into()], tty, stdin, stdout, stderr };
            let attach = AttachRequest { container_id: "c".into(), tty, stdin, stdout, stderr };
            let results = [Granted::try_from(exec), Granted::try_from(attach)];
            for (result, none) in results.into_iter().zip(texts) {
                let expected = if tty && stderr {
                    Err("tty and stderr cannot both be true")
                } else if !stdin && !stdout && !stderr {
                    Err(none)
                } else {
                    Ok(())
                };
                let expected = expected.map_err(Error::InvalidArgument);
                assert_eq!(result.map(drop), expected, "{bits:04b}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let exec = ExecRequest { stdout: true, ..ExecRequest::default() };
        let named = ExecRequest { container_id: "c".into(), ..exec.clone() };
        let nul = ExecRequest { cmd: vec!["a\0b".into()], ..named.clone() };
        let forward =
            |id: &str, port: &[i32]| PortForwardRequest { pod_sandbox_id: id.into(), port: port.into() };
        let ports = "port must be 1 to 65535, and 40 ports at most";
        for (result, text) in [
            (Granted::try_from(exec), "missing required container_id"),
            (Granted::try_from(named), "missing required cmd"),
            (Granted::try_from(nul), "cmd contains a NUL byte"),
            (AttachRequest::default().try_into(), "missing required container_id"),
            (forward("", &[80]).try_into(), "missing required pod_sandbox_id"),
            (forward("p", &[0]).try_into(), ports),
            (forward("p", &[-1]).try_into(), ports),
            (forward("p", &[65_536]).try_into(), ports),
            (forward("p", &[1; 41]).try_into(), ports),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error, Error::InvalidArgument(text));
            assert_eq!(error.grpc_code(), 3);
        }
        assert!(Granted::try_from(forward("p", &[])).is_ok());
        assert!(Granted::try_from(forward("p", &[80, 65_535])).is_ok());
    }
}
