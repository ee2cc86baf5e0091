//! The contract of [`ferrogate_core::net`], one suite for every plane: a back end is done when its column is green.
//!
//! A back end joins by a [`Harness`](harness::Harness) and a line in `rows!` below.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod calls;
mod cases;
mod datagrams;
mod filters;
mod harness;
mod planes;
mod ports;

/// Makes a module of tests for each back end: `name: expression` of a future for its harness, or for the reason of a skipped row.
macro_rules! rows {
    ($($row:ident: $harness:expr;)*) => {$(
        mod $row {
            use crate::cases::*;
            $crate::rows!(@cases $row, $harness,
                lifetime::a_request_and_its_answer,
                lifetime::each_direction_ends_by_itself,
                lifetime::a_drop_delivers_what_was_flushed,
                lifetime::a_shutdown_flushes,
                lifetime::an_abort_is_told,
                lifetime::a_dropped_connect_leaves_nothing,
                lifetime::many_connections,
                listening::nobody_listens,
                listening::an_address_is_taken_once,
                listening::a_port_is_chosen,
                listening::connections_wait_to_be_accepted,
                reading::what_was_seen_is_shown_with_more,
                reading::pipelined_messages_are_shown_at_once,
                reading::the_task_that_waits_last_is_woken,
                reading::a_task_at_the_end_of_its_turn_is_woken,
                reading::messages_cross_every_edge_of_a_ring,
                reading::a_long_message_is_shown_whole,
                reading::an_end_within_a_message_is_told,
                reading::one_hot_connection_starves_nobody,
                writing::room_is_as_long_as_wished_for,
                writing::a_slow_reader_stops_the_writer,
                writing::both_directions_are_full_at_once,
                relaying::everything_goes_across,
                relaying::a_limit_is_kept,
                relaying::what_was_there_goes_first,
                relaying::a_slow_sink_stops_the_source,
                relaying::a_lost_sink_is_an_error,
                relaying::words_between_much_keep_their_place,
            );
        }
    )*};
    (@cases $row:ident, $harness:expr, $($module:ident::$case:ident),* $(,)?) => {$(
        #[test]
        fn $case() {
            $crate::harness::run(stringify!($row), || $harness, async |plane| $module::$case(&plane).await);
        }
    )*};
}
pub(crate) use rows;

rows! {
    kernel_tcp: crate::planes::Kernel::tcp();
    kernel_unix: crate::planes::Kernel::unix();
    stack_on_wire: crate::planes::Wire::clean();
    stack_on_lossy_wire: crate::planes::Wire::lossy();
    dpdk_net_ring: crate::ports::Ring::open();
    dpdk_net_af_packet: crate::ports::Link::open("net_af_packet");
    dpdk_net_af_xdp: crate::ports::Link::open("net_af_xdp");
}
