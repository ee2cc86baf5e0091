//! End to end: the real binary between real clients and origins, by topic, on both planes where the topic touches traffic.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::disallowed_types, reason = "the tests watch another process: their clock is the real one")]

mod access_log;
mod addresses;
mod admin;
mod admin_socket;
mod bodies;
mod bolt;
mod config;
mod drain;
mod dubbo;
mod dubbo_thrift;
mod ends;
mod exception;
mod fallback;
mod faults;
mod filter_chains;
mod filters;
mod forwarded;
mod grpc;
mod http1;
mod http2;
mod http2_upstream;
mod interception;
mod limits;
mod metrics;
mod operator;
mod overload;
mod peers;
mod proxy_protocol;
mod refusals;
mod reload;
mod restart;
mod retries;
mod routes;
mod rpc_pools;
mod stage;
mod tars;
mod tcp_proxy;
mod tls;
mod tls_clients;
mod tls_hostile;
mod tls_inspector;
mod tls_offload;
mod tls_staple;
mod tls_testssl;
mod tls_tickets;
mod tls_token;
mod tls_upstream;
mod tunnels;
mod udp_dns;
mod udp_proxy;
mod upstream;
mod versions;
mod websocket;
