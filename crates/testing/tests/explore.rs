//! Every short story of the machine (all pairs of modes, and deeper for the modes of a remote command), and every state
//! that stories of any length lead to. Both roles, three kinds of protocol, 16 steps.

use wsstream_proto::channel::ChannelMode::{Read, Write};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_testing::property::connection::MODES;
use wsstream_testing::property::explore::{ALPHABET, COMMAND_DEPTH, DEPTH, deeper, roles, states, stories};

/// With CLOSE, without, and base64.
const PROTOCOLS: [Subprotocol; 3] = [Subprotocol::V5, Subprotocol::V4, Subprotocol::BASE64_CHANNEL];

#[test]
fn every_short_story_for_all_modes() {
    let depth = DEPTH + deeper();
    let mut told = 0;
    for role in roles() {
        for subprotocol in PROTOCOLS {
            for first in MODES {
                for second in MODES {
                    told += stories(role, &subprotocol, [first, second], depth);
                }
            }
        }
    }
    println!("{told} stories of {depth} steps");
    assert_eq!(told, 2 * 3 * 16 * ALPHABET.len().pow(depth));
}

#[test]
fn every_longer_story_of_stdin_and_stdout() {
    let depth = COMMAND_DEPTH + deeper();
    let mut told = 0;
    for role in roles() {
        for modes in [[Read, Write], [Write, Read]] {
            told += stories(role, &Subprotocol::V5, modes, depth);
        }
    }
    println!("{told} stories of {depth} steps");
    assert_eq!(told, 2 * 2 * ALPHABET.len().pow(depth));
}

#[test]
fn every_state_that_stories_of_any_length_lead_to() {
    let (mut all, mut farthest) = (0, 0);
    for role in roles() {
        for subprotocol in PROTOCOLS {
            for first in MODES {
                for second in MODES {
                    let explored = states(role, &subprotocol, [first, second]);
                    all += explored.states;
                    farthest = farthest.max(explored.depth);
                }
            }
        }
    }
    println!("{all} states, the farthest {farthest} steps away");
    // Open, closed by either side, by both, and broken are five; each half of a channel doubles them.
    assert!(all > 96 * 5 && farthest > 3, "{all} states, {farthest} steps");
}
