//! `etcd-operator verify`: proves a backup that exists, and finds out what a restore of it
//! would give.

use jiff::Timestamp;

use super::{
    context::{Context, Scratch},
    image::{self, Proven},
    increment::ChangeFiles,
    run::{Failure, Reason, Stage, VerifyReport, VerifyRun},
    snapshot::blocking,
    source::{Prepared, prepare},
};
use crate::api::Verification;

/// Proves it.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn run(run: &VerifyRun, context: &Context) -> Result<VerifyReport, Failure> {
    let scratch = Scratch::make(context.files.scratch().join("verify"))?;
    let mut prepared = prepare(&run.source, scratch.path(), context).await?;
    context.tracker.stage(Stage::Verifying, None);
    let (revision, total_keys) = match run.verification {
        Verification::Checksum => checked(&prepared).await?,
        Verification::Restore => {
            let dir = scratch.path().join("store");
            let proven = restored(&prepared, &dir).await?;
            (proven.revision, proven.total_keys)
        }
    };
    Ok(VerifyReport {
        reach: prepared.reach(revision),
        artifact: prepared.artifact.take(),
        folder: prepared.backup.map(|(folder, _)| folder),
        sha256: prepared.whole.sha256,
        total_keys,
        verification: run.verification,
        verified_at: Timestamp::now(),
    })
}

/// All digests were right; the image's own pages are looked at besides.
async fn checked(prepared: &Prepared) -> Result<(i64, u64), Failure> {
    let (image, place) = (prepared.image.clone(), prepared.place.clone());
    let examined = blocking(move || image::examine(&image, &place)).await?;
    agree(
        prepared,
        (examined.revision, examined.total_keys, examined.kv_hash),
    )?;
    let revision = prepared.revision().unwrap_or(examined.revision);
    Ok((revision, examined.total_keys))
}

async fn restored(prepared: &Prepared, dir: &std::path::Path) -> Result<Proven, Failure> {
    // What the manifest says is compared before changes are applied, and the image goes.
    if prepared.loaded.is_some() {
        checked(prepared).await?;
    }
    let (image, place) = (prepared.image.clone(), prepared.place.clone());
    let (changes, revision) = (prepared.changes(), prepared.revision());
    let dir = dir.to_owned();
    let proven = blocking(move || {
        let mut changes = ChangeFiles::new(changes);
        image::prove(&image, &mut changes, revision, &dir, &place)
    })
    .await?;
    if prepared.loaded.is_none() {
        agree(
            prepared,
            (proven.revision, proven.total_keys, proven.kv_hash),
        )?;
    }
    Ok(proven)
}

/// Compares revision, keys and hash with what the manifest says.
fn agree(prepared: &Prepared, found: (i64, u64, u32)) -> Result<(), Failure> {
    let Some((_, manifest)) = &prepared.backup else {
        return Ok(());
    };
    let told = (manifest.revision, manifest.total_keys, manifest.kv_hash);
    if told == found {
        return Ok(());
    }
    Err(Failure::new(
        Reason::HashMismatch,
        format!(
            "{} holds revision {} with {} keys and hash {:08x}, and its manifest says revision {} with {} keys and hash \
             {:08x}",
            prepared.place, found.0, found.1, found.2, told.0, told.1, told.2
        ),
    ))
}
