//! Under construction.
/// Every bound of the server, with its default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How long sessions may go on after shutdown was asked for. Default 10 s.
    pub drain: std::time::Duration,
}
impl Default for Limits { fn default() -> Self { unimplemented!() } }
