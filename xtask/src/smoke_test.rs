//! Smoke test of the archive: it is unpacked and served in a temporary folder, by a user without
//! privileges, with an empty environment.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Result,
    process::{output, run},
};

/// The unprivileged user; the number is the same on all Linuxes.
const NOBODY: u32 = 65_534;
/// How long an answer, or the shutdown of the server, may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Unpacks the archive, starts its server, and uses it as clients do.
pub(crate) fn serve(archive: &Path) -> Result<()> {
    let folder = Folder::new()?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&folder.0);
    run(tar.arg("--strip-components=1"), "the archive cannot be unpacked")?;

    let server = Server::start(&folder.0)?;
    let page = server.ask("GET", "/", "")?;
    let wasm = page
        .split('"')
        .find(|word| word.starts_with("/pkg/") && word.contains(".wasm"))
        .ok_or("the page names no wasm")?;
    if !server.ask("GET", wasm, "")?.starts_with("\0asm") {
        return Err(format!("{wasm} is not wasm"));
    }
    server.ask("POST", "/streams/x", "from the archive")?;
    for path in ["/streams/x", "/streams/x/messages"] {
        if !server.ask("GET", path, "")?.contains("from the archive") {
            return Err(format!("{path} does not show what was published"));
        }
    }
    server.ask("GET", "/health/ready", "")?;
    server.stop()?;
    if !folder.0.join("home/tidings.db").is_file() {
        return Err("the messages were not stored in the server's working directory".to_owned());
    }
    println!("The archive serves its pages, stores messages, and stops on SIGTERM.");
    Ok(())
}

/// A folder that is removed when this value is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = env::temp_dir().join(format!("tidings-dist-{}", std::process::id()));
        let home = folder.join("home");
        fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The server, killed if it does not stop.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let server = folder.join("tidings");
        let home = folder.join("home");
        let mut command = unprivileged(&server, &home)?;
        let mut process = command
            .args(["--listen", "127.0.0.1:0", "--log", "warn"])
            .env_clear()
            .current_dir(home)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", server.display()))?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let address = line.trim().strip_prefix("Tidings is at http://").unwrap_or_default();
        let started = Self { process, address: address.to_owned() };
        if started.address.is_empty() {
            return Err(format!("the server does not print its address: {line:?}"));
        }
        Ok(started)
    }

    /// The body of a successful answer. HTTP/1.0, so that it ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let (address, length) = (&self.address, body.len());
        let ask = || {
            let mut connection = TcpStream::connect(address)?;
            connection.set_read_timeout(Some(TIMEOUT))?;
            write!(
                connection,
                "{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n\
                 {body}"
            )?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer)?;
            std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = ask().map_err(|error| format!("{method} {path}: {error}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
            return Ok(body.to_owned());
        }
        Err(format!("{method} {path} was answered with {head}\n{body}"))
    }

    /// Graceful shutdown by SIGTERM, with status 0.
    fn stop(mut self) -> Result<()> {
        let process = self.process.id().to_string();
        run(Command::new("kill").args(["-s", "TERM", &process]), "the server cannot be stopped")?;
        let told = Instant::now();
        while told.elapsed() < TIMEOUT {
            match self.process.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the server failed: {status}")),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        Err("the server does not stop".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that runs `program` as an unprivileged user, the new owner of the folder `home`. Only
/// root can change the user; for other users the command runs as it is.
#[cfg(unix)]
fn unprivileged(program: &Path, home: &Path) -> Result<Command> {
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    let has_setpriv = output(Command::new("setpriv").arg("--version")).is_some();
    if !is_root || !has_setpriv {
        return Ok(Command::new(program));
    }
    // The parent folder too: a restrictive umask would deny access to it.
    for folder in home.ancestors().take(2) {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    command.args(["--clear-groups", "--no-new-privs", "--"]).arg(program);
    Ok(command)
}

#[cfg(not(unix))]
fn unprivileged(program: &Path, _: &Path) -> Result<Command> {
    Ok(Command::new(program))
}
