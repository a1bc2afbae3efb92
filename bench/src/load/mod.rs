//! The load: a blocking client on a plain socket that parses frames and looks at nothing in them. It is the same for all
//! peers of a section and much cheaper than any of them.

pub mod frames;
pub mod session;
pub mod stream;

pub use session::{End, Session};
