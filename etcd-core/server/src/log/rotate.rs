//! A log file that is put aside when it grows: `etcd.log` becomes
//! `etcd-2026-01-01T00-00-00.000.log`, and of those only some are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::LogRotation;

/// The file being written, and what becomes of it.
pub(super) struct Rotating {
    path: PathBuf,
    rotation: LogRotation,
    file: File,
    bytes: u64,
}

impl Rotating {
    /// Opens the file for appending, and makes the directories above it.
    pub(super) fn open(path: &Path, rotation: LogRotation) -> io::Result<Rotating> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Rotating {
            path: path.to_owned(),
            rotation,
            file,
            bytes,
        })
    }

    /// Appends, after putting the file aside if it would grow too large.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let limit = self.rotation.max_size_mb.saturating_mul(1 << 20);
        if self.bytes > 0 && self.bytes + line.len() as u64 > limit {
            self.rotate(SystemTime::now())?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        fs::rename(&self.path, self.backup(now))?;
        self.file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        self.bytes = 0;
        self.prune(now)
    }

    fn backup(&self, now: SystemTime) -> PathBuf {
        let now = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let zone = match self.rotation.local_time {
            true => jiff::tz::TimeZone::system(),
            false => jiff::tz::TimeZone::UTC,
        };
        let stamp = now
            .to_zoned(zone)
            .strftime("%Y-%m-%dT%H-%M-%S.%3f")
            .to_string();
        let (stem, extension) = self.name();
        self.path
            .with_file_name(format!("{stem}-{stamp}{extension}"))
    }

    /// The file's name before and from its last dot.
    fn name(&self) -> (String, String) {
        let name = self
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        match name.rfind('.') {
            Some(dot) => (name[..dot].to_owned(), name[dot..].to_owned()),
            None => (name, String::new()),
        }
    }

    fn prune(&self, now: SystemTime) -> io::Result<()> {
        let (stem, extension) = self.name();
        let prefix = format!("{stem}-");
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut old: Vec<(String, PathBuf, SystemTime)> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&prefix) && name.ends_with(&extension) && entry.path() != self.path
            {
                old.push((name, entry.path(), entry.metadata()?.modified()?));
            }
        }
        // Names sort by time.
        old.sort();
        let days = Duration::from_secs(86_400)
            .saturating_mul(u32::try_from(self.rotation.max_age_days).unwrap_or(u32::MAX));
        let keep = usize::try_from(self.rotation.max_backups).unwrap_or(usize::MAX);
        let surplus = match keep {
            0 => 0,
            keep => old.len().saturating_sub(keep),
        };
        for (i, (_, path, modified)) in old.iter().enumerate() {
            let aged = self.rotation.max_age_days > 0
                && now.duration_since(*modified).is_ok_and(|age| age > days);
            if i < surplus || aged {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_put_aside_and_pruned() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("etcd.log");
        let rotation = LogRotation {
            max_size_mb: 1,
            max_age_days: 0,
            max_backups: 2,
            local_time: false,
        };
        let mut file = Rotating::open(&path, rotation).expect("open");
        for second in 1..=4u64 {
            file.write(b"line\n").expect("write");
            file.rotate(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
                .expect("rotate");
        }
        file.write(b"last\n").expect("write");
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .expect("list")
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "etcd-1970-01-01T00-00-03.000.log",
                "etcd-1970-01-01T00-00-04.000.log",
                "etcd.log"
            ]
        );
    }
}
