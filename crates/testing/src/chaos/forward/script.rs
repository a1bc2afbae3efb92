//! One session of port-forward: its wire, and what happens on each of its connections.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wsstream::portforward::client::Wire;
use wsstream_proto::subprotocol::Encoding;

use crate::chaos::content::{Checker, Content};
use crate::chaos::plan::{Fault, Pace, Plan};
use crate::chaos::script::Taking;

/// All wires.
pub const WIRES: [Wire; 4] =
    [Wire::Spdy, Wire::Tunnel, Wire::Channels(Encoding::Binary), Wire::Channels(Encoding::Base64)];

/// Connection n leads to this port plus n.
pub const FIRST_PORT: u16 = 1000;

/// Who ends first, and when the other begins to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Both speak at once; each ends its direction when it has said all.
    Together,
    /// The target speaks when the client has ended: the client must see the whole answer behind its own end.
    ClientFirst,
    /// The client speaks when the target has ended.
    TargetFirst,
    /// Over channels: the target ends when it has had and said all, which it counts.
    TargetCounts,
    /// Over channels: the client closes the session when all its connections have had and said all.
    ClientCounts,
    /// Over channels: the target ends its direction while the client still has things to say, and goes on reading.
    /// The client cannot be told of this alone, so the connection ends; it cannot be complete.
    TargetHurries,
}

/// What goes wrong at one of the ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    None,
    /// Nothing takes the connection at the port.
    Refused,
    /// The target resets it when it has said so much.
    TargetResets(u64),
    /// The local client breaks it off when it has said so much.
    ClientResets(u64),
    /// The server's forwarder panics.
    Panics,
}

/// Who leaves in the middle of the session, when this much of the first connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Everybody stays to the end.
    None,
    /// The client is dropped.
    Client(u64),
    /// The server's session is dropped.
    Server(u64),
}

/// What stands between a forwarded stream and the program at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The program uses the library's stream itself.
    Direct,
    /// A relay to a socket, whose wire has this plan (nothing is cut there) and holds so many bytes.
    Relay(Plan, usize),
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Where its contents start.
    pub seed: u64,
    /// Bytes from the client to the target.
    pub up: u64,
    /// Bytes from the target to the client.
    pub down: u64,
    /// Who ends when.
    pub order: Order,
    /// What goes wrong.
    pub mishap: Mishap,
    /// How the client reads.
    pub near_takes: Taking,
    /// How the target reads.
    pub far_takes: Taking,
    /// The client's side: in a program that uses the library, or as `wsstream port-forward`.
    pub near: Reach,
    /// The server's side: a forwarder of its own, or as `Routes`.
    pub far: Reach,
    /// It is opened so much later than the session.
    pub later: Duration,
}

impl Conversation {
    /// A short one between two programs that use the library.
    #[must_use]
    pub fn short(seed: u64, up: u64, down: u64, order: Order) -> Self {
        Self {
            seed,
            up,
            down,
            order,
            mishap: Mishap::None,
            near_takes: Taking::Eager,
            far_takes: Taking::Eager,
            near: Reach::Direct,
            far: Reach::Direct,
            later: Duration::ZERO,
        }
    }

    /// With relays at both ends.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        (self.near, self.far) = (Reach::Relay(Plan::smooth(), 4096), Reach::Relay(Plan::smooth(), 4096));
        self
    }

    /// With a relay at the server's end.
    #[must_use]
    pub fn served_by_relay(mut self) -> Self {
        self.far = Reach::Relay(Plan::smooth(), 4096);
        self
    }

    /// With something that goes wrong.
    #[must_use]
    pub fn but(mut self, mishap: Mishap) -> Self {
        self.mishap = mishap;
        self
    }

    /// What the client says (0) and what the target says (1).
    #[must_use]
    pub fn content(&self, channel: u8) -> Content {
        Content::new(self.seed, channel)
    }

    /// Checks what the client says (0), what the target says (1).
    #[must_use]
    pub fn checker(&self, channel: u8) -> Checker {
        Checker::new(self.content(channel), [self.up, self.down][usize::from(channel)])
    }

    /// Whether it must be complete when nothing happens to its wires.
    #[must_use]
    pub fn can_be_complete(&self) -> bool {
        self.mishap == Mishap::None && self.order != Order::TargetHurries
    }

    fn random(rng: &mut SmallRng, seed: u64, channels: bool, count: usize) -> Self {
        let mut length = |most: u64| match rng.random_range(0..10) {
            0 => 0,
            1..8 => rng.random_range(0..most / 100),
            _ => rng.random_range(0..most / count as u64),
        };
        let (up, down) = (length(400_000), length(400_000));
        let orders: &[Order] = if channels {
            if rng.random_bool(0.1) { &[Order::TargetHurries] } else { &[Order::TargetCounts] }
        } else {
            &[Order::Together, Order::Together, Order::ClientFirst, Order::TargetFirst]
        };
        let order = orders[rng.random_range(0..orders.len())];
        let mishap = match rng.random_range(0..30) {
            0 => Mishap::Refused,
            1 => Mishap::TargetResets(rng.random_range(0..=down)),
            2 => Mishap::ClientResets(rng.random_range(0..=up)),
            3 => Mishap::Panics,
            _ => Mishap::None,
        };
        let takes = |rng: &mut SmallRng| match rng.random_range(0..12) {
            0 => Taking::Slow(Duration::from_millis(rng.random_range(0..300))),
            1 => Taking::Paused(Duration::from_millis(rng.random_range(0..150_000))),
            _ => Taking::Eager,
        };
        let reach = |rng: &mut SmallRng| match rng.random_bool(0.6) {
            true => Reach::Relay(calm(rng), 256 << rng.random_range(0..10)),
            false => Reach::Direct,
        };
        Self {
            seed,
            up,
            down,
            order,
            mishap,
            near_takes: takes(rng),
            far_takes: takes(rng),
            near: reach(rng),
            far: reach(rng),
            later: Duration::from_millis(if rng.random_bool(0.3) { rng.random_range(0..3000) } else { 0 }),
        }
    }
}

/// A plan that cuts nothing.
fn calm(rng: &mut SmallRng) -> Plan {
    let mut plan = Plan::random(rng.random(), 10_000, 10_000);
    plan.faults.retain(|(.., fault)| matches!(fault, Fault::Stall(Some(_))));
    for (.., fault) in &mut plan.faults {
        *fault = Fault::Stall(Some(Duration::from_millis(rng.random_range(1..8000))));
    }
    for pace in &mut plan.pace {
        // Slow sockets are the outer wire's part: here they would make minutes of every session.
        *pace = Pace { split: pace.split, ..Pace::default() };
    }
    plan
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// Where its random numbers start.
    pub seed: u64,
    /// What carries it.
    pub wire: Wire,
    /// The server is that of a container runtime (`wsstream::cri`).
    pub cri: bool,
    /// The server tells SPDY clients of a failed connection by a text.
    pub tells: bool,
    /// Its connections.
    pub connections: Vec<Conversation>,
    /// Who leaves.
    pub departure: Departure,
}

impl Forwarding {
    /// A session of these connections.
    #[must_use]
    pub fn of(seed: u64, wire: Wire, connections: Vec<Conversation>) -> Self {
        Self { seed, wire, cri: false, tells: false, connections, departure: Departure::None }
    }

    /// Whether there are channels instead of streams.
    #[must_use]
    pub fn channels(&self) -> bool {
        matches!(self.wire, Wire::Channels(_))
    }

    /// Whether the client closes the session when all is said.
    #[must_use]
    pub fn client_counts(&self) -> bool {
        self.connections.iter().any(|one| one.order == Order::ClientCounts)
    }

    /// Whether the session goes on when its connections are over for the client, as with kubectl; else it ends at once, and a
    /// program behind a port that takes its time is cut off by the server.
    #[must_use]
    pub fn lives_on(&self) -> bool {
        !self.channels() && self.seed.is_multiple_of(2)
    }

    /// Whether a connection of it must be complete when nothing happens to its wires.
    #[must_use]
    pub fn can_complete(&self, one: &Conversation) -> bool {
        let eager = |one: &Conversation| one.far_takes == Taking::Eager;
        // A client that closes the session waits for the answer to that, which comes behind the last of its connections.
        let in_time = if self.client_counts() { self.connections.iter().all(eager) } else { eager(one) };
        one.can_be_complete() && (self.lives_on() || in_time)
    }

    /// The short sessions whose every byte is cut.
    #[must_use]
    pub fn short(seed: u64, wire: Wire) -> Vec<(&'static str, Self)> {
        let one = |order, up, down| Conversation::short(seed, up, down, order);
        let other = |order| Conversation::short(seed ^ 1, 30, 40, order);
        let of = |connections| Self::of(seed, wire, connections);
        if matches!(wire, Wire::Channels(_)) {
            let (target, client) = (Order::TargetCounts, Order::ClientCounts);
            return vec![
                ("the target closes", of(vec![one(target, 40, 50)])),
                ("the client closes", of(vec![one(client, 40, 50)])),
                ("the target closes, relayed", of(vec![one(target, 40, 50).relayed()])),
                ("the client closes both", of(vec![one(client, 40, 50).served_by_relay(), other(client)])),
                ("the target hurries", of(vec![one(Order::TargetHurries, 40, 50).relayed()])),
                ("a refused one", of(vec![one(target, 10, 10).but(Mishap::Refused), other(target)])),
                ("a reset", of(vec![one(target, 10, 60).but(Mishap::TargetResets(30)), other(target)])),
            ];
        }
        vec![
            ("together", of(vec![one(Order::Together, 40, 50)])),
            ("the client first", of(vec![one(Order::ClientFirst, 40, 50)])),
            ("the target first", of(vec![one(Order::TargetFirst, 40, 50)])),
            ("the client first, relayed", of(vec![one(Order::ClientFirst, 40, 50).relayed()])),
            ("the target first, relayed", of(vec![one(Order::TargetFirst, 40, 50).relayed()])),
            (
                "a refused one",
                of(vec![one(Order::Together, 10, 10).but(Mishap::Refused), other(Order::Together)]),
            ),
            (
                "a reset",
                of(vec![
                    one(Order::Together, 10, 60).relayed().but(Mishap::TargetResets(30)),
                    other(Order::ClientFirst),
                ]),
            ),
            (
                "a client that leaves",
                of(vec![
                    one(Order::ClientFirst, 60, 10).relayed().but(Mishap::ClientResets(30)),
                    other(Order::ClientFirst),
                ]),
            ),
        ]
    }

    /// A session that depends on `seed` alone: one to six connections over any wire; most are short.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0xf0_4d);
        let wire = WIRES[rng.random_range(0..WIRES.len())];
        let channels = matches!(wire, Wire::Channels(_));
        let count = [1, 1, 1, 2, 3, 6][rng.random_range(0..6)];
        let mut connections: Vec<_> = (0..count)
            .map(|index| Conversation::random(&mut rng, seed ^ (index as u64 + 1) << 48, channels, count))
            .collect();
        let breaks_off = |one: &Conversation| matches!(one.mishap, Mishap::ClientResets(_));
        // A target that counts waits for ever for a client that has gone without a word.
        if channels && (rng.random_bool(0.3) || connections.iter().any(breaks_off)) {
            for one in &mut connections {
                // A relay cannot know when its session may be closed; `wsstream port-forward` waits for the server's Close.
                (one.order, one.near) = (Order::ClientCounts, Reach::Direct);
            }
        }
        let first = connections.first().map_or(0, |one| one.down);
        let said = connections.first().map_or(0, |one| one.up);
        Self {
            seed,
            wire,
            cri: rng.random_bool(0.25),
            tells: rng.random_bool(0.3),
            connections,
            departure: match rng.random_range(0..16) {
                0 => Departure::Client(rng.random_range(0..=first)),
                1 => Departure::Server(rng.random_range(0..=said)),
                _ => Departure::None,
            },
        }
    }

    /// About how many bytes go over the wire: up, down.
    #[must_use]
    pub fn volume(&self) -> (u64, u64) {
        let base64 = matches!(self.wire, Wire::Channels(Encoding::Base64));
        let grown = |bytes: u64| if base64 { bytes * 4 / 3 } else { bytes };
        let sum = |of: fn(&Conversation) -> u64| self.connections.iter().map(of).sum::<u64>();
        let each = self.connections.len() as u64 * if self.channels() { 20 } else { 350 };
        (350 + each + grown(sum(|one| one.up)), 250 + each / 3 + grown(sum(|one| one.down)))
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, wire, cri, tells, connections, departure } = self;
        let door = if *cri { ", CRI" } else { "" };
        let told = if *tells { ", failures told" } else { "" };
        write!(f, "forwarding {seed} over {wire:?}{door}{told}, leaves {departure:?}")?;
        for one in connections {
            let Conversation { seed: _, up, down, order, mishap, near_takes, far_takes, near, far, later } =
                one;
            write!(f, "\n      {order:?} up {up} down {down}, {mishap:?}, after {later:?}")?;
            write!(f, "; client {near_takes:?} {near}; target {far_takes:?} {far}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Relay(plan, capacity) => write!(f, "relayed ({plan}; {capacity} bytes)"),
        }
    }
}
