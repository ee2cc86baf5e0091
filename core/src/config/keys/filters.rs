//! The keys of the stream filters that have function.
//!
//! **Invariant:** the default written here is the default in force; tests read both.

use super::working::key;
use super::{Key, Kind};
use Kind::{Any, Bool, Choice, Duration, Map, Maps, Number, Size, Text, Texts};

pub(super) const PER_FILTER_CONFIG: &str = "Settings of stream filters for these requests: the type of a filter, and its configuration, which takes \
                                             the place of the listener's as a whole. A filter runs only where the listener has it.";

pub(super) const FAULT: &[Key] = &[
    key("delay", Map("fault_delay"), "", "Lets requests wait before they go on, or fail."),
    key("abort", Map("fault_abort"), "", "Answers requests with a status instead of an origin."),
    key(
        "upstream_cluster",
        Text,
        "",
        "Only requests that go to this cluster, as their route has chosen it. Absent: all.",
    ),
    key("headers", Maps("header_match"), "", "Only requests with all of these fields."),
];

pub(super) const FAULT_DELAY: &[Key] =
    &[key("fixed_delay", Duration, "", "How long. Required."), key("percentage", Number, "0", PERCENTAGE)];

pub(super) const FAULT_ABORT: &[Key] =
    &[key("status", Number, "", "The status, 200 to 599. Required."), key("percentage", Number, "0", PERCENTAGE)];

const PERCENTAGE: &str = "How many of a hundred requests, 0 to 100, drawn for each.";

pub(super) const FLOW_CONTROL: &[Key] = &[
    key(
        "global_switch",
        Bool,
        "false",
        "Whether requests above a limit are refused. Neither this nor `monitor`: the filter is off.",
    ),
    key("monitor", Bool, "false", "Whether requests above a limit are counted where they are not refused."),
    key(
        "limit_key_type",
        Choice(&["PATH", "ARG", "URI"]),
        "PATH",
        "What a rule's `resource` is compared with: the path, decoded and normal; the query; or both as they came.",
    ),
    key("action", Map("flow_action"), "", "What a client above a limit is told."),
    key("rules", Maps("flow_rule"), "", "The limits. A request must pass every rule that is for it."),
];

pub(super) const FLOW_ACTION: &[Key] = &[
    key("status", Number, "509", "The status, 400 to 599."),
    key("body", Text, "current request is limited", "The text."),
];

pub(super) const FLOW_RULE: &[Key] = &[
    key("id", Text, "the resource", "A name for the rule, in metrics."),
    key("resource", Text, "", "The path (see `limit_key_type`) that it is for, as a whole. Absent: every one."),
    key("route", Text, "", "Ferrogate's own: only requests of the route of this name."),
    key("headers", Maps("header_match"), "", "Ferrogate's own: only requests with all of these fields."),
    key("grade", Number, "1", "1: requests in a time. 0: requests at a time."),
    key("threshold", Number, "", "How many; with `grade: 1` fractions too. 0 refuses all. Required."),
    key("statIntervalInMs", Number, "1000", "In how many milliseconds."),
    key("burst", Number, "the threshold", "Ferrogate's own: how many may come at once; at least one may."),
    key("controlBehavior", Number, "0", "0: what is above the rate is refused. 1: it waits for its turn."),
    key("maxQueueingTimeMs", Number, "0", "With `controlBehavior: 1`: how long it waits, in milliseconds, at most."),
];

pub(super) const GZIP: &[Key] = &[
    key("gzip_level", Number, "6", "1 to 9: more is smaller and slower."),
    key("content_length", Size, "1024", "A body that says it is shorter than this, in bytes, goes as it is."),
    key(
        "content_types",
        Texts,
        "[text/html]",
        "Which media types; parameters like `charset` don't count, and `text/*` is every type that starts so.",
    ),
    key(
        "encodings",
        Texts,
        "[gzip]",
        "Ferrogate's own: what is offered, of `gzip`, `br` and `zstd`, the most wanted first. An empty list switches the filter off.",
    ),
    key("brotli_level", Number, "4", "Ferrogate's own: 0 to 9."),
    key("zstd_level", Number, "3", "Ferrogate's own: 1 to 12."),
];

pub(super) const HEADER_TO_METADATA: &[Key] = &[key(
    "request_rules",
    Maps("metadata_rule"),
    "",
    "Asked in this order; of two that say the same key the later one counts.",
)];

pub(super) const METADATA_RULE: &[Key] = &[
    key("header", Text, "", "The field that it looks at. Required."),
    key(
        "on_header_present",
        Map("metadata_value"),
        "",
        "What a host's metadata must say when the request has the field.",
    ),
    key("on_header_missing", Map("metadata_value"), "", "The same when it has not."),
    key("remove", Bool, "false", "Whether the field is taken away, so that the origin does not get it."),
];

pub(super) const METADATA_VALUE: &[Key] = &[
    key("key", Text, "", "The key of the metadata. Required."),
    key("value", Text, "", "Its value. Absent: the field's value; required where the field is missing."),
];

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

pub(super) const MIRROR: &[Key] = &[
    key(
        "amplification",
        Number,
        "1",
        "How many copies of a request, 1 to 100. They go to one host after the other, as the balancer says.",
    ),
    key("broadcast", Bool, "false", "Whether every host of the mirror's cluster gets them."),
];

pub(super) const PAYLOAD_LIMIT: &[Key] = &[
    key(
        "max_entity_size",
        Size,
        "0",
        "A request's body, in bytes, at most; 0: no limit but `limits.request_body_bytes_max`.",
    ),
    key("max_entity_size ", Size, "0", "The same, with the space behind its name that MOSN's key has."),
    key("http_status", Number, "413", "The answer to a larger one, 400 to 599."),
];

pub(super) const TRANSCODER: &[Key] = &[
    key(
        "type",
        Choice(&["httpTohttp2", "http2Tohttp", "http2bolt_simple"]),
        "",
        "MOSN's own conversions: of clients of HTTP/1 to HTTP/2, of HTTP/2 to HTTP/1, of HTTP/1 to Bolt. What other clients ask goes on as their \
         route says.",
    ),
    key("rules", Maps("transcoder_rule"), "", "In place of `type`. The first that takes a request decides."),
    key("trans", Map("transcoder_phase"), "", "When that is decided."),
];

pub(super) const TRANSCODER_PHASE: &[Key] = &[key(
    "receiver_phase",
    Number,
    "1",
    "0: before the route is known, where no route has settings of its own. 1 and 2: behind that.",
)];

pub(super) const TRANSCODER_RULE: &[Key] = &[
    key("matcher_config", Map("transcoder_matcher"), "", "Which requests. Absent: all."),
    key("macther_config", Map("transcoder_matcher"), "", "The same, as files for older versions of MOSN have it."),
    key("rule_info", Map("transcoder_info"), "", "What becomes of them. Required."),
];

pub(super) const TRANSCODER_MATCHER: &[Key] = &[
    key("matcher_type", Choice(&["simpleMatcher"]), "simpleMatcher", "How requests are told apart: by a field."),
    key("config", Map("transcoder_field"), "", "The field. Absent: every request."),
];

pub(super) const TRANSCODER_FIELD: &[Key] = &[
    key("name", Text, "", "The field's name. Required."),
    key("value", Text, "", "What it must say, as a whole. Required."),
];

pub(super) const TRANSCODER_INFO: &[Key] = &[
    key(
        "upstream_protocol",
        Choice(&["Http1", "Http2", "Auto", "bolt", "boltv2", "dubbo"]),
        "",
        "What the origin is asked in, whatever the route says. Required.",
    ),
    key("description", Text, "", "For readers of the file."),
    key("config", Any, "", "Settings of a conversion. Those that there are have none."),
];

const ALLOW_DENY: &[&str] = &["allow", "deny"];
