//! What a server's refusal says to the person, in the words kubectl uses for the same answer.

use crate::failure::Failure;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

/// `Error from server (NotFound): pods "x" not found`.
pub(crate) fn line(reason: &str, message: &str) -> String {
    let message = if message.is_empty() { "the server gave no reason" } else { message.trim_end() };
    if reason.is_empty() {
        format!("Error from server: {message}")
    } else {
        format!("Error from server ({reason}): {message}")
    }
}

/// The failure for an HTTP answer that is not what was asked for. `body` may be cut; it is read as a `Status`
/// if it is one, otherwise quoted.
pub(crate) fn refusal(code: StatusCode, body: &Bytes, asked: &Asked<'_>) -> Failure {
    let failure = match parse(body) {
        Some((reason, message)) => Failure::refused(line(&reason, &message)),
        None => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            let code_text = code.canonical_reason().unwrap_or_default();
            let text = if text.is_empty() { code_text } else { text };
            Failure::refused(format!("Error from server: {} {code_text}: {text}", code.as_u16()))
        }
    };
    match code {
        StatusCode::UNAUTHORIZED => failure.next(format!(
            "{} has no credentials that this server accepts; `wsstream serve` makes a new token at each start",
            asked.source
        )),
        StatusCode::NOT_FOUND => {
            failure.next(format!("kubectl get pods -n {} shows what there is", asked.namespace))
        }
        _ => failure,
    }
}

/// What was asked, for the hints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Where the credentials came from, e.g. `context "x" of /path`.
    pub(crate) source: &'a str,
    /// The namespace of the request.
    pub(crate) namespace: &'a str,
}

/// Reason and message of a `Status` object.
fn parse(body: &[u8]) -> Option<(String, String)> {
    let status: Value = serde_json::from_slice(body).ok()?;
    if status.get("kind")?.as_str()? != "Status" {
        return None;
    }
    let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((text("reason"), text("message")))
}

#[cfg(test)]
mod tests {
    use super::{Asked, refusal};
    use crate::exit::Exit;
    use bytes::Bytes;
    use http::StatusCode;

    const ASKED: Asked<'_> = Asked { source: "context \"a\" of /k", namespace: "default" };

    #[test]
    fn a_status_reads_like_kubectl() {
        let body = Bytes::from_static(
            br#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"x\" not found","reason":"NotFound","code":404}"#,
        );
        let failure = refusal(StatusCode::NOT_FOUND, &body, &ASKED);
        assert_eq!(failure.exit(), Exit::Refused);
        let text = failure.to_string();
        assert_eq!(text.lines().next().unwrap(), r#"Error from server (NotFound): pods "x" not found"#);
        assert!(text.contains("kubectl get pods -n default"));
    }

    #[test]
    fn other_bodies_are_quoted() {
        let failure = refusal(StatusCode::BAD_GATEWAY, &Bytes::from_static(b"upstream is down\n"), &ASKED);
        assert_eq!(failure.to_string(), "Error from server: 502 Bad Gateway: upstream is down");
        let failure = refusal(StatusCode::FORBIDDEN, &Bytes::new(), &ASKED);
        assert_eq!(failure.to_string(), "Error from server: 403 Forbidden: Forbidden");
        let failure = refusal(StatusCode::UNAUTHORIZED, &Bytes::from_static(b"{}"), &ASKED);
        assert!(failure.to_string().contains("context \"a\" of /k has no credentials"));
    }
}
