//! `admin`.
//!
//! **Invariant:** never an address that the file does not say, but loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Address;
use crate::config::reader::Reader;
use crate::config::tree::Node;

/// Where the admin API listens.
pub(super) fn admin(r: &mut Reader, node: &Node) -> Option<Address> {
    let fields = r.map(node, "admin")?;
    let default = Some(Address::Inet(SocketAddr::new(LOOPBACK, PORT)));
    let Some(address) = fields.get("address") else { return default };
    r.at("address", |r| {
        let fields = r.map(address, "admin_address")?;
        match (fields.get("socket_address"), fields.get("pipe")) {
            (None, None) => default,
            (Some(node), None) => r.at("socket_address", |r| socket_address(r, node)),
            (None, Some(node)) => r.at("pipe", |r| pipe(r, node)),
            (Some(_), Some(second)) => {
                r.at("pipe", |r| r.error(second.place, "both `socket_address` and `pipe`", "keep one of the two"));
                None
            }
        }
    })
}

fn pipe(r: &mut Reader, node: &Node) -> Option<Address> {
    let fields = r.map(node, "pipe")?;
    let path = fields.required(r, "path")?;
    if path.starts_with('@') {
        // The API lets in whoever can connect, and what keeps others out are the permissions of a file.
        fields
            .report(r, "path", |r, node| r.error(node.place, "an abstract socket is open to everyone", "write a path"));
        return None;
    }
    Some(Address::Unix(path.into()))
}

fn socket_address(r: &mut Reader, node: &Node) -> Option<Address> {
    let fields = r.map(node, "socket_address")?;
    let ip = match fields.text(r, "address") {
        None => Some(LOOPBACK),
        Some(text) => fields.with(r, "address", |r, node| {
            let ip = text.parse::<IpAddr>().ok();
            match ip {
                None => r.error(node.place, format!("`{text}` is no IP address"), "write 127.0.0.1"),
                Some(ip) if !ip.is_loopback() => {
                    let message = format!("the admin API is open to everyone who can reach {ip}, without a password");
                    r.warn(node.place, message, "write 127.0.0.1");
                }
                Some(_) => {}
            }
            ip
        }),
    };
    let port = fields.number(r, "port_value", 0..=65535).unwrap_or(PORT);
    Some(Address::Inet(SocketAddr::new(ip?, port)))
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where it listens when the file does not say.
const PORT: u16 = 9901;
