//! Keys of client-side encryption: identities of age, in a mounted file.

use std::{fmt, fs, io::BufReader, path::Path};

use age::x25519::{Identity, Recipient};

use super::run::{Failure, Reason, files};
use crate::backup::context::Files;

/// The format, as its header names it.
pub(crate) const FORMAT: &str = "age-encryption.org/v1";

/// Identities of a file: the first is encrypted to, all of them decrypt.
#[derive(Clone)]
pub(crate) struct Keys {
    identities: Vec<Identity>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.identities.len())
    }
}

impl Keys {
    /// The mounted keys, `None` if none are mounted.
    ///
    /// # Errors
    /// [`Reason::WrongKey`] if the file holds no identity of age.
    pub(crate) fn mounted(files: &Files) -> Result<Option<Keys>, Failure> {
        let path = files.at(files::ENCRYPTION_KEY).join(files::AGE_KEY);
        match fs::metadata(&path) {
            Ok(_) => Keys::read(&path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::disk("looks at", &path, &error)),
        }
    }

    /// Those that a run needs to encrypt.
    ///
    /// # Errors
    /// [`Reason::KeyMissing`], or as [`Keys::mounted`].
    pub(crate) fn needed(files: &Files) -> Result<Keys, Failure> {
        Keys::mounted(files)?.ok_or_else(|| {
            Failure::new(
                Reason::KeyMissing,
                format!(
                    "the Secret of encryption.keySecretRef has no {}",
                    files::AGE_KEY
                ),
            )
        })
    }

    fn read(path: &Path) -> Result<Keys, Failure> {
        let file = fs::File::open(path).map_err(|error| Failure::disk("opens", path, &error))?;
        let mut identities = Vec::new();
        for line in std::io::BufRead::lines(BufReader::new(file)) {
            let line = line.map_err(|error| Failure::disk("reads", path, &error))?;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // What is wrong with it is not told: it would be told with the line.
            let identity = line.parse::<Identity>().map_err(|_| not_age())?;
            identities.push(identity);
        }
        match identities.is_empty() {
            true => Err(not_age()),
            false => Ok(Keys { identities }),
        }
    }

    /// Whom is encrypted to.
    pub(crate) fn recipient(&self) -> Recipient {
        self.identities[0].to_public()
    }

    /// What decrypts.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|identity| identity as _)
    }
}

fn not_age() -> Failure {
    Failure::new(
        Reason::WrongKey,
        format!(
            "{} of the Secret of encryption.keySecretRef must hold lines of AGE-SECRET-KEY-1…, as age-keygen writes them",
            files::AGE_KEY
        ),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;

    /// Fresh keys.
    pub(crate) fn fresh() -> Keys {
        Keys {
            identities: vec![Identity::generate()],
        }
    }

    #[test]
    fn x09_keys_are_read_and_a_bad_file_is_told_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().to_owned());
        assert!(Keys::mounted(&files).unwrap().is_none());
        assert_eq!(Keys::needed(&files).unwrap_err().reason, Reason::KeyMissing);
        let place = dir.path().join("encryption-key");
        fs::create_dir(&place).unwrap();
        let (one, two) = (Identity::generate(), Identity::generate());
        let text = format!(
            "# created: today\n{}\n\n{}\n",
            one.to_string().expose_secret(),
            two.to_string().expose_secret()
        );
        fs::write(place.join("age.key"), text).unwrap();
        let keys = Keys::needed(&files).unwrap();
        assert_eq!(keys.recipient().to_string(), one.to_public().to_string());
        assert_eq!(keys.identities().count(), 2);
        for bad in ["", "# nothing\n", "canary-secret\n"] {
            fs::write(place.join("age.key"), bad).unwrap();
            let failure = Keys::needed(&files).unwrap_err();
            assert_eq!(failure.reason, Reason::WrongKey);
            assert!(!failure.message.contains("canary"), "{failure}");
        }
    }
}
