//! nginx with its nchan module as a measured server: finds it, and starts it with a configuration
//! of its own.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::Context as _;

use crate::process::Server;

/// Where packages put the module: Debian and Alpine, Fedora.
const MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/lib64/nginx/modules/ngx_nchan_module.so"];

/// What to do where it is missing.
pub(crate) const ADVICE: &str =
    "sudo apt-get install nginx libnginx-mod-nchan (Debian, Ubuntu); its service is not needed";

/// The path of nginx, if its nchan module is installed.
pub(crate) fn find() -> Option<PathBuf> {
    module()?;
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's folder is on the PATH of root alone.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

fn module() -> Option<&'static str> {
    MODULES.into_iter().find(|module| Path::new(module).is_file())
}

/// Starts nginx with one worker a core, and nothing stored, in an empty folder.
pub(crate) fn start(executable: &Path, folder: &Path) -> anyhow::Result<Server> {
    // nginx cannot choose a port itself.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration(address)?)?;
    let mut command = Command::new(executable);
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    Server::start_at(command, address)
}

/// No message may be lost, and no connection closed. The paths are those of the load.
fn configuration(address: SocketAddr) -> anyhow::Result<String> {
    let module = module().context("nginx has no nchan module")?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    // Its workers would be another user, which may not enter the folder. Only root can say so.
    let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
    Ok(format!(
        "load_module {module};
{user}
daemon off;
pid nginx.pid;
error_log stderr crit;
worker_processes {workers};
events {{ worker_connections 15000; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 100000000;
    keepalive_timeout 1h;
    nchan_shared_memory_size 512m;
    nchan_message_buffer_length 1000000;
    nchan_message_timeout 1h;
    server {{
        listen {address} reuseport backlog=1024;
        location = /streams/bench {{
            nchan_publisher http;
            nchan_channel_id bench;
        }}
        location = /streams/bench/events {{
            nchan_subscriber eventsource;
            nchan_channel_id bench;
            nchan_subscriber_timeout 0;
        }}
    }}
}}
"
    ))
}
