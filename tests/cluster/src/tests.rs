//! The servers start, fail and come back; those that need `PostgreSQL` are skipped where it is missing.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Command, exit},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{
    Cluster, Cutter, Options, Tls, binaries, connection_url,
    programs::{Account, run, tempdir},
    wait_until,
};

/// How long to make sure that something does not happen.
const PAUSE: Duration = Duration::from_millis(300);

/// Set for the process of [`ends_with_its_process`] that leaves a server behind.
const ABANDON: &str = "TIDINGS_CLUSTER_ABANDON";

/// A cluster, or `None` where `PostgreSQL` is not installed.
fn start(options: &Options) -> Option<Cluster> {
    if binaries().is_none() {
        report_skip("PostgreSQL is not installed");
        return None;
    }
    Some(Cluster::start(&Options { fsync: false, ..options.clone() }).expect("a cluster"))
}

/// Written directly: the test harness shows the output of `eprintln` only if a test fails.
fn report_skip(reason: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    writeln!(io::stderr(), "SKIPPED {test}: {reason}").expect("stderr");
}

/// Runs SQL as a client with a URL does.
fn query(url: &str, sql: &str) -> io::Result<String> {
    let psql = binaries().expect("PostgreSQL").join("psql");
    run(Command::new(psql).args(["-XAtq", "-w", "-c", sql, url]))
}

#[test]
fn starts_with_roles_and_database() {
    let Some(cluster) = start(&Options::default()) else { return };
    let who = "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user";
    assert_eq!(query(&cluster.url(), who).expect("rows"), "tidings|tidings|f");
    assert_eq!(cluster.primary().query(who).expect("rows"), "postgres|tidings|t");

    let secret = connection_url("secret:secret", &cluster.addresses());
    query(&secret, "CREATE TABLE made_by_secret (id int)").expect("the rights of the owner");
    for user in ["secret:wrong", "secret"] {
        let refused = query(&connection_url(user, &cluster.addresses()), "SELECT 1");
        assert!(refused.expect_err("a refusal").to_string().contains("password"), "{user}");
    }
    let error = cluster.primary().query("SELECT nonsense").expect_err("an error");
    assert!(error.to_string().contains("column \"nonsense\" does not exist"), "{error}");
    assert!(!cluster.standby().is_running());
}

#[test]
fn starts_again_after_a_kill_and_a_stop() {
    let Some(cluster) = start(&Options::default()) else { return };
    let primary = cluster.primary();
    primary.query("CREATE TABLE t AS SELECT 1 AS id").expect("a table");
    let url = cluster.url();
    let client = thread::spawn(move || query(&url, "SELECT pg_sleep(600)"));
    wait_until("the client", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tidings'";
        Ok(primary.query(sql)? == "1")
    })
    .expect("the client");

    primary.kill().expect("a kill");
    assert!(!primary.is_running());
    assert!(primary.query("SELECT 1").is_err());
    assert!(client.join().expect("no panic").is_err());
    primary.start().expect("crash recovery");
    primary.stop().expect("a shutdown");
    assert!(!primary.is_running());
    primary.start().expect("a start");
    assert_eq!(primary.query("SELECT id FROM t").expect("rows"), "1");
}

#[test]
fn says_why_it_does_not_start() {
    let Some(cluster) = start(&Options::default()) else { return };
    cluster.primary().stop().expect("a shutdown");
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, cluster.primary().port)).expect("a port");
    let error = cluster.primary().start().expect_err("an error").to_string();
    assert!(error.contains("Address already in use"), "{error}");
}

#[test]
fn fails_over_again_and_again() {
    let Some(cluster) = start(&Options { standby: true, ..Options::default() }) else { return };
    let url = cluster.url();
    query(&url, "CREATE TABLE t (id int)").expect("a table");
    for id in 0..3 {
        query(&url, &format!("INSERT INTO t VALUES ({id})")).expect("a commit");
        let former = cluster.primary().port;
        cluster.primary().kill().expect("a kill");
        cluster.promote().expect("a promotion");
        assert_eq!(cluster.standby().port, former);
        query(&url, &format!("INSERT INTO t VALUES ({id} + 100)"))
            .expect("a commit without standby");
        cluster.rebuild_standby().expect("a new standby");
    }
    let ids = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t";
    for server in [cluster.primary(), cluster.standby()] {
        assert_eq!(server.query(ids).expect("rows"), "0 1 2 100 101 102");
    }
    assert_eq!(cluster.url(), url);
}

#[test]
fn commits_wait_for_a_frozen_standby() {
    let Some(cluster) = start(&Options { standby: true, ..Options::default() }) else { return };
    query(&cluster.url(), "CREATE TABLE t (id int)").expect("a table");
    cluster.standby().freeze().expect("a freeze");
    assert!(cluster.standby().is_running());
    thaws(&cluster, || cluster.standby().thaw(), "INSERT INTO t VALUES (1)");
}

#[test]
fn answers_nothing_while_frozen() {
    let Some(cluster) = start(&Options::default()) else { return };
    cluster.primary().freeze().expect("a freeze");
    thaws(&cluster, || cluster.primary().thaw(), "SELECT 1");
    cluster.primary().freeze().expect("a freeze");
    cluster.primary().kill().expect("a kill");
    assert!(cluster.primary().freeze().is_err());
}

/// Checks that a query has no answer until a server is thawed.
fn thaws(cluster: &Cluster, thaw: impl FnOnce() -> io::Result<()>, sql: &str) {
    let (sender, answers) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || sender.send(query(&cluster.url(), sql)).expect("a receiver"));
        assert!(answers.recv_timeout(PAUSE).is_err(), "an answer from a frozen server");
        thaw().expect("a thaw");
        answers.recv().expect("a sender").expect("an answer");
    });
}

#[test]
fn keeps_a_folder() {
    let folder = tempdir(Account::unprivileged().expect("a user")).expect("a folder");
    let options =
        Options { standby: true, folder: Some(folder.path().into()), ..Options::default() };
    let Some(cluster) = start(&options) else { return };
    query(&cluster.url(), "CREATE TABLE t AS SELECT 1 AS id").expect("a table");
    cluster.primary().kill().expect("a kill");
    cluster.promote().expect("a promotion");
    drop(cluster);
    for (standby, id) in [(true, "2"), (false, "3")] {
        let cluster = start(&Options { standby, ..options.clone() }).expect("PostgreSQL");
        cluster.primary().query("UPDATE t SET id = id + 1").expect("a commit");
        assert_eq!(query(&cluster.url(), "SELECT id FROM t").expect("rows"), id);
    }
}

#[test]
fn has_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost"]);
    if let Err(error) = run(openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key)) {
        return report_skip(&error.to_string());
    }
    let tls = Some(Tls { certificate, key });
    let Some(cluster) = start(&Options { tls, ..Options::default() }) else { return };
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let url = cluster.url();
    assert_eq!(query(&format!("{url}?sslmode=require"), sql).expect("rows"), "t");
    assert_eq!(query(&format!("{url}?sslmode=disable"), sql).expect("rows"), "f");
    assert_eq!(cluster.primary().query(sql).expect("rows"), "t");
}

/// Runs itself in another process, which leaves a server behind.
#[test]
fn ends_with_its_process() {
    let Some(cluster) = start(&Options::default()) else { return };
    if env::var_os(ABANDON).is_some() {
        println!("{ABANDON}={}", cluster.primary().port);
        exit(0);
    }
    let folder = tempdir(Account::unprivileged().expect("a user")).expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut process = Command::new(env::current_exe().expect("this program"));
    process.args(["--exact", "tests::ends_with_its_process", "--nocapture"]);
    let output = run(process.env(ABANDON, "1").env("TMPDIR", folder.path())).expect("a server");
    let port = output.split_once(&format!("{ABANDON}=")).expect("a port").1;
    let port: u16 = port.lines().next().expect("a line").parse().expect("a port");
    wait_until("the end of the server", || {
        let is_removed = fs::read_dir(folder.path())?.next().is_none();
        Ok(is_removed && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err())
    })
    .expect("the end");
}

#[test]
fn commits_are_cut() {
    let Some(cluster) = start(&Options::default()) else { return };
    let cutter = Cutter::start(cluster.addresses()).expect("a proxy");
    let url = format!(
        "{}?sslmode=disable&gssencmode=disable",
        connection_url("tidings", cutter.addresses())
    );
    query(&url, "CREATE TABLE t (id int)").expect("a table");
    let (mut committed, mut failed) = (Vec::new(), 0);
    for bytes in (0..300).step_by(20) {
        cutter.cut_after(bytes);
        match query(&url, &format!("INSERT INTO t VALUES ({bytes})")) {
            Ok(_) => committed.push(bytes.to_string()),
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 0 && !committed.is_empty());
    let stored = cluster.primary().query("SELECT id FROM t").expect("rows");
    assert!(committed.iter().all(|id| stored.lines().any(|row| row == id)), "{stored}");

    cutter.set_down(true);
    assert!(query(&url, "SELECT 1").is_err());
    cutter.set_down(false);
    cutter.cut_after(u64::MAX);
    query(&url, "SELECT 1").expect("an answer");
}

/// A server that sends back what it gets, and tells what it got over each connection.
fn echo() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut all = Vec::new();
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    all.extend_from_slice(&buffer[..length]);
                    let _ = stream.write_all(&buffer[..length]);
                }
                let _ = sender.send(all);
            });
        }
    });
    (address, received)
}

/// A client whose reads fail after a minute.
fn connect(cutter: &Cutter) -> TcpStream {
    let stream = TcpStream::connect(cutter.addresses()[0]).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    stream
}

fn assert_echoes(mut stream: &TcpStream) {
    let mut buffer = [0; 4];
    stream.write_all(b"ping").expect("a write");
    stream.read_exact(&mut buffer).expect("an answer");
    assert_eq!(&buffer, b"ping");
}

fn assert_closed(mut stream: &TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Ok(_) => assert_closed(stream),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn cuts_every_connection() {
    let (target, received) = echo();
    let cutter = Cutter::start(vec![target]).expect("a proxy");
    let streams = [connect(&cutter), connect(&cutter)];
    streams.iter().for_each(assert_echoes);
    cutter.cut_all();
    streams.iter().for_each(assert_closed);
    assert_echoes(&connect(&cutter));
    for _ in 0..3 {
        assert_eq!(received.recv().expect("a connection"), b"ping");
    }
    let stream = connect(&cutter);
    assert_echoes(&stream);
    drop(cutter);
    assert_closed(&stream);
    assert!(TcpStream::connect(target).is_ok());
}

#[test]
fn cuts_after_exactly_so_many_bytes() {
    let (target, received) = echo();
    let cutter = Cutter::start(vec![target]).expect("a proxy");
    let other = connect(&cutter);
    assert_echoes(&other);
    // The first cut closes both connections, in any order.
    for text in ["", "1", "1234567", "12345678"] {
        let mut stream = connect(&cutter);
        assert_echoes(&stream);
        cutter.cut_after(text.len() as u64);
        stream.write_all(b"12345678").expect("a write");
        assert_closed(&stream);
        let expected = format!("ping{text}");
        wait_until("the bytes", || Ok(received.try_iter().any(|all| all == expected.as_bytes())))
            .expect("the bytes");
    }
    assert_closed(&other);
}

#[test]
fn is_down_and_stalled() {
    let (target, _received) = echo();
    let cutter = Cutter::start(vec![target]).expect("a proxy");
    let open = connect(&cutter);
    assert_echoes(&open);
    cutter.set_down(true);
    assert_closed(&connect(&cutter));
    assert_echoes(&open);
    cutter.set_down(false);

    cutter.set_stalled(true);
    let new = connect(&cutter);
    for mut stream in [&open, &new] {
        stream.write_all(b"ping").expect("a write");
        stream.set_read_timeout(Some(PAUSE)).expect("a timeout");
        let error = stream.read(&mut [0; 4]).expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        stream.set_read_timeout(None).expect("no timeout");
    }
    cutter.set_stalled(false);
    for mut stream in [&open, &new] {
        stream.read_exact(&mut [0; 4]).expect("an answer");
        assert_echoes(stream);
    }
    cutter.set_stalled(true);
    cutter.cut_all();
    assert_closed(&open);
}
