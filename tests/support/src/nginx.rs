//! A real nginx as an origin.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::ports::free_address;
use crate::process::Process;
use crate::temp::TempDir;
use crate::wait::wait_until;

/// A running nginx, killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl Nginx {
    /// Starts it with `/` answering `nginx says hello`, `/file` serving what [`file`](Self::file) was given, and with TLS when there is a
    /// certificate with its key.
    ///
    /// # Errors
    /// When nginx is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(tls: Option<(&Path, &Path)>) -> Result<Self, String> {
        Self::start_with(tls, "")
    }

    /// The same, with more directives for the server.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(tls: Option<(&Path, &Path)>, more: &str) -> Result<Self, String> {
        let found = Command::new("nginx").arg("-v").output();
        found.map_err(|e| format!("nginx can't be run: {e}"))?;
        let folder = TempDir::new();
        let address = free_address();
        let file = folder.write("nginx.conf", &configuration(address, tls, more));
        let process = Process::start(Command::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(file));
        let mut nginx = Self { address, process, folder };
        wait_until("nginx listens", || {
            let ended = nginx.process.ended();
            assert!(ended.is_none(), "{}", nginx.process.output());
            TcpStream::connect(address).is_ok()
        });
        Ok(nginx)
    }

    /// Puts a file below `/file/`.
    pub fn file(&self, name: &str, content: &str) {
        self.folder.write(name, content);
    }
}

/// One process in the foreground, everything below its folder.
fn configuration(address: SocketAddr, tls: Option<(&Path, &Path)>, more: &str) -> String {
    let (flag, pair) = match tls {
        Some((certificate, key)) => {
            (" ssl", format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display()))
        }
        None => ("", String::new()),
    };
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000;
  client_max_body_size 0;
  server {{
    listen {address}{flag}; {pair} {more}
    location / {{ default_type text/plain; return 200 'nginx says hello'; }}
    location /file/ {{ alias ./; }}
  }}
}}
"
    )
}
