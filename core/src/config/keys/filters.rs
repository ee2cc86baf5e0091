//! The keys of the stream filters that have function.
//!
//! **Invariant:** the default written here is the default in force; tests read both.

use super::working::key;
use super::{Key, Kind};
use Kind::{Choice, Maps, Text, Texts};

pub(super) const PER_FILTER_CONFIG: &str = "Settings of stream filters for these requests: the type of a filter, and its configuration, which takes \
                                             the place of the listener's as a whole. A filter runs only where the listener has it.";

pub(super) const IP_ACCESS: &[Key] = &[
    key(
        "default_action",
        Choice(ALLOW_DENY),
        "",
        "What happens to clients that no entry of `ips` names. `deny` answers 403. Required.",
    ),
    key(
        "header",
        Text,
        "",
        "The field that holds the client's address; of several addresses with commas between them the last counts. A request without the \
         field goes by the address of its connection; one whose field holds no address is denied. Absent: the connection's address.",
    ),
    key(
        "ips",
        Maps("ip_access_rule"),
        "",
        "Who is let in and who is not. The first entry that names the client decides.",
    ),
];

pub(super) const IP_ACCESS_RULE: &[Key] = &[
    key("action", Choice(ALLOW_DENY), "", "What happens to these clients. Required."),
    key("addrs", Texts, "", "Their addresses and networks: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`."),
];

const ALLOW_DENY: &[&str] = &["allow", "deny"];
