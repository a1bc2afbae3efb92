//! Frames as the load sees them: how many bytes came on which channel, the status, and the Close.

/// Channels that are told apart.
const CHANNELS: usize = 5;

/// Reads the frames of a server, which are not masked.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes on each channel, without the channel numbers.
    pub bytes: [u64; CHANNELS],
    /// Messages that had any.
    pub messages: u64,
    /// What came on the error channel.
    pub status: Vec<u8>,
    /// Whether the server has sent Close.
    pub closed: bool,
    head: [u8; 10],
    have: usize,
    left: u64,
    opcode: u8,
    channel: usize,
    /// The next payload byte is the number of the channel.
    numbered: bool,
}

impl Frames {
    /// Takes what was read.
    pub fn push(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left == 0 {
                data = self.header(data);
                continue;
            }
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
            let (mut part, rest) = data.split_at(take);
            data = rest;
            self.left -= take as u64;
            if self.opcode >= 8 {
                continue;
            }
            if self.numbered {
                self.numbered = false;
                self.channel = usize::from(part[0]).min(CHANNELS - 1);
                part = &part[1..];
                self.messages += u64::from(!part.is_empty() || self.left > 0);
            }
            self.bytes[self.channel] += part.len() as u64;
            if self.channel == 3 {
                self.status.extend_from_slice(part);
            }
        }
    }

    fn header<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let mut used = 0;
        loop {
            if self.have >= 2 {
                let long = match self.head[1] & 0x7f {
                    126 => 4,
                    127 => 10,
                    _ => 2,
                };
                if self.have == long {
                    self.left = match long {
                        4 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
                        10 => self.head[2..10].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                        _ => u64::from(self.head[1] & 0x7f),
                    };
                    self.have = 0;
                    let opcode = self.head[0] & 15;
                    self.closed |= opcode == 8;
                    self.opcode = opcode;
                    self.numbered = matches!(opcode, 1 | 2);
                    return &data[used..];
                }
            }
            let Some(byte) = data.get(used) else { return &[] };
            self.head[self.have] = *byte;
            self.have += 1;
            used += 1;
        }
    }
}

/// The mask of all our frames: one that changes every byte, so that unmasking is not free.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// One masked binary message of `size` zeros on a channel, or any other opcode and payload.
#[must_use]
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        middle @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message on channel 0.
#[must_use]
pub fn input(size: usize) -> Vec<u8> {
    masked(2, &vec![0; size + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut wire = vec![0x82, 1, 1];
        for size in [1_usize, 200, 70_000] {
            let mut frame = masked(2, &vec![1; size + 1]);
            frame[1] &= 0x7f;
            let at = frame.len() - size - 1 - 4;
            frame.drain(at..at + 4);
            frame[at] = 1;
            wire.extend(frame);
        }
        wire.extend([0x82, 3, 3, b'o', b'k', 0x88, 2, 3, 0xe8]);
        for cut in [1, 2, 3, 7, 1000, wire.len()] {
            let mut frames = Frames::default();
            wire.chunks(cut).for_each(|part| frames.push(part));
            assert_eq!((frames.bytes, frames.messages), ([0, 70_201, 0, 2, 0], 4), "cut {cut}");
            assert_eq!((&frames.status[..], frames.closed), (&b"ok"[..], true));
        }
    }
}
