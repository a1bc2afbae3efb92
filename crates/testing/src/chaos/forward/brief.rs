//! Sessions of port-forward for a real clock and real processes.

use wsstream::portforward::client::Wire;
use wsstream_proto::subprotocol::Encoding;

use super::script::{Departure, Forwarding, Mishap, Order, Reach};
use crate::chaos::script::Taking;

impl Forwarding {
    /// As [`random`](Self::random) for a server that is a process of its own, which relays to sockets: short rests, and
    /// nobody panics or leaves there.
    #[must_use]
    pub fn brief(seed: u64) -> Self {
        let mut script = Self::random(seed);
        script.cri = false;
        if let Departure::Server(_) = script.departure {
            script.departure = Departure::None;
        }
        for one in &mut script.connections {
            if one.mishap == Mishap::Panics {
                one.mishap = Mishap::None;
            }
            one.later /= 50;
            for taking in [&mut one.near_takes, &mut one.far_takes] {
                *taking = match *taking {
                    Taking::Slow(pause) => Taking::Slow(pause / 100),
                    Taking::Paused(pause) => Taking::Paused(pause / 300),
                    Taking::Eager => Taking::Eager,
                };
            }
            (one.near, one.far) = (Reach::Direct, Reach::Direct);
        }
        script
    }

    /// For a program that forwards local ports until it is told to stop: it has a session over channels for each
    /// connection, in binary, and counts nothing.
    #[must_use]
    pub fn by_program(mut self) -> Self {
        if self.channels() {
            self.wire = Wire::Channels(Encoding::Binary);
        }
        for one in &mut self.connections {
            if one.order == Order::ClientCounts {
                one.order = Order::TargetCounts;
            }
        }
        // Its session goes on behind its connections.
        self.seed &= !1;
        self
    }

    /// For kubectl, which knows no channels, and throws away what a client still has to send when the target has ended
    /// (`handleConnection` in client-go's `tools/portforward/portforward.go`): the target ends last, or counts.
    #[must_use]
    pub fn by_kubectl(self) -> Self {
        let wire = if self.seed.is_multiple_of(2) { Wire::Tunnel } else { Wire::Spdy };
        let mut script = self.by_program();
        script.wire = wire;
        for one in &mut script.connections {
            one.order = match one.order {
                Order::ClientFirst | Order::Together => Order::ClientFirst,
                _ => Order::TargetCounts,
            };
        }
        script
    }
}
