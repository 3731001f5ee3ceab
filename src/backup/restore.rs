//! `etcd-operator restore`: a member's data directory of a backup.
//!
//! ```text
//! <data-dir>/.restore/      what is fetched, verified and made; removed at the end
//! <data-dir>/restored.json  which restore it was
//! <data-dir>/member/        appears last, at once and whole
//! ```
//!
//! The record is written before the directory appears, so that a run that was killed in
//! between does it again, and one that was killed after it knows that it is done.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use etcd_replica::{Member, Restore, cluster_id, member_id};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{
    context::{Context, Scratch},
    image,
    increment::ChangeFiles,
    layout::DOCUMENT_BYTES_MAX,
    run::{Failure, Reason, RestoreReport, RestoreRun, Stage},
    snapshot::blocking,
    source::{Prepared, prepare},
};
use crate::identity::hex;

/// Record of what a data directory was made of.
const RECORD: &str = "restored.json";

/// The record. Without a member directory beside it, it says what was about to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: String,
    report: RestoreReport,
}

/// Makes the directory, unless it was made already.
///
/// # Errors
/// Why it was not; the data directory is then as it was.
pub(crate) async fn run(run: &RestoreRun, context: &Context) -> Result<RestoreReport, Failure> {
    let told = told(run)?;
    let place = Place::new(&run.data_dir)?;
    if let Some(done) = place.done(&run.id)? {
        info!("was restored already");
        place.tidy()?;
        return Ok(done);
    }
    place.check_empty()?;
    let work = Scratch::make(place.work.clone())?;
    let prepared = prepare(&run.source, work.path(), context).await?;
    if let Some(expected) = &run.expected_sha256
        && *expected != prepared.whole.sha256
    {
        return Err(Failure::new(
            Reason::Corrupt,
            format!(
                "{} is not what was verified: its image has SHA-256 {}, and {expected} was verified",
                prepared.place, prepared.whole.sha256
            ),
        ));
    }
    context.tracker.stage(Stage::Verifying, None);
    let (image, named) = (prepared.image.clone(), prepared.place.clone());
    // Of a backup the digests were right, so it is what was examined and proven then; the
    // restore checks all pages once more before it writes.
    let known = match &prepared.backup {
        Some((_, manifest)) => {
            blocking(move || image::glance(&image, &named)).await?;
            manifest.total_keys
        }
        None => {
            blocking(move || image::examine(&image, &named))
                .await?
                .total_keys
        }
    };
    context.tracker.stage(Stage::Restoring, None);
    let report = make(run, told, prepared, known, &work, &place).await?;
    drop(work);
    Ok(report)
}

/// Restores beside the data directory, and moves it in. The image has `known` keys.
async fn make(
    run: &RestoreRun,
    told: Restore,
    prepared: Prepared,
    known: u64,
    work: &Scratch,
    place: &Place,
) -> Result<RestoreReport, Failure> {
    let told = Restore {
        revision: prepared.revision(),
        ..told
    };
    let made = work.path().join("member");
    let (image, named, changes) = (
        prepared.image.clone(),
        prepared.place.clone(),
        prepared.changes(),
    );
    let (to, spec) = (made.clone(), told.clone());
    let (restored, total_keys) = blocking(move || {
        let changed = !changes.is_empty();
        let mut changes = ChangeFiles::new(changes);
        let restored = image::make(&image, &mut changes, &to, &spec, &named)?;
        let total = match changed {
            // The record that raises the revision is no key.
            true => image::examine(&to.join("snap").join("db"), &named)?
                .total_keys
                .saturating_sub(u64::from(spec.bump_revision > 0)),
            false => known,
        };
        Ok((restored, total))
    })
    .await?;
    let report = RestoreReport {
        cluster_id: hex(restored.cluster_id),
        member_id: hex(told.member_id),
        reach: prepared.reach(restored.content_revision),
        source_cluster_id: prepared
            .backup
            .as_ref()
            .map(|(_, manifest)| manifest.cluster_id.clone()),
        folder: prepared.backup.map(|(folder, _)| folder),
        sha256: prepared.whole.sha256,
        revision: restored.revision,
        compact_revision: restored.compact_revision,
        total_keys,
    };
    let record = Record {
        id: run.id.clone(),
        report: report.clone(),
    };
    place.settle(&made, &record)?;
    Ok(report)
}

/// What the members of the new cluster are.
///
/// # Errors
/// [`Reason::InvalidRun`].
fn told(run: &RestoreRun) -> Result<Restore, Failure> {
    let invalid = |why: String| Failure::new(Reason::InvalidRun, why);
    let mut members = Vec::new();
    let mut own = None;
    for member in &run.members {
        if member.peer_urls.is_empty() {
            return Err(invalid(format!("member {:?} has no peerURLs", member.name)));
        }
        let id = member_id(&member.peer_urls, &run.token, None);
        if member.name == run.member {
            own = Some(id);
        }
        members.push(Member {
            id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            ..Member::default()
        });
    }
    let Some(own) = own else {
        return Err(invalid(format!(
            "member {:?} is none of members: {}",
            run.member,
            run.members
                .iter()
                .map(|member| member.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )));
    };
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    info!(
        cluster = hex(cluster_id(&ids)),
        member = hex(own),
        "restores"
    );
    Ok(Restore {
        member_id: own,
        members,
        revision: None,
        bump_revision: run.bump_revision,
        skip_hash_check: false,
    })
}

/// A data directory, and where its content is made.
#[derive(Debug)]
struct Place {
    data_dir: PathBuf,
    work: PathBuf,
}

impl Place {
    fn new(data_dir: &Path) -> Result<Place, Failure> {
        if data_dir.parent().is_none() || data_dir.file_name().is_none() {
            return Err(Failure::new(
                Reason::InvalidRun,
                format!("dataDir {} is no directory to make", data_dir.display()),
            ));
        }
        Ok(Place {
            data_dir: data_dir.to_owned(),
            // Within it: the data directory may be the volume itself.
            work: data_dir.join(".restore"),
        })
    }

    fn record(&self) -> PathBuf {
        self.data_dir.join(RECORD)
    }

    fn member(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// What this restore has done, if it has.
    fn done(&self, id: &str) -> Result<Option<RestoreReport>, Failure> {
        if !exists(&self.member())? {
            return Ok(None);
        }
        let path = self.record();
        let text = match fs::read(&path) {
            Ok(text) if text.len() as u64 <= DOCUMENT_BYTES_MAX => text,
            Ok(_) => Vec::new(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::disk("reads", &path, &error)),
        };
        // A record that cannot be read is nobody's: the directory is then not ours either.
        let record: Option<Record> = serde_json::from_slice(&text).ok();
        Ok(record
            .filter(|record| record.id == id)
            .map(|record| record.report))
    }

    /// Nothing may be there but what an earlier attempt of any restore has left.
    fn check_empty(&self) -> Result<(), Failure> {
        let entries = match fs::read_dir(&self.data_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure::disk("reads", &self.data_dir, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Failure::disk("reads", &self.data_dir, &error))?;
            let name = entry.file_name();
            let known = name == ".restore"
                || name == RECORD
                || name == "restored.json.partial"
                || name == "lost+found";
            if !known {
                return Err(Failure::new(
                    Reason::DataDirNotEmpty,
                    format!(
                        "{} holds {}, which this restore did not make: it is left alone",
                        self.data_dir.display(),
                        name.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Writes the record, then moves the member directory to its place.
    fn settle(&self, made: &Path, record: &Record) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(record).expect("plain data is JSON");
        let (path, partial) = (self.record(), self.data_dir.join("restored.json.partial"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            File::open(&self.data_dir)?.sync_all()?;
            fs::rename(made, self.member())?;
            File::open(&self.data_dir)?.sync_all()
        };
        write().map_err(|error| Failure::disk("fills", &self.data_dir, &error))
    }

    /// Removes what a run left that was killed between its last step and its answer.
    fn tidy(&self) -> Result<(), Failure> {
        Scratch::make(self.work.clone()).map(drop)
    }
}

fn exists(path: &Path) -> Result<bool, Failure> {
    path.try_exists()
        .map_err(|error| Failure::disk("looks for", path, &error))
}

#[cfg(test)]
mod tests;
