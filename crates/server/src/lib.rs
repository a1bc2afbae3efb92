//! Under construction: signatures first.
#![allow(unused, clippy::unimplemented)]

pub mod config;
pub mod limits;
pub mod pod;
pub mod serve;
pub mod target;

pub use config::{Config, ConfigError, ContainerSpec, Kind, PodSpec};
pub use limits::Limits;
pub use pod::{Container, Pod, Pods};
pub use serve::{Bound, ServeError, Server, ServerOptions, TlsSource, TokenSource};
