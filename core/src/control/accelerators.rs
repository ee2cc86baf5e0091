//! Accelerators as the file names them, opened; and what the log says of them.
//!
//! **Invariant:** one that did not change is the same in the next generation, with what it counts and what it has learnt of its state.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tls_offload::{Accelerator, AcceleratorEvent, AcceleratorOptions, ConfigError, Fallback, Kind, Notify};
use tokio::time::Instant;

use crate::config::schema::{AcceleratorConfig, AcceleratorFallback, AcceleratorKind, AcceleratorNotify};

/// Those that are open, by what the file says of them.
#[derive(Debug, Default)]
pub(super) struct Accelerators(Vec<(Arc<AcceleratorConfig>, Accelerator)>);

impl Accelerators {
    /// The open one, or a new one.
    pub(super) fn get(&mut self, config: &Arc<AcceleratorConfig>) -> Result<Accelerator, ConfigError> {
        if let Some((_, accelerator)) = self.0.iter().find(|(other, _)| other == config) {
            return Ok(accelerator.clone());
        }
        let accelerator = Accelerator::open(options(config))?;
        self.0.push((Arc::clone(config), accelerator.clone()));
        Ok(accelerator)
    }

    /// Keeps those that the file has; the others are closed when their last session ends.
    pub(super) fn keep(&mut self, wanted: &[Arc<AcceleratorConfig>]) -> Vec<Accelerator> {
        self.0.retain(|(config, _)| wanted.contains(config));
        self.0.iter().map(|(_, open)| open.clone()).collect()
    }
}

fn options(config: &AcceleratorConfig) -> AcceleratorOptions {
    let in_boxes = |(key, value): &(String, String)| (key.as_str().into(), value.as_str().into());
    AcceleratorOptions {
        kind: match config.kind {
            AcceleratorKind::Provider => Kind::Provider,
            AcceleratorKind::Engine => Kind::Engine,
        },
        module: config.path.clone(),
        properties: config.properties.as_str().into(),
        parameters: config.parameters.iter().map(in_boxes).collect(),
        asynchronous: config.asynchronous,
        notify: match config.notify {
            AcceleratorNotify::Callback => Notify::Callback,
            AcceleratorNotify::Poll => Notify::Poll,
            AcceleratorNotify::Fd => Notify::Fd,
        },
        poll_interval: config.poll_interval,
        in_flight_max: config.in_flight_max,
        timeout: config.timeout,
        fallback: match config.fallback {
            AcceleratorFallback::Software => Fallback::Software,
            AcceleratorFallback::Fail => Fallback::Fail,
        },
        failures_max: config.failures_max,
        retry_interval: config.retry_interval,
        tell,
        ..AcceleratorOptions::new(&config.name, &config.id, clock)
    }
}

/// The time since the first look at it.
pub(super) fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn tell(accelerator: &str, event: AcceleratorEvent) {
    match event {
        AcceleratorEvent::Failed(failure) => tracing::warn!(
            accelerator,
            "{failure}; further failures are counted by ferrogate_tls_accelerator_{{timeouts,faults,full}}_total"
        ),
        AcceleratorEvent::Unproven => tracing::error!(
            accelerator,
            "it fails the handshake that a configuration begins with: software computes until it is back"
        ),
        AcceleratorEvent::Left(pause) => {
            tracing::error!(accelerator, ?pause, "failed too often in a row: it is left alone");
        }
        AcceleratorEvent::Tried => tracing::info!(accelerator, "a handshake tries it again"),
        AcceleratorEvent::Back => tracing::info!(accelerator, "it computes again"),
        event => tracing::warn!(accelerator, "{event:?}"),
    }
}
