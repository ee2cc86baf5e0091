//! What Linux says of the twins of ports, by rtnetlink(7): read when the plane starts and whenever it changes, and told to the lcores.
//!
//! **Invariant:** a view is read whole and never patched together from news: news that got lost make it late, not wrong. No lcore waits for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ferrogate_core::config::dataplane::{Followed, Network, Route};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netdevice::name_to_index;

use crate::device::Mac;
use crate::ops::desk::Desk;
use crate::stack::View;

/// The thread that reads. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A twin that is followed.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    /// The place, among the stacks of an lcore, of the one that it is the twin of.
    pub(crate) stack: usize,
    /// Its name.
    pub(crate) interface: String,
    /// What of it.
    pub(crate) what: Vec<Followed>,
}

impl Follower {
    /// Follows these twins from now on. None where there is none; and, with a line in the log, where Linux does not let us.
    pub(crate) fn start(twins: Vec<Twin>, desk: &Arc<Desk>) -> Option<Self> {
        if twins.is_empty() {
            return None;
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let desk = Arc::clone(desk);
        let thread = news().and_then(|news| {
            let follow = move || follow(&news, &twins, &desk, &stopped);
            thread::Builder::new().name("follower".to_owned()).spawn(follow)
        });
        match thread {
            Ok(thread) => Some(Self { stop: Some(stop), thread: Some(thread) }),
            Err(error) => {
                tracing::error!(%error, "Linux is not followed (dataplane.dpdk.ports[].exception.follow): no netlink socket can be had");
                None
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that follows Linux panicked");
        }
    }
}

fn follow(news: &Socket, twins: &[Twin], desk: &Desk, stopped: &mpsc::Receiver<()>) {
    let mut told = vec![Told::default(); twins.len()];
    let mut is_due = true;
    // Whoever tells us to stop drops the other end.
    while stopped.recv_timeout(if is_due { GATHER } else { Duration::ZERO }) == Err(mpsc::RecvTimeoutError::Timeout) {
        if is_due {
            drain(news);
            is_due = false;
            for (twin, told) in twins.iter().zip(&mut told) {
                // An lcore that had too many questions is told later.
                is_due |= !tell(twin, told, desk);
            }
        }
        is_due |= has_news(news);
    }
}

/// What is known of a twin.
#[derive(Clone, Default)]
struct Told {
    /// What all lcores have been told.
    view: Option<View>,
    /// It could not be read the last time.
    has_failed: bool,
}

/// Tells the lcores what has changed. False: it is to be tried again.
fn tell(twin: &Twin, told: &mut Told, desk: &Desk) -> bool {
    let view = match read(twin) {
        Ok(view) => view,
        Err(error) => {
            if !std::mem::replace(&mut told.has_failed, true) {
                tracing::warn!(interface = twin.interface, %error, "what Linux says of the interface can't be read");
            }
            return false;
        }
    };
    told.has_failed = false;
    if told.view.as_ref() == Some(&view) {
        return true;
    }
    let View { addresses, routes, neighbours } = &view;
    tracing::info!(
        interface = twin.interface,
        addresses = addresses.len(),
        routes = routes.len(),
        neighbours = neighbours.len(),
        "Linux is followed"
    );
    let taken = desk.follow(twin.stack, &Arc::new(view.clone()));
    // Some of them may have it, where not all could take it: nothing is known of all then.
    told.view = taken.then_some(view);
    taken
}

/// A socket that hears of changes.
fn news() -> io::Result<Socket> {
    // The link too: its routes go with it, and Linux does not say so of each.
    let groups = libc::RTMGRP_LINK
        | libc::RTMGRP_NEIGH
        | libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV6_ROUTE;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, groups.unsigned_abs()))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Whether there is news; waits for it a little.
fn has_news(news: &Socket) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: WAIT_NANOS };
    poll(&mut [PollFd::new(news, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Forgets the news: it is read what is so. Also what was lost for want of room is news.
fn drain(news: &Socket) {
    let mut room = [0; 8192];
    let mut take = || match news.recv(&mut &mut room[..], 0) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::ENOBUFS),
    };
    while take() {}
}

/// What is so now.
fn read(twin: &Twin) -> io::Result<View> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let index = name_to_index(&socket, &twin.interface)?;
    let mut view = View::default();
    if twin.what.contains(&Followed::Addresses) {
        dump(&socket, Message::GetAddress(AddressMessage::default()), |message| match message {
            Message::NewAddress(m) if m.header.index == index => view.addresses.extend(address(&m)),
            _ => {}
        })?;
    }
    if twin.what.contains(&Followed::Routes) {
        let mut routes = Vec::new();
        dump(&socket, Message::GetRoute(RouteMessage::default()), |message| {
            if let Message::NewRoute(m) = message {
                routes.extend(route(&m, index));
            }
        })?;
        // The lower metric first.
        routes.sort_by_key(|(metric, _)| *metric);
        view.routes = routes.into_iter().map(|(_, route)| route).collect();
    }
    if twin.what.contains(&Followed::Neighbours) {
        dump(&socket, Message::GetNeighbour(NeighbourMessage::default()), |message| match message {
            Message::NewNeighbour(m) if m.header.ifindex == index => view.neighbours.extend(neighbour(&m)),
            _ => {}
        })?;
    }
    cut(&twin.interface, "addresses", &mut view.addresses);
    cut(&twin.interface, "routes", &mut view.routes);
    cut(&twin.interface, "neighbours", &mut view.neighbours);
    Ok(view)
}

/// Each lookup goes through all of them: a host with a whole BGP table has to sum it up.
fn cut<T>(interface: &str, what: &str, all: &mut Vec<T>) {
    if all.len() > FOLLOWED_MAX {
        tracing::warn!(
            interface,
            what,
            has = all.len(),
            "more than are followed ({FOLLOWED_MAX}): the others are left out"
        );
        all.truncate(FOLLOWED_MAX);
    }
}

/// Asks for all of a kind.
fn dump(socket: &Socket, what: Message, mut each: impl FnMut(Message)) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(what));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut room = vec![0; DUMP_BYTES];
    loop {
        let n = socket.recv(&mut &mut room[..], 0)?;
        let mut rest = room.get(..n).unwrap_or_default();
        while let Some((length, message)) = first_of(rest) {
            // One that this crate does not know whole is not followed.
            match NetlinkMessage::<Message>::deserialize(message).map(|message| message.payload) {
                Ok(NetlinkPayload::Done(_)) => return Ok(()),
                Ok(NetlinkPayload::Error(e)) => return Err(e.to_io()),
                Ok(NetlinkPayload::InnerMessage(message)) => each(message),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a message of Linux can't be read"),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The first of several messages, with its length.
fn first_of(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    let length = usize::try_from(length).ok().filter(|&length| length >= HEADER_BYTES)?;
    Some((length, bytes.get(..length)?))
}

fn address(message: &AddressMessage) -> Option<Network> {
    // Whose search for others that have it is not over.
    if message.header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed) {
        return None;
    }
    let of = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    // Of a link with one other station the first is ours and the second the other's.
    let ip = of(true).or_else(|| of(false))?;
    // The port has one of its own.
    let is_of_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    (!is_of_link && !ip.is_loopback()).then_some(Network { ip, prefix_len: message.header.prefix_len })
}

/// A route of the main table by a router at the interface, with its metric.
fn route(message: &RouteMessage, index: u32) -> Option<(u32, Route)> {
    let RouteMessage { header, attributes, .. } = message;
    let (mut table, mut metric, mut to) = (u32::from(header.table), 0, None);
    let mut via = router(attributes, index);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::MultiPath(hops) => {
                let at_interface = hops.iter().filter(|hop| hop.interface_index == index);
                via = via.or_else(|| at_interface.filter_map(|hop| gateway(&hop.attributes)).next());
            }
            _ => {}
        }
    }
    let everywhere = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let to = Network { ip: to.unwrap_or(everywhere), prefix_len: header.destination_prefix_length };
    let via = via.filter(|via| via.is_ipv4() == to.ip.is_ipv4())?;
    let is_ours = header.kind == RouteType::Unicast && table == u32::from(RouteHeader::RT_TABLE_MAIN);
    is_ours.then_some((metric, Route { to, via }))
}

/// The router of a route by the interface.
fn router(attributes: &[RouteAttribute], index: u32) -> Option<IpAddr> {
    attributes.contains(&RouteAttribute::Oif(index)).then(|| gateway(attributes)).flatten()
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// One that an operator has set.
fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    ip.zip(mac).filter(|_| message.header.state == NeighbourState::Permanent)
}

/// Entries of each kind, at most.
const FOLLOWED_MAX: usize = 1024;
/// How long news gathers before it is read what is so: a routing daemon changes many routes at once.
const GATHER: Duration = Duration::from_millis(50);
/// How long one look for news waits, and so the end of the plane for this thread.
const WAIT_NANOS: i64 = 100_000_000;
/// What Linux sends of a dump at a time, at most.
const DUMP_BYTES: usize = 64 * 1024;
/// A header of netlink.
const HEADER_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: u32 = 7;

    fn v4(text: &str) -> RouteAddress {
        RouteAddress::Inet(text.parse().expect("an address"))
    }

    /// A route of the main table to 10.9.0.0/16.
    fn message(attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 16;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Destination(v4("10.9.0.0"))];
        message.attributes.extend(attributes);
        message
    }

    #[test]
    fn routes_by_a_router_at_the_interface_are_taken() {
        let by = |oif: u32| vec![RouteAttribute::Oif(oif), RouteAttribute::Gateway(v4("10.1.0.254"))];
        let way =
            Route { to: "10.9.0.0/16".parse().expect("a network"), via: "10.1.0.254".parse().expect("an address") };
        assert_eq!(route(&message(by(INDEX)), INDEX), Some((0, way)));
        let dearer = [by(INDEX), vec![RouteAttribute::Priority(20)]].concat();
        assert_eq!(route(&message(dearer), INDEX), Some((20, way)));
        assert_eq!(route(&message(by(8)), INDEX), None, "by another interface");
        assert_eq!(route(&message(vec![RouteAttribute::Oif(INDEX)]), INDEX), None, "without a router");
        let other_table = [by(INDEX), vec![RouteAttribute::Table(1000)]].concat();
        assert_eq!(route(&message(other_table), INDEX), None);
        let mut blackhole = message(by(INDEX));
        blackhole.header.kind = RouteType::BlackHole;
        assert_eq!(route(&blackhole, INDEX), None);
        let mut rest = message(by(INDEX));
        rest.attributes.remove(0);
        rest.header.destination_prefix_length = 0;
        assert_eq!(route(&rest, INDEX).map(|(_, way)| way.to), "0.0.0.0/0".parse().ok());
    }

    #[test]
    fn addresses_that_others_may_have_wait() {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 64;
        message.attributes = vec![AddressAttribute::Address("2001:db8::1".parse().expect("an address"))];
        assert_eq!(address(&message), "2001:db8::1/64".parse().ok());
        message.header.flags = AddressHeaderFlags::Tentative;
        assert_eq!(address(&message), None);
        message.header.flags = AddressHeaderFlags::empty();
        message.attributes = vec![AddressAttribute::Address("fe80::1".parse().expect("an address"))];
        assert_eq!(address(&message), None, "the port has one of its own");
    }

    #[test]
    fn messages_are_cut_where_they_end() {
        let mut two = vec![0; 40];
        two[0] = 20;
        two[20] = 20;
        assert_eq!(first_of(&two).map(|(length, first)| (length, first.len())), Some((20, 20)));
        assert_eq!((first_of(&two[..19]), first_of(&[]), first_of(&[0; 16])), (None, None, None));
    }
}
