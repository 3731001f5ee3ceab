//! An artifact, from the store to a file: every digest on the way is checked.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use super::{
    context::Context,
    digest::Digesting,
    keys::Keys,
    manifest::Manifest,
    pipe,
    run::{Failure, Reason, Stage},
    store::Store,
    trailer::{TrailerCheck, Whole},
    unpack::{Cap, unpack},
};

/// Bytes that are unpacked at a time.
const PIECE: usize = 256 << 10;

/// What an artifact must be, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// SHA-256 of what is stored, in hex.
    pub stored_sha256: Option<String>,
    /// Bytes and SHA-256 of what is unpacked.
    pub plain: Option<(u64, String)>,
}

impl Expected {
    /// As a manifest says.
    pub(crate) fn of(manifest: &Manifest) -> Expected {
        Expected {
            stored_sha256: Some(manifest.stored_sha256.clone()),
            plain: Some((manifest.size_bytes, manifest.sha256.clone())),
        }
    }
}

/// Unpacks the image at `key` into the file `to`.
///
/// # Errors
/// [`Reason::NotFound`]; [`Reason::Corrupt`] if anything is not as expected, or its
/// trailer is wrong; as [`unpack`]; of store and disk.
pub(crate) async fn fetch(
    store: &dyn Store,
    key: &str,
    expected: Expected,
    keys: Option<Keys>,
    to: &Path,
    context: &Context,
) -> Result<Whole, Failure> {
    let to = to.to_owned();
    read(store, key, expected.clone(), keys, context, move |reader, place| {
        let whole = write(reader, &to, place)?;
        if let Some((bytes, sha256)) = &expected.plain
            && (*bytes, sha256) != (whole.bytes, &whole.sha256)
        {
            return Err(Failure::new(
                Reason::Corrupt,
                format!(
                    "{place} is not what was saved: it unpacks to {} bytes with SHA-256 {}, and its manifest says {bytes} \
                     bytes with {sha256}",
                    whole.bytes, whole.sha256
                ),
            ));
        }
        Ok(whole)
    })
    .await
}

/// Reads the object at `key` and compares it with what was stored.
///
/// # Errors
/// As [`fetch`].
pub(crate) async fn read_back(
    store: &dyn Store,
    key: &str,
    stored_sha256: &str,
    context: &Context,
) -> Result<(), Failure> {
    let place = store.uri(key);
    let Some(download) = store.download(key).await? else {
        return Err(missing(&place));
    };
    context
        .tracker
        .stage(Stage::Verifying, Some(download.bytes));
    let expected = stored_sha256.to_owned();
    pipe::read(download, &context.tracker, move |reader| {
        let mut digesting = Digesting::new(reader);
        drain(&mut digesting, &place)?;
        compare(digesting, Some(&expected), &place)
    })
    .await
}

/// Gives what the object at `key` holds, unpacked, to `work` on a thread of its own.
///
/// # Errors
/// As [`fetch`], and those of `work`.
pub(crate) async fn read<T: Send + 'static>(
    store: &dyn Store,
    key: &str,
    expected: Expected,
    keys: Option<Keys>,
    context: &Context,
    work: impl FnOnce(&mut dyn Read, &str) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let place = store.uri(key);
    let Some(download) = store.download(key).await? else {
        return Err(missing(&place));
    };
    context
        .tracker
        .stage(Stage::Downloading, Some(download.bytes));
    let cap = match &expected.plain {
        Some((bytes, _)) => Cap::told(*bytes),
        None => Cap::of_packed(download.bytes),
    };
    pipe::read(download, &context.tracker, move |reader| {
        let mut digesting = Digesting::new(reader);
        let done = unpack(&mut digesting, keys.as_ref(), cap, &place)
            .and_then(|mut plain| work(&mut *plain, &place));
        // What is damaged is told as such, whatever the damage made of it.
        let damaged = || -> Result<(), Failure> {
            drain(&mut digesting, &place)?;
            compare(digesting, expected.stored_sha256.as_deref(), &place)
        };
        match done {
            Ok(done) => damaged().map(|()| done),
            Err(failure) if expected.stored_sha256.is_some() && blames_content(failure.reason) => {
                damaged()?;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    })
    .await
}

fn blames_content(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Corrupt
            | Reason::NotASnapshot
            | Reason::TooLarge
            | Reason::WrongKey
            | Reason::KeyMissing
            | Reason::NewerFormat
    )
}

fn missing(place: &str) -> Failure {
    Failure::new(Reason::NotFound, format!("{place} is not there"))
}

fn drain(reader: &mut impl Read, place: &str) -> Result<(), Failure> {
    io::copy(reader, &mut io::sink())
        .map(drop)
        .map_err(|error| Failure::from_io(&error, Reason::StoreFailed, place))
}

fn compare<T>(digesting: Digesting<T>, expected: Option<&str>, place: &str) -> Result<(), Failure> {
    let (_, bytes, found) = digesting.finish();
    match expected {
        Some(expected) if expected != found => Err(Failure::new(
            Reason::Corrupt,
            format!(
                "{place} is not what was stored: {bytes} bytes with SHA-256 {found}, and {expected} was stored"
            ),
        )),
        _ => Ok(()),
    }
}

fn write(reader: &mut dyn Read, to: &PathBuf, place: &str) -> Result<Whole, Failure> {
    let disk = |error: io::Error| Failure::disk("writes", to, &error);
    let mut file = File::create(to).map_err(disk)?;
    let mut check = TrailerCheck::default();
    let mut piece = vec![0; PIECE];
    loop {
        let read = match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::from_io(&error, Reason::Corrupt, place)),
        };
        check.update(&piece[..read]);
        file.write_all(&piece[..read]).map_err(disk)?;
    }
    // Not synced: it is read by this run alone.
    check.finish(Reason::Corrupt, place)
}
