//! The problems Tidings answers with, as RFC 9457 means them.
//!
//! One table serves both sides: the server makes its refusals from it, and the page `/problems`,
//! where every problem's `type` leads, explains them.

/// A kind of refusal: stable, so that clients can tell refusals apart by their `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The end of the problem's `type`: `/problems#{slug}`.
    pub slug: &'static str,
    /// The HTTP status it comes with.
    pub status: u16,
    /// What happened, in a few words.
    pub title: &'static str,
    /// What it means, and what to do.
    pub meaning: &'static str,
}

/// The query holds a cursor this stream can not have given.
pub const MALFORMED_CURSOR: Kind = Kind {
    slug: "malformed-cursor",
    status: 400,
    title: "The cursor is malformed",
    meaning: "A stream goes on after the id given as last_event_id, which must be an id the same \
              stream sent before, or the word earliest or latest. Send the id as it was received, \
              or leave it out to begin anew.",
};

/// The query can not be read.
pub const MALFORMED_QUERY: Kind = Kind {
    slug: "malformed-query",
    status: 400,
    title: "The query is malformed",
    meaning: "The part of the address behind the question mark can not be read: a parameter is \
              given twice.",
};

/// There is nothing at this path.
pub const NOT_FOUND: Kind = Kind {
    slug: "not-found",
    status: 404,
    title: "There is nothing here",
    meaning: "No page, stream or file has this address.",
};

/// The path is right, the method is not.
pub const METHOD_NOT_ALLOWED: Kind = Kind {
    slug: "method-not-allowed",
    status: 405,
    title: "The method is not allowed",
    meaning: "The address is right, but does not answer this method. The allow header of the \
              response names those it answers.",
};

/// The fault is the server's.
pub const INTERNAL: Kind = Kind {
    slug: "internal",
    status: 500,
    title: "Something went wrong here",
    meaning: "The fault is the server's, and its cause is in the server's log. Trying again may \
              help.",
};

/// The server is about to stop.
pub const DRAINING: Kind = Kind {
    slug: "draining",
    status: 503,
    title: "The server is stopping",
    meaning: "The server lets its readers go before it stops. Try again after the time in the \
              retry-after header: by then it is back, or another one has taken its place.",
};

/// Every kind, in the order of the page that explains them.
pub const ALL: [Kind; 6] =
    [MALFORMED_CURSOR, MALFORMED_QUERY, NOT_FOUND, METHOD_NOT_ALLOWED, INTERNAL, DRAINING];
