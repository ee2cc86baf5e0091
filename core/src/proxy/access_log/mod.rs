//! A listener's access logs on one worker: a line for each request when it is over, whatever became of it.
//!
//! **Invariant:** a value that a client or an origin chose can't end a line or a quoted text; writing a line makes no system call and
//! takes no lock.

mod line;
mod value;

use std::cell::RefCell;
use std::rc::Rc;

use tokio::time::Instant;

use crate::config::LogRoller;
use crate::config::log_format::Variable;
use crate::config::schema::{AccessLog, Listener};
use crate::message::{Exchange, HttpHead, Wanted};
use crate::telemetry::local_clock::LocalClock;
use crate::telemetry::log_file::Rotation;
use crate::telemetry::log_thread::{LogBuffer, LogQueue, LogSink};
use line::Line;

/// The buffers of one worker, one for each log; shared by the listeners that write the same.
#[derive(Debug)]
pub(super) struct LogBuffers {
    queue: LogQueue,
    buffers: Vec<Rc<LogBuffer>>,
    clock: Rc<RefCell<LocalClock>>,
    queue_bytes_max: usize,
}

/// The access logs of one listener.
#[derive(Debug)]
pub struct AccessLogs {
    listener: Facts,
    logs: Vec<(Line, Rc<LogBuffer>)>,
    clock: Rc<RefCell<LocalClock>>,
    wanted: Wanted,
    /// Response fields that a line shows, in lower case.
    fields: Vec<String>,
    queue_bytes_max: usize,
}

/// What a line can say of the listener.
#[derive(Debug)]
struct Facts {
    name: String,
    port: u16,
}

impl LogBuffers {
    /// Buffers for these listeners, with those of `previous` for the logs that it had too.
    pub(super) fn derive<'c>(
        queue: &LogQueue,
        previous: Option<&Self>,
        logs: impl Iterator<Item = &'c AccessLog>,
        queue_bytes_max: usize,
    ) -> Self {
        let mut buffers: Vec<Rc<LogBuffer>> = Vec::new();
        for log in logs {
            let sink = LogSink { path: log.path.clone(), rotation: Rotation::from(&log.roller) };
            if buffers.iter().any(|b| *b.sink() == sink) {
                continue;
            }
            let kept = previous.and_then(|p| p.buffers.iter().find(|b| *b.sink() == sink)).map(Rc::clone);
            buffers.push(kept.unwrap_or_else(|| queue.buffer(sink)));
        }
        let clock = previous.map_or_else(Rc::default, |p| Rc::clone(&p.clock));
        Self { queue: queue.clone(), buffers, clock, queue_bytes_max }
    }

    /// The logs of a listener; None when it has none.
    pub(super) fn logs_of(&self, listener: &Listener) -> Option<Rc<AccessLogs>> {
        if listener.access_logs.is_empty() {
            return None;
        }
        let mut logs = Vec::new();
        for log in &listener.access_logs {
            let sink = LogSink { path: log.path.clone(), rotation: Rotation::from(&log.roller) };
            let buffer = self.buffers.iter().find(|b| *b.sink() == sink).map(Rc::clone);
            logs.push((Line::new(&log.format), buffer.unwrap_or_else(|| self.queue.buffer(sink))));
        }
        let variables = || listener.access_logs.iter().flat_map(|log| log.format.variables());
        let any = |asked: &Variable| variables().any(|v| v == asked);
        let fields: Vec<String> = variables()
            .filter_map(|v| if let Variable::ResponseHeader(name) = v { Some(name.clone()) } else { None })
            .collect();
        Some(Rc::new(AccessLogs {
            listener: Facts {
                name: listener.name.clone(),
                port: listener.address.ip_and_port().map_or(0, |inet| inet.port()),
            },
            logs,
            clock: Rc::clone(&self.clock),
            wanted: Wanted {
                route: any(&Variable::RouteName) || any(&Variable::UpstreamCluster),
                upstream_local: any(&Variable::UpstreamLocalAddress),
                response: !fields.is_empty(),
                failure: any(&Variable::UpstreamTransportFailureReason),
            },
            fields,
            queue_bytes_max: self.queue_bytes_max,
        }))
    }

    /// Hands over what was gathered. To be called now and then.
    pub(super) fn flush(&self) {
        for buffer in &self.buffers {
            buffer.flush(self.queue_bytes_max);
        }
    }
}

impl AccessLogs {
    /// Those of a listener by itself; None when it has none.
    #[must_use]
    pub fn of(listener: &Listener, queue: &LogQueue, queue_bytes_max: usize) -> Option<Rc<Self>> {
        LogBuffers::derive(queue, None, listener.access_logs.iter(), queue_bytes_max).logs_of(listener)
    }

    /// What the lines need to have kept while the request runs.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Keeps what the lines need of a response that is about to be sent.
    pub fn note_response(&self, x: &mut Exchange, head: &HttpHead) {
        let notes = x.notes_mut();
        notes.response_fields.clear();
        for (_, name, value) in head.fields() {
            if let Some(field) = self.fields.iter().find(|f| name.eq_ignore_ascii_case(f.as_bytes())) {
                notes.response_fields.push((field.as_bytes().into(), value.into()));
            }
        }
    }

    /// Writes the request's line into each log.
    pub fn write(&self, x: &Exchange, now: Instant) {
        let mut clock = self.clock.borrow_mut();
        for (line, buffer) in &self.logs {
            buffer.line(self.queue_bytes_max, |out| {
                line.write(out, x, &self.listener, now, &mut clock);
                out.push(b'\n');
            });
        }
    }
}

impl From<&LogRoller> for Rotation {
    fn from(roller: &LogRoller) -> Self {
        Self {
            bytes_max: roller.bytes_max,
            span: roller.span,
            age_max: roller.age_max,
            files_max: roller.files_max,
            compress: roller.compress,
        }
    }
}
