//! `serve`: the web interface and the REST API, on this machine only.

use std::net::SocketAddr;

use afterimage::{Afterimage, Context};
use afterimage_web::{Refusal, Role, Visitor, Web};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Done, Failure};
use crate::Outcome;
use crate::config::Config;

/// Serves until it is interrupted; what is being answered then is answered still.
pub(super) async fn run(audit: Afterimage, config: &Config, listen: SocketAddr) -> Done {
    if !listen.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "{listen} can be reached from other machines, and serve does not know users yet: give an address of this \
             machine, such as 127.0.0.1:8080, and put what authenticates before it"
        )));
    }
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Usage(format!("cannot listen on {listen}: {error}")))?;
    println!("Serving on http://{}/ (interrupt to stop)", listener.local_addr()?);
    let service = router(audit, config).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(interrupted()).await?;
    Ok(Outcome::Done)
}

/// The interface, and whether the database answers.
fn router(audit: Afterimage, config: &Config) -> Router {
    let actor = config.actor.clone().or_else(|| std::env::var("USER").ok()).filter(|actor| !actor.is_empty());
    let visitor = move |request: &Parts| {
        // A page elsewhere may send a browser of this machine here, under a name of its own.
        if !names_this_machine(request) {
            return Err(Refusal::Forbidden);
        }
        let mut context = actor.as_deref().map_or_else(Context::new, Context::actor);
        if let Some(ConnectInfo(peer)) = request.extensions.get::<ConnectInfo<SocketAddr>>() {
            context = context.remote_addr(peer.ip().to_string());
        }
        Ok(Visitor::new(context, Role::Admin))
    };
    let health = audit.clone();
    let healthy = move || async move {
        match health.tracked().await {
            Ok(_) => (StatusCode::OK, "ok\n"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
        }
    };
    let web = Web::new(audit, visitor).zone(&config.tz);
    Router::new().route("/healthz", get(healthy)).fallback_service(web.router())
}

/// Whether the host that a request names is this machine: what a name of somebody else's that leads here (DNS rebinding)
/// is not.
fn names_this_machine(request: &Parts) -> bool {
    let host = request.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
