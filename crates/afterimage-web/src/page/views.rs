//! The views that somebody keeps, and those that others share.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::Shell;
use crate::asked::Asked;
use crate::failure::Failure;
use crate::filter::Parameters;
use crate::views::{self, View, Views};

struct Row {
    name: String,
    to: String,
    shared: bool,
    /// Whose it is, where it is somebody else's.
    owner: Option<String>,
}

#[derive(Template)]
#[template(path = "views.html")]
struct Page {
    shell: Shell,
    here: String,
    rows: Vec<Row>,
    /// The page that is to be kept.
    address: Option<String>,
    name: String,
    problem: Option<String>,
}

fn kept(asked: &Asked) -> Result<&dyn Views, Failure> {
    asked.views.as_deref().ok_or_else(|| Failure::missing("No views are kept here."))
}

fn failed(error: &str) -> Failure {
    tracing::error!(error, "the views cannot be kept or read");
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the views cannot be kept or read; the log says why")
}

fn me(asked: &Asked) -> String {
    asked.visitor.actor().unwrap_or_default()
}

pub(crate) async fn page(asked: Asked) -> Result<Response, Failure> {
    let address = asked.parameters.first("address").filter(|address| crate::address::is_within(address));
    let address = address.map(ToOwned::to_owned);
    show(&asked, address, String::new(), None).await
}

async fn show(
    asked: &Asked,
    address: Option<String>,
    name: String,
    problem: Option<String>,
) -> Result<Response, Failure> {
    let mut all = kept(asked)?.all().await.map_err(|error| failed(&error))?;
    let me = me(asked);
    all.retain(|view| view.owner == me || view.shared);
    all.sort_by_key(|view| (view.owner != me, view.name.to_lowercase()));
    let rows = all
        .into_iter()
        .filter(|view| crate::address::is_within(&view.address))
        .map(|view| Row {
            to: asked.links.exactly(&view.address),
            owner: (view.owner != me).then_some(view.owner),
            name: view.name,
            shared: view.shared,
        })
        .collect();
    let status = if problem.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let page = Page {
        here: asked.links.to("/views"),
        shell: Shell::new(asked, "", "Views"),
        rows,
        address,
        name,
        problem,
    };
    super::with_status(status, &page)
}

/// Keeps, shares or forgets one of theirs.
pub(crate) async fn write(asked: Asked) -> Result<Response, Failure> {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let sent = Parameters::read(&body);
    let text = |name: &str| sent.first(name).unwrap_or_default().trim().to_owned();
    let (owner, name) = (me(&asked), text("name"));
    if owner.is_empty() {
        return Err(Failure::forbidden("Nobody keeps views who is not known by name."));
    }
    let store = kept(&asked)?;
    let known = store.all().await.map_err(|error| failed(&error))?;
    let mine = known.iter().find(|view| view.owner == owner && view.name == name);
    match text("do").as_str() {
        "forget" => store.forget(&owner, &name).await.map_err(|error| failed(&error))?,
        "share" | "unshare" => {
            let mine = mine.ok_or_else(|| Failure::missing("You keep no view of that name."))?;
            let view = View { shared: text("do") == "share", ..mine.clone() };
            store.keep(view).await.map_err(|error| failed(&error))?;
        }
        "keep" => {
            let view = View { name, address: text("address"), owner, shared: sent.has("shared", "yes") };
            if let Err(problem) = views::check(&view, &known) {
                let address = Some(view.address).filter(|address| crate::address::is_within(address));
                return show(&asked, address, view.name, Some(problem)).await;
            }
            store.keep(view).await.map_err(|error| failed(&error))?;
        }
        other => return Err(Failure::wrong(format!("{other:?} is nothing to do with a view"))),
    }
    Ok(super::see_other(&asked.links.to("/views")))
}
