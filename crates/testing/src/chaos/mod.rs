//! Proof under faults: sessions with known contents over a wire that breaks where a seed says so, and a judge.
//!
//! - [`plan`]: what the wire does, as one line of text that can be replayed.
//! - [`lane`]: one direction of a wire under a plan, without IO; [`frames`] finds the frame boundaries in it.
//! - [`link`](mod@link): a wire in memory under a plan; [`proxy`]: the same between two TCP sockets.
//! - [`content`]: bytes that both ends can make and check without storing them; [`script`]: one session.
//! - [`session`]: runs a script through the library's own server and client, and [`oracle`] judges it.
//! - [`forward`]: the same for forwarded connections; [`cri`]: the server that container runtimes embed.
//! - [`sweep`]: many sessions: every byte of short ones, random points of long ones.
//!
//! The judge knows three answers. A session is *complete* with the right status, or it is *reported* as lost or
//! failed, or it is a **lie**: success with bytes missing, added or changed, a wrong exit code, an end that never
//! comes, a panic, or something left behind.

pub mod content;
pub mod cri;
pub mod forward;
pub mod frames;
mod http;
pub mod lane;
pub mod link;
pub mod oracle;
pub mod plan;
pub mod proxy;
pub mod script;
pub mod session;
pub mod sweep;
mod tls;

pub use content::{Checker, Content};
pub use oracle::{Tally, Verdict};
pub use plan::{At, Fault, Plan, Way};
pub use proxy::Proxy;
pub use script::Script;
