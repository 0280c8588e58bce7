//! The table of problem types (RFC 9457, Problem Details for HTTP APIs).
//!
//! The server builds its error responses from it, and the page `/problems`, which every problem's
//! `type` refers to, explains them.

use crate::base_path::BasePath;

/// A problem type. Stable, so that clients can distinguish errors by their `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The end of the problem's `type`: `/problems#{slug}`.
    pub slug: &'static str,
    /// The HTTP status of the response.
    pub status: u16,
    /// What happened, in a few words; plain text without `<` and `&`, as is `meaning`.
    pub title: &'static str,
    /// What it means, and what to do.
    pub meaning: &'static str,
}

impl Kind {
    /// The meaning on a server below a base path: its addresses begin with it.
    pub fn meaning_below(&self, base: &BasePath) -> String {
        self.meaning.replace("/sign-in", &base.address("/sign-in"))
    }
}

/// Defines the types, and the list of them all.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:literal $slug:literal $title:literal $meaning:literal)*) => {
        $(
            $(#[$doc])*
            pub const $name: Kind =
                Kind { slug: $slug, status: $status, title: $title, meaning: $meaning };
        )*

        /// All problem types, in the order of the page `/problems`.
        pub const ALL: [Kind; [$($slug),*].len()] = [$($name),*];
    };
}

problems! {
    /// The stream's name is malformed.
    MALFORMED_NAME = 400 "malformed-name" "The name of the stream is malformed"
        "The name of a stream has 1 to 64 characters of a-z, 0-9, hyphen, underscore and full stop, \
         and begins with a letter or a digit. Up to 16 streams can be watched together, by their \
         names with commas between them; any other request is about one stream."

    /// The cursor in the query is not an id.
    MALFORMED_CURSOR = 400 "malformed-cursor" "The cursor is malformed"
        "A stream resumes after the id given as last_event_id, which must be an id that the same \
         stream sent before, or the word earliest or latest. Send the id as it was received, or \
         leave it out to start from the beginning."

    /// The query string is malformed.
    MALFORMED_QUERY = 400 "malformed-query" "The query is malformed"
        "The query string, the part of the address after the question mark, cannot be parsed: a \
         parameter is unknown, is given twice, or has an invalid value. The detail names it."

    /// The fields of a form cannot be parsed.
    MALFORMED_FORM = 400 "malformed-form" "The form is malformed"
        "The forms of the pages send the fields stream and text, or token and to, as \
         application/x-www-form-urlencoded. To publish from a program, POST the message to the \
         stream itself."

    /// The title, priority or another part of a notification is malformed.
    MALFORMED_NOTIFICATION = 400 "malformed-notification" "The notification is malformed"
        "To publish as to an ntfy server, POST text to /{topic}, with a title, priority, tags or link in \
         headers or in the query; or POST a JSON object with the fields topic and message to the base \
         address. The detail names what cannot be parsed."

    /// A notification asks for what a message cannot have.
    UNSUPPORTED_NOTIFICATION = 422 "unsupported-notification" "This is not possible with a message"
        "The sender asks for what this server does not do: delayed delivery, an e-mail, a call, a file, \
         a message that is not stored, or a template. Nothing was published. Send the message without \
         it."

    /// A GET request may publish only with a token.
    GET_NEEDS_TOKEN = 403 "get-needs-token" "A GET publishes only with a token"
        "Browsers and previews of links send GET requests without the intent to write. So one publishes \
         only on a server with a secret (--secret-file), with a token in the Authorization header. \
         Otherwise send a POST."

    /// The idempotency key is malformed.
    MALFORMED_KEY = 400 "malformed-key" "The idempotency key is malformed"
        "The Idempotency-Key header has 1 to 255 printable ASCII characters and is sent once."

    /// There are too many lines for one idempotency key.
    TOO_MUCH_FOR_A_KEY = 400 "too-much-for-a-key" "The upload is too large for one idempotency key"
        "With an Idempotency-Key, all lines of an upload are stored or none, which is limited to \
         1024 lines and 1 MiB. Send a longer upload in parts, each with its own key: then it can be \
         resumed where it was interrupted."

    /// There is no message in the body.
    EMPTY_MESSAGE = 400 "empty-message" "There is no message"
        "The body of the request is the message, and it was empty, which is nearly always a mistake \
         in the command."

    /// The body is not UTF-8.
    NOT_UTF8 = 400 "not-utf8" "The message is not UTF-8"
        "Messages are text in UTF-8. Binary data can be sent as base64."

    /// The body is incomplete.
    INCOMPLETE_BODY = 400 "incomplete-body" "The body is incomplete"
        "The connection was closed, or the transfer encoding was invalid, before the whole body of \
         the request had arrived. Send it again; with an Idempotency-Key that is safe."

    /// The request has no bearer token.
    TOKEN_MISSING = 401 "token-missing" "There is no token"
        "This server requires a token. Programs send it as Authorization: Bearer, or as the password of Basic; people sign in \
         with it on the page /sign-in. Tokens come from the operator of the server."

    /// The token cannot be verified.
    TOKEN_INVALID = 401 "token-invalid" "The token cannot be verified"
        "The token is incomplete, or was signed with a secret that this server does not have or no \
         longer has, or the Authorization header does not hold a token, as Bearer or as the password of Basic."

    /// The token has expired.
    TOKEN_EXPIRED = 401 "token-expired" "The token has expired"
        "Every token is valid for a limited time. Get a new one from the operator of the server."

    /// The token was signed by this server, and its claims do not allow its use.
    TOKEN_UNFIT = 401 "token-unfit" "The token cannot be used"
        "The token was signed with a secret of this server, but it is not valid yet (nbf), lacks a \
         claim, or requires something that this server does not support (crit, aud)."

    /// A webhook sends neither a token nor a signature.
    SIGNATURE_MISSING = 401 "signature-missing" "There is neither a token nor a signature"
        "A webhook signs what it sends with the secret that `tidings token --webhook` prints for one \
         stream, or sends a token as Authorization: Bearer. Put one of these into its settings."

    /// The signature of a webhook is not valid.
    SIGNATURE_INVALID = 403 "signature-invalid" "The signature is not valid"
        "The signature of the webhook was not made with the secret of this stream, or the payload was \
         changed on its way. `tidings token --webhook` prints the secret; it changes with the secret of \
         the server."

    /// The payload of a webhook cannot be read.
    MALFORMED_PAYLOAD = 400 "malformed-payload" "The payload cannot be read"
        "The payload of a webhook is JSON: of GitHub, GitLab, Gitea, Alertmanager or Grafana, or any \
         other together with ?show=, which says what to show of it."

    /// The payload of a webhook is too large.
    PAYLOAD_TOO_LARGE = 413 "payload-too-large" "The payload is too large"
        "The payload of a webhook may have 1 MiB. Let the sender leave out what is not needed."

    /// The token does not fit into a cookie.
    TOKEN_TOO_LARGE = 413 "token-too-large" "The token is too large for a browser"
        "Browsers drop cookies of more than 4096 bytes without an error. Programs may send such a \
         token as Authorization: Bearer; to sign in, use a shorter one."

    /// The token is valid and does not permit this.
    NOT_PERMITTED = 403 "not-permitted" "The token does not permit this"
        "A token names the streams that its holder may publish to and those that its holder may \
         watch. This stream is not among them."

    /// A page of another site sent the request (protection against CSRF).
    CROSS_SITE = 403 "cross-site" "Pages of other sites may not write"
        "The browser reports that a page of another site sent this request. Such pages may read, \
         where the server is configured to allow it (--allow-origin), but not publish, end or \
         delete. This does not concern programs that are not browsers."

    /// Plain HTTP was sent to the port for TLS.
    TLS_REQUIRED = 400 "tls-required" "This port requires TLS"
        "Plain HTTP was sent to a port for HTTPS. Use https:// in place of http://."

    /// The host name is not allowed (protection against DNS rebinding).
    UNKNOWN_HOST = 421 "unknown-host" "The server is not known by this name"
        "A server on a loopback address that has no secret accepts only localhost, loopback \
         addresses and the names given with --allow-host, so that a page of another site cannot \
         reach it under that site's name (DNS rebinding)."

    /// There is no such stream.
    NO_SUCH_STREAM = 404 "no-such-stream" "There is no such stream"
        "Nothing was published under this name, or the stream was deleted. The first message \
         creates a stream."

    /// The id is not in the log.
    UNKNOWN_CURSOR = 404 "unknown-cursor" "The message is not here"
        "No message of this stream has this id: it was removed to make room, or the stream was \
         deleted and created again."

    /// There is nothing at this path.
    NOT_FOUND = 404 "not-found" "There is nothing here"
        "No page, stream or file has this address."

    /// The path exists and does not allow the method.
    METHOD_NOT_ALLOWED = 405 "method-not-allowed" "The method is not allowed"
        "The address exists, but does not allow this method. The allow header of the response lists \
         the methods that it allows."

    /// The body did not arrive in time.
    REQUEST_TIMEOUT = 408 "request-timeout" "The body took too long"
        "The body of a request must arrive within the time that the server is configured for \
         (--body-timeout). With ?lines there is no time limit for the upload, but a long line that \
         has begun must end within that time. While other requests wait for memory, at least 4 KiB \
         must arrive every 10 seconds."

    /// The stream has ended.
    STREAM_ENDED = 409 "stream-ended" "The stream has ended"
        "A stream that has ended accepts no more messages. Publish under another name, or delete \
         the stream and start it again."

    /// The maximum number of streams is reached.
    TOO_MANY_STREAMS = 409 "too-many-streams" "There are too many streams"
        "The server keeps a limited number of streams (--max-streams). Delete one that is not \
         needed, or publish to one that exists."

    /// The message is too large.
    MESSAGE_TOO_LARGE = 413 "message-too-large" "The message is too large"
        "The message has more bytes than the server is configured to accept (--max-message-bytes)."

    /// The content encoding of the body is not supported.
    UNSUPPORTED_ENCODING = 415 "unsupported-encoding" "The encoding of the body is not supported"
        "A body may be sent without a Content-Encoding, or with gzip or deflate."

    /// The body does not match its content encoding.
    MALFORMED_ENCODING = 400 "malformed-encoding" "The body cannot be decoded"
        "The body does not have the encoding of its Content-Encoding header, or is incomplete."

    /// The idempotency key was used for another message.
    KEY_REUSED = 422 "key-reused" "The idempotency key was used for another message"
        "Within 24 hours a key identifies one message of a stream. Use a new key for a new message."

    /// The rate limit for publishing is exceeded.
    TOO_MANY_MESSAGES = 429 "too-many-messages" "Too many messages in too short a time"
        "The number of messages that each token, or each address where there are no tokens, may \
         publish per second is limited (--publish-rate). Nothing was stored. Continue after the \
         time in the retry-after header, or send many messages as lines (?lines): such an upload is \
         slowed down by itself."

    /// One address has too many event streams open.
    TOO_MANY_WATCHERS = 429 "too-many-watchers" "Too many streams are open to this address"
        "The number of event streams that one address may have open at the same time is limited \
         (--max-watchers-per-address). Close one, or try again later."

    /// One address has too many concurrent requests.
    TOO_MANY_REQUESTS = 429 "too-many-requests" "Too many concurrent requests from this address"
        "The number of requests that one address may send at the same time is limited \
         (--max-requests-per-address), and uploads in progress count. Wait for a response before \
         you send the next request."

    /// The rate limit for reading is exceeded.
    TOO_MANY_READS = 429 "too-many-reads" "Too many pages in too short a time"
        "The number of pages, and pages of history, that one address may read per second is limited \
         (--read-rate); a list of the streams counts as several. Continue after the time in the \
         retry-after header, or watch the events of a stream, which are not limited by this."

    /// The rate limit for signing in is exceeded.
    TOO_MANY_SIGN_INS = 429 "too-many-sign-ins" "Too many attempts to sign in"
        "The number of attempts to sign in that one address may make per minute is limited \
         (--sign-in-rate). Try again after the time in the retry-after header."

    /// An internal error of the server.
    INTERNAL = 500 "internal" "Internal server error"
        "The server has failed, and the cause is in its log. Trying again may help."

    /// The store failed during the commit, so that the outcome is unknown. Not a 503, which means that
    /// nothing was done: proxies and client libraries that repeat a 503 automatically would store twice.
    OUTCOME_UNKNOWN = 500 "outcome-unknown" "It is not known whether this was stored"
        "The disk failed during a write, and the server does not know whether the message is \
         stored. After the time in the retry-after header, repeat the request with the same \
         Idempotency-Key: if the message is stored you get the first response again, otherwise it \
         is stored then. A request without a key may be stored twice when it is repeated."

    /// The maximum number of watchers is reached.
    SERVER_FULL = 503 "server-full" "The server has as many readers as it can serve"
        "The number of event streams that may be open at the same time is limited (--max-watchers). \
         Try again after the time in the retry-after header."

    /// The memory budget is used up.
    MEMORY_EXHAUSTED = 503 "memory-exhausted" "The server has no memory left for this"
        "The memory for the bodies of requests and for responses is limited (--memory-budget), and \
         one client may use a part of it. This request has waited for memory for a short time. \
         Nothing was stored (of an upload of lines without a key, only the lines that `taken` \
         counts). Try again after the time in the retry-after header, with fewer concurrent \
         requests."

    /// The server is shutting down.
    DRAINING = 503 "draining" "The server is stopping"
        "The server closes its connections before it stops. Try again after the time in the \
         retry-after header, when the server has restarted or another one has replaced it."

    /// The store cannot be written or read.
    STORE_UNAVAILABLE = 503 "store-unavailable" "The store is not available"
        "The server cannot write to its disk or read from it. Nothing was stored (of an upload of \
         lines without a key, only the lines that `taken` counts). Try again after the time in the \
         retry-after header. The operator of the server finds the cause in its log."
}
