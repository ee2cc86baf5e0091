//! Engines, the way to cards and tokens before providers. Used for keys that they hold, by their id.
//!
//! OpenSSL 4 has none, and some builds of 3 neither, so the functions are looked for when one is asked for.
//!
//! **Invariant:** no engine is made the default of an algorithm: it computes with its own keys, and with nothing else in the process.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::PoisonError;

use super::error::{OpenSslError, clear};
use super::ffi;
use super::own::{PrivateKey, keep_to_the_end};
use crate::accelerator::AcceleratorOptions;
use crate::probe::{Ability, What};

/// An engine that is initialised.
pub(super) struct Engine {
    calls: Calls,
    engine: NonNull<c_void>,
    /// Last: given back when the engine is finished.
    _place: Place,
}

impl Engine {
    /// Whether this OpenSSL has engines at all.
    pub(super) fn are_there() -> bool {
        Calls::find().is_some()
    }

    /// What an engine of OpenSSL's own directory can do. It is not initialised, and stays loaded.
    pub(super) fn abilities_of(id: &str) -> Result<Vec<Ability>, OpenSslError> {
        let Some(calls) = Calls::find() else {
            return Err(OpenSslError::with_text("this OpenSSL has no engines: use a provider"));
        };
        clear();
        // SAFETY: the text ends in 0.
        let loaded = Loaded::from_raw(calls, unsafe { (calls.by_id)(text(id)?.as_ptr()) })?;
        let found = abilities_of(loaded.engine);
        std::mem::forget(loaded);
        Ok(found)
    }

    /// What it can do.
    pub(super) fn abilities(&self) -> Vec<Ability> {
        abilities_of(self.engine)
    }

    /// Loads it, tells it its parameters, and initialises it.
    pub(super) fn load(options: &AcceleratorOptions) -> Result<Self, OpenSslError> {
        let Some(calls) = Calls::find() else {
            return Err(OpenSslError::with_text("this OpenSSL has no engines: use a provider"));
        };
        clear();
        let (place, is_first) = Place::take(options);
        let id = text(&options.id)?;
        let twice = |error: OpenSslError| match is_first {
            true => error,
            false => OpenSslError::with_text(format!(
                "{error}: the engine is in use already, as it was configured before, and can't be loaded anew: restart to change it"
            )),
        };
        Self::load_as(options, calls, &id, place).map_err(twice)
    }

    fn load_as(options: &AcceleratorOptions, calls: Calls, id: &CStr, place: Place) -> Result<Self, OpenSslError> {
        let loaded = match &options.module {
            // SAFETY: the text ends in 0.
            None => Loaded::from_raw(calls, unsafe { (calls.by_id)(id.as_ptr()) })?,
            Some(path) => Loaded::from_file(calls, id, path)?,
        };
        for (name, value) in &options.parameters {
            loaded.control(&text(name)?, &text(value)?)?;
        }
        // SAFETY: the engine is loaded, and not initialised yet.
        if unsafe { (calls.init)(loaded.engine.as_ptr()) } != 1 {
            return Err(OpenSslError::take_first_or("it can't be initialised"));
        }
        // The reference of the load goes; that of the initialisation stays.
        Ok(Self { calls, engine: loaded.engine, _place: place })
    }

    /// A key that it holds.
    pub(super) fn private_key(&self, id: &CStr) -> Result<PrivateKey, OpenSslError> {
        clear();
        let none = ptr::null_mut();
        // SAFETY: the engine is initialised, the id ends in 0, nobody is asked; the key that comes back is ours.
        let key = unsafe {
            PrivateKey::from_raw((self.calls.load_private_key)(self.engine.as_ptr(), id.as_ptr(), none, none))
        };
        key.ok_or_else(|| OpenSslError::take_first_or("it gave no reason"))
    }

    /// Lets it tell of what it has finished, by the control that QAT's engine has for that.
    pub(super) fn poll(&self) {
        let mut status: c_int = 0;
        // SAFETY: the engine is initialised; one that does not know the control does nothing, for it is optional.
        unsafe {
            let at = ptr::from_mut(&mut status).cast();
            (self.calls.ctrl_cmd)(self.engine.as_ptr(), c"POLL".as_ptr(), 0, at, None, 1);
        }
        clear();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: initialised by `load`; its keys have references of their own.
        unsafe { (self.calls.finish)(self.engine.as_ptr()) };
    }
}

/// An engine among those that are loaded, told by its module and id: an engine's state is its module's, of which there is one in a process.
struct Place(Loadable);

type Loadable = (Option<PathBuf>, Box<str>);

#[allow(clippy::disallowed_types, reason = "crossed when an engine comes and goes")]
static LOADED: std::sync::Mutex<Vec<Loadable>> = std::sync::Mutex::new(Vec::new());

impl Place {
    /// Says whether it is the first of its kind.
    fn take(options: &AcceleratorOptions) -> (Self, bool) {
        let own = (options.module.clone(), options.id.clone());
        let mut all = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !all.contains(&own);
        all.push(own.clone());
        (Self(own), is_first)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|other| *other == self.0) {
            all.swap_remove(at);
        }
    }
}

/// An engine that is not initialised.
struct Loaded {
    calls: Calls,
    engine: NonNull<c_void>,
}

impl Loaded {
    fn from_raw(calls: Calls, engine: *mut c_void) -> Result<Self, OpenSslError> {
        NonNull::new(engine).map(|engine| Self { calls, engine }).ok_or_else(OpenSslError::take_first)
    }

    fn from_file(calls: Calls, id: &CStr, path: &Path) -> Result<Self, OpenSslError> {
        // SAFETY: the text ends in 0.
        let loader = Self::from_raw(calls, unsafe { (calls.by_id)(c"dynamic".as_ptr()) })?;
        loader.control(c"SO_PATH", &text(&path.to_string_lossy())?)?;
        loader.control(c"ID", id)?;
        loader.control(c"LOAD", c"")?;
        // The loader has become what it has loaded.
        Ok(loader)
    }

    fn control(&self, name: &CStr, value: &CStr) -> Result<(), OpenSslError> {
        let value = if value.is_empty() { ptr::null() } else { value.as_ptr() };
        // SAFETY: the engine is loaded, the texts end in 0 or are none.
        let done = unsafe { (self.calls.ctrl_cmd_string)(self.engine.as_ptr(), name.as_ptr(), value, 0) } == 1;
        let refused = || {
            OpenSslError::with_text(format!("it refuses {}: {}", name.to_string_lossy(), OpenSslError::take_first()))
        };
        if done { Ok(()) } else { Err(refused()) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: the reference of the load.
        unsafe { (self.calls.free)(self.engine.as_ptr()) };
    }
}

type OnEngine = unsafe extern "C" fn(*mut c_void) -> c_int;
type ById = unsafe extern "C" fn(*const c_char) -> *mut c_void;
type ControlString = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, c_int) -> c_int;
type Control = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    c_long,
    *mut c_void,
    Option<unsafe extern "C" fn()>,
    c_int,
) -> c_int;
type LoadKey = unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void, *mut c_void) -> *mut ffi::EVP_PKEY;

/// What is called of engine.h.
#[derive(Clone, Copy)]
struct Calls {
    by_id: ById,
    init: OnEngine,
    finish: OnEngine,
    free: OnEngine,
    ctrl_cmd: Control,
    ctrl_cmd_string: ControlString,
    load_private_key: LoadKey,
}

impl Calls {
    fn find() -> Option<Self> {
        keep_to_the_end();
        // SAFETY: each has the type that engine.h gives it, where there is one at all.
        unsafe {
            Some(Self {
                by_id: std::mem::transmute::<*mut c_void, ById>(find(c"ENGINE_by_id")?),
                init: std::mem::transmute::<*mut c_void, OnEngine>(find(c"ENGINE_init")?),
                finish: std::mem::transmute::<*mut c_void, OnEngine>(find(c"ENGINE_finish")?),
                free: std::mem::transmute::<*mut c_void, OnEngine>(find(c"ENGINE_free")?),
                ctrl_cmd: std::mem::transmute::<*mut c_void, Control>(find(c"ENGINE_ctrl_cmd")?),
                ctrl_cmd_string: std::mem::transmute::<*mut c_void, ControlString>(find(c"ENGINE_ctrl_cmd_string")?),
                load_private_key: std::mem::transmute::<*mut c_void, LoadKey>(find(c"ENGINE_load_private_key")?),
            })
        }
    }
}

type Ask = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Numbers = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut *const c_int, c_int) -> c_int;

/// What an engine has methods for, and whether it gives keys by their ids.
fn abilities_of(engine: NonNull<c_void>) -> Vec<Ability> {
    let ask = |name: &CStr| {
        // SAFETY: engine.h has each of these for an engine, and gives a pointer or null.
        let ask = unsafe { std::mem::transmute::<*mut c_void, Ask>(find(name)?) };
        // SAFETY: the engine is loaded.
        NonNull::new(unsafe { ask(engine.as_ptr()) })
    };
    let has = |names: &[(&CStr, &str)]| -> Vec<String> {
        names.iter().filter(|(asked, _)| ask(asked).is_some()).map(|&(_, name)| name.into()).collect()
    };
    let numbers = |name: &CStr| -> Vec<String> {
        let Some(listing) = ask(name) else { return Vec::new() };
        let mut list = ptr::null();
        // SAFETY: what is behind these two has this type; with no method asked for it gives its list, which is its own, and how long that is.
        let numbers = unsafe {
            let listing = std::mem::transmute::<*mut c_void, Numbers>(listing.as_ptr());
            let count = usize::try_from(listing(engine.as_ptr(), ptr::null_mut(), &raw mut list, 0)).unwrap_or(0);
            if list.is_null() { &[] } else { std::slice::from_raw_parts(list, count) }
        };
        numbers.iter().filter_map(|&number| name_of(number)).collect()
    };
    let mut keys = has(&[(c"ENGINE_get_RSA", "RSA"), (c"ENGINE_get_EC", "EC"), (c"ENGINE_get_DSA", "DSA")]);
    for name in numbers(c"ENGINE_get_pkey_meths") {
        let name = match name.as_str() {
            "rsaEncryption" => "RSA",
            "id-ecPublicKey" => "EC",
            name => name,
        };
        if !keys.iter().any(|known| known == name) {
            keys.push(name.to_owned());
        }
    }
    let all = [
        (What::Signatures, keys),
        (What::Exchange, has(&[(c"ENGINE_get_DH", "DH"), (c"ENGINE_get_EC", "EC")])),
        (What::Ciphers, numbers(c"ENGINE_get_ciphers")),
        (What::Keys, has(&[(c"ENGINE_get_load_privkey_function", "by its ids")])),
    ];
    clear();
    all.into_iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| Ability { what, names }).collect()
}

/// The short name of an algorithm by its number.
fn name_of(number: c_int) -> Option<String> {
    // SAFETY: looks into a table of libcrypto's.
    let name = NonNull::new(unsafe { ffi::OBJ_nid2sn(number) }.cast_mut())?;
    // SAFETY: the name ends in 0, and is never freed.
    Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// A function of the libraries that are loaded.
fn find(name: &CStr) -> Option<*mut c_void> {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: of libc; with no handle it looks through everything that was loaded at the start (RTLD_DEFAULT).
    let found = unsafe { dlsym(ptr::null_mut(), name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn text(text: &str) -> Result<CString, OpenSslError> {
    CString::new(text).map_err(|_| OpenSslError::with_text("a text with a 0 in it"))
}
