//! How much of what costs its sender little a connection may send.
//!
//! **Invariant:** a peer that does no useful work is cut off after a bounded number of frames, however fast it sends them.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// What a peer sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Streams that it resets, or makes us reset, before their answer is complete.
    Resets,
    /// SETTINGS, PING, PRIORITY, frames of unknown kinds, windows opened by next to nothing.
    Control,
    /// DATA frames without data that end nothing.
    EmptyData,
    /// CONTINUATION frames of one header block.
    Continuations,
}

/// What a connection has sent within the time in hand.
#[derive(Debug)]
pub(super) struct Floods {
    limits: Bounds,
    since: Option<Instant>,
    resets: u32,
    control: u32,
    empty_data: u32,
    continuations: u32,
}

#[derive(Debug)]
struct Bounds {
    window: Duration,
    resets_max: u32,
    control_max: u32,
    empty_data_max: u32,
    continuations_max: u32,
}

impl Floods {
    pub(super) fn new(limits: &Limits) -> Self {
        let limits = Bounds {
            window: limits.h2_flood_window,
            resets_max: limits.h2_resets_max,
            control_max: limits.h2_control_frames_max,
            empty_data_max: limits.h2_empty_data_frames_max,
            continuations_max: limits.h2_continuation_frames_max,
        };
        Self { limits, since: None, resets: 0, control: 0, empty_data: 0, continuations: 0 }
    }

    /// One more. An error when it is one too many.
    pub(super) fn note(&mut self, flood: Flood) -> Result<(), Flood> {
        let (count, max) = self.count(flood);
        *count += 1;
        let fits = *count <= max;
        // The clock is looked at where a count begins and where it is full.
        if fits && self.since.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if fits {
            return Ok(());
        }
        // A header block has no time: it is as long as it is.
        if flood == Flood::Continuations || now.duration_since(since) < self.limits.window {
            return Err(flood);
        }
        self.since = Some(now);
        (self.resets, self.control, self.empty_data) = (0, 0, 0);
        *self.count(flood).0 = 1;
        Ok(())
    }

    fn count(&mut self, flood: Flood) -> (&mut u32, u32) {
        match flood {
            Flood::Resets => (&mut self.resets, self.limits.resets_max),
            Flood::Control => (&mut self.control, self.limits.control_max),
            Flood::EmptyData => (&mut self.empty_data, self.limits.empty_data_max),
            Flood::Continuations => (&mut self.continuations, self.limits.continuations_max),
        }
    }

    /// A header block has ended.
    pub(super) fn block_ended(&mut self) {
        self.continuations = 0;
    }

    /// A request or data has come: an honest peer may send some frames beside it.
    pub(super) fn useful(&mut self) {
        self.control = self.control.saturating_sub(CONTROL_PER_USEFUL_FRAME);
    }
}

/// Frames that a client may send beside one that carries something: a window opened for the stream and for the connection, a priority.
const CONTROL_PER_USEFUL_FRAME: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn too_many_within_the_window_and_only_then() {
        let limits = Limits { h2_resets_max: 3, h2_flood_window: Duration::from_secs(10), ..Limits::default() };
        let mut floods = Floods::new(&limits);
        for _ in 0..10 {
            (0..3).for_each(|_| floods.note(Flood::Resets).unwrap());
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        (0..3).for_each(|_| floods.note(Flood::Resets).unwrap());
        assert_eq!(floods.note(Flood::Resets), Err(Flood::Resets));
    }

    #[tokio::test(start_paused = true)]
    async fn work_allows_for_what_goes_with_it() {
        let mut floods = Floods::new(&Limits { h2_control_frames_max: 10, ..Limits::default() });
        for _ in 0..1000 {
            (0..3).for_each(|_| floods.note(Flood::Control).unwrap());
            floods.useful();
        }
        (0..10).for_each(|_| floods.note(Flood::Control).unwrap());
        assert_eq!(floods.note(Flood::Control), Err(Flood::Control));
    }
}
