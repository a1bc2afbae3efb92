//! What wsstream costs, measured beside the raw relay (the limit) and beside Go's servers (the alternative).
//!
//! Everything runs on loopback: the server under test on one core, the load on the other, the peers of a section
//! one after the other and round by round, so that whatever drifts hits all of them alike. What is compared are ratios of
//! medians; seconds differ between machines, ratios hardly.
//!
//! | module | what it holds |
//! |---|---|
//! | [`bars`] | what is promised, in one table |
//! | [`section`] | one file for each thing that is measured |
//! | [`peer`] | the servers: raw relays, the library, a target for forwarded ports |
//! | [`load`] | a client that costs little and is the same for all peers of a section |
//! | [`process`], [`place`] | peers as processes, pinned; their CPU clocks; where the programs are |
//! | [`sample`] | medians, spreads, interleaving |
//! | [`report`] | the tables, the JSON, the page and its plots |

pub mod bars;
pub mod child;
pub mod load;
pub mod peer;
pub mod place;
pub mod process;
pub mod report;
pub mod sample;
pub mod section;
