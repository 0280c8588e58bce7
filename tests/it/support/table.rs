//! A table of requests and expected responses, as text, so that it reads like the one in the manual.
//!
//! One row is one request, and rows are sent in order:
//! `request | headers | body | status | type | body of the response | headers of the response`,
//! where `-` is empty, `&` separates headers and the last column may be omitted.
//!
//! - `\n`, `\r`, `\t`, `\0`, `\xff` and `\\` are bytes, `{a*65}` is `a` 65 times.
//! - Ids are written `T-3`: sequence 3 of this stream. In a request it stands for an id that an earlier
//!   response of the same stream held. A time of day in a response is `AT`.
//! - `…` in a response matches any text. For a problem the cell is the slug, followed by parts of the
//!   response separated by `; `. For an event stream it is the beginning; the rest is not read.
//!
//! Each response is also compared with the description of the interface.

use std::{collections::HashMap, time::Duration};

use reqwest::{Method, Response, header::HeaderValue};
use serde_json::Value;

use super::{
    TestApp,
    contract::{Answer, Contract},
};

/// The digits of the Unix time in an id, in milliseconds.
const MILLIS_DIGITS: usize = 13;

/// Sends the request of every row of a table and checks its response.
pub(crate) async fn check(app: &TestApp, table: &str) {
    let mut ids = HashMap::new();
    let mut responses = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        responses.push(Row::parse(line).check(app, &mut ids).await);
    }
    let contract = Contract::of(app).await;
    for response in &responses {
        contract.check(response);
    }
}

/// The slugs of the problems in a table.
pub(crate) fn slugs(table: &str) -> Vec<&str> {
    let rows = table.lines().map(str::trim).filter(|line| !line.is_empty()).map(Row::parse);
    let problems = rows.filter(|row| row.kind == "problem");
    problems.filter_map(|row| row.expected.split_whitespace().next()).collect()
}

struct Row<'text> {
    line: &'text str,
    request: &'text str,
    headers: &'text str,
    body: &'text str,
    status: u16,
    kind: &'text str,
    expected: &'text str,
    response_headers: &'text str,
}

impl<'text> Row<'text> {
    fn parse(line: &'text str) -> Self {
        let cells: Vec<_> = line.split(" | ").map(str::trim).collect();
        let cell = |n: usize| cells.get(n).copied().filter(|cell| *cell != "-").unwrap_or_default();
        assert!((6..=7).contains(&cells.len()), "a row has 6 or 7 cells: {line}");
        Self {
            line,
            request: cells[0],
            headers: cell(1),
            body: cell(2),
            status: cells[3].parse().expect("a status"),
            kind: cell(4),
            expected: cell(5),
            response_headers: cell(6),
        }
    }

    async fn check(&self, app: &TestApp, ids: &mut HashMap<(String, String), String>) -> Answer {
        let line = self.line;
        let (method, path) = self.request.split_once(' ').expect("a method and a path");
        let stream = path.split(['/', '?']).nth(2).unwrap_or_default().to_owned();
        let with_ids = |text: &str| {
            let mut parts = text.split("T-");
            let mut text = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                let id = ids.get(&(stream.clone(), part[..digits].to_owned()));
                text += id.unwrap_or_else(|| panic!("T-{part} is not known: {line}"));
                text += &part[digits..];
            }
            text
        };
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let path = text(&with_ids(path));
        let url = format!("{}{path}", app.url);
        let mut request = app.client.request(method.clone(), url).body(bytes(self.body));
        for header in self.headers.split(" & ").filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once(':').expect("a header");
            let value = HeaderValue::from_bytes(&bytes(with_ids(value).trim())).expect("a value");
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{line}\n{error:?}"));
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.check_response(response).await;
        for (id, seq) in found_ids(&body) {
            ids.insert((stream.clone(), seq.to_owned()), id.to_owned());
        }
        Answer { method, path, status, headers, body: body.into() }
    }

    /// Checks a response and returns its body, or the beginning of an event stream.
    async fn check_response(&self, response: Response) -> String {
        let line = self.line;
        let (status, headers) = (response.status(), response.headers().clone());
        let header = |name: &str| headers.get(name).map(|value| value.to_str().expect("text"));
        let media_type = header("content-type").unwrap_or_default();
        let expected = match self.kind {
            "json" => "application/json",
            "ndjson" => "application/x-ndjson",
            "problem" => "application/problem+json",
            "sse" => "text/event-stream; charset=utf-8",
            other => other,
        };
        let body = if self.kind == "sse" && status == 200 {
            read_beginning(response, text(self.expected).len()).await
        } else {
            response.text().await.expect("text")
        };
        assert_eq!((status.as_u16(), media_type), (self.status, expected), "{line}\n{body}");
        let plain = without_times(&body);
        match self.kind {
            "problem" => self.check_problem(&body, &plain),
            "sse" => assert!(plain.starts_with(&text(self.expected)), "{line}\n{plain}"),
            _ => assert!(matches(&plain, &text(self.expected)), "{line}\n{plain}"),
        }
        for expected in self.response_headers.split(" & ").filter(|header| !header.is_empty()) {
            let (name, value) = expected.split_once(": ").expect("a header");
            let actual = without_times(header(name).unwrap_or("(no such header)"));
            assert!(matches(&actual, value), "{line}\n{name}: {actual}");
        }
        if self.status == 503 {
            assert!(header("retry-after").is_some(), "{line}");
        }
        body
    }

    /// Checks a problem against RFC 9457 and the table of the problems.
    fn check_problem(&self, body: &str, plain: &str) {
        let line = self.line;
        let problem: Value = serde_json::from_str(body).expect("JSON");
        let mut words = self.expected.splitn(2, ' ');
        let slug = words.next().expect("a slug");
        let kind = tidings::problem::ALL.into_iter().find(|kind| kind.slug == slug);
        let kind = kind.unwrap_or_else(|| panic!("no problem has the slug {slug}: {line}"));
        assert_eq!(problem["type"], format!("/problems#{slug}"), "{line}\n{body}");
        assert_eq!(problem["status"], self.status, "{line}\n{body}");
        assert_eq!((problem["title"].as_str(), kind.status), (Some(kind.title), self.status));
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        for part in words.next().unwrap_or_default().split("; ") {
            assert!(plain.contains(part), "{line}\n{plain}");
        }
    }
}

/// The beginning of a response that may not end: at least `length` bytes without the times.
async fn read_beginning(mut response: Response, length: usize) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if without_times(&text).len() >= length {
            return text;
        }
        let piece = tokio::time::timeout(Duration::from_secs(30), response.chunk()).await;
        match piece.unwrap_or_else(|_| panic!("no more data after {text}")) {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            Ok(None) => return text,
            Err(error) => panic!("{error:?} after {text}"),
        }
    }
}

/// Whether a text matches a pattern, where `…` is any text.
fn matches(text: &str, pattern: &str) -> bool {
    let parts: Vec<_> = pattern.split('…').collect();
    let [first, between @ .., last] = parts.as_slice() else { return text == pattern };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The ids in a text, each with its sequence.
fn found_ids(text: &str) -> Vec<(&str, &str)> {
    let not_digit = |c: char| !c.is_ascii_digit();
    let mut found = Vec::new();
    for (dash, _) in text.match_indices('-').filter(|(dash, _)| *dash >= MILLIS_DIGITS) {
        let seq = &text[dash + 1..];
        let seq = &seq[..seq.find(not_digit).unwrap_or(seq.len())];
        let millis =
            text.get(dash - MILLIS_DIGITS..dash).filter(|millis| !millis.contains(not_digit));
        if millis.is_some() && !seq.is_empty() {
            found.push((&text[dash - MILLIS_DIGITS..=dash + seq.len()], seq));
        }
    }
    found
}

fn without_times(text: &str) -> String {
    let mut plain = text.to_owned();
    for (id, seq) in found_ids(text) {
        plain = plain.replacen(id, &format!("T-{seq}"), 1);
    }
    let at: Vec<_> = plain.match_indices("\"at\":\"").map(|(at, key)| at + key.len()).collect();
    for at in at.into_iter().rev() {
        let end = plain[at..].find('"').expect("an end") + at;
        plain.replace_range(at..end, "AT");
    }
    plain
}

fn text(escaped: &str) -> String {
    String::from_utf8(bytes(escaped)).expect("text")
}

fn bytes(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped;
    while let Some(at) = rest.find(['\\', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (piece, length) = match rest.as_bytes() {
            [b'\\', b'\\', ..] => (vec![b'\\'], 2),
            [b'\\', b'n', ..] => (vec![b'\n'], 2),
            [b'\\', b'r', ..] => (vec![b'\r'], 2),
            [b'\\', b't', ..] => (vec![b'\t'], 2),
            [b'\\', b'0', ..] => (vec![0], 2),
            [b'\\', b'x', ..] => (vec![u8::from_str_radix(&rest[2..4], 16).expect("hex")], 4),
            [b'{', byte, b'*', ..] => {
                let end = rest.find('}').expect("a brace");
                (vec![*byte; rest[3..end].parse().expect("a number")], end + 1)
            }
            [byte, ..] => (vec![*byte], 1),
            [] => unreachable!("a character was found"),
        };
        bytes.extend(piece);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
