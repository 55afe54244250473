//! Where an archive is kept: a folder, or a bucket.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt as _, RetryConfig, WriteMultipart};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// So much of a file is sent at once.
const PIECE: usize = 8 << 20;

/// How long a bucket that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub(super) struct Store {
    inner: Arc<dyn ObjectStore>,
    base: Path,
    /// Its address, without anything secret.
    pub(super) url: String,
}

/// What can be said of what went wrong with a store: its own words, which name no secrets.
fn failed(url: &str, what: &str, error: &object_store::Error) -> Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            ErrorKind::Forbidden
        }
        _ => ErrorKind::Connection,
    };
    Error::new(kind, format!("the archive {url} cannot be {what}: {error}"))
}

impl Store {
    /// Opens `file:///…` or `s3://…`, with what the environment says (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, …).
    pub(super) fn open(url: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let message = format!("{:?} is no address of an archive: {why}", crate::redacted(url));
            Error::new(ErrorKind::InvalidInput, message)
        };
        let form = "write file:///folder or s3://bucket/folder";
        let parsed = url::Url::parse(url).map_err(|_| wrong(form))?;
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(wrong(
                "it holds more than a place; keys belong in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        let (inner, base): (Arc<dyn ObjectStore>, Path) = match parsed.scheme() {
            "file" => {
                let folder = parsed.to_file_path().map_err(|()| wrong(form))?;
                let base = Path::from_absolute_path(&folder).map_err(|error| wrong(&error.to_string()))?;
                (Arc::new(LocalFileSystem::new()), base)
            }
            "s3" => {
                // Whoever else chose one is heard.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let patience =
                    RetryConfig { retry_timeout: PATIENCE, max_retries: 6, ..RetryConfig::default() };
                let bucket = AmazonS3Builder::from_env()
                    .with_url(url)
                    .with_retry(patience)
                    // One at a time, which every provider can.
                    .with_disable_bulk_delete(true)
                    .build();
                let base = Path::from_url_path(parsed.path()).map_err(|error| wrong(&error.to_string()))?;
                (Arc::new(bucket.map_err(|error| wrong(&error.to_string()))?), base)
            }
            _ => return Err(wrong(form)),
        };
        Ok(Self { inner, base, url: url.trim_end_matches('/').to_owned() })
    }

    /// The place of a path, each of whose parts is as a store takes it ([`part`]).
    fn path(&self, path: &str) -> Path {
        let whole = match self.base.as_ref() {
            "" => path.to_owned(),
            base => format!("{base}/{path}"),
        };
        // What comes from a store, or went through `part`, is a path.
        Path::parse(&whole).unwrap_or_else(|_| Path::from(whole))
    }

    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let done = self.inner.put(&self.path(path), bytes.into()).await;
        done.map(drop).map_err(|error| failed(&self.url, "written", &error))
    }

    /// Sends a file; gives how many bytes it has and their SHA-256.
    pub(super) async fn send(&self, path: &str, file: &mut File) -> Result<(u64, String)> {
        file.seek(SeekFrom::Start(0))?;
        let upload = self.inner.put_multipart(&self.path(path)).await;
        let upload = upload.map_err(|error| failed(&self.url, "written", &error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PIECE);
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
            bytes += read as u64;
            if let Err(error) = upload.wait_for_capacity(4).await {
                let _ = upload.abort().await;
                return Err(failed(&self.url, "written", &error));
            }
            upload.put(Bytes::copy_from_slice(&piece[..read]));
        }
        upload.finish().await.map_err(|error| failed(&self.url, "written", &error))?;
        Ok((bytes, hex(&hash.finalize())))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let get = async { self.inner.get(&self.path(path)).await?.bytes().await };
        get.await.map(|bytes| bytes.to_vec()).map_err(|error| failed(&self.url, "read", &error))
    }

    /// Fetches a file into a temporary one; gives that, how many bytes it has, and their SHA-256.
    pub(super) async fn fetch(&self, path: &str) -> Result<(File, u64, String)> {
        let mut file = tempfile::tempfile()?;
        let (bytes, sha256) = self.fetch_into(path, &mut file).await?;
        Ok((file, bytes, sha256))
    }

    /// Fetches a file into another; gives how many bytes it has, and their SHA-256.
    pub(super) async fn fetch_into(&self, path: &str, file: &mut File) -> Result<(u64, String)> {
        let failed = |error| failed(&self.url, "read", &error);
        let mut stream = self.inner.get(&self.path(path)).await.map_err(failed)?.into_stream();
        let mut hash = Sha256::new();
        let mut bytes = 0;
        while let Some(piece) = stream.try_next().await.map_err(failed)? {
            hash.update(&piece);
            bytes += piece.len() as u64;
            file.write_all(&piece)?;
        }
        file.seek(SeekFrom::Start(0))?;
        Ok((bytes, hex(&hash.finalize())))
    }

    /// Removes a file, if it is there.
    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        match self.inner.delete(&self.path(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(&self.url, "written", &error)),
        }
    }

    /// Removes files, as far as that can be done.
    pub(super) async fn forget(&self, paths: impl Iterator<Item = String>) {
        for path in paths {
            if let Err(error) = self.remove(&path).await {
                tracing::warn!(%path, %error, "a file of an archive that came to nothing stays there");
            }
        }
    }

    /// The paths, from the archive's own on, of everything in a folder.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let folder = if folder.is_empty() { self.base.clone() } else { self.path(folder) };
        let found: Result<Vec<_>, _> = self.inner.list(Some(&folder)).try_collect().await;
        let found = found.map_err(|error| failed(&self.url, "read", &error))?;
        let inside = |object: object_store::ObjectMeta| {
            let parts: Vec<String> =
                object.location.prefix_match(&self.base)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        Ok(found.into_iter().filter_map(inside).collect())
    }
}

/// A name as a part of a path.
pub(super) fn part(name: &str) -> String {
    PathPart::from(name).as_ref().to_owned()
}

pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
