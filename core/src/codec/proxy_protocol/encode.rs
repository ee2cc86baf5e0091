//! Writing a header.
//!
//! **Invariant:** both addresses are of one family; where one is none, the header says that it knows nothing.

use std::net::{IpAddr, SocketAddr};

use super::{SIGNATURE, Version};

/// The header of a connection from `source` to `destination`; None: it has no such address.
#[must_use]
pub fn encode(version: Version, source: Option<SocketAddr>, destination: Option<SocketAddr>) -> Vec<u8> {
    let ends = source.zip(destination).map(|(source, destination)| of_one_family(source, destination));
    match version {
        Version::V1 => text(ends),
        Version::V2 => binary(ends),
    }
}

fn text(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    // Version 2, a connection that is proxied.
    out.push(0x21);
    let Some((source, destination)) = ends else {
        out.extend_from_slice(&[0x00, 0, 0]);
        return out;
    };
    out.extend_from_slice(if source.is_ipv4() { &[0x11, 0, 12] } else { &[0x21, 0, 36] });
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out
}

/// Both as IPv4 if they can be, else both as IPv6.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |a: SocketAddr| match a.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), a.port()),
        IpAddr::V6(_) => a,
    };
    (mapped(source), mapped(destination))
}
