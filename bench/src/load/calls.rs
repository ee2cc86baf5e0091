//! The client's side of one SOFA Bolt connection: calls that are under way together.
//!
//! **Invariant:** an answer is taken under the number of a call that is under way, once, and under no other.

use super::args::LoadArgs;
use super::multiplexed::{Done, Flow, Multiplexed};
use crate::wire::body::Body;
use crate::wire::bolt;
use crate::wire::clock::Nanos;
use crate::wire::head::Malformed;

/// One connection's state.
pub(crate) struct Calls {
    /// A call, but for its number.
    call: Vec<u8>,
    flow: Flow,
    places: Vec<Place>,
    /// Places without a call, the one that was given back last at the end.
    free: Vec<u16>,
}

/// A call may be under way in it.
#[derive(Clone, Copy, Default)]
struct Place {
    /// How many it has had: no number comes again soon.
    turn: u16,
    intended: Option<Nanos>,
}

impl Multiplexed for Calls {
    fn new(args: &LoadArgs) -> Self {
        let count = u16::try_from(args.streams).unwrap_or(u16::MAX);
        let places = vec![Place::default(); usize::from(count)];
        Self { call: bolt::call(args.body_bytes), flow: Flow::default(), places, free: (0..count).collect() }
    }

    fn room(&self) -> usize {
        self.free.len()
    }

    fn under_way(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn is_over(&self) -> bool {
        false
    }

    fn begin(&mut self, intended: Nanos) {
        let at = self.free.pop().expect("none begins without room");
        let place = &mut self.places[usize::from(at)];
        place.turn = place.turn.wrapping_add(1);
        place.intended = Some(intended);
        let id = u32::from(place.turn) << 16 | u32::from(at);
        let start = self.flow.out.len();
        self.flow.out.extend_from_slice(&self.call);
        self.flow.out[start..][bolt::ID].copy_from_slice(&id.to_be_bytes());
    }

    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn flow_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }

    fn take(&mut self, bytes: &[u8], done: &mut impl FnMut(Done)) -> Result<usize, Malformed> {
        let mut used = 0;
        while let Some((head, status)) = bolt::read_answer(&bytes[used..])? {
            let Some(Body::Length(rest)) = head.framing else { return Err(Malformed) };
            let whole = head.len + usize::try_from(rest).map_err(|_| Malformed)?;
            let Some(answer) = bytes[used..].get(..whole) else { break };
            let &[.., c, d, a, b] = &answer[..bolt::ID.end] else { return Err(Malformed) };
            let (turn, at) = (u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b]));
            let place = self.places.get_mut(usize::from(at)).ok_or(Malformed)?;
            let intended = place.intended.take().filter(|_| turn == place.turn).ok_or(Malformed)?;
            self.free.push(at);
            done(Done { intended, is_good: status == 200 });
            used += whole;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(streams: u32) -> Calls {
        Calls::new(&LoadArgs::of(&format!("--mode bolt --to 127.0.0.1:80 --body-bytes 3 --streams {streams}")))
    }

    /// The numbers of the calls that wait to leave.
    fn numbers(calls: &mut Calls) -> Vec<u32> {
        let mut rest = calls.unsent();
        let mut numbers = Vec::new();
        while let Some((id, head)) = bolt::read_call(rest).unwrap() {
            let Some(Body::Length(body)) = head.framing else { panic!("a call says its length") };
            rest = &rest[head.len + usize::try_from(body).unwrap()..];
            numbers.push(id);
        }
        calls.sent(calls.unsent().len());
        numbers
    }

    fn fed(calls: &mut Calls, bytes: &[u8]) -> Result<Vec<Nanos>, Malformed> {
        let mut done = Vec::new();
        calls.feed(bytes, |one| {
            assert!(one.is_good);
            done.push(one.intended);
        })?;
        Ok(done)
    }

    #[test]
    fn answers_find_their_calls_in_any_order_and_any_split() {
        for cut in 1..150 {
            let mut calls = calls(2);
            calls.begin(10);
            calls.begin(20);
            assert_eq!((calls.room(), calls.under_way()), (0, 2));
            let ids = numbers(&mut calls);
            let wire = [bolt::answer(ids[1], 5), bolt::answer(ids[0], 9)].concat();
            let (front, back) = wire.split_at(cut.min(wire.len()));
            let mut done = fed(&mut calls, front).unwrap();
            done.extend(fed(&mut calls, back).unwrap());
            assert_eq!((done, calls.under_way()), (vec![20, 10], 0), "{cut}");
        }
    }

    #[test]
    fn an_answer_to_nothing_is_malformed() {
        let mut calls = calls(2);
        calls.begin(10);
        let ids = numbers(&mut calls);
        assert!(fed(&mut calls, &bolt::answer(ids[0] + (1 << 16), 5)).is_err(), "of an earlier turn");
        let mut calls = self::calls(2);
        calls.begin(10);
        let ids = numbers(&mut calls);
        let twice = [bolt::answer(ids[0], 5), bolt::answer(ids[0], 5)].concat();
        assert!(fed(&mut calls, &twice).is_err(), "twice");
        assert!(fed(&mut self::calls(2), &bolt::answer(77, 5)).is_err(), "of no place");
    }
}
