//! Every short story of the machine. Depth 3 over 16 steps for both roles, three kinds of protocol and all pairs of
//! modes; depth 4 for the modes of a remote command.

use wsstream_proto::channel::ChannelMode::{Read, Write};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_testing::property::connection::MODES;
use wsstream_testing::property::explore::{ALPHABET, roles, stories};

#[test]
fn every_story_of_three_steps_for_all_modes() {
    let mut told = 0;
    for role in roles() {
        for subprotocol in [Subprotocol::V5, Subprotocol::V4, Subprotocol::BASE64_CHANNEL] {
            for first in MODES {
                for second in MODES {
                    told += stories(role, &subprotocol, [first, second], 3);
                }
            }
        }
    }
    assert_eq!(told, 2 * 3 * 16 * ALPHABET.len().pow(3));
}

#[test]
fn every_story_of_four_steps_of_stdin_and_stdout() {
    for role in roles() {
        assert_eq!(stories(role, &Subprotocol::V5, [Read, Write], 4), 65_536);
        stories(role, &Subprotocol::V5, [Write, Read], 4);
    }
}
