//! Asks peers that have been silent for long whether they are still there (RFC 9293, 3.8.4).
//!
//! smoltcp has one time for the silence before the first question and between all others, and gives up by another clock. So the question is
//! ours: a bare segment with a number that the peer has acknowledged, which is not acceptable and has to be answered.
//!
//! **Invariant:** only a flow that somebody holds is asked, `keepalive_probes_max` times in a row at most; then it ends.

use super::Stack;
use super::flow::Fault;
use super::nic::Emitted;
use crate::device::Mac;

impl Stack {
    /// Asks the peer of a flow if that is due, or ends the flow when it was asked often enough.
    pub(super) fn ask_if_silent(&mut self, id: u32, mac: Mac) {
        let limits = &self.config.limits;
        let flow = &mut self.flows[id as usize];
        if flow.asks_at(limits).is_none_or(|at| at > self.now) {
            return;
        }
        if flow.asked >= limits.keepalive_probes_max {
            flow.fault = Some(Fault::TimedOut);
            flow.socket().abort();
            self.nic.counters.flows_timed_out.add(1);
            return;
        }
        flow.asked += 1;
        let all = flow.sender.outstanding();
        // What is on its way is sent again until it is answered, and asks as well.
        if all.start == all.end
            && let Some(last) = flow.emitted
        {
            let number = all.start.wrapping_sub(1);
            let (key, question) = (flow.key, Emitted { start: number, end: number, ..last });
            self.nic.counters.keepalives_sent.add(1);
            self.nic.send_ack(&key, mac, question);
        }
    }
}
