//! The HTTP interface as tables of requests and responses (see `support::table` for the format).

use crate::support::{TestApp, table};

const PUBLISH: &str = r#"
    POST /streams/news       | -                                | one                 | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/news       | content-type: text/plain         | two                 | 201 | json | {"id":"T-2","at":"AT"}
    POST /streams/news       | content-type: application/json   | {"a":"three"}       | 201 | json | {"id":"T-3","at":"AT"}
    POST /streams/news       | content-type: image/png          | \r\nfour\0          | 201 | json | {"id":"T-4","at":"AT"}
    POST /streams/news       | content-type: nonsense           | \n                  | 201 | json | {"id":"T-5","at":"AT"}
    POST /streams/news?x=y   | -                                | an unknown parameter | 400 | problem | malformed-query parameter
    POST /streams/news       | -                                | no parameter        | 201 | json | {"id":"T-6","at":"AT"}
    POST /streams/news       | -                                | {x*65536}           | 201 | json | {"id":"T-7","at":"AT"}
    POST /streams/0          | -                                | the shortest name   | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/a-._z      | -                                | every kind of character | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/{a*64}     | -                                | the longest name    | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/n%65ws     | -                                | a spelling of news  | 201 | json | {"id":"T-8","at":"AT"}

    POST /streams/news       | -                                | -                   | 400 | problem | empty-message
    POST /streams/news       | -                                | abc\xff             | 400 | problem | not-utf8 byte 3
    POST /streams/news       | -                                | \xed\xa0\x80        | 400 | problem | not-utf8
    POST /streams/news       | -                                | {x*65537}           | 413 | problem | message-too-large 65536
    POST /streams/news       | -                                | {x*3000000}         | 413 | problem | message-too-large
    POST /streams/news?lines=1 | -                              | one                 | 400 | problem | malformed-query
    POST /streams/news?lines&lines | -                          | one                 | 400 | problem | malformed-query
"#;

const NAMES: &str = r"
    POST /streams/{a*65}     | - | x | 400 | problem | malformed-name 64
    POST /streams/News       | - | x | 400 | problem | malformed-name
    POST /streams/.news      | - | x | 400 | problem | malformed-name
    POST /streams/-news      | - | x | 400 | problem | malformed-name
    POST /streams/_          | - | x | 400 | problem | malformed-name
    POST /streams/a%2Fb      | - | x | 400 | problem | malformed-name
    POST /streams/%2E%2E%2Fa | - | x | 400 | problem | malformed-name
    POST /streams/%00        | - | x | 400 | problem | malformed-name
    POST /streams/a%00       | - | x | 400 | problem | malformed-name
    POST /streams/%ff        | - | x | 400 | problem | malformed-name
    POST /streams/%C3%BC     | - | x | 400 | problem | malformed-name
    POST /streams/%C5%BF     | - | x | 400 | problem | malformed-name
    POST /streams/a%20b      | - | x | 400 | problem | malformed-name
    POST /streams/a+b        | - | x | 400 | problem | malformed-name
    POST /streams/a%0a       | - | x | 400 | problem | malformed-name
    POST /streams/%          | - | x | 400 | problem | malformed-name
    POST /streams/a,a        | - | x | 400 | problem | malformed-name one stream
    DELETE /streams/a,a      | - | - | 400 | problem | malformed-name one stream
    GET /streams/a,a/messages | - | - | 400 | problem | malformed-name one stream
    POST /a,a                | - | x | 400 | problem | malformed-name one stream
    POST /streams/*          | - | x | 400 | problem | malformed-name
    POST /streams/A?lines    | - | x | 400 | problem | malformed-name
    POST /streams/A/end      | - | x | 400 | problem | malformed-name
    DELETE /streams/A        | - | - | 400 | problem | malformed-name
    GET /streams/A/events    | - | - | 400 | problem | malformed-name
    GET /streams/A/messages  | - | - | 400 | problem | malformed-name
    POST /streams/           | - | x | 400 | problem | malformed-notification
    POST /streams/a/b        | - | x | 404 | problem | not-found
    GET /streams/a/messages/ | - | - | 404 | problem | no-such-stream
";

const LINES: &str = r#"
    POST /streams/log?lines  | - | one\ntwo\n                | 200 | json | {"taken":2,"altered":0,"last_id":"T-2"}
    POST /streams/log?lines  | - | three\r\nfour\r\n         | 200 | json | {"taken":2,"altered":0,"last_id":"T-4"}
    POST /streams/log?lines= | - | five, without an end      | 200 | json | {"taken":1,"altered":0,"last_id":"T-5"}
    POST /streams/log?lines  | - | \n\r\n\n six \n\n         | 200 | json | {"taken":1,"altered":0,"last_id":"T-6"}
    POST /streams/log?lines  | - | seven\r\r\n               | 200 | json | {"taken":1,"altered":0,"last_id":"T-7"}
    POST /streams/log?lines  | - | {x*65536}\r\n{y*65536}    | 200 | json | {"taken":2,"altered":0,"last_id":"T-9"}
    POST /streams/log?lines  | - | -                         | 200 | json | {"taken":0,"altered":0,"last_id":null}
    POST /streams/none?lines | - | \n\n                      | 200 | json | {"taken":0,"altered":0,"last_id":null}
    GET /streams/none/messages | - | -                       | 404 | problem | no-such-stream
    POST /streams/log?lines=strict | - | a\nb\n\xff\nc\n           | 400 | problem | not-utf8 "taken":2; "last_id":"T-11"
    POST /streams/log?lines=strict | - | \xff\nc\n                 | 400 | problem | not-utf8 "taken":0; "last_id":null
    POST /streams/log?lines=strict | - | a\n{x*65537}\nc\n         | 413 | problem | message-too-large "taken":1; "last_id":"T-12"
    POST /streams/log?lines=strict | - | a\n{x*200000}             | 413 | problem | message-too-large "taken":1; "last_id":"T-13"
    POST /streams/log?lines=strict | - | a\nb\xe2\x82              | 400 | problem | not-utf8 "taken":1; "last_id":"T-14"
    POST /streams/log?lines  | idempotency-key: k | a\nb\n   | 200 | json | {"taken":2,"altered":0,"last_id":"T-16"} | idempotency-replayed: (no such header)
    POST /streams/log?lines  | idempotency-key: k | a\n\nb   | 200 | json | {"taken":2,"altered":0,"last_id":"T-16"} | idempotency-replayed: true
    POST /streams/log?lines  | idempotency-key: k | a\nc\n   | 422 | problem | key-reused
    POST /streams/log?lines  | idempotency-key: k | a\n      | 422 | problem | key-reused
    POST /streams/log?lines  | idempotency-key: l | \n\n     | 200 | json | {"taken":0,"altered":0,"last_id":null}
    POST /streams/log?lines  | idempotency-key: l | \xff     | 200 | json | {"taken":1,"altered":1,"last_id":"T-17"}
    POST /streams/log?lines=strict | idempotency-key: m | a\nb\n\xff\n | 400 | problem | not-utf8
    POST /streams/log/end    | - | -                         | 200 | json | {"id":"T-18","at":"AT"}
    POST /streams/log?lines  | idempotency-key: k | a\nb\n   | 200 | json | {"taken":2,"altered":0,"last_id":"T-16"} | idempotency-replayed: true
    POST /streams/log?lines  | idempotency-key: m | late\n   | 409 | problem | stream-ended
    POST /streams/log?lines  | - | late\n                    | 409 | problem | stream-ended "taken":0; "last_id":null
    GET /streams/log/messages?limit=7 | accept: application/x-ndjson | - | 200 | ndjson | {"id":"T-1","at":"AT","data":"one"}\n{"id":"T-2","at":"AT","data":"two"}\n{"id":"T-3","at":"AT","data":"three"}\n{"id":"T-4","at":"AT","data":"four"}\n{"id":"T-5","at":"AT","data":"five, without an end"}\n{"id":"T-6","at":"AT","data":" six "}\n{"id":"T-7","at":"AT","data":"seven"}\n
"#;

const KEYS: &str = r#"
    POST /streams/keys       | idempotency-key: k1              | one | 201 | json | {"id":"T-1","at":"AT"} | idempotency-replayed: (no such header)
    POST /streams/keys       | idempotency-key: k1              | one | 201 | json | {"id":"T-1","at":"AT"} | idempotency-replayed: true
    POST /streams/keys       | idempotency-key: k2              | one | 201 | json | {"id":"T-2","at":"AT"} | idempotency-replayed: (no such header)
    POST /streams/keys       | idempotency-key: K1              | one | 201 | json | {"id":"T-3","at":"AT"}
    POST /streams/keys       | idempotency-key: k1              | two | 422 | problem | key-reused
    POST /streams/keys       | idempotency-key: k1              | one | 201 | json | {"id":"T-1","at":"AT"} | idempotency-replayed: true
    POST /streams/others     | idempotency-key: k1              | two | 201 | json | {"id":"T-1","at":"AT"} | idempotency-replayed: (no such header)
    POST /streams/keys       | idempotency-key: {k*255}         | one | 201 | json | {"id":"T-4","at":"AT"}
    POST /streams/keys       | idempotency-key: a "key" ~!      | one | 201 | json | {"id":"T-5","at":"AT"}
    POST /streams/keys       | idempotency-key: {k*256}         | one | 400 | problem | malformed-key 255
    POST /streams/keys       | idempotency-key:                 | one | 400 | problem | malformed-key
    POST /streams/keys       | idempotency-key: k\xc3\xa9       | one | 400 | problem | malformed-key
    POST /streams/keys       | idempotency-key: k\tk            | one | 400 | problem | malformed-key
    POST /streams/keys       | idempotency-key: a & idempotency-key: a | one | 400 | problem | malformed-key
    POST /streams/keys       | idempotency-key: k3              | -   | 400 | problem | empty-message
    POST /streams/keys       | idempotency-key: k3              | one | 201 | json | {"id":"T-6","at":"AT"}
    POST /streams/keys/end   | -                                | -   | 200 | json | {"id":"T-7","at":"AT"}
    POST /streams/keys       | idempotency-key: k1              | one | 201 | json | {"id":"T-1","at":"AT"} | idempotency-replayed: true
    POST /streams/keys       | idempotency-key: k1              | two | 422 | problem | key-reused
    POST /streams/keys       | idempotency-key: k4              | one | 409 | problem | stream-ended
    DELETE /streams/keys     | -                                | -   | 204 | - | -
    POST /streams/keys       | idempotency-key: k1              | two | 201 | json | {"id":"T-8","at":"AT"} | idempotency-replayed: (no such header)
"#;

const END_AND_DELETE: &str = r#"
    POST /streams/play/end    | - | -            | 404 | problem | no-such-stream
    DELETE /streams/play      | - | -            | 404 | problem | no-such-stream
    POST /streams/play        | - | one          | 201 | json | {"id":"T-1","at":"AT"}
    POST /streams/play/end    | - | \xff         | 400 | problem | not-utf8
    POST /streams/play/end    | - | {x*65537}    | 413 | problem | message-too-large
    POST /streams/play/end    | - | curtain      | 200 | json | {"id":"T-2","at":"AT"}
    POST /streams/play/end    | - | again        | 409 | problem | stream-ended
    POST /streams/play        | - | two          | 409 | problem | stream-ended
    GET /streams/play/messages | - | -           | 200 | json | {"messages":[{"id":"T-1","at":"AT","data":"one"}],"next":null,"ended":{"id":"T-2","at":"AT","data":"curtain"}}
    DELETE /streams/play      | - | -            | 204 | - | -
    DELETE /streams/play      | - | -            | 404 | problem | no-such-stream
    GET /streams/play/messages | - | -           | 404 | problem | no-such-stream
    POST /streams/play        | - | recreated    | 201 | json | {"id":"T-3","at":"AT"}
    POST /streams/play/end    | - | -            | 200 | json | {"id":"T-4","at":"AT"}
    GET /streams/play/messages | - | -           | 200 | json | …"ended":{"id":"T-4","at":"AT","data":"End of the stream"}}
"#;

const HISTORY: &str = r#"
    GET /streams/book/messages                   | - | -                  | 404 | problem | no-such-stream
    POST /streams/book?lines                     | - | a\nb\nc\nd\ne\n    | 200 | json | {"taken":5,"altered":0,"last_id":"T-5"}
    GET /streams/book/messages                   | - | - | 200 | json | {"messages":[{"id":"T-1","at":"AT","data":"a"},…{"id":"T-5","at":"AT","data":"e"}],"next":null,"ended":null} | link: (no such header) & cache-control: private, no-cache
    GET /streams/book/messages?limit=2           | - | - | 200 | json | {"messages":[{"id":"T-1",…},{"id":"T-2",…}],"next":"T-2","ended":null} | link: </streams/book/messages?after=T-2&limit=2>; rel="next"
    GET /streams/book/messages?after=T-2&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-3",…},{"id":"T-4",…}],"next":"T-4","ended":null}
    GET /streams/book/messages?after=T-4&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-5","at":"AT","data":"e"}],"next":null,"ended":null} | link: (no such header)
    GET /streams/book/messages?after=T-3&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-4",…},{"id":"T-5",…}],"next":null,"ended":null}
    GET /streams/book/messages?after=T-5         | - | - | 200 | json | {"messages":[],"next":null,"ended":null}
    GET /streams/book/messages?after=earliest&limit=1 | - | - | 200 | json | {"messages":[{"id":"T-1",…}],"next":"T-1","ended":null}
    GET /streams/book/messages?after=latest      | - | - | 200 | json | {"messages":[],"next":null,"ended":null}
    GET /streams/book/messages?before=latest&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-4",…},{"id":"T-5",…}],"next":"T-4","ended":null} | link: </streams/book/messages?before=T-4&limit=2>; rel="next"
    GET /streams/book/messages?before=T-4&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-2",…},{"id":"T-3",…}],"next":"T-2","ended":null}
    GET /streams/book/messages?before=T-2&limit=2 | - | - | 200 | json | {"messages":[{"id":"T-1","at":"AT","data":"a"}],"next":null,"ended":null}
    GET /streams/book/messages?before=T-1        | - | - | 200 | json | {"messages":[],"next":null,"ended":null}
    GET /streams/book/messages?before=earliest   | - | - | 200 | json | {"messages":[],"next":null,"ended":null}
    GET /streams/book/messages?limit=1000        | - | - | 200 | json | {"messages":[…],"next":null,"ended":null}
    GET /streams/book/messages?limit=1&after=T-4 | accept: application/x-ndjson | - | 200 | ndjson | {"id":"T-5","at":"AT","data":"e"}\n | link: (no such header)
    GET /streams/book/messages?limit=1&after=T-3 | accept: application/x-ndjson | - | 200 | ndjson | {"id":"T-4","at":"AT","data":"d"}\n | link: </streams/book/messages?after=T-4&limit=1>; rel="next"
    GET /streams/book/messages?after=T-5         | accept: application/x-ndjson | - | 200 | ndjson | -
    GET /streams/book/messages?after=T-5         | accept: text/html | - | 200 | json | {"messages":[],"next":null,"ended":null}

    GET /streams/book/messages?limit=0           | - | - | 400 | problem | malformed-query 1000
    GET /streams/book/messages?limit=1001        | - | - | 400 | problem | malformed-query 1000
    GET /streams/book/messages?limit=abc         | - | - | 400 | problem | malformed-query
    GET /streams/book/messages?limit=-1          | - | - | 400 | problem | malformed-query
    GET /streams/book/messages?limit=            | - | - | 400 | problem | malformed-query
    GET /streams/book/messages?limit=99999999999999999999 | - | - | 400 | problem | malformed-query
    GET /streams/book/messages?after=T-1&before=T-3 | - | - | 400 | problem | malformed-query both
    GET /streams/book/messages?after=T-1&after=T-1 | - | - | 400 | problem | malformed-query
    GET /streams/book/messages?after=yesterday   | - | - | 400 | problem | malformed-cursor
    GET /streams/book/messages?before=1-2-3      | - | - | 400 | problem | malformed-cursor
    GET /streams/book/messages?before=%ff        | - | - | 400 | problem | malformed-cursor
    GET /streams/book/messages?after=            | - | - | 200 | json | {"messages":[{"id":"T-1",…
    GET /streams/book/messages?after=T-1%00      | - | - | 400 | problem | malformed-cursor
    GET /streams/book/messages?after=1000000000000-3 | - | - | 404 | problem | unknown-cursor
    GET /streams/book/messages?before=1000000000000-3 | - | - | 404 | problem | unknown-cursor
    GET /streams/book/messages?after=18446744073709551615-18446744073709551615 | - | - | 404 | problem | unknown-cursor
    GET /streams/book/messages?after=0-0         | - | - | 200 | json | {"messages":[{"id":"T-1",…
    GET /streams/none/messages?after=1000000000000-3 | - | - | 404 | problem | no-such-stream

    POST /streams/book/end                       | - | z | 200 | json | {"id":"T-6","at":"AT"}
    GET /streams/book/messages?after=T-5         | - | - | 200 | json | {"messages":[],"next":null,"ended":{"id":"T-6","at":"AT","data":"z"}}
    GET /streams/book/messages?after=T-6         | - | - | 200 | json | {"messages":[],"next":null,"ended":{"id":"T-6","at":"AT","data":"z"}}
    GET /streams/book/messages?before=T-6&limit=1 | - | - | 200 | json | {"messages":[{"id":"T-5",…}],"next":"T-5",…}
    GET /streams/book/messages?before=latest&limit=1 | - | - | 200 | json | {"messages":[{"id":"T-5",…}],"next":"T-5",…}
"#;

const EVENTS: &str = r#"
    POST /streams/radio?lines                    | - | a\nb\nc\n | 200 | json | {…}
    GET /streams/radio/events                    | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-1\ndata: a\n\nevent: new_message\nid: T-2\ndata: b\n\nevent: new_message\nid: T-3\ndata: c\n\n | cache-control: no-cache, no-transform & x-accel-buffering: no
    GET /streams/radio/events?last_event_id=earliest | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-1\ndata: a\n\n
    GET /streams/radio/events?last_event_id=     | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-1\ndata: a\n\n
    GET /streams/radio/events?last_event_id=latest | - | - | 200 | sse | retry: 15000\nevent: ping\nid: T-3\ndata: {}\n\n
    GET /streams/radio/events                    | last-event-id: latest | - | 200 | sse | retry: 15000\nevent: ping\nid: T-3\ndata: {}\n\n
    GET /streams/radio/events?last_event_id=T-2  | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\ndata: c\n\n
    GET /streams/radio/events?last_event_id=T-3  | - | - | 200 | sse | retry: 15000\nevent: ping\nid: T-3\ndata: {}\n\n
    GET /streams/radio/events                    | last-event-id: T-2 | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\ndata: c\n\n
    GET /streams/radio/events?last_event_id=T-1  | last-event-id: T-2 | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\n
    GET /streams/radio/events?last_event_id=earliest | last-event-id: T-3 | - | 200 | sse | retry: 15000\nevent: ping\nid: T-3\ndata: {}\n\n
    GET /streams/radio/events?last_event_id=rubbish | last-event-id: T-3 | - | 200 | sse | retry: 15000\nevent: ping\nid: T-3\ndata: {}\n\n
    GET /streams/radio/events?last_event_id=T-2  | last-event-id: | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-3\n

    GET /streams/radio/events?last_event_id=rubbish | - | - | 400 | problem | malformed-cursor earliest
    GET /streams/radio/events?last_event_id=1-2-3 | - | - | 400 | problem | malformed-cursor
    GET /streams/radio/events?last_event_id=%ff  | - | - | 400 | problem | malformed-cursor
    GET /streams/radio/events?last_event_id=T-1&last_event_id=T-1 | - | - | 400 | problem | malformed-query
    GET /streams/radio/events                    | last-event-id: rubbish | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"unknown-cursor","oldest":"T-1"}\n\nevent: new_message\nid: T-1\ndata: a\n\n
    GET /streams/radio/events                    | last-event-id: \xff | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"unknown-cursor","oldest":"T-1"}\n\nevent: new_message\nid: T-1\ndata: a\n\n
    GET /streams/radio/events                    | last-event-id: 1000000000000-2 | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"unknown-cursor","oldest":"T-1"}\n\nevent: new_message\nid: T-1\ndata: a\n\n
    GET /streams/radio/events?last_event_id=1000000000000-2 | - | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"unknown-cursor","oldest":"T-1"}\n\nevent: new_message\nid: T-1\ndata: a\n\n
    GET /streams/radio/events?last_event_id=0-1  | - | - | 200 | sse | retry: 15000\nevent: reset\n
    GET /streams/radio/events?last_event_id=0-0  | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-1\n
    GET /streams/radio/events?last_event_id=18446744073709551615-18446744073709551615 | - | - | 200 | sse | retry: 15000\nevent: reset\n

    GET /streams/none/events                     | - | - | 200 | sse | retry: 15000\nevent: ping\ndata: {}\n\n
    GET /streams/none/events?last_event_id=latest | - | - | 200 | sse | retry: 15000\nevent: ping\nid: 0-0\ndata: {}\n\n
    GET /streams/none/events                     | last-event-id: 1000000000000-2 | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"unknown-cursor","oldest":null}\n\n

    POST /streams/radio/end                      | - | bye | 200 | json | {…}
    GET /streams/radio/events                    | - | - | 200 | sse | retry: 15000\nevent: new_message\nid: T-1\ndata: a\n\nevent: new_message\nid: T-2\ndata: b\n\nevent: new_message\nid: T-3\ndata: c\n\nevent: end_event\nid: T-4\ndata: bye\n\n
    GET /streams/radio/events?last_event_id=T-3  | - | - | 200 | sse | retry: 15000\nevent: end_event\nid: T-4\ndata: bye\n\n
    GET /streams/radio/events?last_event_id=latest | - | - | 200 | sse | retry: 15000\nevent: end_event\nid: T-4\ndata: bye\n\n
    GET /streams/radio/events?last_event_id=T-4  | - | - | 204 | - | -
    GET /streams/radio/events                    | last-event-id: T-4 | - | 204 | - | -
    GET /streams/radio/events?last_event_id=T-1  | last-event-id: T-4 | - | 204 | - | -
    GET /streams/radio/events                    | last-event-id: 1000000000000-4 | - | 200 | sse | retry: 15000\nevent: reset\ndata: {"reason":"unknown-cursor","oldest":"T-1"}\n\nevent: new_message\nid: T-1\ndata: a\n\n
"#;

const METHODS: &str = r"
    PUT /streams/a           | - | x | 201 | json | {…}
    PATCH /streams/a         | - | x | 405 | problem | method-not-allowed | allow: …DELETE…
    GET /streams/a/end       | - | - | 405 | problem | method-not-allowed | allow: POST
    DELETE /streams/a/end    | - | - | 405 | problem | method-not-allowed | allow: POST
    POST /streams/a/events   | - | x | 405 | problem | method-not-allowed | allow: GET,HEAD
    DELETE /streams/a/events | - | - | 405 | problem | method-not-allowed | allow: GET,HEAD
    POST /streams/a/messages | - | x | 405 | problem | method-not-allowed | allow: GET,HEAD
    QUERY /streams/a/messages | - | - | 405 | problem | method-not-allowed | allow: GET,HEAD
    HEAD /a/publish          | - | - | 405 | application/problem+json | - | allow: GET
    POST /api/publish        | - | x | 400 | problem | malformed-form
    POST /api/end            | - | stream=a | 400 | problem | malformed-form
    GET /api/publish         | - | - | 405 | problem | method-not-allowed | allow: POST
    POST /streams/a          | sec-fetch-site: cross-site | x | 403 | problem | cross-site
    POST /streams/a/end      | sec-fetch-site: same-site | - | 403 | problem | cross-site
    POST /streams/a          | origin: https://elsewhere.example | x | 403 | problem | cross-site
    DELETE /streams/a        | origin: null | - | 403 | problem | cross-site
    POST /api/publish        | sec-fetch-site: cross-site | stream=a&text=x | 403 | problem | cross-site
    POST /streams/a          | sec-fetch-site: same-origin | x | 201 | json | {…}
    GET /streams/%ff         | - | - | 400 | text/html; charset=utf-8 | …The name of the stream is malformed…
    HEAD /streams/a/events   | - | - | 200 | sse | -
";

const TOO_MANY: &str = r#"
    POST /streams/a          | - | 1     | 201 | json | {…}
    POST /streams/b          | - | 1     | 201 | json | {…}
    POST /streams/c          | - | 1     | 409 | problem | too-many-streams
    POST /streams/c?lines    | - | 1\n2\n | 409 | problem | too-many-streams "taken":0; "last_id":null
    POST /streams/a          | - | 2     | 201 | json | {"id":"T-2","at":"AT"}
    POST /streams/b/end      | - | -     | 200 | json | {…}
    POST /streams/c          | - | 1     | 409 | problem | too-many-streams
    DELETE /streams/b        | - | -     | 204 | - | -
    POST /streams/c          | - | 1     | 201 | json | {…}
    GET /streams/b/events    | - | -     | 200 | sse | retry: 15000\nevent: ping\ndata: {}\n\n
"#;

#[tokio::test]
async fn publishing_responds_as_specified() {
    table::check(&TestApp::start(&[]).await, PUBLISH).await;
}

#[tokio::test]
async fn malformed_stream_names_are_refused() {
    table::check(&TestApp::start(&[]).await, NAMES).await;
}

#[tokio::test]
async fn uploads_of_lines_respond_as_specified() {
    table::check(&TestApp::start(&[]).await, LINES).await;
}

#[tokio::test]
async fn a_retry_with_its_key_is_stored_once() {
    table::check(&TestApp::start(&[]).await, KEYS).await;
}

#[tokio::test]
async fn streams_can_be_ended_and_deleted() {
    table::check(&TestApp::start(&[]).await, END_AND_DELETE).await;
}

#[tokio::test]
async fn the_history_is_paged_by_cursor() {
    table::check(&TestApp::start(&[]).await, HISTORY).await;
}

#[tokio::test]
async fn an_event_stream_starts_after_its_cursor() {
    table::check(&TestApp::start(&[]).await, EVENTS).await;
}

#[tokio::test]
async fn unsupported_methods_and_cross_site_requests_are_refused() {
    table::check(&TestApp::start(&[]).await, METHODS).await;
}

#[tokio::test]
async fn the_number_of_streams_is_limited() {
    table::check(&TestApp::start(&["--max-streams", "2"]).await, TOO_MANY).await;
}

#[test]
fn every_problem_is_tested() {
    /// Problems that take more than one request, with the test of each.
    const TESTED_ELSEWHERE: [(&str, &str); 30] = [
        ("signature-missing", "webhook::a_webhook_needs_its_secret_or_a_token"),
        ("signature-invalid", "webhook::a_webhook_needs_its_secret_or_a_token"),
        ("malformed-payload", "webhook::what_cannot_be_read_is_refused"),
        ("payload-too-large", "webhook::what_cannot_be_read_is_refused"),
        ("unsupported-notification", "ntfy::what_a_message_cannot_have_is_refused"),
        ("get-needs-token", "ntfy::a_token_is_a_bearer_token_or_a_password"),
        ("too-much-for-a-key", "publish::an_upload_is_resumed_in_parts_with_keys"),
        ("incomplete-body", "publish::an_incomplete_body_is_not_published"),
        ("request-timeout", "connections::a_slow_request_body_times_out"),
        ("token-missing", "access::each_request_is_allowed_or_refused_by_its_token"),
        ("token-invalid", "access::each_request_is_allowed_or_refused_by_its_token"),
        ("token-expired", "access::each_request_is_allowed_or_refused_by_its_token"),
        ("not-permitted", "access::each_request_is_allowed_or_refused_by_its_token"),
        ("token-unfit", "access::each_request_is_allowed_or_refused_by_its_token"),
        ("token-too-large", "sign_in::a_token_too_large_for_a_cookie_is_refused"),
        ("tls-required", "tls::plain_http_on_the_tls_port_gets_a_problem"),
        (
            "unknown-host",
            "clients::requests_with_an_unknown_host_are_refused_unless_tokens_are_required",
        ),
        ("unsupported-encoding", "clients::compressed_bodies_are_decoded"),
        ("malformed-encoding", "clients::compressed_bodies_are_decoded"),
        ("too-many-messages", "limits::publishing_over_the_rate_is_refused"),
        ("too-many-watchers", "limits::watchers_of_an_address_are_limited"),
        ("too-many-requests", "limits::concurrent_requests_of_an_address_are_limited"),
        ("too-many-reads", "limits::reading_over_the_rate_is_refused"),
        ("too-many-sign-ins", "limits::sign_in_attempts_over_the_rate_are_refused"),
        ("server-full", "limits::watchers_of_all_addresses_are_limited"),
        ("memory-exhausted", "slow::stalled_uploads_over_http_1_stay_within_the_budget"),
        ("draining", "publish::a_stopping_server_refuses_to_publish"),
        ("store-unavailable", "store::a_server_survives_a_full_disk"),
        ("outcome-unknown", "faults::a_failed_commit_is_reported_as_unknown"),
        ("internal", "page::a_file_that_cannot_be_read_is_an_internal_error"),
    ];
    let tables =
        [PUBLISH, NAMES, LINES, KEYS, END_AND_DELETE, HISTORY, EVENTS, METHODS, TOO_MANY].concat();
    let rows = table::slugs(&tables);
    for kind in tidings::problem::ALL {
        let elsewhere = TESTED_ELSEWHERE.iter().any(|(slug, _)| *slug == kind.slug);
        assert!(rows.contains(&kind.slug) != elsewhere, "{}", kind.slug);
    }
}
