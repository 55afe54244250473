//! `serve`: the web interface and the REST API.

mod metrics;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use afterimage::{Afterimage, Context};
use afterimage_web::users::{Grant, IpNet, Proxy, User, Users};
use afterimage_web::{FileViews, Refusal, Rights as _, Role, Visitor, Web};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::from_fn;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Done, Failure};
use crate::Outcome;
use crate::arguments::{LogFormat, Serve};
use crate::config::Config;
use metrics::Metrics;

/// Serves until it is interrupted; what is being answered then is answered still.
pub(super) async fn run(audit: Afterimage, config: &Config, request: Serve) -> Done {
    let listen = request.listen;
    let users = Users::open(config.users())?.behind(proxy(&request)?);
    let listed = users.list()?;
    let known = !listed.is_empty() || request.user_header.is_some();
    if !known && !listen.ip().is_loopback() {
        return Err(Failure::Usage(format!(
            "{listen} can be reached from other machines, and there are no users: add some with afterimage user add, or \
             give an address of this machine, such as 127.0.0.1:8080"
        )));
    }
    hidden_are_there(&audit, &listed).await?;
    log(request.log_format, request.access_log.as_deref())?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Usage(format!("cannot listen on {listen}: {error}")))?;
    let address = listener.local_addr()?;
    println!("Serving on http://{address}/ (interrupt to stop)");
    if known {
        println!("Users of {} log in.", config.users().display());
        if !listen.ip().is_loopback() {
            println!("Browsers keep the session only over TLS: put a proxy with a certificate before it.");
        }
    } else {
        println!("Whoever uses this machine may see and revert everything: there are no users.");
    }
    let router = router(audit, config, known.then_some(users))?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(interrupted()).await?;
    Ok(Outcome::Done)
}

/// The interface over the database of the demo: on this machine, without users, wherever there is room.
pub(super) async fn for_a_look(audit: Afterimage, config: &Config) -> Done {
    let usual = SocketAddr::from(([127, 0, 0, 1], 8080));
    let listener = match TcpListener::bind(usual).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?,
    };
    println!("\nNow look at it: http://{}/?range=all (interrupt to stop)", listener.local_addr()?);
    let service = router(audit, config, None)?.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(interrupted()).await?;
    Ok(Outcome::Done)
}

/// The proxies that are believed.
fn proxy(request: &Serve) -> Result<Proxy, Failure> {
    let network = |text: &String| {
        let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(address).ok_or_else(|| {
            Failure::Usage(format!("{text:?} is no address or network, such as 10.0.0.7 or 10.0.0.0/8"))
        })
    };
    let trusted = request.trust_proxy.iter().map(network).collect::<Result<Vec<_>, _>>()?;
    let mut proxy = Proxy::at(trusted);
    if let Some(header) = &request.user_header {
        let name = HeaderName::try_from(header.as_str());
        proxy = proxy
            .user_header(name.map_err(|_| Failure::Usage(format!("{header:?} is no name of a header")))?);
    }
    Ok(match request.user_header_role {
        Some(role) => proxy.role_of_others(role.into()),
        None => proxy,
    })
}

/// What somebody must not see has to be there under the name that was given: else it would be seen.
async fn hidden_are_there(audit: &Afterimage, users: &[User]) -> Result<(), Failure> {
    if users.iter().all(|user| user.grant.hidden.is_empty()) {
        return Ok(());
    }
    let tracked = audit.tracked().await?;
    for user in users {
        for hidden in &user.grant.hidden {
            let only = Grant { hidden: vec![hidden.clone()], ..user.grant.clone() };
            let names =
                tracked.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
            let mut hides = names.filter(|(table, column)| {
                // The columns of a key are always seen.
                !table.key.contains(&column.name)
                    && column.names.iter().any(|(_, name)| !only.sees(&table.table, name))
            });
            if hides.next().is_none() {
                return Err(Failure::Usage(format!(
                    "{hidden:?}, which {} must not see, is no tracked column beside the key: write it as \
                     table.column, as status names the table",
                    user.name
                )));
            }
        }
    }
    Ok(())
}

/// What happens is told on standard error, a line each; who did what of account, in a file too.
fn log(format: LogFormat, access: Option<&Path>) -> Result<(), Failure> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let file = match access {
        None => None,
        Some(path) => {
            let mut options = std::fs::File::options();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(path);
            let file = file.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            let layer =
                tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(Arc::new(file));
            Some(layer.with_filter(filter_fn(|event| event.target() == "afterimage::access")))
        }
    };
    // Whoever embeds the program may have a logger already.
    let _ = tracing_subscriber::registry().with(lines.with_filter(LevelFilter::INFO)).with(file).try_init();
    Ok(())
}

/// The interface, with whether the database answers, and what was answered how fast.
fn router(audit: Afterimage, config: &Config, users: Option<Users>) -> Result<Router, Failure> {
    let health = audit.clone();
    let healthy = move || async move {
        match health.tracked().await {
            Ok(_) => (StatusCode::OK, "ok\n"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
        }
    };
    let metrics = Arc::new(Metrics::default());
    let counted = Arc::clone(&metrics);
    let views = FileViews::open(config.views()).map_err(Failure::Usage)?;
    let kept = |web: Web| web.zone(&config.tz).views(views);
    let pages = match users {
        Some(users) => {
            let key = Users::link_key(config.link_key())?;
            users.router().merge(kept(Web::new(audit, users)).links(key).router())
        }
        None => kept(Web::new(audit, whoever_is_here(config))).router(),
    };
    // Beside the pages: for what watches over a service.
    let told = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap| async move {
        // A proxy of this machine speaks for others.
        let for_others =
            ["x-forwarded-for", "forwarded", "via"].iter().any(|name| headers.contains_key(*name));
        let here = peer.ip().to_canonical().is_loopback() && !for_others;
        if here {
            (StatusCode::OK, metrics.text())
        } else {
            (StatusCode::FORBIDDEN, "from this machine only\n".to_owned())
        }
    };
    Ok(pages
        .layer(from_fn(move |request, next| metrics::counting(Arc::clone(&counted), request, next)))
        .route("/healthz", get(healthy))
        .route("/metrics", get(told)))
}

/// Everybody on this machine, under the name that the settings give, or the system.
fn whoever_is_here(config: &Config) -> impl Fn(&Parts) -> Result<Visitor, Refusal> + Send + Sync + 'static {
    let actor = config.actor.clone().or_else(|| std::env::var("USER").ok()).filter(|actor| !actor.is_empty());
    move |request: &Parts| {
        // A page elsewhere may send a browser of this machine here, under a name of its own.
        if !names_this_machine(request) {
            return Err(Refusal::Forbidden);
        }
        let mut context = actor.as_deref().map_or_else(Context::new, Context::actor);
        if let Some(ConnectInfo(peer)) = request.extensions.get::<ConnectInfo<SocketAddr>>() {
            context = context.remote_addr(peer.ip().to_string());
        }
        Ok(Visitor::new(context, Role::Admin))
    }
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
