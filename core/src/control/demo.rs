//! What the demonstration needs beside the gateway: a certificate, made at the first start, and origins to send requests to.
//!
//! **Invariant:** touches only files that the configuration names and that are not there yet, and listens on loopback only.

use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::task::spawn_local;

use crate::config::dataplane::Plane;
use crate::config::schema::{Config, Pem, Target, TlsConfig};
use crate::net::{Address, Transport};
use crate::origin::Origin;

/// Makes the certificates of the configuration's listeners that are files and are missing, each for localhost and its address.
///
/// # Errors
/// When a file can't be written.
pub fn make_certificates(config: &Config) -> io::Result<()> {
    for listener in &config.server.listeners {
        for context in &listener.tls {
            make_certificate(context)?;
        }
    }
    Ok(())
}

/// Starts an origin on every loopback address that a cluster names. Tasks of the calling thread; they end with its runtime.
pub fn start_origins<T: Transport>(config: &Config, transport: &T) {
    let hosts = config.clusters.iter().flat_map(|c| &*c.hosts).filter_map(|h| match &h.target {
        Target::Address(address) => Some(address.clone()),
        Target::Name(..) => None,
    });
    for (number, address) in (1..).zip(hosts.filter(Address::is_host_local)) {
        let transport = transport.clone();
        spawn_local(async move {
            let origin = Origin::new(&number.to_string());
            if let Err(error) = origin.run(transport, &address, |_| ()).await {
                tracing::warn!(%address, %error, "a demo origin can't listen; is something else there?");
            }
        });
    }
}

/// Prints a line to try for each listener, and where the admin API is.
pub fn print_what_to_try(config: &Config, admin: Option<&Address>) {
    println!("\nFerrogate is up; Ctrl-C ends it. To try:");
    for listener in &config.server.listeners {
        for address in reachable(config, &listener.address) {
            match listener.tls.first().and_then(|t| t.cert_chain.as_ref()) {
                Some(cert) => println!("  curl --cacert {cert:?} https://{address}/"),
                None => println!("  curl http://{address}/"),
            }
        }
    }
    match admin {
        Some(Address::Inet(admin) | Address::Udp(admin)) => println!("The admin API: http://{admin}/\n"),
        Some(Address::Unix(path)) => {
            println!("The admin API: curl --unix-socket {} http://localhost/\n", path.display());
        }
        None => {}
    }
}

/// Where clients reach a listener: on the DPDK plane at every address of the ports, from their network.
fn reachable(config: &Config, listener: &Address) -> Vec<Address> {
    match (config.dataplane.plane, listener.inet()) {
        (Plane::Dpdk, Some(inet)) => {
            let ports = config.dataplane.dpdk.ports.iter();
            let addresses = ports.flat_map(|port| &port.addresses);
            addresses.map(|network| Address::Inet((network.ip, inet.port()).into())).collect()
        }
        _ => vec![listener.clone()],
    }
}

fn make_certificate(context: &TlsConfig) -> io::Result<()> {
    let (Some(Pem::Path(cert)), Some(Pem::Path(key))) = (&context.cert_chain, &context.private_key) else {
        return Ok(());
    };
    match (cert.exists(), key.exists()) {
        (true, true) => return Ok(()),
        (false, false) => {}
        // One of them alone is somebody's: a new pair would destroy it.
        (true, false) => return Err(half_a_pair(cert, key)),
        (false, true) => return Err(half_a_pair(key, cert)),
    }
    let names = ["localhost", "127.0.0.1", "::1"];
    let (cert_pem, key_pem) = tls_offload::self_signed(names).map_err(io::Error::other)?;
    write_private(key, &key_pem)?;
    write_private(cert, &cert_pem)
}

fn half_a_pair(there: &Path, missing: &Path) -> io::Error {
    io::Error::other(format!(
        "{} is there but {} is not: name both files, or remove the one that is left over",
        there.display(),
        missing.display()
    ))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
