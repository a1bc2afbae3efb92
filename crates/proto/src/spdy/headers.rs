//! Header blocks in their plain form: a count, and then names and values with their lengths (draft section 2.6.10).
//!
//! Names are compared without regard to case, because Go canonicalises what it reads; on the wire they are lower
//! case, and one that is not ends a connection to Go.

use bytes::{Buf, BufMut, Bytes};

use super::Limits;

/// The headers of SYN_STREAM or SYN_REPLY, in the order of the wire.
///
/// ```
/// use wsstream_proto::spdy::Headers;
///
/// let headers = Headers::from_iter([("streamtype", "data"), ("port", "8080")]);
/// assert_eq!(headers.get("Port"), Some(&b"8080"[..]));
/// assert_eq!(headers.text("requestid"), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Bytes, Bytes)>);

impl Headers {
    /// The first value of this name; where the peer joined several by NUL, all of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| &value[..])
    }

    /// The first value of this name, up to the first NUL, as text; `None` if it is not there or not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
    }

    /// All names and values, values as they were on the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, as in every SYN_REPLY of Kubernetes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The plain form of a block.
    ///
    /// # Errors
    /// What the peer would end its connection for.
    pub fn encode(&self, limits: &Limits) -> Result<Vec<u8>, HeadersError> {
        let mut block = Vec::with_capacity(64);
        let count = u32::try_from(self.0.len()).map_err(|_| HeadersError::TooMany(u32::MAX))?;
        if self.0.len() > limits.max_headers {
            return Err(HeadersError::TooMany(count));
        }
        block.put_u32(count);
        for (name, value) in &self.0 {
            check_name(name)?;
            for (text, limit) in [(name, limits.max_header_name), (value, limits.max_header_value)] {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                if text.len() > limit {
                    return Err(HeadersError::TooLong(len));
                }
                block.put_u32(len);
                block.put_slice(text);
            }
        }
        if block.len() > limits.header_block() {
            return Err(HeadersError::BlockTooLong);
        }
        Ok(block)
    }

    /// Reads the plain form of a block, all of it.
    ///
    /// # Errors
    /// It is not a list of headers within the limits, to the last byte.
    pub fn decode(block: Vec<u8>, limits: &Limits) -> Result<Self, HeadersError> {
        let mut rest = Bytes::from(block);
        let count = rest.try_get_u32().map_err(|_| HeadersError::Truncated)?;
        if usize::try_from(count).map_or(true, |count| count > limits.max_headers) {
            return Err(HeadersError::TooMany(count));
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = take(&mut rest, limits.max_header_name)?;
            check_name(&name)?;
            let value = take(&mut rest, limits.max_header_value)?;
            headers.push((name, value));
        }
        if !rest.is_empty() {
            return Err(HeadersError::Trailing(rest.len()));
        }
        Ok(Self(headers))
    }
}

fn take(rest: &mut Bytes, limit: usize) -> Result<Bytes, HeadersError> {
    let len = rest.try_get_u32().map_err(|_| HeadersError::Truncated)?;
    let size = usize::try_from(len).ok().filter(|size| *size <= limit).ok_or(HeadersError::TooLong(len))?;
    if size > rest.len() {
        return Err(HeadersError::Truncated);
    }
    Ok(rest.split_to(size))
}

fn check_name(name: &[u8]) -> Result<(), HeadersError> {
    if name.is_empty() {
        return Err(HeadersError::EmptyName);
    }
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(HeadersError::UpperCase(String::from_utf8_lossy(name).into_owned()));
    }
    Ok(())
}

/// Names are turned to lower case; everything else is checked when the headers are sent.
impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let lower = |name: N| Bytes::from(name.as_ref().to_ascii_lowercase());
        let copied = |value: V| Bytes::copy_from_slice(value.as_ref());
        Self(headers.into_iter().map(|(name, value)| (lower(name), copied(value))).collect())
    }
}

/// Why a header block is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadersError {
    /// It ends before what it announces.
    #[error("it ends too early")]
    Truncated,
    /// Something stands behind the last header.
    #[error("{0} bytes stand behind the last header")]
    Trailing(usize),
    /// More headers than [`Limits::max_headers`].
    #[error("{0} headers")]
    TooMany(u32),
    /// A name or a value longer than its limit.
    #[error("a name or value of {0} bytes")]
    TooLong(u32),
    /// More bytes than [`Limits::max_header_block`]; only for blocks that are sent.
    #[error("it is too long")]
    BlockTooLong,
    /// A name of no bytes.
    #[error("a header without a name")]
    EmptyName,
    /// A name that is not in lower case.
    #[error("the header name {0:?} is not in lower case")]
    UpperCase(String),
}
