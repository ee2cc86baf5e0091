//! A configuration before it is understood: the tree of its file, with the files of its directories in their places.
//!
//! `cluster_manager.clusters_configs` and `router_configs` of a router name directories, with one file for each cluster or virtual host.
//! Their trees are put where the list would stand, so that nothing behind this file knows of directories.
//!
//! **Invariant:** bounded in bytes and files, whatever a directory holds; a text that is no file opens none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Origin, Place};
use super::reader::Reader;
use super::schema::Config;
use super::tree::{self, Entry, Node, Value};
use super::{FILE_BYTES_MAX, json, plan, read};

/// A configuration as a tree that knows its places.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's name, and behind it those of the files of its directories.
    files: Vec<String>,
    root: Option<Node>,
    found: Vec<Mistake>,
}

/// What is wrong with a document before it is understood.
#[derive(Clone, Debug)]
struct Mistake {
    origin: Origin,
    message: String,
    remedy: &'static str,
}

impl Document {
    /// Reads a file and the directories that it names. What is wrong with them is told by [`read`](Self::read).
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let mut document = Self::new(path.display().to_string());
        let mut bytes_left = FILE_BYTES_MAX;
        match text_of(path, &mut bytes_left) {
            Ok(text) => document.set_root(&text),
            Err(message) => document.tell(Origin::default(), message, ""),
        }
        document.expand(Some(&mut bytes_left));
        document
    }

    /// Reads a text; `file` is its name in reports. It can't name directories.
    #[must_use]
    pub fn parse(text: &str, file: &str) -> Self {
        let mut document = Self::new(file.to_owned());
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            document.tell(Origin::default(), too_large(), "");
        } else {
            document.set_root(text);
        }
        document.expand(None);
        document
    }

    /// Reads what the admin API answers to `config_dump`: a configuration, or, as in MOSN, one under `mosn_config`.
    #[must_use]
    pub fn of_dump(text: &str, name: &str) -> Self {
        let mut document = Self::parse(text, name);
        if let Some(config) = document.root.as_ref().and_then(|root| root.get("mosn_config")) {
            document.root = Some(config.clone());
        }
        document
    }

    /// The configuration as JSON, in one line, with the files of its directories in their places. What is secret is replaced by a mark that
    /// is the same for the same secret.
    #[must_use]
    pub fn redacted_json(&self) -> String {
        self.root.as_ref().map_or_else(|| "{}".to_owned(), plan::redacted_json)
    }

    /// The configuration as JSON, in one line, with its secrets, and with the files of its directories in their places: it names no
    /// directory any more.
    #[must_use]
    pub fn json(&self) -> String {
        let Some(mut root) = self.root.clone() else { return "{}".into() };
        let forget = |map: &mut Node, key: &str| {
            if let Value::Map(entries) = &mut map.value {
                entries.retain(|entry| entry.key != key);
            }
        };
        if let Some(clusters) = root.get_mut("cluster_manager") {
            forget(clusters, CLUSTERS.0);
        }
        for server in root.get_mut("servers").into_iter().flat_map(Node::elements_mut) {
            for router in server.get_mut("routers").into_iter().flat_map(Node::elements_mut) {
                forget(router, VIRTUAL_HOSTS.0);
            }
        }
        let mut out = String::new();
        json::write(&mut out, "", &root, &mut |_, _| None);
        out
    }

    /// The data, as far as it can be understood, and everything that is wrong. Good only when nothing of that is an error.
    #[must_use]
    pub fn read(&self) -> (Option<Config>, Vec<Diagnostic>) {
        let mut reader = Reader::new(&self.files);
        for mistake in &self.found {
            reader.error_at(&mistake.origin, &mistake.message, mistake.remedy);
        }
        let config = self.root.as_ref().and_then(|root| read::file(&mut reader, root, &self.files));
        (config, reader.finish())
    }

    /// The name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.files[0]
    }

    /// The tree; None when there is none that can be read.
    pub(super) fn root(&self) -> Option<&Node> {
        self.root.as_ref()
    }

    fn new(file: String) -> Self {
        Self { files: vec![file], root: None, found: Vec::new() }
    }

    fn tell(&mut self, origin: Origin, message: String, remedy: &'static str) {
        self.found.push(Mistake { origin, message, remedy });
    }

    fn set_root(&mut self, text: &str) {
        match tree::parse(text, 0) {
            Err(e) => self.tell(Origin { place: e.place, path: String::new() }, e.message, e.remedy),
            Ok(None | Some(Node { value: Value::Null, .. })) => {
                self.tell(Origin::default(), "the file is empty".into(), "");
            }
            Ok(Some(root)) => self.root = Some(root),
        }
    }

    /// Puts the files of every directory where the list that it stands for would be. Without bytes left none may be opened.
    fn expand(&mut self, mut bytes_left: Option<&mut u64>) {
        let Some(mut root) = self.root.take() else { return };
        if let Some(clusters) = root.get_mut("cluster_manager") {
            self.expand_one(clusters, "cluster_manager", CLUSTERS, bytes_left.as_deref_mut());
        }
        for (s, server) in root.get_mut("servers").into_iter().flat_map(Node::elements_mut).enumerate() {
            for (r, router) in server.get_mut("routers").into_iter().flat_map(Node::elements_mut).enumerate() {
                self.expand_one(
                    router,
                    &format!("servers[{s}].routers[{r}]"),
                    VIRTUAL_HOSTS,
                    bytes_left.as_deref_mut(),
                );
            }
        }
        self.root = Some(root);
    }

    fn expand_one(&mut self, map: &mut Node, path: &str, (key, list_key): (&str, &str), bytes_left: Option<&mut u64>) {
        let Some(Node { place, value: Value::Text(directory) }) = map.get(key).filter(|n| !n.is_neutral()) else {
            return;
        };
        let (place, directory) = (*place, directory.clone());
        let origin = Origin { place, path: format!("{path}.{key}") };
        if map.get(list_key).is_some_and(|n| !n.is_neutral()) {
            return self.tell(origin, format!("both `{list_key}` and `{key}`"), "keep one of the two");
        }
        let list = match bytes_left {
            Some(bytes_left) => self.directory(&directory, bytes_left),
            None => Err("a directory is read only where the configuration is a file".into()),
        };
        match list {
            Ok(list) => {
                map.set(Entry { key: list_key.to_owned(), place, node: Node { place, value: Value::List(list) } })
            }
            Err(message) => self.tell(origin, message, ""),
        }
    }

    /// The trees of a directory's files, in the order of their names.
    fn directory(&mut self, path: &str, bytes_left: &mut u64) -> Result<Vec<Node>, String> {
        let files = files_of(Path::new(path)).map_err(|e| format!("the directory can't be read: {e}"))?;
        let mut nodes = Vec::with_capacity(files.len());
        for file in files {
            if self.files.len() > DIRECTORY_FILES_MAX {
                return Err(format!("more than {DIRECTORY_FILES_MAX} files"));
            }
            let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
            let whole = Place { file: number, ..Place::default() };
            self.files.push(file.display().to_string());
            let tree = text_of(&file, bytes_left)
                .map_err(|message| (whole, message, ""))
                .and_then(|text| tree::parse(&text, number).map_err(|e| (e.place, e.message, e.remedy)));
            match tree {
                Ok(Some(node)) => nodes.push(node),
                Ok(None) => self.tell(Origin { place: whole, path: String::new() }, "the file is empty".into(), ""),
                Err((place, message, remedy)) => self.tell(Origin { place, path: String::new() }, message, remedy),
            }
        }
        Ok(nodes)
    }
}

/// The files of a directory that are configuration, by name. Editors and package tools leave others there.
fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known));
        if known && !hidden {
            files.push(path);
        }
        if files.len() > DIRECTORY_FILES_MAX {
            break;
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file, and what it leaves of the bytes that a configuration may have.
fn text_of(path: &Path, bytes_left: &mut u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(*bytes_left + 1).read_to_end(&mut bytes));
    let read = read.map_err(|error| format!("can't be read: {error}"))?;
    *bytes_left = bytes_left.checked_sub(u64::try_from(read).unwrap_or(u64::MAX)).ok_or_else(too_large)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!("line {} is not UTF-8; save the file as UTF-8", 1 + memchr::memchr_iter(b'\n', good).count())
    })
}

fn too_large() -> String {
    format!("larger than {} MiB", FILE_BYTES_MAX >> 20)
}

/// The key of a directory, and that of the list it stands for.
const CLUSTERS: (&str, &str) = ("clusters_configs", "clusters");
const VIRTUAL_HOSTS: (&str, &str) = ("router_configs", "virtual_hosts");

/// What a file of a directory ends with.
const EXTENSIONS: &[&str] = &["json", "yaml", "yml"];

/// Files of all directories of a configuration, at most.
const DIRECTORY_FILES_MAX: usize = 100_000;
