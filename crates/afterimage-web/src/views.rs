//! Views that somebody keeps: pages by a name of their own, for themselves or for everybody.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::kept::Kept;

/// Nobody keeps more of them.
const MOST: usize = 200;

/// Longer names and addresses are refused.
const LONGEST: (usize, usize) = (100, 4_000);

/// A page that somebody keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// What it is called: no two of one owner are called the same.
    pub name: String,
    /// Its address, below wherever the router is nested, with a slash at its beginning.
    pub address: String,
    /// Who keeps it: the actor of their [context](crate::Visitor::new).
    pub owner: String,
    /// Whether everybody finds it. What they see there is still what they may see.
    #[serde(default)]
    pub shared: bool,
}

/// Where views are kept: for a host that has a database of its own. [`FileViews`] keeps them in a file.
#[async_trait::async_trait]
pub trait Views: Send + Sync + 'static {
    /// Everybody's.
    async fn all(&self) -> Result<Vec<View>, String>;

    /// Keeps a view, in the place of one of the same name of the same owner.
    async fn keep(&self, view: View) -> Result<(), String>;

    /// Forgets one.
    async fn forget(&self, owner: &str, name: &str) -> Result<(), String>;
}

/// Views in a JSON file.
#[derive(Debug)]
pub struct FileViews(Mutex<Kept<Vec<View>>>);

impl FileViews {
    /// The views of a file; none, where it is not there yet. The error says what is wrong with it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, String> {
        Ok(Self(Mutex::new(Kept::open(path.into())?)))
    }
}

#[async_trait::async_trait]
impl Views for FileViews {
    async fn all(&self) -> Result<Vec<View>, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refresh().cloned()
    }

    async fn keep(&self, view: View) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).change(|views| {
            let of_owner = |known: &&mut View| known.owner == view.owner;
            match views.iter_mut().filter(of_owner).find(|known| known.name == view.name) {
                Some(known) => *known = view,
                None => views.push(view),
            }
            Ok(())
        })
    }

    async fn forget(&self, owner: &str, name: &str) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).change(|views| {
            views.retain(|view| view.owner != owner || view.name != name);
            Ok(())
        })
    }
}

/// Whether a view can be kept beside those that its owner has; says why not.
pub(crate) fn check(view: &View, known: &[View]) -> Result<(), String> {
    let name = view.name.trim();
    if name.is_empty() || name.chars().count() > LONGEST.0 || name.chars().any(char::is_control) {
        return Err(format!("A view has a name of 1 to {} characters.", LONGEST.0));
    }
    if view.address.len() > LONGEST.1 || !crate::address::is_within(&view.address) {
        return Err("A view is a page of this history.".to_owned());
    }
    if known.iter().filter(|known| known.owner == view.owner).count() >= MOST {
        return Err(format!("Nobody keeps more than {MOST} views: forget one first."));
    }
    Ok(())
}
