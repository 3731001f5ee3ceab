//! Where frames of HTTP/2 begin in a stream of bytes, and of what kind they are.

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
/// The code for a peer that ought to calm down.
const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    /// Whether it is a ping, and not the answer to one.
    pub(super) fn is_ping(self) -> bool {
        self.kind == PING && self.flags & ACK == 0
    }

    /// Whether it is part of the answer to a request.
    pub(super) fn is_answer(self) -> bool {
        matches!(self.kind, DATA | HEADERS)
    }
}

/// Follows one direction of a connection from its first byte.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    /// The last stream the client has opened.
    last_stream: u32,
}

#[derive(Debug)]
enum State {
    /// So much of the preface was there.
    Preface(usize),
    /// In a frame's head, of which so much was there.
    Head([u8; 9], usize),
    /// In a frame's payload, of which so much is missing.
    Payload(usize),
    /// It is not HTTP/2.
    Other,
}

impl Default for State {
    fn default() -> State {
        State::Preface(0)
    }
}

impl Frames {
    /// Those of a server, which begin without a preface.
    pub(super) fn of_server() -> Frames {
        Frames {
            state: State::Head([0; 9], 0),
            last_stream: 0,
        }
    }

    /// Whether it is clear which protocol is spoken.
    pub(super) fn is_decided(&self) -> bool {
        !matches!(self.state, State::Preface(_))
    }

    /// Whether there are no frames.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Other)
    }

    /// Takes bytes, and tells of the frames that begin in them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Other => return,
                State::Preface(have) => {
                    let take = bytes.len().min(PREFACE.len() - *have);
                    if bytes[..take] != PREFACE[*have..*have + take] {
                        self.state = State::Other;
                        return;
                    }
                    bytes = &bytes[take..];
                    *have += take;
                    if *have == PREFACE.len() {
                        self.state = State::Head([0; 9], 0);
                    }
                }
                State::Head(head, have) => {
                    let take = bytes.len().min(head.len() - *have);
                    head[*have..*have + take].copy_from_slice(&bytes[..take]);
                    bytes = &bytes[take..];
                    *have += take;
                    if *have == head.len() {
                        let [a, b, c, kind, flags, s1, s2, s3, s4] = *head;
                        let stream = u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff;
                        if kind == HEADERS {
                            self.last_stream = self.last_stream.max(stream);
                        }
                        tell(FrameHead {
                            kind,
                            flags,
                            stream,
                        });
                        let length = u32::from_be_bytes([0, a, b, c]) as usize;
                        self.state = match length {
                            0 => State::Head([0; 9], 0),
                            length => State::Payload(length),
                        };
                    }
                }
                State::Payload(missing) => {
                    let take = bytes.len().min(*missing);
                    bytes = &bytes[take..];
                    *missing -= take;
                    if *missing == 0 {
                        self.state = State::Head([0; 9], 0);
                    }
                }
            }
        }
    }

    /// The frame that ends a connection for too many pings, in gRPC's words.
    pub(super) fn goaway(&self) -> Vec<u8> {
        const WHY: &[u8] = b"too_many_pings";
        let mut frame = vec![0, 0, 8 + WHY.len() as u8, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.last_stream.to_be_bytes());
        frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend_from_slice(WHY);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, 3, HEADERS, 5, 0, 0, 0, 7, 1, 2, 3]);
        bytes.extend_from_slice(&[0, 0, 8, PING, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend_from_slice(&[0, 0, 8, PING, ACK, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for cut in [1, 2, 3, 9, 24, 1000] {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                frames.feed(piece, |frame| found.push(frame));
            }
            let kinds: Vec<u8> = found.iter().map(|frame| frame.kind).collect();
            assert_eq!(kinds, [4, HEADERS, PING, PING], "{cut}");
            let pings = found.iter().filter(|frame| frame.is_ping()).count();
            assert_eq!((pings, frames.last_stream), (1, 7));
        }
    }

    #[test]
    fn answers_of_a_server_are_told_from_what_it_says_besides() {
        let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&[0, 0, 8, PING, ACK, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend_from_slice(&[0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 1, 0]);
        let mut frames = Frames::of_server();
        frames.feed(&bytes, |frame| assert!(!frame.is_answer(), "{frame:?}"));
        let mut answers = 0;
        for _ in 0..3 {
            let data = [0, 0, 2, DATA, 0, 0, 0, 0, 1, 7, 7];
            frames.feed(&data, |frame| answers += u32::from(frame.is_answer()));
        }
        assert_eq!(answers, 3);
    }

    #[test]
    fn another_protocol_is_told_at_its_first_different_byte() {
        let mut frames = Frames::default();
        frames.feed(b"PRI", |_| panic!("no frame"));
        assert!(!frames.is_decided());
        frames.feed(b"VATE / HTTP/1.1", |_| panic!("no frame"));
        assert!(frames.is_decided() && frames.is_idle());
    }
}
