//! Configuration files for tests, in the schema that users write.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::ports::free_address;

/// A configuration: one listener, one router, one cluster, and what a test adds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the gateway listens for clients.
    pub listen: SocketAddr,
    /// Where its admin API listens.
    pub admin: SocketAddr,
    hosts: Vec<String>,
    lb_type: String,
    routes: Vec<String>,
    cluster: Vec<String>,
    clusters: String,
    router: Vec<String>,
    virtual_host: Vec<String>,
    filter: Option<String>,
    listener_tls: Option<String>,
    protocols: String,
    upstream_protocol: Option<String>,
    extend_config: Option<String>,
    listener: Vec<String>,
    listeners: String,
    limits: Vec<String>,
    workers: usize,
    dataplane: Option<String>,
    /// Keys of `dataplane.dpdk`, for whoever writes that section.
    pub dpdk: Vec<String>,
    /// Keys of its only port, for the same.
    pub port: Vec<String>,
    extra: String,
    verbatim: Option<String>,
}

impl Config {
    /// Everything that comes in on a free port goes to these hosts, with one worker: what a test counts is then exact.
    #[must_use]
    pub fn proxy_to(hosts: &[String]) -> Self {
        Self {
            listen: free_address(),
            admin: free_address(),
            hosts: hosts.to_vec(),
            lb_type: "LB_ROUNDROBIN".to_owned(),
            routes: Vec::new(),
            cluster: Vec::new(),
            clusters: String::new(),
            router: Vec::new(),
            virtual_host: Vec::new(),
            filter: None,
            listener_tls: None,
            protocols: "Http1".to_owned(),
            upstream_protocol: None,
            extend_config: None,
            listener: Vec::new(),
            listeners: String::new(),
            limits: Vec::new(),
            workers: 1,
            dataplane: None,
            dpdk: Vec::new(),
            port: Vec::new(),
            extra: String::new(),
            verbatim: None,
        }
    }

    /// Sets a limit of Ferrogate's `limits` section.
    #[must_use]
    pub fn limit(mut self, name: &str, value: &str) -> Self {
        self.limits.push(format!("  {name}: {value}\n"));
        self
    }

    /// Adds a route before the one that takes all requests, such as `{match: {path: /x}, direct_response: {status: 200}}`.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.routes.push(format!("              - {route}\n"));
        self
    }

    /// Adds a line to the cluster, such as `connect_timeout: 1s`.
    #[must_use]
    pub fn cluster(mut self, line: &str) -> Self {
        self.cluster.push(format!("      {line}\n"));
        self
    }

    /// Adds a cluster behind the first one, which is called `origins`.
    #[must_use]
    pub fn more_origins(self, name: &str, hosts: &[String]) -> Self {
        let hosts: String = hosts.iter().map(|h| format!("{{address: \"{h}\"}}, ")).collect();
        self.another_cluster(&format!("{{name: {name}, hosts: [{hosts}]}}"))
    }

    /// Adds a cluster, all of it, behind the first one.
    #[must_use]
    pub fn another_cluster(mut self, text: &str) -> Self {
        writeln!(self.clusters, "    - {text}").expect("a string takes it");
        self
    }

    /// Adds a line to the router, such as `request_headers_to_remove: [x]`.
    #[must_use]
    pub fn router(mut self, line: &str) -> Self {
        self.router.push(format!("        {line}\n"));
        self
    }

    /// Adds a line to the virtual host.
    #[must_use]
    pub fn virtual_host(mut self, line: &str) -> Self {
        self.virtual_host.push(format!("            {line}\n"));
        self
    }

    /// Adds a line to the listener, such as `connection_idle_timeout: 1s`.
    #[must_use]
    pub fn listener(mut self, line: &str) -> Self {
        self.listener.push(format!("        {line}\n"));
        self
    }

    /// Adds a listener, all of it, behind the first one.
    #[must_use]
    pub fn another_listener(mut self, text: &str) -> Self {
        writeln!(self.listeners, "      - {text}").expect("a string takes it");
        self
    }

    /// How the cluster chooses among its hosts, such as `LB_MAGLEV`.
    #[must_use]
    pub fn lb_type(mut self, name: &str) -> Self {
        name.clone_into(&mut self.lb_type);
        self
    }

    /// Serves connections by this network filter instead of `proxy`, such as `{type: tcp_proxy, config: {cluster: origins}}`.
    #[must_use]
    pub fn filter(mut self, filter: &str) -> Self {
        self.filter = Some(filter.to_owned());
        self
    }

    /// Relays connections to the hosts; `more` are further keys of the filter, such as `idle_timeout: 1s`.
    #[must_use]
    pub fn relay(self, more: &str) -> Self {
        self.filter(&format!("{{type: tcp_proxy, config: {{cluster: origins, {more}}}}}"))
    }

    /// Serves TLS with these pairs of certificate and key.
    #[must_use]
    pub fn tls(mut self, pairs: &[(&Path, &Path)]) -> Self {
        let mut text = String::from("            tls_context_set:\n");
        for (certificate, key) in pairs {
            let (certificate, key) = (certificate.display(), key.display());
            writeln!(text, "              - {{status: true, cert_chain: \"{certificate}\", private_key: \"{key}\"}}")
                .expect("a string takes it");
        }
        self.listener_tls = Some(text);
        self
    }

    /// Adds keys to the contexts that [`tls`](Self::tls) has made, such as `accelerator: card0`.
    #[must_use]
    pub fn tls_context(mut self, keys: &str) -> Self {
        self.listener_tls =
            self.listener_tls.map(|text| text.replace("{status: true,", &format!("{{status: true, {keys},")));
        self
    }

    /// What clients may speak, as `downstream_protocol` has it.
    #[must_use]
    pub fn protocols(mut self, protocols: &str) -> Self {
        protocols.clone_into(&mut self.protocols);
        self
    }

    /// What origins are asked in, as `upstream_protocol` of the listener has it.
    #[must_use]
    pub fn upstream_protocol(mut self, protocol: &str) -> Self {
        self.upstream_protocol = Some(protocol.to_owned());
        self
    }

    /// The proxy's `extend_config`.
    #[must_use]
    pub fn extend_config(mut self, text: &str) -> Self {
        self.extend_config = Some(text.to_owned());
        self
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Another `dataplane` section than the kernel's.
    #[must_use]
    pub fn dataplane(mut self, text: &str) -> Self {
        self.dataplane = Some(text.to_owned());
        self
    }

    /// Adds a key of `dataplane.dpdk`, where the gateway runs on a port.
    #[must_use]
    pub fn dpdk(mut self, line: &str) -> Self {
        self.dpdk.push(format!("    {line}\n"));
        self
    }

    /// Adds a key of the port, where the gateway runs on one.
    #[must_use]
    pub fn port(mut self, line: &str) -> Self {
        self.port.push(format!("        {line}\n"));
        self
    }

    /// Adds sections at the end of the file.
    #[must_use]
    pub fn extra(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self
    }

    /// This text instead of what was put together, for the addresses that it has.
    #[must_use]
    pub fn verbatim(mut self, text: &str) -> Self {
        self.verbatim = Some(text.to_owned());
        self
    }

    /// The file, as YAML.
    #[must_use]
    pub fn text(&self) -> String {
        if let Some(text) = &self.verbatim {
            return text.clone();
        }
        let hosts: String = self.hosts.iter().map(|h| format!("        - {{address: \"{h}\"}}\n")).collect();
        let limits = if self.limits.is_empty() { String::new() } else { format!("limits:\n{}", self.limits.concat()) };
        let upstream = self.upstream_protocol.as_ref().map(|name| format!(", upstream_protocol: {name}"));
        let extend = self.extend_config.as_ref().map(|text| format!(", extend_config: {text}"));
        let http = format!(
            "{{type: proxy, config: {{downstream_protocol: \"{}\"{}{}, router_config_name: web}}}}",
            self.protocols,
            upstream.unwrap_or_default(),
            extend.unwrap_or_default()
        );
        let kernel = format!("dataplane:\n  type: kernel\n  workers: {}\n", self.workers);
        format!(
            "\
servers:
  - default_log_path: stderr
    default_log_level: INFO
    routers:
      - router_config_name: web
{router}        virtual_hosts:
          - name: all
            domains: [\"*\"]
{virtual_host}            routers:
{routes}              - {{match: {{prefix: /}}, route: {{cluster_name: origins}}}}
    listeners:
      - name: http
        address: \"{listen}\"
        bind_port: true
{listener}        filter_chains:
          - filters:
              - {filter}
{tls}{listeners}cluster_manager:
  clusters:
    - name: origins
      type: SIMPLE
      lb_type: {lb_type}
{cluster}      hosts:
{hosts}{clusters}admin:
  address: {{socket_address: {{address: {admin_ip}, port_value: {admin_port}}}}}
{limits}{dataplane}{extra}",
            listen = self.listen,
            routes = self.routes.concat(),
            router = self.router.concat(),
            virtual_host = self.virtual_host.concat(),
            clusters = self.clusters,
            listener = self.listener.concat(),
            listeners = self.listeners,
            lb_type = self.lb_type,
            filter = self.filter.as_deref().unwrap_or(&http),
            tls = self.listener_tls.as_deref().unwrap_or_default(),
            cluster = self.cluster.concat(),
            admin_ip = self.admin.ip(),
            admin_port = self.admin.port(),
            dataplane = self.dataplane.as_deref().unwrap_or(&kernel),
            extra = self.extra,
        )
    }
}
