//! How a remote command ended, as the bytes of the error stream (channel 3) say it.
//!
//! From v4 on the stream carries one Kubernetes `Status` as JSON; before that it carries plain text, and silence
//! means that all went well. [`Status`] is what a server writes and [`Verdict`] is what a client reads, and the
//! rule that a missing status is never a success lives here, beside the format it is about.

mod verdict;

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

pub use self::verdict::{Verdict, is_complete_json};

/// The reason of a status that carries an exit code.
const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
/// The reason of the cause whose message is the exit code.
const EXIT_CODE: &str = "ExitCode";
const SUCCESS: &str = "Success";
const FAILURE: &str = "Failure";

/// The exit code of a command, 0 to 255; 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// The code of a command that succeeded.
    pub const SUCCESS: Self = Self(0);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<u8> for ExitCode {
    fn from(code: u8) -> Self {
        Self(code)
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Kubernetes' `meta/v1` Status. Empty strings and a zero code stand for absent fields, as in Go.
///
/// Decoding takes both shapes that servers write, with and without `metadata` and `details`, and ignores what it
/// does not know; encoding always writes the older one, with an empty `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// `Status` in API answers, empty on the error stream.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub kind: String,
    /// `v1` in API answers, empty on the error stream.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub api_version: String,
    #[serde(skip_deserializing)]
    metadata: ListMeta,
    /// `Success` or `Failure`; anything else is neither.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub status: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub message: String,
    /// For programs: `NonZeroExitCode`, `InternalError`, `Forbidden`...
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub reason: String,
    /// What the failure is about.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP code that fits, 0 if none.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub code: i32,
}

/// Kubernetes writes `"metadata":{}` because the Go type has no "omit" for it; nothing reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct ListMeta {}

/// The object a [`Status`] is about, and its causes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct StatusDetails {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub name: String,
    /// The object's API group.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub group: String,
    /// The object's resource in the plural (`pods`).
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub kind: String,
    /// The object's UID.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub uid: String,
    /// Causes; the exit code is one of them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "objects")]
    pub causes: Vec<StatusCause>,
    /// When to try again, in seconds; 0 if nothing is said.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "or_default")]
    pub retry_after_seconds: i32,
}

/// One cause of a failure. Go calls the first field `Type`; its JSON key is `reason`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct StatusCause {
    /// For programs: `ExitCode`, or empty.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub reason: String,
    /// For people; for the cause `ExitCode` the code in decimal.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub message: String,
    /// The field of the object that is at fault.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub field: String,
}

impl Status {
    /// The command ran and returned 0, or the attachment ended well.
    #[must_use]
    pub fn success() -> Self {
        Self { status: SUCCESS.to_owned(), ..Self::default() }
    }

    /// The command returned `code`; `detail` is the runtime's own text, such as `exit status 7`.
    /// Code 0 is [`success`](Self::success), and `detail` is not used then.
    #[must_use]
    pub fn exit(code: ExitCode, detail: impl fmt::Display) -> Self {
        if code == ExitCode::SUCCESS {
            return Self::success();
        }
        let cause =
            StatusCause { reason: EXIT_CODE.to_owned(), message: code.to_string(), ..StatusCause::default() };
        Self {
            status: FAILURE.to_owned(),
            message: format!("command terminated with non-zero exit code: {detail}"),
            reason: NON_ZERO_EXIT_CODE.to_owned(),
            details: Some(Box::new(StatusDetails { causes: vec![cause], ..StatusDetails::default() })),
            ..Self::default()
        }
    }

    /// Code 500: the server could not do what it was asked. `Internal error occurred: <message>`.
    ///
    /// In the error stream's form; an HTTP answer wants [`into_api_object`](Self::into_api_object) on top.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status: FAILURE.to_owned(),
            message: format!("Internal error occurred: {message}"),
            reason: "InternalError".to_owned(),
            details: Some(Box::new(StatusDetails {
                causes: vec![StatusCause { message, ..StatusCause::default() }],
                ..StatusDetails::default()
            })),
            code: 500,
            ..Self::default()
        }
    }

    /// An API failure of any kind: HTTP code, machine-readable reason (`Gone`, `Conflict`...), text.
    #[must_use]
    pub fn failure(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: FAILURE.to_owned(),
            message: message.into(),
            reason: reason.into(),
            code: code.into(),
            ..Self::default()
        }
        .into_api_object()
    }

    /// Code 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// Code 401.
    #[must_use]
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::failure(401, "Unauthorized", message)
    }

    /// Code 403: `<kind> "<name>" is forbidden: <why>`; `kind` is a plural such as `pods`, and an empty `name`
    /// stands for all of them.
    #[must_use]
    pub fn forbidden(kind: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (kind, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{kind} is forbidden: {why}"),
            _ => format!("{kind} \"{name}\" is forbidden: {why}"),
        };
        Self::failure(403, "Forbidden", message).about(kind, name)
    }

    /// Code 404: `<kind> "<name>" not found`; `kind` is a plural such as `pods`.
    #[must_use]
    pub fn not_found(kind: &str, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{kind} \"{name}\" not found")).about(kind, name)
    }

    /// Code 405.
    #[must_use]
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::failure(405, "MethodNotAllowed", message)
    }

    /// Code 406: none of the media types asked for can be produced.
    #[must_use]
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::failure(406, "NotAcceptable", message)
    }

    /// Code 429, with the number of seconds to wait (the answer's `Retry-After` is the caller's to set).
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u16) -> Self {
        let mut status = Self::failure(429, "TooManyRequests", message);
        let retry_after_seconds = retry_after_seconds.into();
        status.details = Some(Box::new(StatusDetails { retry_after_seconds, ..StatusDetails::default() }));
        status
    }

    /// Code 503.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// The same status with `kind` and `apiVersion`, which clients look for in the body of an HTTP answer.
    #[must_use]
    pub fn into_api_object(mut self) -> Self {
        self.kind = "Status".to_owned();
        self.api_version = "v1".to_owned();
        self
    }

    fn about(mut self, kind: &str, name: &str) -> Self {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.details = Some(Box::new(StatusDetails { kind, name, ..StatusDetails::default() }));
        self
    }

    /// The status says `Success`.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == SUCCESS
    }

    /// The status says `Failure`. One that says neither is a protocol error.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.status == FAILURE
    }

    /// The JSON of the error stream (v4 and later), byte for byte as Go writes it: keys in Go's order, no newline,
    /// and `<`, `>`, `&`, U+2028 and U+2029 escaped. As the body of an HTTP answer it serves as well.
    #[must_use]
    pub fn to_channel_json(&self) -> Vec<u8> {
        // Strings, numbers and structs with fixed keys always encode; if that ever fails, it must not look like
        // an empty, and so successful, status.
        let json = serde_json::to_string(self)
            .unwrap_or_else(|_| r#"{"metadata":{},"status":"Failure","message":"unknown error"}"#.to_owned());
        let mut escaped = String::with_capacity(json.len());
        for c in json.chars() {
            match c {
                '<' => escaped.push_str("\\u003c"),
                '>' => escaped.push_str("\\u003e"),
                '&' => escaped.push_str("\\u0026"),
                '\u{2028}' => escaped.push_str("\\u2028"),
                '\u{2029}' => escaped.push_str("\\u2029"),
                c => escaped.push(c),
            }
        }
        escaped.into_bytes()
    }

    /// The text of the error stream before v4: nothing at all on success, else the message.
    ///
    /// A failure without a message yields its reason or `unknown error`, because no text means success there.
    #[must_use]
    pub fn to_text(&self) -> Option<&str> {
        if self.is_success() {
            return None;
        }
        [self.message.as_str(), self.reason.as_str()]
            .into_iter()
            .find(|text| !text.is_empty())
            .or(Some("unknown error"))
    }

    /// Decodes a JSON object. Bytes that are not UTF-8 are read as U+FFFD, as Go does: a garbled message should
    /// not cost the exit code.
    ///
    /// # Errors
    /// What is wrong with the JSON, in `serde_json`'s words.
    pub fn from_json(raw: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&String::from_utf8_lossy(raw)).map(|Object(status)| status)
    }
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Go leaves a field alone when the JSON says `null`.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Box<T>>, D::Error> {
    Ok(Option::deserialize(from)?.map(|Object(inner)| Box::new(inner)))
}

fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list: Option<Vec<Object<T>>> = Option::deserialize(from)?;
    Ok(list.unwrap_or_default().into_iter().map(|Object(inner)| inner).collect())
}

/// Derived structs also decode from an array of their fields; a status that is an array is none.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        from.deserialize_map(OnlyMap(std::marker::PhantomData))
    }
}
