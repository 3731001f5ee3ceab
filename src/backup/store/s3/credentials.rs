//! Credentials in files, read anew for every request: a Secret that is changed counts from
//! the next request on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_credential_types::provider::{error::CredentialsError, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials};

use crate::backup::{
    digest::sha256_hex,
    run::{Failure, Reason, files},
};

/// The directory of a mounted Secret.
#[derive(Clone, Debug)]
pub(super) struct FileCredentials {
    dir: PathBuf,
}

impl FileCredentials {
    /// Credentials of a directory, which must be there by now.
    ///
    /// # Errors
    /// [`Reason::InvalidRun`] with the file that is missing or empty.
    pub(super) fn open(dir: PathBuf) -> Result<FileCredentials, Failure> {
        let credentials = FileCredentials { dir };
        credentials
            .read()
            .map_err(|why| Failure::new(Reason::InvalidRun, why))?;
        Ok(credentials)
    }

    /// What tells these credentials from others, and nothing else.
    pub(super) fn fingerprint(&self) -> Option<String> {
        let (id, secret, token) = self.read().ok()?;
        let token = token.unwrap_or_default();
        Some(sha256_hex(format!("{id}\0{secret}\0{token}").as_bytes()))
    }

    fn read(&self) -> Result<(String, String, Option<String>), String> {
        let needed = |name| {
            word(&self.dir.join(name))
                .map_err(|error| {
                    format!(
                        "reads {name} of the Secret with S3 credentials, at {}: {error}",
                        self.dir.display()
                    )
                })?
                .ok_or_else(|| format!("the Secret with S3 credentials has no {name}"))
        };
        let token = word(&self.dir.join(files::S3_SESSION_TOKEN))
            .map_err(|error| format!("reads {}: {error}", files::S3_SESSION_TOKEN))?;
        Ok((
            needed(files::S3_ACCESS_KEY_ID)?,
            needed(files::S3_SECRET_ACCESS_KEY)?,
            token,
        ))
    }
}

/// A file's text without blanks at the ends; `None` if it is missing or empty.
fn word(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl ProvideCredentials for FileCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(match self.read() {
            Ok((id, secret, token)) => {
                Ok(Credentials::new(id, secret, token, None, "mounted Secret"))
            }
            Err(why) => Err(CredentialsError::not_loaded(why)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o27_files_that_change_are_seen_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = FileCredentials::open(dir.path().to_owned()).unwrap_err();
        assert_eq!(missing.reason, Reason::InvalidRun);
        assert!(missing.message.contains("AWS_ACCESS_KEY_ID"), "{missing}");
        fs::write(dir.path().join("AWS_ACCESS_KEY_ID"), "id\n").unwrap();
        fs::write(dir.path().join("AWS_SECRET_ACCESS_KEY"), "").unwrap();
        let empty = FileCredentials::open(dir.path().to_owned()).unwrap_err();
        assert!(empty.message.contains("AWS_SECRET_ACCESS_KEY"), "{empty}");
        fs::write(dir.path().join("AWS_SECRET_ACCESS_KEY"), "secret").unwrap();
        let credentials = FileCredentials::open(dir.path().to_owned()).unwrap();
        let before = credentials.fingerprint();
        assert_eq!(credentials.fingerprint(), before);
        fs::write(dir.path().join("AWS_SECRET_ACCESS_KEY"), "canary").unwrap();
        let after = credentials.fingerprint();
        assert_ne!(after, before);
        assert!(!after.unwrap().contains("canary"));
    }
}
