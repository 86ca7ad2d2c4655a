//! The codes of relay.md 7, and what this side finds itself.
use std::{fmt, io};

/// Why something failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// What the node tells: a code of relay.md 7.1 that is listed, and a text for people.
    Code(u8, String),
    /// The node broke the protocol: code and text of the bye that told it so.
    Protocol(u8, &'static str),
    /// More than this limit of the node; nothing was sent.
    TooLarge(&'static str),
    /// This side has closed the connection.
    Closed,
    /// Nobody listens, or the connection has been lost; nothing was sent.
    NoNode,
}

const OUTCOMES: [&str; 9] =
    ["ok", "timeout", "no-service", "overloaded", "lost", "failed", "cancelled", "closing", "invalid"];
const REFUSALS: [&str; 5] = ["version", "feature", "name", "limit", "not-ready"];

pub const TIMEOUT: u8 = 1;
pub const OVERLOADED: u8 = 3;
pub const LOST: u8 = 4;
pub const FAILED: u8 = 5;
pub const CANCELLED: u8 = 6;
pub const CLOSING: u8 = 7;
pub const INVALID: u8 = 8;
pub const MALFORMED: u8 = 32;
pub const TOO_LARGE: u8 = 33;
pub const UNEXPECTED: u8 = 34;

impl Error {
    /// The outcome of a request. 7.2: a code that is not listed counts as `lost`.
    pub fn outcome(code: u8, text: String) -> Error {
        Error::Code(if OUTCOMES.len() > code.into() { code } else { LOST }, text)
    }

    /// The reason of a refuse or a bye. 7.2: not listed ones count as `not-ready` or `malformed`.
    pub fn reason(code: u8, text: String) -> Error {
        let listed = matches!(code, 0 | CLOSING | 16..=20 | 32..=36);
        Error::Code(
            if listed {
                code
            } else if matches!(code, 21..=31) {
                20
            } else {
                32
            },
            text,
        )
    }

    /// The name of the code in 7.1, or of what this side found.
    pub fn name(&self) -> &'static str {
        match self {
            Error::Code(code @ 0..=8, _) => OUTCOMES[*code as usize],
            Error::Code(code @ 16..=20, _) => REFUSALS[*code as usize - 16],
            Error::Code(..) => "other", // a refuse or a bye that says that this side broke the protocol
            Error::Protocol(..) => "protocol",
            Error::TooLarge(_) => "too-large",
            Error::Closed => "closed",
            Error::NoNode => "no-node",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Code(_, text) => write!(f, "{}: {text}", self.name()),
            Error::Protocol(_, text) => write!(f, "protocol: {text}"),
            Error::TooLarge(limit) => write!(f, "too-large: more than the node's limit `{limit}`"),
            _ => f.write_str(self.name()),
        }
    }
}

impl std::error::Error for Error {}

/// A connection that ends without a bye has broken, 6.4.
impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        Error::Code(LOST, e.to_string())
    }
}
