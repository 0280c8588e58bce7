//! The recipes of `docs/read.md`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{
    page::block,
    rust,
    sandbox::{Group, Sandbox},
};
use crate::support::{
    process::is_installed,
    terminal::{ScriptedServer, contains, wait_until},
};

/// The programs that print a stream, and the file that has the messages if it is not the output.
const READERS: [(&str, Option<&str>); 9] = [
    ("read: tidings watch 1", None),
    ("read: tidings watch 2", Some("ci.log")),
    ("read: tidings watch 3", Some("ci.log")),
    ("read: curl 2", None),
    ("read: In a browser 1", None),
    ("read: Python 1", None),
    ("read: Node 1", None),
    ("read: Rust 1", None),
    ("read: Go 1", None),
];

const EVENTS: &str = "read: curl 1";
const HISTORY: &str = "read: What there was: history 1";
const NEW: &str = "read: What there was: history 2";
const ATOM: &str = "read: Feeds 1";
const JSON: &str = "read: Feeds 2";

pub(super) fn tested() -> impl Iterator<Item = &'static str> {
    let readers = READERS.iter().map(|(key, _)| *key);
    readers.chain([EVENTS, HISTORY, NEW, ATOM, JSON])
}

/// What a browser has and Node has not: the cookie is a header here, and the storage a file.
const BROWSER: &str = r"
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { EventSource } from 'eventsource';

let stored = {};
try {
  stored = JSON.parse(readFileSync('storage', 'utf8'));
} catch {}
globalThis.localStorage = {
  getItem: key => stored[key] ?? null,
  setItem(key, value) {
    stored[key] = value;
    writeFileSync('storage.new', JSON.stringify(stored));
    renameSync('storage.new', 'storage');
  },
};
const { TIDINGS_URL, TIDINGS_TOKEN } = process.env;
const signedIn = (url, init) => {
  const headers = { ...init.headers, Authorization: `Bearer ${TIDINGS_TOKEN}` };
  return fetch(url, { ...init, headers });
};
globalThis.EventSource = class extends EventSource {
  constructor(address) {
    super(TIDINGS_URL + address, { fetch: signedIn });
  }
};
await import('./page.mjs');
";

/// A program with a folder of its own, in which it keeps its place.
struct Reader<'a> {
    key: &'static str,
    sandbox: &'a Sandbox,
    folder: PathBuf,
    output: PathBuf,
    process: Option<Group>,
}

impl<'a> Reader<'a> {
    /// None, with a message, where what it needs is not installed.
    fn new(sandbox: &'a Sandbox, key: &'static str, file: Option<&str>) -> Option<Self> {
        let block = block(key);
        let (_, name) = key.split_once(": ").expect("a key");
        let folder = sandbox.work(name);
        fs::create_dir(&folder).expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("a file");
        };
        match block.language.as_str() {
            "python" if !is_installed("python3", "--version") => return None,
            "python" => write("reader.py", &block.text),
            "js" => {
                let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("end2end/node_modules");
                if !is_installed("node", "--version") {
                    return None;
                }
                if !packages.join("eventsource").exists() {
                    println!("skipped: `npm ci` was not run in end2end");
                    return None;
                }
                symlink(packages, folder.join("node_modules")).expect("a link");
                if key.contains("browser") {
                    write("page.mjs", &block.text);
                    write("reader.mjs", BROWSER);
                } else {
                    write("reader.mjs", &block.text);
                }
            }
            "go" if !is_installed("go", "version") => return None,
            "go" => {
                write("reader.go", &block.text);
                // With the cache of this machine.
                let mut build = Command::new("go");
                let build = build.args(["build", "reader.go"]).current_dir(&folder);
                assert!(build.status().expect("go").success(), "{key} does not compile");
            }
            _ => write("reader.sh", &block.text),
        }
        let output = folder.join(file.unwrap_or("output"));
        Some(Self { key, sandbox, folder, output, process: None })
    }

    fn command(&self) -> Command {
        let mut command = match block(self.key).language.as_str() {
            "rust" => rust::command(self.sandbox, "read"),
            "go" => self.sandbox.command("./reader"),
            language => {
                let (program, file) = match language {
                    "python" => ("python3", "reader.py"),
                    "js" => ("node", "reader.mjs"),
                    _ => ("sh", "reader.sh"),
                };
                let mut command = self.sandbox.command(program);
                command.arg(file);
                command
            }
        };
        command.current_dir(&self.folder);
        command
    }

    fn start(&mut self) {
        let output = self.folder.join("output");
        self.process = Some(Group::start(&mut self.command(), &output));
    }

    fn has(&self, text: &str) -> bool {
        contains(&self.output, text)
    }

    fn wait(&mut self) {
        let status = self.process.as_mut().expect("a process").wait();
        assert_eq!(status, Some(0), "{}", self.key);
    }

    fn printed(&self) -> String {
        let printed = fs::read_to_string(&self.output).expect("text");
        printed.replace(rust::PREAMBLE, "")
    }

    /// Checks that all of these texts were printed, in order, and at most one of them twice: a program may
    /// be killed after it has printed a message and before it has kept its place.
    fn check(&self, texts: &[String]) {
        let printed = self.printed();
        let (mut rest, mut has_repeated) = (printed.as_str(), false);
        let mut last: Option<&String> = None;
        for text in texts {
            if let Some(last) = last
                && !rest.starts_with(text.as_str())
                && let Some(after) = rest.strip_prefix(last.as_str())
            {
                assert!(!has_repeated && !self.key.ends_with("watch 2"), "{}: {last}", self.key);
                (rest, has_repeated) = (after, true);
            }
            let Some(after) = rest.strip_prefix(text.as_str()) else {
                let end = rest.char_indices().nth(100).map_or(rest.len(), |(end, _)| end);
                panic!("{}: {text:?} is missing before {:?}", self.key, &rest[..end]);
            };
            (rest, last) = (after, Some(text));
        }
        assert_eq!(rest, "", "{}", self.key);
    }
}

/// Publishes numbered lines, through a kill of the server too.
fn publish_lines(sandbox: &Sandbox, numbers: std::ops::Range<u32>) -> (Group, Vec<String>) {
    let lines: Vec<_> = numbers.map(|number| format!("line {number}\n")).collect();
    fs::write(sandbox.work("lines"), lines.concat()).expect("a file");
    let mut shell = sandbox.command("sh");
    shell.args(["-c", "tidings publish ci --lines < lines"]);
    (Group::start(&mut shell, &sandbox.work("output")), lines)
}

/// Texts that are hard to carry: several lines, spaces, line ends of all kinds.
const TEXTS: [&str; 6] = [
    "plain",
    "two\nlines",
    " space\n\n  and an empty line\n",
    "a: b\r\nid: 1\rdata",
    "\\n ✅ %s",
    ":",
];

#[test]
fn readers_lose_nothing_when_the_server_or_they_are_killed() {
    let (sandbox, mut server) = Sandbox::started();
    let mut expected = Vec::new();
    for text in TEXTS {
        sandbox.publish("ci", text);
        expected.push(text.replace("\r\n", "\n").replace('\r', "\n") + "\n");
    }
    let readers = READERS.iter().filter_map(|(key, file)| Reader::new(&sandbox, key, *file));
    let mut readers: Vec<Reader> = readers.collect();
    readers.iter_mut().for_each(Reader::start);
    for reader in &readers {
        wait_until(reader.key, || reader.has("✅"));
    }

    let (mut publisher, lines) = publish_lines(&sandbox, 0..400);
    expected.extend(lines);
    wait_until("no line", || sandbox.log("ci").0.len() > TEXTS.len());
    server.kill();
    server.start();
    assert_eq!(publisher.wait(), Some(0));
    for reader in &readers {
        wait_until(reader.key, || reader.has("line 399\n"));
    }

    let (mut publisher, lines) = publish_lines(&sandbox, 400..800);
    expected.extend(lines);
    for reader in &mut readers {
        reader.process.take().expect("a process").kill();
    }
    assert_eq!(publisher.wait(), Some(0));
    readers.iter_mut().for_each(Reader::start);
    for reader in &readers {
        wait_until(reader.key, || reader.has("line 799\n"));
    }

    let mut end = sandbox.command("curl");
    end.args(["-sSf", "-d", "closing text", "-H"]).stdout(Stdio::null());
    end.arg(format!("Authorization: Bearer {}", sandbox.token));
    end.arg(format!("{}/streams/ci/end", sandbox.url));
    assert!(end.status().expect("curl").success());
    expected.push("closing text\n".to_owned());
    readers.iter_mut().for_each(Reader::wait);
    // They know that it has ended, or learn it.
    readers.iter_mut().for_each(Reader::start);
    readers.iter_mut().for_each(Reader::wait);
    for reader in &readers {
        // tidings prints the closing text to standard error.
        let has_closing_text = !reader.key.contains("tidings watch");
        reader.check(&expected[..expected.len() - usize::from(!has_closing_text)]);
    }
    read_what_there_was(&sandbox);
}

fn read_what_there_was(sandbox: &Sandbox) {
    let run = |key: &str| {
        let output = sandbox.command("sh").args(["-e", "-c", &block(key).text]).output();
        let output = output.expect("a shell");
        assert!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let messages = TEXTS.len() + 800;
    assert_eq!(run(EVENTS).matches("event: new_message").count(), messages);
    let history = run(HISTORY);
    for (line, text) in history.lines().zip(TEXTS) {
        let message: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(message["data"], text);
    }
    assert_eq!(history.lines().count(), messages);
    assert_eq!(run(NEW), history);
    assert_eq!(run(NEW), "");
    assert!(run(ATOM).contains("line 799"));
    let feed: Value = serde_json::from_str(&run(JSON)).expect("JSON");
    // The end is an item too.
    assert_eq!(feed["items"].as_array().map(Vec::len), Some(101));
}

const SSE: &str = "text/event-stream; charset=utf-8";

/// What Tidings does not send, and the standard allows; then an event that is cut.
const UNUSUAL: &str = ": a comment\r\nretry: 10\r\n\r\nid: 1-1\r\nevent: new_message\r\ndata: one\r\n\
    data:two\r\ndata\r\ndata:  three\r\nunknown: x\r\n\r\n:\r\n\r\nevent: ping\r\ndata: {}\r\n\r\n\
    id: 2-2\nevent: new_message\ndata: four\n\nid: 3-3\nevent: new_message\ndata: cut";
const END: &str = "event: reset\ndata: {\"reason\":\"unknown-cursor\"}\n\n\
    id: 4-4\nevent: end_event\ndata: end\n\n";

#[test]
fn readers_parse_what_the_standard_allows() {
    let (sandbox, _server) = Sandbox::new();
    for (key, _) in READERS.iter().filter(|(key, _)| !key.contains("watch")) {
        let Some(mut reader) = Reader::new(&sandbox, key, None) else { continue };
        let server = ScriptedServer::start(&[("200 OK", SSE, UNUSUAL), ("200 OK", SSE, END)]);
        let mut command = reader.command();
        command.env("TIDINGS_URL", &server.url);
        reader.process = Some(Group::start(&mut command, &reader.output));
        reader.wait();
        assert_eq!(reader.printed(), "one\ntwo\n\n three\nfour\nend\n", "{key}");
        assert!(contains(&reader.folder.join("errors"), "messages are missing"), "{key}");
        assert_eq!(server.cursors.lock().expect("no panic")[1], "2-2", "{key}");
    }
}
