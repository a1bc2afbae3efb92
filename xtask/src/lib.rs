//! The helper commands behind `cargo xtask`, as a library so that tests can call them too.

// `value["key"]` on a JSON value yields null where the key is missing; nothing else is indexed here.
#![allow(clippy::indexing_slicing)]

pub mod audit;
pub mod autobahn;
pub mod bench;
pub mod chaos;
pub mod counts;
pub mod dependencies;
pub mod dist;
pub mod docs;
pub mod examples;
pub mod fuzz;
pub mod interop;
pub mod layers;
pub mod licences;
pub mod lint;
pub mod load;
pub mod miri;
pub mod msrv;
pub mod operations;
pub mod payload;
pub mod publish;
pub mod readme;
pub mod report;
pub mod soak;
pub mod tour;
pub mod wasm;
pub mod workspace;
