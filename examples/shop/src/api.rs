//! The shop over HTTP.

use afterimage::orm::Tracked as _;
use afterimage::tower::AuditLayer;
use afterimage::{Afterimage, Context, Error, ErrorKind, PointInTime};
use afterimage_web::{Refusal, Role, Visitor, Web};
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::models::order;
use crate::services;

/// The shop's routes. Who asks is found first; the history's layer comes after it, inside.
pub fn router(audit: Afterimage) -> Router {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(show))
        .route("/orders/{id}/cancel", post(cancel))
        .route("/orders/{id}/undo", post(undo))
        .route("/orders/{id}/history", get(history))
        .route("/login", get(log_in))
        .nest("/history", Web::new(audit.clone(), authorize).router())
        .layer(AuditLayer::new(|request| match request.extensions.get::<User>() {
            Some(User(name)) => Context::actor(name),
            None => Context::new(),
        }))
        .layer(from_fn(authenticate))
        .with_state(audit)
}

/// Who asks.
#[derive(Debug, Clone)]
struct User(String);

/// Who may look at the history, and write old values back: whoever is known.
fn authorize(request: &Parts) -> Result<Visitor, Refusal> {
    match request.extensions.get::<User>() {
        Some(User(name)) => Ok(Visitor::new(Context::actor(name), Role::Reverter)),
        None => Err(Refusal::Unknown { log_in: Some("/login?as=ann".to_owned()) }),
    }
}

#[derive(Deserialize)]
struct LogIn {
    r#as: String,
}

/// Stands for a page that asks for a password.
async fn log_in(Query(LogIn { r#as: user }): Query<LogIn>) -> impl IntoResponse {
    let name: String = user.chars().filter(char::is_ascii_alphanumeric).collect();
    let cookie = format!("user={name}; Path=/; HttpOnly; SameSite=Lax");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/history"))
}

/// Stands for whatever authenticates: a session, a token.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let cookie = request.headers().get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
    let cookie = cookie.and_then(|cookie| cookie.split("; ").find_map(|pair| pair.strip_prefix("user=")));
    let user = request.headers().get("x-user").and_then(|name| name.to_str().ok()).or(cookie);
    if let Some(user) = user.map(|name| User(name.to_owned())) {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

/// What went wrong, as an answer.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::InvalidInput | ErrorKind::Unknowable => StatusCode::BAD_REQUEST,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.0.to_string()).into_response()
    }
}

#[derive(Deserialize)]
struct Placed {
    customer: i32,
    items: Vec<(String, i32)>,
}

async fn place(State(audit): State<Afterimage>, Json(placed): Json<Placed>) -> Result<Json<Value>, Failure> {
    let items: Vec<(&str, i32)> = placed.items.iter().map(|(name, price)| (name.as_str(), *price)).collect();
    let order = services::order_place(&audit, placed.customer, &items).await?;
    Ok(Json(json!({ "id": order.id, "total": order.total })))
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

async fn cancel(
    State(audit): State<Afterimage>,
    Path(id): Path<i32>,
    Json(why): Json<Reason>,
) -> Result<StatusCode, Failure> {
    services::order_cancel(&audit, id, &why.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn undo(State(audit): State<Afterimage>, Path(id): Path<i32>) -> Result<StatusCode, Failure> {
    services::order_undo(&audit, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct AsOf {
    at: Option<String>,
}

/// An order and its items: of now, or with `?at=2026-07-01T12:00:00Z` as they were.
async fn show(
    State(audit): State<Afterimage>,
    Path(id): Path<i32>,
    Query(asked): Query<AsOf>,
) -> Result<Response, Failure> {
    let at = PointInTime::parse(asked.at.as_deref().unwrap_or("now"), "UTC")?;
    Ok(match services::order_as_of(&audit, id, at).await? {
        Some((order, items)) => Json(json!({
            "id": order.id,
            "status": order.status,
            "total": order.total,
            "items": items.into_iter().map(|item| item.name).collect::<Vec<_>>(),
        }))
        .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

/// What became of an order, newest first.
async fn history(State(audit): State<Afterimage>, Path(id): Path<i32>) -> Result<Json<Value>, Failure> {
    let versions = order::Entity::history_of(id).all(&audit).await?;
    let told = versions.iter().map(|version| {
        json!({
            "at": version.header.date.to_string(),
            "action": version.header.action.name(),
            "by": version.header.user,
            "reason": version.header.reason,
            "status": version.model.status,
            "total": version.model.total,
        })
    });
    Ok(Json(Value::Array(told.collect())))
}
