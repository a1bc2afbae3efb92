//! Under construction: the signatures other crates are written against.
#![allow(unused, missing_docs, clippy::unimplemented)]
pub mod remotecommand;
pub use bytes;
pub use http;
pub use wsstream_proto as proto;
