//! Where settings come from: the command line, then the environment, then `afterimage.toml` of the current folder, or where
//! it has none, of the user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afterimage::Retention;
use serde::Deserialize;

use crate::arguments::Global;
use crate::commands::Failure;
use crate::output::Format;
use crate::terminal::Colour;

const FILE: &str = "afterimage.toml";

/// `afterimage.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database_url: Option<String>,
    /// A file that holds the password, so that the address need not.
    password_file: Option<String>,
    format: Option<Format>,
    tz: Option<String>,
    /// Who writes, where a command writes something back.
    actor: Option<String>,
    color: Option<Colour>,
    /// The pager; empty for none.
    pager: Option<String>,
    /// The file of those who may log in to `serve`.
    users: Option<PathBuf>,
    /// The file of the views that are kept in `serve`.
    views: Option<PathBuf>,
    /// The file of the key by which `serve` signs links.
    link_key: Option<PathBuf>,
    /// How long records are kept, by table.
    #[serde(default)]
    retention: BTreeMap<String, Retention>,
}

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Config {
    database_url: Option<String>,
    pub(crate) format: Option<Format>,
    pub(crate) tz: String,
    pub(crate) actor: Option<String>,
    pub(crate) colour: Colour,
    pub(crate) pager: Option<String>,
    pub(crate) retention: BTreeMap<String, Retention>,
    users: PathBuf,
    views: PathBuf,
    link_key: PathBuf,
}

/// The file of users, where no other is named.
const USERS: &str = "afterimage-users.json";

/// The file of the key for links, where no other is named.
const LINK_KEY: &str = "afterimage-link-key.json";

/// The file of views, where no other is named.
const VIEWS: &str = "afterimage-views.json";

impl Config {
    pub(crate) fn load(global: &Global) -> Result<Self, Failure> {
        let (file, folder) = read_first(&places())?;
        let given = global.database_url.clone().or_else(|| std::env::var("DATABASE_URL").ok());
        let database_url = match (given, file.database_url, file.password_file) {
            (Some(url), ..) => Some(url),
            (None, Some(url), Some(path)) => Some(with_password(&url, &folder.join(path))?),
            (None, url, _) => url,
        };
        Ok(Self {
            database_url,
            format: global.format.or(file.format),
            tz: global.tz.clone().or(file.tz).unwrap_or_else(|| "UTC".to_owned()),
            actor: std::env::var("AFTERIMAGE_ACTOR").ok().filter(|actor| !actor.is_empty()).or(file.actor),
            retention: file.retention,
            colour: global.color.or(file.color).unwrap_or_default(),
            users: file.users.map_or_else(|| PathBuf::from(USERS), |users| folder.join(users)),
            link_key: file.link_key.map_or_else(|| PathBuf::from(LINK_KEY), |key| folder.join(key)),
            views: file.views.map_or_else(|| PathBuf::from(VIEWS), |views| folder.join(views)),
            pager: if global.no_pager { Some(String::new()) } else { file.pager },
        })
    }

    /// The file of those who may log in.
    pub(crate) fn users(&self) -> &Path {
        &self.users
    }

    /// The file of the key by which links are signed.
    pub(crate) fn link_key(&self) -> &Path {
        &self.link_key
    }

    /// The file of the views that are kept.
    pub(crate) fn views(&self) -> &Path {
        &self.views
    }

    pub(crate) fn database_url(&self) -> Result<&str, Failure> {
        self.database_url.as_deref().ok_or_else(|| {
            Failure::Usage(format!(
                "which database? Give --database-url, set DATABASE_URL, or write database_url into {FILE}"
            ))
        })
    }
}

/// Where the file may be: in the current folder, or in the user's own for settings.
fn places() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let users = users.map(|folder| folder.join("afterimage").join(FILE));
    std::iter::once(PathBuf::from(FILE)).chain(users).collect()
}

/// The first of some files that is there, and the folder it is in.
fn read_first(places: &[PathBuf]) -> Result<(File, PathBuf), Failure> {
    for path in places {
        if let Some(file) = read(path)? {
            return Ok((file, path.parent().map(Path::to_path_buf).unwrap_or_default()));
        }
    }
    Ok((File::default(), PathBuf::new()))
}

fn read(path: &Path) -> Result<Option<File>, Failure> {
    let wrong = |message: &str| Failure::Usage(format!("{}: {message}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|error| wrong(error.message())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// Puts the password of a file into an address that names a user without one.
fn with_password(url: &str, path: &Path) -> Result<String, Failure> {
    let password = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let encoded: String =
        password.trim_end_matches(['\n', '\r']).bytes().map(|byte| format!("%{byte:02X}")).collect();
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, host))) if !user.contains(':') => {
            Ok(format!("{scheme}://{user}:{encoded}@{host}"))
        }
        _ => Err(Failure::Usage(format!(
            "{FILE}: password_file needs a database_url of the form scheme://user@host/name"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_from_a_file_may_hold_any_character() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "p@ss/w:rd\n").unwrap();
        let url = with_password("postgres://ann@db/shop", &path).unwrap();
        assert_eq!(url, "postgres://ann:%70%40%73%73%2F%77%3A%72%64@db/shop");
        assert!(with_password("shop.db", &path).is_err());
    }

    #[test]
    fn an_unknown_setting_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("afterimage.toml");
        std::fs::write(&path, "databse_url = 'x'").unwrap();
        assert!(matches!(read(&path), Err(Failure::Usage(message)) if message.contains("databse_url")));
    }

    #[test]
    fn the_users_own_file_is_read_where_the_folder_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let places = ["here", "own"].map(|place| folder.path().join(place).join("afterimage.toml"));
        assert!(read_first(&places).unwrap().0.actor.is_none());
        for (path, actor) in places.iter().zip(["ann", "bob"]).rev() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("actor = '{actor}'")).unwrap();
            let (file, found) = read_first(&places).unwrap();
            assert_eq!((file.actor.as_deref(), found.as_path()), (Some(actor), path.parent().unwrap()));
        }
    }
}
