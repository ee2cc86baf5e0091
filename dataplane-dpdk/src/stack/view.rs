//! What Linux says of a port's twin, besides the file: addresses, routes and neighbours that come and go while the stack runs.
//!
//! **Invariant:** what the file says stays, whatever Linux says.

use std::net::IpAddr;

use ferrogate_core::config::dataplane::{Network, Route};

use super::Stack;
use super::flow::Fault;
use super::link::Announcements;
use super::ours::Ours;
use crate::device::Mac;

/// All that is followed, as it is at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Addresses of the interface.
    pub(crate) addresses: Vec<Network>,
    /// Routes by it. Of two to one network the first counts.
    pub(crate) routes: Vec<Route>,
    /// Neighbours that nobody asks for.
    pub(crate) neighbours: Vec<(IpAddr, Mac)>,
}

impl Stack {
    /// From now on it is so. Addresses that are new are told to all stations.
    pub(crate) fn follow(&mut self, view: &View) {
        let mut addresses = self.config.addresses.clone();
        addresses.extend(view.addresses.iter().filter(|network| !self.config.addresses.contains(network)));
        // A router that is on no network of ours would never be found. The file's are checked before.
        let on_link = Ours::new(self.config.mac, &addresses, &[]);
        let is_near = |via| on_link.is_on_link(via) || view.neighbours.iter().any(|(ip, _)| *ip == via);
        let followed = view.routes.iter().filter(|route| is_near(route.via));
        let routes: Vec<Route> = self.config.routes.iter().chain(followed).copied().collect();
        let ours = Ours::new(self.config.mac, &addresses, &routes);
        if ours.all().any(|ip| !self.ours.has(ip)) {
            self.announcements = Announcements::of(&self.config, self.now);
        }
        self.ours = ours;
        self.neighbours.fix(&view.neighbours);
        for &(ip, mac) in &view.neighbours {
            self.learn_neighbour(ip, mac);
        }
        // Who had no way may have one.
        let all: Vec<_> = self.flows.iter().map(|(id, _)| id).collect();
        for id in all {
            let number = u32::try_from(id).expect("as many flows as flows_max");
            if self.ours.has(self.flows[id].key.local) {
                self.mark(number);
            } else {
                // Another host may have the address now: its peer hears of it from there.
                self.fail(number, Fault::Unreachable);
            }
        }
        if let Some(poller) = self.resting.take() {
            poller.wake();
        }
    }
}
