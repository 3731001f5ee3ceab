//! A destination on a volume: files below a directory, each written under another name,
//! synced, and renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _, stream};
use rustix::fs::RenameFlags;
use sha2::{Digest as _, Sha256};

use super::{Download, Entry, Held, Pending, Put, Store, Upload, Uploaded};
use crate::{
    api::ClaimDestination,
    backup::{
        context::Context,
        digest::hex,
        layout::check_key,
        random,
        run::{Failure, Reason, files},
    },
};

/// Bytes of a part, and of a piece that is read.
const PART: usize = 1 << 20;
/// What the names of files begin with that are not complete.
const PARTIAL: &str = ".partial-";

/// A directory.
#[derive(Clone)]
pub(crate) struct DirectoryStore {
    root: PathBuf,
    uri: String,
}

impl DirectoryStore {
    /// The claim as it is mounted.
    ///
    /// # Errors
    /// [`Reason::InvalidRun`] if it is not.
    pub(crate) fn open(
        claim: &ClaimDestination,
        context: &Context,
    ) -> Result<DirectoryStore, Failure> {
        let root = context.files.at(files::CLAIM);
        if !root.is_dir() {
            return Err(Failure::new(
                Reason::InvalidRun,
                format!(
                    "persistentVolumeClaim {:?} is not mounted at {}",
                    claim.claim_name,
                    root.display()
                ),
            ));
        }
        let mut uri = format!("pvc://{}", claim.claim_name);
        if let Some(path) = &claim.sub_path {
            uri = format!("{uri}/{path}");
        }
        Ok(DirectoryStore { root, uri })
    }

    fn path(&self, key: &str) -> Result<PathBuf, Failure> {
        check_key(key)?;
        Ok(self.root.join(key))
    }

    fn fault(&self, what: &str, key: &str, error: &io::Error) -> Failure {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Reason::StoreFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Reason::AccessDenied
            }
            io::ErrorKind::AlreadyExists => Reason::Conflict,
            _ => Reason::StoreFailed,
        };
        Failure::new(reason, format!("{what} {}: {error}", self.uri(key)))
    }

    /// Runs what blocks away from the tasks.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DirectoryStore) -> Result<T, Failure> + Send + 'static,
    ) -> Pending<'static, T> {
        let store = self.clone();
        async move {
            tokio::task::spawn_blocking(move || work(&store))
                .await
                .expect("a read or write does not panic")
        }
        .boxed()
    }

    /// Begins a file beside the place of `key`.
    fn begin(&self, key: &str) -> Result<Partial, Failure> {
        let to = self.path(key)?;
        let dir = to.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&dir).map_err(|error| self.fault("makes the folder of", key, &error))?;
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let from = dir.join(format!("{PARTIAL}{}-{name}", random::name()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&from)
            .map_err(|error| self.fault("writes", key, &error))?;
        Ok(Partial {
            store: self.clone(),
            key: key.to_owned(),
            file: Some(file),
            from,
            to,
            digest: Sha256::new(),
        })
    }

    /// Entries below `dir`, partial files left out, each with its path.
    fn walk(&self, dir: &Path, out: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                // Another run has removed it meanwhile.
                Err(error) if is_missing(&error) => continue,
                other => other?,
            };
            if meta.is_dir() {
                match self.walk(&entry.path(), out) {
                    Err(error) if is_missing(&error) => {}
                    other => other?,
                }
            } else if !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                out.push((entry.path(), meta.len()));
            }
        }
        Ok(())
    }

    fn key_of(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.root).ok()?.to_str()?.to_owned())
    }
}

/// A file that is being written.
struct Partial {
    store: DirectoryStore,
    key: String,
    file: Option<File>,
    from: PathBuf,
    to: PathBuf,
    digest: Sha256,
}

impl Partial {
    fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        let Some(file) = &mut self.file else {
            return Err(Failure::new(
                Reason::StoreFailed,
                format!("an earlier write of {} failed", self.store.uri(&self.key)),
            ));
        };
        if let Err(error) = file.write_all(content) {
            self.file = None;
            return Err(self.store.fault("writes", &self.key, &error));
        }
        self.digest.update(content);
        Ok(())
    }

    /// Syncs, renames, syncs the directory.
    fn finish(mut self, exclusive: bool) -> Result<Uploaded, Failure> {
        let checksum = hex(&std::mem::take(&mut self.digest).finalize());
        self.settle(exclusive)
            .map_err(|error| self.store.fault("writes", &self.key, &error))?;
        Ok(Uploaded { checksum })
    }

    fn settle(&mut self, exclusive: bool) -> io::Result<()> {
        let file = self
            .file
            .take()
            .ok_or_else(|| io::Error::other("an earlier write failed"))?;
        file.sync_all()?;
        drop(file);
        if exclusive {
            rename_new(&self.from, &self.to)?;
        } else {
            fs::rename(&self.from, &self.to)?;
        }
        if let Some(dir) = self.to.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        match fs::remove_file(&self.from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.from.display(), %error, "leaves a partial file");
            }
            _ => {}
        }
    }
}

/// Renames unless the new name is taken. Where the file system knows no such rename, a
/// second name does the same.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::CWD;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => other.map_err(io::Error::from),
    }
}

struct DirectoryUpload {
    partial: Option<Partial>,
}

impl Upload for DirectoryUpload {
    fn part_bytes(&self) -> usize {
        PART
    }

    fn part(&mut self, content: Bytes) -> Pending<'_, ()> {
        async move {
            let mut partial = self.partial.take().expect("it is put back below");
            let (partial, result) = tokio::task::spawn_blocking(move || {
                let result = partial.write(&content);
                (partial, result)
            })
            .await
            .expect("a write does not panic");
            self.partial = Some(partial);
            result
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> Pending<'static, Uploaded> {
        let partial = self.partial.expect("it was put back after the last part");
        let store = partial.store.clone();
        store.blocking(move |_| partial.finish(true))
    }

    fn abort(self: Box<Self>) -> Pending<'static, ()> {
        async move {
            drop(self);
            Ok(())
        }
        .boxed()
    }
}

impl Store for DirectoryStore {
    fn uri(&self, key: &str) -> String {
        match key {
            "" => self.uri.clone(),
            key => format!("{}/{key}", self.uri),
        }
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes, put: Put) -> Pending<'a, ()> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let mut partial = store.begin(&key)?;
            partial.write(&content)?;
            partial.finish(put.exclusive).map(drop)
        })
    }

    fn upload<'a>(&'a self, key: &'a str, _bytes: u64) -> Pending<'a, Box<dyn Upload>> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let partial = Some(store.begin(&key)?);
            Ok(Box::new(DirectoryUpload { partial }) as Box<dyn Upload>)
        })
    }

    fn read<'a>(&'a self, key: &'a str, limit: u64) -> Pending<'a, Option<Bytes>> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let file = match File::open(store.path(&key)?) {
                Ok(file) => file,
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(store.fault("reads", &key, &error)),
            };
            let mut content = Vec::new();
            file.take(limit + 1)
                .read_to_end(&mut content)
                .map_err(|error| store.fault("reads", &key, &error))?;
            if content.len() as u64 > limit {
                return Err(Failure::new(
                    Reason::TooLarge,
                    format!("{} is longer than {limit} bytes", store.uri(&key)),
                ));
            }
            Ok(Some(content.into()))
        })
    }

    fn download<'a>(&'a self, key: &'a str) -> Pending<'a, Option<Download>> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let file = match File::open(store.path(&key)?) {
                Ok(file) => file,
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(store.fault("reads", &key, &error)),
            };
            let bytes = file
                .metadata()
                .map_err(|error| store.fault("reads", &key, &error))?
                .len();
            let store = store.clone();
            let content = stream::try_unfold((store, key, file), |(store, key, mut file)| async {
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = BytesMut::zeroed(PART);
                    match file.read(&mut piece) {
                        Ok(read) => {
                            piece.truncate(read);
                            Ok((piece.freeze(), (store, key, file)))
                        }
                        Err(error) => Err(store.fault("reads", &key, &error)),
                    }
                });
                let (piece, state) = read.await.expect("a read does not panic")?;
                Ok((!piece.is_empty()).then_some((piece, state)))
            });
            Ok(Some(Download {
                bytes,
                content: content.boxed(),
            }))
        })
    }

    fn held<'a>(&'a self, key: &'a str) -> Pending<'a, Option<Held>> {
        let key = key.to_owned();
        self.blocking(move |store| match fs::metadata(store.path(&key)?) {
            Ok(meta) => Ok(Some(Held {
                bytes: meta.len(),
                checksum: None,
            })),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(store.fault("looks at", &key, &error)),
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Pending<'a, Vec<Entry>> {
        let folder = folder.to_owned();
        self.blocking(move |store| {
            let mut found = Vec::new();
            match store.walk(&store.root.join(&folder), &mut found) {
                Err(error) if !is_missing(&error) => {
                    return Err(store.fault("lists", &folder, &error));
                }
                _ => {}
            }
            let mut entries: Vec<Entry> = found
                .into_iter()
                .filter_map(|(path, bytes)| {
                    let key = store.key_of(&path)?;
                    Some(Entry { key, bytes })
                })
                .collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(entries)
        })
    }

    fn folders<'a>(&'a self, folder: &'a str) -> Pending<'a, Vec<String>> {
        let folder = folder.to_owned();
        self.blocking(move |store| {
            let list = || -> io::Result<Vec<String>> {
                let mut names = Vec::new();
                for entry in fs::read_dir(store.root.join(&folder))? {
                    let entry = entry?;
                    if entry.file_type()?.is_dir()
                        && let Ok(name) = entry.file_name().into_string()
                    {
                        names.push(name);
                    }
                }
                names.sort();
                Ok(names)
            };
            match list() {
                Err(error) if is_missing(&error) => Ok(Vec::new()),
                other => other.map_err(|error| store.fault("lists", &folder, &error)),
            }
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> Pending<'a, ()> {
        let keys = keys.to_vec();
        self.blocking(move |store| {
            for key in &keys {
                let path = store.path(key)?;
                match fs::remove_file(&path) {
                    Err(error) if !is_missing(&error) => {
                        return Err(store.fault("removes", key, &error));
                    }
                    _ => {}
                }
                // The folder goes with its last file.
                if let Some(dir) = path.parent()
                    && dir != store.root
                {
                    match fs::remove_dir(dir) {
                        Err(error)
                            if !is_missing(&error)
                                && error.kind() != io::ErrorKind::DirectoryNotEmpty =>
                        {
                            return Err(store.fault("removes the folder of", key, &error));
                        }
                        _ => {}
                    }
                }
            }
            Ok(())
        })
    }

    fn abort_uploads<'a>(&'a self, key: &'a str) -> Pending<'a, u64> {
        let key = key.to_owned();
        self.blocking(move |store| {
            let path = store.path(&key)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let clear = || -> io::Result<u64> {
                let mut found = 0;
                for entry in fs::read_dir(path.parent().unwrap_or(&store.root))? {
                    let entry = entry?;
                    let partial = entry.file_name();
                    let partial = partial.to_string_lossy();
                    // `.partial-<16 digits>-<name>`
                    if partial
                        .strip_prefix(PARTIAL)
                        .and_then(|rest| rest.get(17..))
                        .is_some_and(|rest| rest == name)
                    {
                        fs::remove_file(entry.path())?;
                        found += 1;
                    }
                }
                Ok(found)
            };
            match clear() {
                Err(error) if is_missing(&error) => Ok(0),
                other => other.map_err(|error| store.fault("clears up", &key, &error)),
            }
        })
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
