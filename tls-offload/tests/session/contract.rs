//! Sessions in memory: two of them, and the bytes between them cut in every way. One contract for every pair of backends.
//!
//! **Invariant:** each test of it runs for each pair.

use tls_offload::Backend;

pub(crate) mod choice;
pub(crate) mod export;
pub(crate) mod mutual;
mod pair;
pub(crate) mod suite;

/// Who computes on each side.
#[derive(Clone, Copy)]
pub(crate) struct Backends {
    pub(crate) server: Backend,
    pub(crate) client: Backend,
}

/// Makes a module of tests: the whole contract for a pair of backends.
#[macro_export]
macro_rules! contract {
    ($module:ident, server: $server:ident, client: $client:ident) => {
        mod $module {
            use super::contract::Backends;
            use tls_offload::Backend;

            const BACKENDS: Backends = Backends { server: Backend::$server, client: Backend::$client };

            $crate::contract!(
                @tests suite:
                both_versions_agree_and_carry_both_ways,
                fed_byte_by_byte,
                handshake_messages_split_over_records,
                a_name_never_passes_to_another_session,
                alpn_is_agreed_by_the_servers_preference,
                a_session_may_offer_its_own_protocols,
                the_certificate_is_chosen_by_name,
                of_two_certificates_for_a_name_the_usable_one_is_shown,
                strangers_are_refused,
                no_common_version_is_no_agreement,
                sessions_are_resumed_by_ticket,
                a_resumed_session_gets_one_ticket,
                closing_is_told_and_half_closed_sessions_still_carry,
                garbage_is_an_error_at_once,
                a_changed_record_kills_the_session,
                garbage_after_our_close_is_an_error_too,
                rooms_bound_what_is_opened_and_sealed,
                many_small_writes_are_few_records,
                configurations_are_refused_with_cause_and_remedy,
                any_split_gives_the_same_plaintext,
                no_noise_panics,
            );
            $crate::contract!(
                @tests choice:
                suites_and_groups_are_those_that_are_named,
                of_thousands_of_certificates_the_right_one_is_shown,
            );
            $crate::contract!(
                @tests export:
                a_servers_session_goes_on_outside_of_it,
                a_clients_session_goes_on_outside_of_it,
                keys_are_renewed_outside_of_a_session,
                keys_stay_where_they_are_not_let_out,
                keys_leave_only_between_two_records,
            );
            $crate::contract!(
                @tests mutual:
                clients_are_let_in_as_it_is_configured,
                the_clients_certificate_is_told,
                who_is_revoked_is_refused,
                servers_that_are_revoked_are_refused,
                what_has_expired_is_told,
                servers_may_be_known_by_a_uri,
            );
        }
    };
    (@tests $part:ident: $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                super::contract::$part::$name(BACKENDS);
            }
        )*
    };
}
