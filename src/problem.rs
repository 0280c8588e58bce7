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
              given twice, or has a value that it can not have. The detail says which.",
};

/// The stream's name is not one.
pub const MALFORMED_NAME: Kind = Kind {
    slug: "malformed-name",
    status: 400,
    title: "The name of the stream is malformed",
    meaning: "A stream is named with 1 to 64 of a-z, 0-9, hyphen, underscore and full stop, \
              beginning with a letter or a digit.",
};

/// A form's fields can not be read.
pub const MALFORMED_FORM: Kind = Kind {
    slug: "malformed-form",
    status: 400,
    title: "The form is malformed",
    meaning: "The forms of the pages send the fields stream and text, or token and to, as \
              application/x-www-form-urlencoded. To publish from a program, POST the message to \
              the stream itself.",
};

/// The idempotency key can not be used.
pub const MALFORMED_KEY: Kind = Kind {
    slug: "malformed-key",
    status: 400,
    title: "The idempotency key is malformed",
    meaning: "The Idempotency-Key header holds 1 to 255 printable ASCII characters, once.",
};

/// There are too many lines for one idempotency key.
pub const TOO_MUCH_FOR_A_KEY: Kind = Kind {
    slug: "too-much-for-a-key",
    status: 400,
    title: "The upload is too large for one idempotency key",
    meaning: "With an Idempotency-Key, the lines of an upload are stored as a whole or not at all, \
              which takes up to 1024 lines and 1 MiB. Send a longer upload in pieces, each with a \
              key of its own: so it can be resumed where it was cut.",
};

/// There is no message in the body.
pub const EMPTY_MESSAGE: Kind = Kind {
    slug: "empty-message",
    status: 400,
    title: "There is no message",
    meaning: "The body of the request is the message, and it was empty: nearly always a mistake in \
              the command.",
};

/// The body is not text.
pub const NOT_UTF8: Kind = Kind {
    slug: "not-utf8",
    status: 400,
    title: "The message is not UTF-8",
    meaning: "Messages are text in UTF-8. What is binary can be sent as base64.",
};

/// The body did not arrive.
pub const INCOMPLETE_BODY: Kind = Kind {
    slug: "incomplete-body",
    status: 400,
    title: "The body did not arrive as a whole",
    meaning: "The connection or the encoding of the request's body broke off. Send it again; with \
              an Idempotency-Key that is safe.",
};

/// There is no token.
pub const TOKEN_MISSING: Kind = Kind {
    slug: "token-missing",
    status: 401,
    title: "There is no token",
    meaning: "This server asks who you are. Programs send a token as Authorization: Bearer, people \
              sign in with one on the page /sign-in. Whoever runs the server gives tokens.",
};

/// The token is not believed.
pub const TOKEN_INVALID: Kind = Kind {
    slug: "token-invalid",
    status: 401,
    title: "The token can not be verified",
    meaning: "The token is not whole, or was made with a secret that this server does not have (any \
              more), or what was sent as Authorization is not a Bearer token.",
};

/// The token was good once.
pub const TOKEN_EXPIRED: Kind = Kind {
    slug: "token-expired",
    status: 401,
    title: "The token has expired",
    meaning: "Every token is good for some time only. Whoever runs the server gives a new one.",
};

/// The token is ours, and cannot be used as it is.
pub const TOKEN_UNFIT: Kind = Kind {
    slug: "token-unfit",
    status: 401,
    title: "The token cannot be used",
    meaning: "The token was made with a secret of this server, but it is not good yet (nbf), lacks a \
              claim, or asks for something that this server does not know (crit, aud).",
};

/// Browsers would drop the token.
pub const TOKEN_TOO_LARGE: Kind = Kind {
    slug: "token-too-large",
    status: 413,
    title: "The token is too large for a browser",
    meaning: "Browsers keep 4096 bytes of a cookie and drop larger ones without a word. Programs may \
              send such a token as Authorization: Bearer; to sign in, use a shorter one.",
};

/// Plain HTTP on the port for TLS.
pub const TLS_REQUIRED: Kind = Kind {
    slug: "tls-required",
    status: 400,
    title: "This port speaks TLS",
    meaning: "What was sent to this port is plain HTTP. Write https:// in place of http://.",
};

/// The server is not known by this name.
pub const UNKNOWN_HOST: Kind = Kind {
    slug: "unknown-host",
    status: 421,
    title: "The server is not known by this name",
    meaning: "A server on a loopback address that has no secret answers to localhost, loopback \
              addresses and the names given with --allow-host, so that a page of another site cannot \
              reach it under a name of its own (DNS rebinding).",
};

/// The token is good, but not for this.
pub const NOT_PERMITTED: Kind = Kind {
    slug: "not-permitted",
    status: 403,
    title: "The token does not permit this",
    meaning: "A token names the streams that its holder may publish to, and those that they may \
              watch. This one was not among them.",
};

/// A page of another site asked.
pub const CROSS_SITE: Kind = Kind {
    slug: "cross-site",
    status: 403,
    title: "Pages of other sites may not write",
    meaning: "A browser said that a page of another site sent this. Such pages may read, where the \
              server is configured to let them (--allow-origin), but not publish, end or delete. \
              Programs that are no browsers are not concerned.",
};

/// There is no such stream.
pub const NO_SUCH_STREAM: Kind = Kind {
    slug: "no-such-stream",
    status: 404,
    title: "There is no such stream",
    meaning: "Nothing was published under this name, or the stream was deleted. The first message \
              makes a stream.",
};

/// The id is not in the log.
pub const UNKNOWN_CURSOR: Kind = Kind {
    slug: "unknown-cursor",
    status: 404,
    title: "The message is not here",
    meaning: "No message of this stream has this id: it was removed to make room, or the stream is \
              another one of the same name.",
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

/// The body took too long.
pub const REQUEST_TIMEOUT: Kind = Kind {
    slug: "request-timeout",
    status: 408,
    title: "The body took too long",
    meaning: "The body of a request must arrive in the time the server is configured to give \
              (--body-timeout). With ?lines the upload may take for ever and be silent, but a long \
              line that has begun must end within that time. While others wait for memory, at least 4 \
              KiB must come in each 10 seconds.",
};

/// The stream has ended.
pub const STREAM_ENDED: Kind = Kind {
    slug: "stream-ended",
    status: 409,
    title: "The stream has ended",
    meaning: "A stream that has ended takes no more messages. Publish under another name, or delete \
              the stream and begin anew.",
};

/// There are as many streams as there may be.
pub const TOO_MANY_STREAMS: Kind = Kind {
    slug: "too-many-streams",
    status: 409,
    title: "There are too many streams",
    meaning: "The server keeps as many streams as it is configured to (--max-streams). Delete one \
              that is not needed, or publish to one that exists.",
};

/// The message is too large.
pub const MESSAGE_TOO_LARGE: Kind = Kind {
    slug: "message-too-large",
    status: 413,
    title: "The message is too large",
    meaning: "A message has at most as many bytes as the server is configured to take \
              (--max-message-bytes).",
};

/// The body is encoded in a way that is not understood.
pub const UNSUPPORTED_ENCODING: Kind = Kind {
    slug: "unsupported-encoding",
    status: 415,
    title: "The encoding of the body is not supported",
    meaning: "A body may come as it is, or with Content-Encoding gzip or deflate.",
};

/// The body is not what its encoding says.
pub const MALFORMED_ENCODING: Kind = Kind {
    slug: "malformed-encoding",
    status: 400,
    title: "The body cannot be decoded",
    meaning: "The body is not what its Content-Encoding header says, or breaks off.",
};

/// The key belongs to another message.
pub const KEY_REUSED: Kind = Kind {
    slug: "key-reused",
    status: 422,
    title: "The idempotency key was used for another message",
    meaning: "Within 24 hours a key stands for one message of a stream. Take a new key for a new \
              message.",
};

/// Someone publishes too fast.
pub const TOO_MANY_MESSAGES: Kind = Kind {
    slug: "too-many-messages",
    status: 429,
    title: "Too many messages in too short a time",
    meaning: "Each token, or each address where there are no tokens, may publish so many messages a \
              second (--publish-rate). Nothing was stored. Go on after the time in the retry-after \
              header, or send many messages as lines (?lines): that waits by itself.",
};

/// One address watches too much.
pub const TOO_MANY_WATCHERS: Kind = Kind {
    slug: "too-many-watchers",
    status: 429,
    title: "Too many streams are open to this address",
    meaning: "One address may have so many streams of events open at the same time \
              (--max-watchers-per-address). Close one, or try again later.",
};

/// One address asks for too much at the same time.
pub const TOO_MANY_REQUESTS: Kind = Kind {
    slug: "too-many-requests",
    status: 429,
    title: "Too many requests of this address are being answered",
    meaning: "One address may have so many requests answered at the same time \
              (--max-requests-per-address), and uploads that go on are among them. Wait for an \
              answer before you ask for more.",
};

/// One address reads too fast.
pub const TOO_MANY_READS: Kind = Kind {
    slug: "too-many-reads",
    status: 429,
    title: "Too many pages in too short a time",
    meaning: "One address may read so many pages, and pages of history, a second (--read-rate); a list \
              of the streams counts for several. Go on after the time in the retry-after header, or \
              watch the events of a stream, which come by themselves.",
};

/// One address tries to sign in too often.
pub const TOO_MANY_SIGN_INS: Kind = Kind {
    slug: "too-many-sign-ins",
    status: 429,
    title: "Too many attempts to sign in",
    meaning: "One address may try to sign in so many times a minute (--sign-in-rate). Try again \
              after the time in the retry-after header.",
};

/// The fault is the server's.
pub const INTERNAL: Kind = Kind {
    slug: "internal",
    status: 500,
    title: "Something went wrong here",
    meaning: "The fault is the server's, and its cause is in the server's log. Trying again may \
              help.",
};

/// The store failed in the moment that decides. Not a 503, which says that nothing was done: what
/// repeats a 503 by itself (proxies, client libraries) would store twice.
pub const OUTCOME_UNKNOWN: Kind = Kind {
    slug: "outcome-unknown",
    status: 500,
    title: "It is not known whether this was stored",
    meaning: "The disk failed while it was written, and the server cannot tell whether what was sent \
              is stored. After the time in the retry-after header repeat it with the same \
              Idempotency-Key: if it is stored you get the first answer again, otherwise it is stored \
              now. What was sent without a key may be stored twice when it is repeated.",
};

/// The server is about to stop.
pub const DRAINING: Kind = Kind {
    slug: "draining",
    status: 503,
    title: "The server is stopping",
    meaning: "The server lets its readers go before it stops. Try again after the time in the \
              retry-after header: by then it is back, or another one has taken its place.",
};

/// As many watch as may.
pub const SERVER_FULL: Kind = Kind {
    slug: "server-full",
    status: 503,
    title: "The server has as many readers as it can serve",
    meaning: "So many streams of events may be open at the same time (--max-watchers). Try again \
              after the time in the retry-after header.",
};

/// The memory budget is used up.
pub const MEMORY_EXHAUSTED: Kind = Kind {
    slug: "memory-exhausted",
    status: 503,
    title: "The server has no memory left for this",
    meaning: "The bodies of requests and the answers that are being sent may together take so much \
              memory (--memory-budget), and those of one client a part of it. What did not fit has \
              waited for a moment. Nothing was stored (of an upload of lines without a key, nothing \
              but the lines that `taken` counts); try again after the time in the retry-after header, \
              with fewer requests at the same time.",
};

/// The store can not be written or read.
pub const STORE_UNAVAILABLE: Kind = Kind {
    slug: "store-unavailable",
    status: 503,
    title: "The store is not available",
    meaning: "The server cannot write to its disk, or not read from it. Nothing was stored (of an \
              upload of lines without a key, nothing but the lines that `taken` counts); try again \
              after the time in the retry-after header. The operator of the server finds the cause in \
              its log.",
};

/// Every kind, in the order of the page that explains them.
pub const ALL: [Kind; 40] = [
    MALFORMED_NAME,
    MALFORMED_CURSOR,
    MALFORMED_QUERY,
    MALFORMED_FORM,
    MALFORMED_KEY,
    TOO_MUCH_FOR_A_KEY,
    EMPTY_MESSAGE,
    NOT_UTF8,
    INCOMPLETE_BODY,
    TOKEN_MISSING,
    TOKEN_INVALID,
    TOKEN_EXPIRED,
    TOKEN_UNFIT,
    TOKEN_TOO_LARGE,
    NOT_PERMITTED,
    CROSS_SITE,
    TLS_REQUIRED,
    UNKNOWN_HOST,
    NO_SUCH_STREAM,
    UNKNOWN_CURSOR,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    REQUEST_TIMEOUT,
    STREAM_ENDED,
    TOO_MANY_STREAMS,
    MESSAGE_TOO_LARGE,
    UNSUPPORTED_ENCODING,
    MALFORMED_ENCODING,
    KEY_REUSED,
    TOO_MANY_MESSAGES,
    TOO_MANY_WATCHERS,
    TOO_MANY_REQUESTS,
    TOO_MANY_READS,
    TOO_MANY_SIGN_INS,
    INTERNAL,
    OUTCOME_UNKNOWN,
    SERVER_FULL,
    MEMORY_EXHAUSTED,
    DRAINING,
    STORE_UNAVAILABLE,
];
