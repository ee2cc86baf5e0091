//! Neighbours as they are heard and asked, and our own addresses as they are told: ARP (RFC 826, 5227) and neighbour discovery (RFC 4861, 4862).
//!
//! A stack begins by telling its addresses to all, so that whoever knew another station by them learns of this one: after a restart, or when an
//! address has moved here. Over IPv6 it asks first whether anybody has them; it serves meanwhile (RFC 4429).
//!
//! **Invariant:** another station with an address of ours is never a neighbour; it is counted, told of in the log, and answered so that others
//! keep to us, at most once in [`DEFENCE_INTERVAL`].

use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use super::neighbours::Waiting;
use super::nic::Nic;
use super::{Stack, StackConfig, arp, nd};
use crate::counters::DropReason;
use crate::device::Mac;

/// What is still to be told of our addresses, and when.
#[derive(Debug)]
pub(super) struct Announcements {
    /// The next, and how many there have been.
    next: Option<(Instant, u32)>,
    /// When an address was last defended.
    defended_at: Option<Instant>,
}

impl Announcements {
    /// From now on, where it is this stack that tells: of several on a port the first.
    pub(super) fn of(config: &StackConfig, now: Instant) -> Self {
        let tells = config.seat.as_ref().is_none_or(|seat| seat.index == 0);
        Self { next: tells.then_some((now, 0)), defended_at: None }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }
}

impl Stack {
    /// A neighbour asks for us, or answers a question of ours (RFC 826). An error: it is no news to us.
    pub(super) fn receive_arp(&mut self, heard: arp::Heard) -> Result<(), DropReason> {
        if self.ours.has_v4(heard.ip) && heard.mac != self.nic.mac {
            self.meet_rival(heard.ip.into(), heard.mac);
            return Ok(());
        }
        let is_for_us = self.ours.has_v4(heard.target);
        if is_for_us && heard.ip.is_unspecified() {
            self.nic.send_arp(heard.target, Some(heard.mac), heard.ip);
            return Ok(());
        }
        // A port that hears itself (net_ring) is its own neighbour. What is told to all is news of those who are known.
        let is_news = is_for_us || self.neighbours.has(heard.ip.into());
        if !is_news || !self.ours.is_on_link(heard.ip.into()) {
            return Err(DropReason::Arp);
        }
        self.learn_neighbour(heard.ip.into(), heard.mac);
        if heard.asks && is_for_us {
            self.nic.send_arp(heard.target, Some(heard.mac), heard.ip);
        }
        Ok(())
    }

    /// The same over IPv6.
    pub(super) fn receive_nd(&mut self, heard: nd::Heard) -> Result<(), DropReason> {
        match heard {
            nd::Heard::Asks { target, .. } if !self.ours.has_v6(target) => {
                // A group is shared by all whose addresses end alike.
                return Err(DropReason::OtherAddress);
            }
            // Somebody wants the address for himself: he is told that it is taken. Our own question comes back on a port that hears itself.
            nd::Heard::Asks { target, by: None, sender } if sender != self.nic.mac => {
                self.nic.counters.drop_frame(DropReason::AddressConflict);
                self.nic.send_nd(nd::Said::Announced { target }, None);
            }
            nd::Heard::Asks { by: None, .. } => {}
            nd::Heard::Asks { by: Some((ip, mac)), .. } if self.ours.has_v6(ip) && mac != self.nic.mac => {
                self.meet_rival(ip.into(), mac);
            }
            nd::Heard::Asks { by: Some((ip, _)), .. } if !self.ours.is_on_link(ip.into()) => {
                return Err(DropReason::Nd);
            }
            nd::Heard::Asks { target, by: Some((ip, mac)), .. } => {
                self.learn_neighbour(ip.into(), mac);
                self.nic.send_nd(nd::Said::Here { target, to: ip }, Some(mac));
            }
            nd::Heard::Tells { target, mac } if self.ours.has_v6(target) => {
                if mac != self.nic.mac {
                    self.meet_rival(target.into(), mac);
                }
            }
            // Nobody asked (RFC 4861, 7.2.5), unless another lcore did.
            nd::Heard::Tells { target, .. } if !self.neighbours.has(target.into()) => {
                return if self.config.seat.is_some() { Ok(()) } else { Err(DropReason::Nd) };
            }
            nd::Heard::Tells { target, mac } => self.learn_neighbour(target.into(), mac),
        }
        Ok(())
    }

    /// What another lcore of the port has received, and answers: here it is learnt only.
    pub(super) fn overhear_arp(&mut self, heard: arp::Heard) {
        let is_news = self.ours.has_v4(heard.target) || self.neighbours.has(heard.ip.into());
        let is_neighbour = self.ours.is_on_link(heard.ip.into()) && !self.ours.has_v4(heard.ip);
        if is_news && is_neighbour {
            self.learn_neighbour(heard.ip.into(), heard.mac);
        }
    }

    /// The same over IPv6.
    pub(super) fn overhear_nd(&mut self, heard: nd::Heard) {
        let (ip, mac) = match heard {
            nd::Heard::Asks { target, by: Some(by), .. } if self.ours.has_v6(target) => by,
            nd::Heard::Tells { target, mac } if self.neighbours.has(target.into()) => (target, mac),
            _ => return,
        };
        if self.ours.is_on_link(ip.into()) && !self.ours.has_v6(ip) {
            self.learn_neighbour(ip.into(), mac);
        }
    }

    /// Tells of our addresses when it is time.
    pub(super) fn announce(&mut self) {
        let Some((_, done)) = self.announcements.next.filter(|(at, _)| *at <= self.now) else { return };
        let pause = ANNOUNCEMENT_PAUSES.get(done as usize);
        self.announcements.next = pause.map(|pause| (self.now + *pause, done + 1));
        for ip in self.ours.all() {
            match ip {
                // The first time over IPv6 it is asked.
                IpAddr::V6(target) if done == 0 => self.nic.send_nd(nd::Said::Probe { target }, None),
                ip => tell(&mut self.nic, ip),
            }
        }
        self.nic.flush();
    }

    /// Another station has an address of ours.
    fn meet_rival(&mut self, ip: IpAddr, mac: Mac) {
        self.nic.counters.drop_frame(DropReason::AddressConflict);
        let is_time = self.announcements.defended_at.is_none_or(|at| at + DEFENCE_INTERVAL <= self.now);
        if is_time {
            self.announcements.defended_at = Some(self.now);
            tracing::warn!(
                "the station {mac} says that it has {ip}, an address of this port: give one of the two another"
            );
            tell(&mut self.nic, ip);
        }
    }

    pub(super) fn learn_neighbour(&mut self, ip: IpAddr, mac: Mac) {
        let Waiting { flows, frames } = self.neighbours.learn(ip, mac, self.now);
        for id in flows {
            self.mark_waiting(id);
        }
        self.send_held(frames, mac);
    }

    /// Asks for the neighbours that something waits for.
    pub(super) fn ask_neighbours(&mut self) {
        let Self { neighbours, nic, ours, .. } = self;
        let mut silent = Vec::new();
        let ask = |ip| match (ip, ours.source_for(ip, ip)) {
            (IpAddr::V4(ip), Some(IpAddr::V4(source))) => nic.send_arp(source, None, ip),
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => nic.send_nd(nd::Said::Where { source, target }, None),
            // Nobody is asked for who can't be reached.
            _ => {}
        };
        neighbours.questions(self.now, ask, |waiting| silent.push(waiting));
        for Waiting { flows, frames } in silent {
            self.lose_held(&frames);
            self.lose_neighbour(&flows);
        }
    }
}

/// Tells all stations that the address is here (RFC 5227, 2.3; RFC 4861, 7.2.6).
fn tell(nic: &mut Nic, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => nic.send_arp(ip, None, ip),
        IpAddr::V6(target) => nic.send_nd(nd::Said::Announced { target }, None),
    }
}

/// Between two announcements: whoever missed the first, because the link was not up yet, hears another.
const ANNOUNCEMENT_PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Between two defences of an address (RFC 5227, 2.4).
const DEFENCE_INTERVAL: Duration = Duration::from_secs(10);
