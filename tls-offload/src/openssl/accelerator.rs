//! An accelerator: a provider in a library context of its own, or an engine.
//!
//! **Invariant:** the process's default context never sees the provider, so that it can't capture unrelated work; what is loaded stays loaded as
//! long as a key, a session or a cancelled operation of it is there.

use std::ffi::{CString, c_int};
use std::fmt;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::breaker::{Admission, Breaker, Trial};
use super::engine::Engine;
use super::error::{OpenSslError, clear};
use super::facts::of_provider;
use super::ffi;
use super::fibre::Fibres;
use super::own::{LibCtx, PrivateKey, Provider};
use super::store;
use crate::accelerator::{AcceleratorCounts, AcceleratorEvent, AcceleratorOptions, Failure, Fallback, Kind, Notify};
use crate::error::{Cause, ConfigError};
use crate::probe::Ability;

/// An open accelerator.
pub(crate) struct Accelerator {
    name: Box<str>,
    /// Both before the context that they are loaded into.
    module: Module,
    _default: Provider,
    context: LibCtx,
    /// The query that names the provider.
    binding: CString,
    /// The query for everything else.
    properties: CString,
    asynchronous: bool,
    notify: Notify,
    poll_interval: Duration,
    in_flight_max: u32,
    timeout: Duration,
    fallback: Fallback,
    breaker: Breaker,
    clock: fn() -> Duration,
    tell: fn(&str, AcceleratorEvent),
    /// When the next failure is told, in microseconds of the clock.
    next_told: AtomicU64,
    /// When it last computed for a handshake, in microseconds of the clock.
    last_success: AtomicU64,
    /// Its place in each worker's table.
    pub(super) index: usize,
    pub(super) count: Counts,
}

/// What was loaded.
enum Module {
    /// Of the library context.
    Provider(Provider),
    Engine(Engine),
}

// SAFETY: a library context, a provider and an engine may be used by every thread; they lock themselves.
unsafe impl Send for Accelerator {}
// SAFETY: as above.
unsafe impl Sync for Accelerator {}

/// What is counted, by every worker.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) handshakes: AtomicU64,
    pub(super) offloaded: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) cancelled: AtomicU64,
    timeouts: AtomicU64,
    faults: AtomicU64,
    full: AtomicU64,
    software: AtomicU64,
    left: AtomicU64,
    tried: AtomicU64,
}

impl Accelerator {
    pub(crate) fn open(options: AcceleratorOptions) -> Result<Arc<Self>, ConfigError> {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let name = options.name.clone();
        let failed = |error| ConfigError::NoAccelerator { name: name.clone(), cause: Cause::openssl(error) };
        let text =
            |text: &str| CString::new(text).map_err(|_| failed(OpenSslError::with_text("a text with a 0 in it")));
        // Before the library is loaded: what fails afterwards would let go of the context first.
        let binding = text(&format!("provider={}", options.id))?;
        let properties = text(if options.properties.is_empty() { SOFTWARE } else { &options.properties })?;
        let context = LibCtx::new();
        let _default = context.load(c"default").map_err(failed)?;
        let module = match options.kind {
            Kind::Provider => Module::Provider(load(&context, &options).map_err(failed)?),
            Kind::Engine => Module::Engine(Engine::load(&options).map_err(failed)?),
        };
        Ok(Arc::new(Self {
            module,
            _default,
            context,
            binding,
            properties,
            asynchronous: options.asynchronous,
            notify: options.notify,
            poll_interval: options.poll_interval,
            in_flight_max: options.in_flight_max.max(1),
            timeout: options.timeout,
            fallback: options.fallback,
            breaker: Breaker::new(options.failures_max, options.retry_interval, options.timeout * 2),
            clock: options.clock,
            tell: options.tell,
            next_told: AtomicU64::new(0),
            last_success: AtomicU64::new(0),
            index: OPENED.fetch_add(1, Ordering::Relaxed),
            count: Counts::default(),
            name: options.name,
        }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn counts(&self) -> AcceleratorCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AcceleratorCounts {
            handshakes: of(&self.count.handshakes),
            offloaded: of(&self.count.offloaded),
            in_flight: of(&self.count.in_flight),
            waits: of(&self.count.waits),
            cancelled: of(&self.count.cancelled),
            timeouts: of(&self.count.timeouts),
            faults: of(&self.count.faults),
            full: of(&self.count.full),
            software: of(&self.count.software),
            left: of(&self.count.left),
            tried: of(&self.count.tried),
            is_left: self.breaker.is_open(),
        }
    }

    /// Whether a handshake may use it.
    pub(super) fn admit(&self) -> Admission {
        let admission = self.breaker.admit(self.clock);
        if matches!(admission, Admission::Trial(_)) {
            self.count.tried.fetch_add(1, Ordering::Relaxed);
            (self.tell)(&self.name, AcceleratorEvent::Tried);
        }
        admission
    }

    /// It has computed for a handshake.
    pub(super) fn succeeded(&self) {
        self.last_success.store(micros(self.now()), Ordering::Relaxed);
        if self.breaker.succeeded() {
            (self.tell)(&self.name, AcceleratorEvent::Back);
        }
    }

    /// It has failed a handshake, which had waited since then. While it computes for others it is slow, and not lost.
    pub(super) fn failed(&self, failure: Failure, since: Duration, trial: Option<Trial>) {
        let counter = match failure {
            Failure::Timeout => &self.count.timeouts,
            Failure::Fault => &self.count.faults,
            Failure::Full => &self.count.full,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let (next, later) = (self.next_told.load(Ordering::Relaxed), micros(now + TOLD_INTERVAL));
        if micros(now) >= next
            && self.next_told.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            (self.tell)(&self.name, AcceleratorEvent::Failed(failure));
        }
        let is_slow = failure != Failure::Fault && self.last_success.load(Ordering::Relaxed) > micros(since);
        if trial.is_some() || !is_slow {
            self.leave_alone(self.breaker.failed(now, trial));
        }
    }

    pub(super) fn count_software(&self) {
        self.count.software.fetch_add(1, Ordering::Relaxed);
    }

    /// It has failed the proof of a configuration that can do without.
    pub(super) fn unproven(&self) {
        (self.tell)(&self.name, AcceleratorEvent::Unproven);
        self.leave_alone(self.breaker.trip(self.now()));
    }

    /// A trial ended without an operation.
    pub(super) fn release(&self, trial: Trial) {
        self.breaker.release(self.now(), trial);
    }

    fn leave_alone(&self, pause: Option<Duration>) {
        if let Some(pause) = pause {
            self.count.left.fetch_add(1, Ordering::Relaxed);
            (self.tell)(&self.name, AcceleratorEvent::Left(pause));
        }
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn fallback(&self) -> Fallback {
        self.fallback
    }

    /// For handshakes of rustls with its keys.
    #[allow(clippy::unused_self, reason = "who has one may have fibres")]
    pub(crate) fn fibres(&self) -> Fibres {
        Fibres::new()
    }

    /// Whether software may take its place, where it can have the key.
    pub(crate) fn may_do_without(&self) -> bool {
        self.fallback == Fallback::Software
    }

    pub(super) fn is_asynchronous(&self) -> bool {
        self.asynchronous
    }

    pub(super) fn in_flight_max(&self) -> u32 {
        self.in_flight_max
    }

    pub(super) fn poll_interval(&self) -> Option<Duration> {
        (self.notify == Notify::Poll).then_some(self.poll_interval)
    }

    pub(super) fn tells_by_fd(&self) -> bool {
        self.notify == Notify::Fd
    }

    pub(super) fn context(&self) -> &LibCtx {
        &self.context
    }

    pub(super) fn properties(&self) -> &CString {
        &self.properties
    }

    /// A software key as one of the provider's. None: an engine takes no keys.
    pub(super) fn bind(&self, key: &PrivateKey) -> Option<Result<PrivateKey, OpenSslError>> {
        match self.module {
            Module::Provider(_) => Some(key.moved_to(&self.context, &self.binding)),
            Module::Engine(_) => None,
        }
    }

    /// A key that it holds.
    pub(super) fn stored(&self, id: &str) -> Result<PrivateKey, OpenSslError> {
        let id = CString::new(id).map_err(|_| OpenSslError::with_text("a name with a 0 in it"))?;
        match &self.module {
            Module::Provider(_) => store::private_key(&self.context, &id),
            Module::Engine(engine) => engine.private_key(&id),
        }
    }

    /// What its module can do.
    pub(crate) fn abilities(&self) -> Vec<Ability> {
        match &self.module {
            Module::Provider(provider) => of_provider(&self.context, provider.as_ptr()),
            Module::Engine(engine) => engine.abilities(),
        }
    }

    /// Lets it tell of what it has finished.
    pub(super) fn poll(&self) {
        let provider = match &self.module {
            Module::Provider(provider) => provider,
            Module::Engine(engine) => return engine.poll(),
        };
        let mut finished: c_int = 0;
        // SAFETY: the provider is loaded; the list ends in a null key, and the number has room for what is asked.
        unsafe {
            let number = ptr::from_mut(&mut finished);
            let mut params = [ffi::OSSL_PARAM_construct_int(c"poll".as_ptr(), number), ffi::OSSL_PARAM_construct_end()];
            ffi::OSSL_PROVIDER_get_params(provider.as_ptr(), params.as_mut_ptr());
        }
    }
}

impl fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accelerator").field("name", &self.name).finish_non_exhaustive()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Loads the provider with its parameters, which OpenSSL 3.0 takes from a configuration file only: it is given one of two lines and more.
fn load(context: &LibCtx, options: &AcceleratorOptions) -> Result<Provider, OpenSslError> {
    let file =
        ConfigFile::write(options).map_err(|e| OpenSslError::with_text(format!("no file for its parameters: {e}")))?;
    let id = CString::new(&*options.id).map_err(|_| OpenSslError::with_text("a name with a 0 in it"))?;
    clear();
    // SAFETY: the context is ours and nobody else's yet; the text ends in 0.
    let configured = unsafe { ffi::OSSL_LIB_CTX_load_config(context.as_ptr(), file.in_c.as_ptr()) } == 1;
    if !configured {
        return Err(OpenSslError::take_first());
    }
    context.load(&id)
}

/// A configuration of OpenSSL's on its way into a library context. Removed when dropped: there may be a PIN in it.
struct ConfigFile {
    path: PathBuf,
    in_c: CString,
}

impl ConfigFile {
    fn write(options: &AcceleratorOptions) -> std::io::Result<Self> {
        use std::io::Write;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::OpenOptionsExt;

        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ferrogate-provider-{}-{number}.cnf", std::process::id()));
        let mut text = format!(
            "openssl_conf = init\n[init]\nproviders = providers\n[providers]\n{} = this\n[this]\nactivate = 1\n",
            quoted(&options.id)
        );
        if let Some(module) = &options.module {
            text.push_str(&format!("module = {}\n", quoted(&module.to_string_lossy())));
        }
        for (key, value) in &options.parameters {
            text.push_str(&format!("{} = {}\n", quoted(key), quoted(value)));
        }
        let in_c = CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::other)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = Self { path, in_c };
        file.write_all(text.as_bytes())?;
        Ok(written)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// As a value in a configuration of OpenSSL's: what it would read as more than a letter gets a backslash, and a line ends at its end.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for letter in text.chars().filter(|c| !c.is_control()) {
        if "\\$#'\"`;".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

/// Everything but what a key of the provider's does is OpenSSL's own. Without the query a provider that has keys for EC would be taken for the curves
/// of the key exchange too, or have them left out.
const SOFTWARE: &str = "?provider=default";
/// Between two failures that are told: of further ones there are the counters.
const TOLD_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are() {
        assert_eq!(quoted("pkcs11:pin=a$b#c\n[x]"), "pkcs11:pin=a\\$b\\#c[x]");
    }

    #[test]
    fn a_provider_that_is_not_there_is_named_with_the_reason() {
        let error =
            Accelerator::open(AcceleratorOptions::new("card0", "no-such-provider", || Duration::ZERO)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("card0") && text.contains("could not load"), "{text}");
    }
}
