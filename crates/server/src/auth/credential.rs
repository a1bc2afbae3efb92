//! The token of a request, in either of its two forms, and the rule that there is only one.
//!
//! A browser cannot set a header on a WebSocket, so Kubernetes takes the token as an item of `Sec-WebSocket-Protocol` as
//! well. Everything behind authentication negotiates subprotocols and may log headers: the item is taken out before
//! anything else sees it, and becomes the header that an [`Authenticator`](super::Authenticator) knows.

use super::Denied;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
};
use std::borrow::Cow;
use wsstream::upgrade::is_websocket;

/// As upstream's apiserver reads it: behind it stands the token in base64url without padding.
const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Turns the browser's form into the header's, and marks the header as one that is never shown. To be called before an
/// authenticator is asked; [`forget`] afterwards.
///
/// # Errors
/// Two credentials, one that is not spelled as it should be, or one that is the only subprotocol (the answer would have to
/// choose it, and so repeat the token).
pub(crate) fn normalise(head: &mut Parts) -> Result<(), Denied> {
    if let Some(value) = take_subprotocol(&mut head.headers)? {
        // Two forms may name two callers.
        if head.headers.contains_key(AUTHORIZATION) {
            return Err(Denied::Several);
        }
        head.headers.insert(AUTHORIZATION, value);
    }
    for (_, value) in head.headers.iter_mut().filter(|(name, _)| *name == AUTHORIZATION) {
        value.set_sensitive(true);
    }
    Ok(())
}

/// Nothing behind authentication needs the token.
pub(crate) fn forget(head: &mut Parts) {
    head.headers.remove(AUTHORIZATION);
}

/// The token of a request that was normalised: the bytes behind `Bearer`. `None` without an `Authorization` header.
pub(crate) fn presented(head: &Parts) -> Result<Option<Cow<'_, [u8]>>, Denied> {
    let mut headers = head.headers.get_all(AUTHORIZATION).iter();
    let Some(header) = headers.next() else { return Ok(None) };
    // Two headers may name two callers: a proxy in front may have checked the other one.
    if headers.next().is_some() {
        return Err(Denied::Several);
    }
    let (scheme, token) = split_scheme(header.as_bytes()).ok_or(Denied::Malformed)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Denied::Malformed);
    }
    Ok(Some(Cow::Borrowed(token.trim_ascii())))
}

fn split_scheme(header: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = header.iter().position(|b| *b == b' ')?;
    Some((header.get(..at)?, header.get(at + 1..)?))
}

/// Takes the item out of all lines of the header. Only WebSocket requests have a use for it; elsewhere it is no
/// credential, and taken out all the same.
fn take_subprotocol(headers: &mut HeaderMap) -> Result<Option<HeaderValue>, Denied> {
    // The prefix is looked for in the raw bytes: a line that is not text hides nothing.
    let holds =
        |value: &HeaderValue| value.as_bytes().windows(PREFIX.len()).any(|part| part == PREFIX.as_bytes());
    if !headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(holds) {
        return Ok(None);
    }
    let mut tokens = Vec::new();
    let mut rest: Vec<String> = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let line = value.to_str().map_err(|_| Denied::Subprotocol)?;
        for item in line.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match item.strip_prefix(PREFIX) {
                Some(token) => tokens.push(token.to_owned()),
                None => rest.push(item.to_owned()),
            }
        }
    }
    let websocket = is_websocket(headers);
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if !websocket {
        return Ok(None);
    }
    let [token] = tokens.as_slice() else { return Err(Denied::Several) };
    if rest.is_empty() {
        return Err(Denied::Subprotocol);
    }
    let rest = HeaderValue::from_str(&rest.join(", ")).map_err(|_| Denied::Subprotocol)?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| Denied::Subprotocol)?;
    let header = [b"Bearer ", token.as_slice()].concat();
    // Visible characters only, as tokens have: no second header hides in one.
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(Denied::Subprotocol);
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(header)).map(Some).map_err(|_| Denied::Subprotocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(websocket: bool, authorization: &[&str], protocols: &[&str]) -> Parts {
        let mut request = http::Request::builder();
        if websocket {
            request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        }
        for value in authorization {
            request = request.header(AUTHORIZATION, *value);
        }
        for value in protocols {
            request = request.header(SEC_WEBSOCKET_PROTOCOL, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn item(token: &str) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
    }

    fn read(head: &mut Parts) -> Result<Option<String>, Denied> {
        normalise(head)?;
        Ok(presented(head)?.map(|token| String::from_utf8(token.into_owned()).unwrap()))
    }

    #[test]
    fn the_browsers_form_becomes_the_header_and_leaves_no_trace() {
        let secret = item("secret");
        for protocols in [
            vec![format!("{secret}, v5.channel.k8s.io, v4.channel.k8s.io")],
            vec!["v5.channel.k8s.io,v4.channel.k8s.io".to_owned(), secret.clone()],
            vec!["v5.channel.k8s.io".to_owned(), format!(" {secret} , v4.channel.k8s.io,")],
        ] {
            let lines: Vec<&str> = protocols.iter().map(String::as_str).collect();
            let mut head = head(true, &[], &lines);
            assert_eq!(read(&mut head), Ok(Some("secret".to_owned())), "{protocols:?}");
            let left: Vec<_> = head.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect();
            assert_eq!(left, ["v5.channel.k8s.io, v4.channel.k8s.io"]);
            assert!(!format!("{:?}", head.headers).contains("secret"), "{:?}", head.headers);
            forget(&mut head);
            assert!(!head.headers.contains_key(AUTHORIZATION));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let (good, padded) = (item("secret"), format!("{PREFIX}YQ=="));
        let protocol = "v4.channel.k8s.io";
        for (authorization, protocols, why) in [
            (&[][..], &[good.as_str()][..], Denied::Subprotocol),
            (&[], &[&good, &good, protocol], Denied::Several),
            (&["Bearer secret"], &[&good, protocol], Denied::Several),
            (&["Basic x"], &[&good, protocol], Denied::Several),
            (&[], &[&padded, protocol], Denied::Subprotocol),
            (&[], &[PREFIX, protocol], Denied::Subprotocol),
            (&[], &[&item("two words"), protocol], Denied::Subprotocol),
            (&[], &[&item("a\r\nX: y"), protocol], Denied::Subprotocol),
            (&[], &[&format!("{PREFIX}+/+/"), protocol], Denied::Subprotocol),
            (&["Bearer a", "Bearer a"], &[protocol], Denied::Several),
            (&["Bearer"], &[protocol], Denied::Malformed),
            (&["Basic first"], &[], Denied::Malformed),
        ] {
            let mut head = head(true, authorization, protocols);
            assert_eq!(read(&mut head), Err(why), "{authorization:?} {protocols:?}");
            let left: Vec<_> = head.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect();
            assert!(!left.iter().any(|value| value.to_str().unwrap().contains(PREFIX)), "{left:?}");
        }
    }

    #[test]
    fn without_an_upgrade_it_is_no_credential() {
        let mut head = head(false, &[], &[&item("secret"), "v4.channel.k8s.io"]);
        assert_eq!(read(&mut head), Ok(None));
        assert!(!head.headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
