//! Attacks that are one request each.

use crate::fixture::{EXEC, Target};

/// One row. In `sent`, `HOST` stands for the server's address, `ADMIN`, `READER`, `NOBODY` and `EXPIRED` for tokens, `ASK` for
/// the query that makes the marker, and `WS` for the header lines of a WebSocket upgrade but its subprotocols. Code 0 stands
/// for an end without an answer.
struct Attack {
    name: &'static str,
    sent: &'static str,
    code: u16,
    says: &'static str,
}

const fn attack(name: &'static str, sent: &'static str, code: u16, says: &'static str) -> Attack {
    Attack { name, sent, code, says }
}

/// The request in its good form, for rows that bend one part of it.
macro_rules! exec {
    ($($more:literal)*) => {
        concat!("GET EXECASK HTTP/1.1\r\nHost: HOST\r\nWSSec-WebSocket-Protocol: v4.channel.k8s.io\r\n", $($more,)* "\r\n")
    };
}

const ITEM: &str = "base64url.bearer.authorization.k8s.io.";

#[rustfmt::skip]
const TABLE: &[Attack] = &[
    // Tokens.
    attack("no token", exec!(), 401, "no bearer token was sent"),
    attack("a wrong token", exec!("Authorization: Bearer wrong\r\n"), 401, "not one that this server accepts"),
    attack("an expired token", exec!("Authorization: Bearer EXPIRED\r\n"), 401, "has expired"),
    attack("an empty token", exec!("Authorization: Bearer \r\n"), 401, "Unauthorized"),
    attack("a token and a bit", exec!("Authorization: Bearer ADMINx\r\n"), 401, "not one that this server accepts"),
    attack("a token under another scheme", exec!("Authorization: Basic ADMIN\r\n"), 401, "the Authorization header is not"),
    attack("two headers", exec!("Authorization: Bearer READER\r\nAuthorization: Bearer ADMIN\r\n"), 401, "more than one credential"),
    attack("a token in the query", "GET EXECASK&access_token=ADMIN&token=ADMIN HTTP/1.1\r\nHost: HOST\r\nWS\r\n", 401, "no bearer token"),
    attack("a token in a cookie", exec!("Cookie: token=ADMIN; Authorization=Bearer ADMIN\r\n"), 401, "no bearer token"),
    attack("a token in the userinfo", "GET http://ADMIN@HOSTEXECASK HTTP/1.1\r\nHost: HOST\r\nWS\r\n", 400, ""),
    attack("a wrong token as a subprotocol", exec!("Sec-WebSocket-Protocol: ITEMd3Jvbmc\r\n"), 401, "not one that"),
    attack("a token as the only subprotocol", "GET EXECASK HTTP/1.1\r\nHost: HOST\r\nWSSec-WebSocket-Protocol: ITEMADMIN64\r\n\r\n", 401, "at least one other subprotocol"),
    attack("a padded token as a subprotocol", exec!("Sec-WebSocket-Protocol: ITEMYQ==\r\n"), 401, "without padding"),
    attack("two tokens as subprotocols", exec!("Sec-WebSocket-Protocol: ITEMADMIN64, ITEMADMIN64\r\n"), 401, "more than one credential"),
    attack("a header and a subprotocol", exec!("Authorization: Bearer ADMIN\r\nSec-WebSocket-Protocol: ITEMADMIN64\r\n"), 401, "more than one credential"),
    attack("a name from a proxy that is none", exec!("X-Remote-User: admin\r\nX-Forwarded-User: admin\r\nX-Remote-Group: system:masters\r\n"), 401, "no bearer token"),
    attack("a code of a link that nobody made", "POST /auth/exchange HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"code\":\"x\"}", 401, "unknown, was used, or is too old"),

    // Roles.
    attack("exec by GET of one who may get", exec!("Authorization: Bearer READER\r\n"), 403, "cannot create resource \\\"pods/exec\\\""),
    attack("the same by POST", "POST EXECASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n", 403, "cannot create resource \\\"pods/exec\\\""),
    attack("the same on a kubelet's path", "GET /exec/default/host/hostASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 403, "cannot create resource \\\"pods/exec\\\""),
    attack("a kubelet's path with a uid", "GET /exec/default/host/x/hostASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 403, "cannot create resource \\\"pods/exec\\\""),
    attack("attach by GET", "GET /api/v1/namespaces/default/pods/host/attach HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 403, "cannot create resource \\\"pods/attach\\\""),
    attack("a port by GET", "GET /api/v1/namespaces/default/pods/host/portforward?ports=22 HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 403, "cannot create resource \\\"pods/portforward\\\""),
    attack("a kubelet's port", "POST /portForward/default/host HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nContent-Length: 0\r\n\r\n", 403, "cannot create resource \\\"pods/portforward\\\""),
    attack("a method in a header", exec!("Authorization: Bearer READER\r\nX-HTTP-Method-Override: PUT\r\n"), 403, "cannot create"),
    attack("another user in a header", exec!("Authorization: Bearer READER\r\nImpersonate-User: admin\r\nImpersonate-Group: system:masters\r\n"), 403, "User \\\"reader\\\" cannot create"),
    attack("metrics of one who may all by stars", "GET /metrics HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\n\r\n", 403, "cannot get path \\\"/metrics\\\""),
    attack("metrics of one who may look", "GET /metrics HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\n\r\n", 403, "cannot get path"),
    attack("exec of one whom no rule names", exec!("Authorization: Bearer NOBODY\r\n"), 403, "User \\\"nobody\\\" cannot create"),
    attack("a list of one whom no rule names", "GET /api/v1/pods HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer NOBODY\r\n\r\n", 403, "cannot list resource \\\"pods\\\" in API group \\\"\\\" at the cluster scope"),
    attack("whether a pod exists", "GET /api/v1/namespaces/default/pods/nope HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer NOBODY\r\n\r\n", 403, "pods \\\"nope\\\" is forbidden"),

    // Names of hosts.
    attack("a name that was rebound to us", "GET EXECASK HTTP/1.1\r\nHost: rebound.example:7443\r\nAuthorization: Bearer ADMIN\r\nWSSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n", 403, "not known as \\\"rebound.example\\\""),
    attack("a name that begins as ours", "GET EXECASK HTTP/1.1\r\nHost: 127.0.0.1.rebound.example\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 403, "not known as"),
    attack("two hosts", "GET EXECASK HTTP/1.1\r\nHost: HOST\r\nHost: rebound.example\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 400, "exactly one Host"),
    attack("no host", "GET EXECASK HTTP/1.1\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 400, "exactly one Host"),
    attack("another host in the target", "GET http://rebound.exampleEXECASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 400, "name different hosts"),
    attack("a rebound name at the health endpoint", "GET /healthz HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 403, "not known as"),

    // Pages of other sites.
    attack("another site's page, by WebSocket", exec!("Authorization: Bearer ADMIN\r\nOrigin: https://evil.example\r\n"), 403, "pages of this origin"),
    attack("a sandboxed page", exec!("Authorization: Bearer ADMIN\r\nOrigin: null\r\n"), 403, "pages of this origin"),
    attack("a page of our host and another port", exec!("Authorization: Bearer ADMIN\r\nOrigin: http://127.0.0.1:1\r\n"), 403, "pages of this origin"),
    attack("two origins", exec!("Authorization: Bearer ADMIN\r\nOrigin: http://HOST\r\nOrigin: https://evil.example\r\n"), 403, "pages of this origin"),
    attack("a form on another site", "POST EXECASK HTTP/1.1\r\nHost: HOST\r\nOrigin: https://evil.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n", 403, "pages of this origin"),
    attack("an image on another site", "GET EXECASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n\r\n", 403, "pages of other sites"),
    attack("a preflight of another site", "OPTIONS EXECASK HTTP/1.1\r\nHost: HOST\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n", 403, "pages of this origin"),

    // Paths.
    attack("a path with dots", "GET /api/v1/namespaces/default/pods/host/log/../execASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "could not find the requested resource"),
    attack("a path with encoded letters", "GET /api/v1/namespaces/default/pods/host/%65xecASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "could not find the requested resource"),
    attack("a path with two slashes", "GET //api/v1/namespaces/default/pods/host/execASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "could not find the requested resource"),
    attack("a path with a slash behind it", "GET EXEC/ASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "could not find the requested resource"),
    attack("a path with an encoded slash", "GET /api/v1/namespaces/default/pods/host%2fexecASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "pods \\\"host/exec\\\" not found"),
    attack("a path with a semicolon", "GET EXEC;x=/logASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "could not find the requested resource"),
    attack("a path in capitals", "GET /EXEC/default/host/hostASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nWS\r\n", 404, "could not find the requested resource"),
    attack("a pod above the pods", "GET /api/v1/namespaces/default/pods/..%2f..%2fhost/execASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 404, "pods \\\"../../host\\\" not found"),
    attack("a namespace above the namespaces", "GET /api/v1/namespaces/..%2fdefault/pods/host/execASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 404, "not found"),
    attack("a pod with a NUL", "GET /api/v1/namespaces/default/pods/host%00/execASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 404, "not found"),
    attack("a pod that is no text", "GET /api/v1/namespaces/default/pods/host%ff/execASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 400, "Invalid UTF-8"),
    attack("a container above the pod", "GET EXECASK&container=..%2fhost HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 400, "container ../host is not valid"),
    attack("a container on a kubelet's path", "GET /exec/default/host/..%2fhostASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 404, "container not found"),

    // Heads that two servers could read in two ways.
    attack("two lengths", "POST /api HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400, ""),
    attack("a length that is none", "POST /api HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nContent-Length: +5\r\n\r\nhello", 400, ""),
    attack("a length and chunks", "POST /api HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET EXECASK HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWS\r\n", 405, "connection: close"),
    attack("chunks that are not the last coding", "POST /api HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer READER\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, ""),
    attack("a space before a colon", "GET /api HTTP/1.1\r\nHost: HOST\r\nAuthorization : Bearer ADMIN\r\n\r\n", 400, ""),
    attack("a folded line", "GET /api HTTP/1.1\r\nHost: HOST\r\nX: y\r\n Authorization: Bearer ADMIN\r\n\r\n", 400, ""),
    attack("a NUL in a header", "GET /api HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n", 400, ""),
    attack("a bare return in a header", "GET /api HTTP/1.1\r\nHost: HOST\r\nX: a\rAuthorization: Bearer ADMIN\r\n\r\n", 400, ""),
    attack("an upgrade to HTTP/2", "GET /api HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", 401, "no bearer token"),
    attack("HTTP/2 without being asked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, ""),
    attack("a tunnel through us", "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\n\r\n", 404, ""),

    // What becomes of a command.
    attack("a command that is a NUL", "GET EXEC?command=touch%00x&stdout=true HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer NOBODY\r\nWS\r\n", 403, "cannot create"),
    attack("no command", "GET EXEC?stdout=true HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer ADMIN\r\nWSSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n", 400, ""),
];

pub(crate) fn base64url(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for part in text.as_bytes().chunks(3) {
        let mut bits = [0u8; 3];
        bits[..part.len()].copy_from_slice(part);
        let word = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for index in 0..=part.len() {
            out.push(char::from(ALPHABET[usize::try_from(word >> (18 - 6 * index) & 63).unwrap()]));
        }
    }
    out
}

#[tokio::test]
async fn each_is_answered_as_stated_and_nothing_runs() {
    let mut target = Target::start(&[]).await;
    target.goes_on().await;
    let host = target.address.to_string();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let mut failed = Vec::new();
    for Attack { name, sent, code, says } in TABLE {
        let marker = target.marker();
        let ask = format!("?command=touch&command={}&stdout=true", marker.display());
        let request = sent
            .replace("EXECASK", &format!("{EXEC}{ask}"))
            .replace("GET EXEC", &format!("GET {EXEC}"))
            .replace("ASK", &ask)
            .replace("WS\r\n", &format!("{upgrade}\r\n"))
            .replace("WSSec-", &format!("{upgrade}Sec-"))
            .replace("ITEM", ITEM)
            .replace("ADMIN64", &base64url(&target.tokens.admin))
            .replace("ADMIN", &target.tokens.admin)
            .replace("READER", &target.tokens.reader)
            .replace("NOBODY", &target.tokens.nobody)
            .replace("EXPIRED", &target.tokens.expired)
            .replace("HOST", &host);
        let answer = target.send(&request).await;
        let stated = match &answer {
            Some(answer) => {
                answer.code == *code && (answer.body.contains(says) || answer.head.contains(says))
            }
            None => *code == 0,
        };
        if !stated {
            failed.push(format!("{name}: {code} {says:?} stated, and this came: {answer:?}"));
        }
        target.nothing_ran(&marker, name).await;
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), TABLE.len(), failed.join("\n"));
    println!("{} attacks", TABLE.len());
}

/// What the table relies on: with the right token, the same request runs.
#[tokio::test]
async fn the_browsers_form_is_taken_from_who_may_and_is_not_in_the_answer() {
    let target = Target::start(&[]).await;
    let marker = target.marker();
    let path = format!("{EXEC}?command=touch&command={}&stdout=true", marker.display());
    let item = format!("Sec-WebSocket-Protocol: {ITEM}{}\r\n", base64url(&target.tokens.admin));
    let answer = target.send(&target.websocket(&path, &item)).await.unwrap();
    assert_eq!(answer.code, 101, "{answer:?}");
    assert!(!answer.head.contains(ITEM) && answer.head.contains("v4.channel.k8s.io"), "{answer:?}");
    crate::support::eventually("it runs", || marker.exists()).await;
}
