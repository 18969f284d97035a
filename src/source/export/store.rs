//! Where an export is stored: in a folder, or under a prefix of a bucket.

use std::fmt;
use std::io::ErrorKind as IoKind;
use std::path::PathBuf;
use std::time::Duration;

use aws_smithy_types::byte_stream::ByteStream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::manifest::{Checksum, refused, to_hex};
use super::s3::S3;
use crate::error::{Error, ErrorKind, Result};
use md5::{Digest, Md5};

/// Bytes read from a local file at once.
const PIECE_BYTES: usize = 64 * 1024;
/// A connection that is silent for this long is broken.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// A manifest has some 250 bytes per data file, and a table has at most some hundred thousand of them.
const MANIFEST_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A file or a folder of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// An absolute path.
    Local(PathBuf),
    /// An object, or a prefix without its final slash.
    Remote { bucket: String, key: String },
}

impl Place {
    /// Parses an operator's input or a printed `Place`.
    ///
    /// # Errors
    /// `Usage` if the folder does not exist, or the URI has no bucket.
    pub(super) fn of(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix("s3://") else {
            let path = std::path::absolute(text).map_err(|error| {
                Error::new(ErrorKind::Usage, format!("{text:?} is not a path")).with_source(error)
            })?;
            return Ok(Self::Local(path));
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(Error::new(ErrorKind::Usage, format!("{text} has no bucket"))
                .with_hint("write it as s3://BUCKET/PREFIX"));
        }
        let (bucket, key) = (bucket.to_owned(), key.trim_end_matches('/').to_owned());
        Ok(Self::Remote { bucket, key })
    }

    /// The place with this name within the folder.
    pub(super) fn join(&self, name: &str) -> Self {
        match self {
            Self::Local(folder) => Self::Local(folder.join(name)),
            Self::Remote { bucket, key } => {
                let slash = if key.is_empty() { "" } else { "/" };
                Self::Remote { bucket: bucket.clone(), key: format!("{key}{slash}{name}") }
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// The file system and S3.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) s3: S3,
}

impl Store {
    /// A whole small file; `None` if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read, or is far too large for a manifest.
    pub(super) async fn small(&self, place: &Place) -> Result<Option<Vec<u8>>> {
        let Some(mut pieces) = self.open(place).await? else { return Ok(None) };
        let mut whole = Vec::new();
        while let Some(piece) = pieces.next(place).await? {
            whole.extend_from_slice(&piece);
            if whole.len() > MANIFEST_BYTES_MAX {
                return Err(refused(format!("{place} is too large for a manifest")));
            }
        }
        Ok(Some(whole))
    }

    /// Whether the file exists.
    ///
    /// # Errors
    /// If that cannot be determined.
    pub(super) async fn exists(&self, place: &Place) -> Result<bool> {
        match place {
            Place::Remote { bucket, key } => self.s3.exists(bucket, key).await,
            Place::Local(path) => match tokio::fs::metadata(path).await {
                Ok(found) => Ok(found.is_file()),
                Err(error) if error.kind() == IoKind::NotFound => Ok(false),
                Err(error) => Err(unreadable(place, error)),
            },
        }
    }

    /// The file from its beginning; `None` if it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) async fn open(&self, place: &Place) -> Result<Option<Pieces>> {
        match place {
            Place::Remote { bucket, key } => {
                let answer = self.s3.get(bucket, key).await?;
                Ok(answer.map(|answer| Pieces::Remote(answer.body, answer.etag)))
            }
            Place::Local(path) => match File::open(path).await {
                Ok(file) => Ok(Some(Pieces::Local(file))),
                Err(error) if matches!(error.kind(), IoKind::NotFound | IoKind::NotADirectory) => {
                    Ok(None)
                }
                Err(error) => Err(unreadable(place, error)),
            },
        }
    }
}

/// The bytes of a file, as they arrive.
#[derive(Debug)]
pub(super) enum Pieces {
    Local(File),
    /// With the object's ETag.
    Remote(ByteStream, Option<String>),
}

impl Pieces {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// `Unreachable` if a connection breaks or falls silent; errors of the file system.
    pub(super) async fn next(&mut self, place: &Place) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Local(file) => {
                let mut piece = vec![0; PIECE_BYTES];
                let length =
                    file.read(&mut piece).await.map_err(|error| unreadable(place, error))?;
                piece.truncate(length);
                Ok((length > 0).then_some(piece))
            }
            Self::Remote(body, _) => {
                let broken = || {
                    Error::new(ErrorKind::Unreachable, format!("the download of {place} broke off"))
                };
                match tokio::time::timeout(PIECE_TIMEOUT, body.try_next()).await {
                    Ok(Ok(piece)) => Ok(piece.map(|bytes| bytes.to_vec())),
                    Ok(Err(error)) => Err(broken().with_source(error)),
                    Err(elapsed) => Err(broken().with_source(elapsed)),
                }
            }
        }
    }

    /// Whether the bytes are known to have this checksum before they are read. S3's ETag shows it for one
    /// part: it is the MD5 itself, or the MD5 of the parts' MD5s with their number.
    pub(super) fn vouched_for(&self, md5: &Checksum) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Remote(_, etag) => etag.as_ref().is_some_and(|etag| {
                let parts = Checksum::from(Md5::digest(md5));
                *etag == to_hex(md5) || *etag == format!("{}-1", to_hex(&parts))
            }),
        }
    }

    /// The MD5 of all remaining bytes.
    ///
    /// # Errors
    /// As for [`Self::next`].
    pub(super) async fn md5(mut self, place: &Place) -> Result<Checksum> {
        let mut md5 = Md5::new();
        while let Some(piece) = self.next(place).await? {
            md5.update(&piece);
        }
        Ok(md5.finalize().into())
    }
}

fn unreadable(place: &Place, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        IoKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unknown,
    };
    Error::new(kind, format!("read {place}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_from_their_text() {
        for text in ["s3://b/p/AWSDynamoDB/0169-a1", "s3://b/", "/exports/0169-a1"] {
            assert_eq!(Place::of(text).unwrap().to_string(), text);
        }
        let below = |text: &str| Place::of(text).unwrap().join("data").join("x").to_string();
        assert_eq!(below("s3://b/p/"), "s3://b/p/data/x");
        assert_eq!(below("s3://b"), "s3://b/data/x");
        assert_eq!(below("/e/"), "/e/data/x");
        assert_eq!(Place::of("s3:///p").unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn an_etag_of_one_part_vouches_for_its_bytes() {
        // Checksum and ETag of the example in the service's documentation.
        let md5 = super::super::manifest::from_hex("b10312a4420b360a1099aaef0c5a2719").unwrap();
        let remote = |etag: &str| Pieces::Remote(ByteStream::from_static(b""), Some(etag.into()));
        assert!(remote("af83d6f217c19b8b0fff8023d8ca4716-1").vouched_for(&md5));
        assert!(remote("b10312a4420b360a1099aaef0c5a2719").vouched_for(&md5));
        assert!(!remote("af83d6f217c19b8b0fff8023d8ca4716-2").vouched_for(&md5));
    }
}
