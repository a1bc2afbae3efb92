//! A container runtime that has one pod with one container, so that crictl has something to talk to: just so much of the
//! CRI as `crictl exec`, `attach`, `port-forward`, `ps`, `pods`, `info` and `version` ask for.
//!
//! | file | what it is |
//! |---|---|
//! | `containers` | the container: a supervised process, and commands beside it |
//! | `service` | what is said over gRPC; `Exec`, `Attach` and `PortForward` give out URLs |
//! | `rpc` | from a path to a method, as generated code would have it |
//! | `messages` | the messages, with the field numbers of `runtime.v1` |

mod containers;
mod messages;
mod rpc;
mod service;

pub use containers::Containers;
pub use rpc::Images;
pub use service::Cri;
