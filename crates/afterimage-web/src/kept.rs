//! A JSON file that is kept beside the service, and may be changed by other programs meanwhile.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is in a file, as it was read last; nothing, where there is none yet. It is for its owner only.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
    value: T,
}

impl<T: Default + Clone + Serialize + DeserializeOwned> Kept<T> {
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let mut kept = Self { path, read: None, value: T::default() };
        kept.refresh()?;
        Ok(kept)
    }

    fn wrong(&self, why: impl std::fmt::Display) -> String {
        format!("{}: {why}", self.path.display())
    }

    /// What it says now: read again where it is another since.
    pub(crate) fn refresh(&mut self) -> Result<&T, String> {
        let about = match std::fs::metadata(&self.path) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (self.read, self.value) = (None, T::default());
                return Ok(&self.value);
            }
            Err(error) => return Err(self.wrong(error)),
        };
        let stamp = (about.modified().map_err(|error| self.wrong(error))?, about.len());
        if self.read == Some(stamp) {
            return Ok(&self.value);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            if about.permissions().mode() & 0o077 != 0 {
                return Err(self.wrong("others can read it, and it is for its owner only: chmod 600"));
            }
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| self.wrong(error))?;
        let value = serde_json::from_str(&text).map_err(|error| self.wrong(error))?;
        (self.read, self.value) = (Some(stamp), value);
        Ok(&self.value)
    }

    /// Changes it: the whole file is there before and after, never half of it.
    pub(crate) fn change<R, E: From<String>>(
        &mut self,
        work: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut value = self.refresh()?.clone();
        let done = work(&mut value)?;
        self.write(&value)?;
        self.read = None;
        self.refresh()?;
        Ok(done)
    }

    fn write(&self, value: &T) -> Result<(), String> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.map_or_else(|| PathBuf::from("."), PathBuf::from);
        // It is made for its owner only.
        let mut written = tempfile::NamedTempFile::new_in(&folder).map_err(|error| self.wrong(error))?;
        let text = serde_json::to_string_pretty(value).map_err(|error| self.wrong(error))?;
        written.write_all(text.as_bytes()).map_err(|error| self.wrong(error))?;
        written.as_file().sync_all().map_err(|error| self.wrong(error))?;
        written.persist(&self.path).map_err(|error| self.wrong(error.error))?;
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_for_its_owner_only_and_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.json");
        let mut kept = Kept::<Vec<u32>>::open(path.clone()).unwrap();
        kept.change(|value| {
            value.push(1);
            Ok::<_, String>(())
        })
        .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut elsewhere = Kept::<Vec<u32>>::open(path.clone()).unwrap();
        elsewhere
            .change(|value| {
                value.push(2);
                Ok::<_, String>(())
            })
            .unwrap();
        assert_eq!(kept.refresh().unwrap(), &[1, 2]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Kept::<Vec<u32>>::open(path.clone()).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "[1,").unwrap();
        assert!(Kept::<Vec<u32>>::open(path).unwrap_err().contains("kept.json"));
    }
}
