//! The keys of routers that have function: virtual hosts, routes, and what belongs to them.
//!
//! **Invariant:** as in [`working`](super::working): the default written here is the default in force.

use super::Kind::{Any, Bool, Choice, Duration, Map, Maps, Number, Text, Texts};
use super::working::key;
use super::{Key, filters};

pub(super) const ROUTER: &[Key] = &[
    key("router_config_name", Text, "", "Its name. No two alike. Required."),
    key("virtual_hosts", Maps("virtual_host"), "", "At least one."),
    key(
        "router_configs",
        Text,
        "",
        "A directory with a file (`.json`, `.yaml`, `.yml`) for each virtual host, instead of `virtual_hosts`. A relative path starts at the working directory.",
    ),
    key("request_headers_to_add", Maps("header_add"), "", "Behind those of the route and of the virtual host."),
    key("request_headers_to_remove", Texts, "", "Behind those of the route and of the virtual host."),
    key("response_headers_to_add", Maps("header_add"), "", "Behind those of the route and of the virtual host."),
    key("response_headers_to_remove", Texts, "", "Behind those of the route and of the virtual host."),
];

pub(super) const VIRTUAL_HOST: &[Key] = &[
    key("name", Text, "the first domain", "Its name in logs."),
    key(
        "domains",
        Texts,
        "[\"*\"]",
        "Hosts: `a.com`, `a.com:8080`, `a.com:*`, `*.a.com`, `*.a.com:443`, `*:8080`, `*`. The most exact one wins. None twice in a router.",
    ),
    key("routers", Maps("route"), "", "Routes. The first that matches wins."),
    key("request_headers_to_add", Maps("header_add"), "", "Behind those of the route."),
    key("request_headers_to_remove", Texts, "", "Behind those of the route."),
    key("response_headers_to_add", Maps("header_add"), "", "Behind those of the route."),
    key("response_headers_to_remove", Texts, "", "Behind those of the route."),
    key("per_filter_config", Any, "", filters::PER_FILTER_CONFIG),
];

pub(super) const ROUTE: &[Key] = &[
    key("name", Text, "", "A name for it, in logs."),
    key("match", Map("match"), "{prefix: /}", "Which requests."),
    key("route", Map("route_action"), "", "Send the request to a cluster. Exactly one of this and the other actions."),
    key("redirect", Map("redirect"), "", "Tell the client to go elsewhere."),
    key("direct_response", Map("direct_response"), "", "Answer the request here."),
    key("request_mirror_policies", Map("mirror"), "", "Send a copy of some requests to another cluster."),
    key("request_headers_to_add", Maps("header_add"), "", "Fields to add to requests."),
    key(
        "request_headers_to_remove",
        Texts,
        "",
        "Names of fields to take away from requests, after those to add. First those of the route, then those of the virtual host, then those of the router.",
    ),
    key(
        "response_headers_to_add",
        Maps("header_add"),
        "",
        "Fields to add to answers, the gateway's own of this route included.",
    ),
    key("response_headers_to_remove", Texts, "", "Names of fields to take away from answers, after those to add."),
    key("per_filter_config", Any, "", filters::PER_FILTER_CONFIG),
];

pub(super) const HEADER_ADD: &[Key] = &[
    key("header", Map("header"), "", "The field. Required."),
    key("append", Bool, "true", "Behind the value that is there, with a comma; false: instead of it."),
];

pub(super) const HEADER: &[Key] = &[
    key("key", Text, "", "Its name. Not one about length or connection. Required."),
    key(
        "value",
        Text,
        "",
        "Its value, with `%variable%`s. Without a value for one of them the field is not added, and with `append: false` taken away.",
    ),
];

pub(super) const MATCH: &[Key] = &[
    key(
        "prefix",
        Text,
        "",
        "The path starts with this; case-sensitive, without regard to segments (`/foo` matches `/foobar`). Wins over `path` and `regex`.",
    ),
    key("path", Text, "", "The path is this, upper and lower case alike. Wins over `regex`."),
    key("regex", Text, "", "The path has this in it: a pattern in RE2's syntax, without anchors of its own."),
    key("headers", Maps("header_match"), "", "Fields that the request must have, all of them."),
    key(
        "variables",
        Maps("variable_match"),
        "",
        "What the request must be otherwise. Only without `prefix`, `path` and `regex`.",
    ),
];

pub(super) const HEADER_MATCH: &[Key] = &[
    key(
        "name",
        Text,
        "",
        "The field's name; the first of that name counts. `method` is the request's method. Required.",
    ),
    key("value", Text, "", "What it must be, or a pattern. Empty: anything but nothing."),
    key("regex", Bool, "false", "Whether `value` is a pattern to be found in it."),
];

pub(super) const VARIABLE_MATCH: &[Key] = &[
    key("name", Text, "", "The variable. Required."),
    key("value", Text, "", "What it must be."),
    key("regex", Text, "", "A pattern to be found in it. Wins over `value`."),
    key(
        "model",
        Choice(&["and", "or"]),
        "and",
        "`or`: if this one and those before it back to the last `or` hold, the rest need not.",
    ),
];

pub(super) const ROUTE_ACTION: &[Key] = &[
    key("cluster_name", Text, "", "The cluster. This or one of the next three is required."),
    key("weighted_clusters", Maps("weighted"), "", "Several clusters and their shares. Wins over `cluster_name`."),
    key("cluster_variable", Text, "", "The variable that says the cluster; 404 where there is none of that name."),
    key("cluster_header", Text, "", "The request's field that says the cluster. (No effect in MOSN.)"),
    key(
        "timeout",
        Duration,
        "limits.request_timeout",
        "From the request sent to the end of the response's head, retries included (504 beyond). 0 is the default, negative is no limit. A request may ask for less in `x-mosn-global-timeout`, in milliseconds, or in `grpc-timeout`, from when it has come.",
    ),
    key("retry_policy", Map("retry_policy"), "", "What is tried again after a byte of the request has left."),
    key(
        "prefix_rewrite",
        Text,
        "",
        "What the prefix that matched, or the whole path, becomes. Wins over `regex_rewrite`.",
    ),
    key("regex_rewrite", Map("regex_rewrite"), "", "What becomes of each part of the path that a pattern matches."),
    key("host_rewrite", Text, "", "The host that the origin is asked for. Wins over the next two."),
    key("auto_host_rewrite_header", Text, "", "The request's field that says it. Wins over the next one."),
    key("auto_host_rewrite", Bool, "false", "The `hostname` of the host that was chosen, where it has one."),
    key(
        "hash_policy",
        Maps("hash_policy"),
        "",
        "What decides the host where the balancer goes by it. The first entry counts.",
    ),
    key("metadata_match", Map("metadata_match"), "", "What the host's metadata must say."),
    key(
        "upstream_protocol",
        Choice(&["Http1", "Http2", "Auto", "bolt", "boltv2", "dubbo"]),
        "the listener's, else Http1; of a client of RPC its own",
        "What the origin is asked in. `Http2`: over TLS both sides must agree to `h2`; in clear text it is spoken at once. `Auto`: what the client \
         speaks. A request that comes in another protocol is converted (docs/reference/conversion.md), where MOSN asks for the filter \
         `transcoder`.",
    ),
    key("request_mirror_policies", Map("mirror"), "", "As in the route itself, which wins."),
    key("request_headers_to_add", Maps("header_add"), "", "As in the route itself, behind those there."),
    key("request_headers_to_remove", Texts, "", "As in the route itself, behind those there."),
    key("response_headers_to_add", Maps("header_add"), "", "As in the route itself, behind those there."),
    key("response_headers_to_remove", Texts, "", "As in the route itself, behind those there."),
];

pub(super) const WEIGHTED: &[Key] = &[key("cluster", Map("weighted_cluster"), "", "The cluster. Required.")];

pub(super) const WEIGHTED_CLUSTER: &[Key] = &[
    key("name", Text, "", "Its name. Required."),
    key("weight", Number, "0", "Its share among the others."),
    key("metadata_match", Map("metadata_match"), "", "What the host's metadata must say, beside what the route says."),
];

pub(super) const METADATA_MATCH: &[Key] =
    &[key("filter_metadata", Map("filter_metadata"), "", "Metadata by who reads it.")];

pub(super) const FILTER_METADATA: &[Key] = &[key("mosn.lb", Any, "", "Keys and values, both texts.")];

pub(super) const RETRY_POLICY: &[Key] = &[
    key(
        "retry_on",
        Any,
        "false",
        "`true`: an answer with a status of 500 and above (or of `status_codes`), a connection that breaks, a try that takes too long. Or some of `5xx, gateway-error, reset, per-try-timeout, retriable-4xx, retriable-status-codes`. A connection that can't be had is tried again in any case, on up to 3 hosts.",
    ),
    key("num_retries", Number, "3", "Retries of one request, at most."),
    key("status_codes", Any, "", "A list of status codes to try again."),
    key(
        "retry_timeout",
        Duration,
        "",
        "Of one try; without effect when it is not less than `timeout`. A request may ask for less in `x-mosn-try-timeout`, in milliseconds.",
    ),
    key("retry_non_idempotent", Bool, "false", "Ferrogate's own: also POST, PATCH and unknown methods."),
    key("retry_back_off", Map("retry_back_off"), "", "Ferrogate's own: how long to wait before a retry."),
    key("retry_budget", Map("retry_budget"), "", "Ferrogate's own: retries at a time, on all workers together."),
];

pub(super) const RETRY_BACK_OFF: &[Key] = &[
    key("base_interval", Duration, "25ms", "The wait is drawn between 0 and this, doubled for each retry before."),
    key("max_interval", Duration, "10 x base_interval", "But never more than this."),
];

pub(super) const RETRY_BUDGET: &[Key] = &[
    key("budget_percent", Number, "20", "Of the cluster's active requests whose routes retry."),
    key("min_retry_concurrency", Number, "3", "So many are always within the budget."),
];

pub(super) const REGEX_REWRITE: &[Key] = &[
    key("pattern", Map("pattern"), "", "What is replaced. Required."),
    key("substitution", Text, "", "What takes its place; `$1` or `${1}` is what the first group matched."),
];

pub(super) const PATTERN: &[Key] = &[key("regex", Text, "", "A pattern in RE2's syntax. Required.")];

pub(super) const HASH_POLICY: &[Key] = &[
    key("header", Map("hash_header"), "", "By a field of the request. Exactly one of the three."),
    key("cookie", Map("hash_cookie"), "", "By a cookie."),
    key("source_ip", Any, "", "By the client's IP address. The key is enough."),
];

pub(super) const HASH_HEADER: &[Key] = &[key("key", Text, "", "The field's name. Required.")];

pub(super) const HASH_COOKIE: &[Key] = &[
    key("name", Text, "", "Its name. Required."),
    key("path", Text, "", "The path of a cookie that is made here."),
    key(
        "ttl",
        Duration,
        "",
        "A client without the cookie gets one for so long; `0s`: until it closes. Absent: it gets none. (MOSN makes none.)",
    ),
];

pub(super) const REDIRECT: &[Key] = &[
    key("response_code", Number, "301", "301, 302, 303, 307 or 308."),
    key("scheme_redirect", Text, "the request's", "Scheme to go to."),
    key("host_redirect", Text, "the request's", "Host to go to, maybe with a port."),
    key("path_redirect", Text, "the request's", "Path to go to. The query is kept, unless this one has its own."),
];

pub(super) const MIRROR: &[Key] = &[
    key("cluster", Text, "", "Where the copies go. Their answers are thrown away. Required."),
    key("percent", Number, "0", "How many of the requests, 0 to 100."),
];

pub(super) const DIRECT_RESPONSE: &[Key] =
    &[key("status", Number, "", "200 to 599. Required."), key("body", Text, "", "The body.")];
