//! The server process: start-up errors, signals and exit codes.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
};

use crate::support::{
    built_site,
    process::{Server, start_refused, tidings},
};

/// Opens the event stream of the counter and reads its first value.
fn watch_counter(server: &Server) -> TcpStream {
    let mut connection = TcpStream::connect(&server.address).expect("a connection");
    connection.write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("Counter value 1\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).expect("a byte");
        received.push(byte[0]);
    }
    connection
}

#[test]
fn invalid_values_are_reported_with_their_flag() {
    for (flag, value) in [
        ("--listen", "nowhere"),
        ("--counter-count", "0"),
        ("--counter-count", "many"),
        ("--counter-delay", "1"),
        ("--counter-delay", "2h"),
        ("--counter-delay", "1500us"),
        ("--retry", "0s"),
        ("--allow-origin", "example.org"),
        ("--allow-origin", "https://example.org/path"),
        ("--allow-origin", "https://example.org:443"),
        ("--allow-origin", "https://Example.org"),
        ("--data", ""),
        ("--keep-messages", "0"),
        ("--keep-age", "forever"),
        ("--keep-age", "11y"),
        ("--keep-bytes", "many"),
        ("--keep-bytes", "1024"),
        ("--max-streams", "0"),
        ("--max-message-bytes", "0"),
        ("--max-message-bytes", "17MiB"),
        ("--log", "inof"),
        ("--log", "tidings=loud"),
        ("--log-format", "xml"),
    ] {
        let (output, stderr) = start_refused(tidings().args([flag, value]));
        assert_eq!(output.status.code(), Some(2), "{flag} {value}: {stderr}");
        assert!(stderr.contains(flag) && stderr.contains(value), "{flag} {value}: {stderr}");
        if value.is_empty() {
            // An empty variable counts as unset.
            continue;
        }
        let variable =
            format!("TIDINGS{}", flag.replace("--", "_").replace('-', "_").to_uppercase());
        let (output, stderr) = start_refused(tidings().env(&variable, value));
        assert_eq!(output.status.code(), Some(2), "{variable}={value}: {stderr}");
    }
}

#[test]
fn the_help_lists_flags_and_variables() {
    let output = tidings().arg("--help").output().expect("a process");
    let help = String::from_utf8(output.stdout).expect("text");
    for flag in ["listen", "site-root", "counter-count", "counter-delay", "retry", "allow-origin"] {
        let variable = format!("TIDINGS_{}", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&format!("--{flag}")) && help.contains(&variable), "{flag}: {help}");
    }
}

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let site = built_site();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let command = &mut tidings();
    let (output, stderr) =
        start_refused(command.args(["--listen", &address, "--site-root"]).arg(site.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("--listen"), "{stderr}");
}

#[test]
fn a_missing_site_is_reported_in_one_line() {
    let empty = tempfile::tempdir().expect("a folder");
    for folder in [empty.path(), Path::new("/nowhere/at/all")] {
        let (output, stderr) = start_refused(tidings().arg("--site-root").arg(folder));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains(folder.to_str().expect("text")) && stderr.contains("--site-root"),
            "{stderr}"
        );
    }
}

#[test]
fn a_signal_closes_event_streams_and_exits_with_0() {
    let site = built_site();
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(site.path(), &[]);
        let mut reader = watch_counter(&server);
        server.signal(signal);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert!(rest.contains("retry: ") && rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
        assert_eq!(server.process.wait().expect("an end").code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_second_signal_exits_at_once() {
    let site = built_site();
    let fast = ["--counter-delay", "0ms", "--counter-count", "1000000"];
    let mut server = Server::start(site.path(), &fast);
    // A stalled reader delays the shutdown: more is sent than buffers hold.
    let _stalled = watch_counter(&server);
    std::thread::sleep(std::time::Duration::from_secs(3));
    server.signal("TERM");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(server.process.try_wait().expect("a process"), None, "it waits for the reader");
    server.signal("TERM");
    assert_eq!(server.process.wait().expect("an end").code(), Some(130));
}

#[test]
fn json_logs_have_a_json_object_per_line() {
    let site = built_site();
    let mut server = Server::start(site.path(), &["--log-format", "json"]);
    server.signal("TERM");
    server.process.wait().expect("an end");
    let mut log = String::new();
    server.process.stderr.take().expect("a log").read_to_string(&mut log).expect("text");
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(entry["fields"]["message"].is_string(), "{line}");
    }
    assert!(log.contains("stopped"), "{log}");
}
