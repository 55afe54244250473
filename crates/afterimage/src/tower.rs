//! Middleware: each request runs in a context of its own, so that whatever it writes says who asked, from where, and by
//! which request.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{self, Poll};

use afterimage_core::Context;
use http::request::Parts;
use http::{HeaderMap, Request};
use ipnet::IpNet;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, ErrorKind, Result};
use crate::scope::{InScope, call_in, put_in};

/// The header in which a request's correlation id is looked for, unless another is named.
pub const CORRELATION_HEADER: &str = "x-correlation-id";

type Identify = dyn Fn(&Parts) -> Context + Send + Sync;
type Peer = dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync;

/// A layer that gives each request its context. Place it inside whatever authenticates, so that it sees who asks.
///
/// ```
/// use afterimage::Context;
/// use afterimage::tower::AuditLayer;
///
/// # #[derive(Clone)]
/// # struct User { id: i64, email: String }
/// let layer = AuditLayer::new(|request| match request.extensions.get::<User>() {
///     Some(user) => Context::actor(user.id.to_string()).label(&user.email),
///     None => Context::new(),
/// })
/// .trusted_proxies(["10.0.0.0/8"])
/// .unwrap();
/// ```
#[derive(Clone)]
pub struct AuditLayer {
    settings: Arc<Settings>,
}

#[derive(Clone)]
struct Settings {
    identify: Arc<Identify>,
    peer: Arc<Peer>,
    proxies: Vec<IpNet>,
    correlation: String,
}

impl fmt::Debug for AuditLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer")
            .field("proxies", &self.settings.proxies)
            .field("correlation", &self.settings.correlation)
            .finish_non_exhaustive()
    }
}

impl AuditLayer {
    /// Asks `identify` who makes a request: its head, with what those outside of this layer put into its extensions.
    pub fn new(identify: impl Fn(&Parts) -> Context + Send + Sync + 'static) -> Self {
        Self {
            settings: Arc::new(Settings {
                identify: Arc::new(identify),
                peer: Arc::new(connected),
                proxies: Vec::new(),
                correlation: CORRELATION_HEADER.to_owned(),
            }),
        }
    }

    /// Networks of proxies of one's own, such as `10.0.0.0/8` or one address. Only what these say in `X-Forwarded-For` is
    /// believed: the address is the last one there that is not theirs.
    pub fn trusted_proxies<S: AsRef<str>>(self, networks: impl IntoIterator<Item = S>) -> Result<Self> {
        let proxies = networks
            .into_iter()
            .map(|network| {
                let network = network.as_ref();
                network.parse().or_else(|_| network.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                    Error::new(
                        ErrorKind::InvalidInput,
                        format!("{network:?} is no network, such as 10.0.0.0/8"),
                    )
                })
            })
            .collect::<Result<_>>()?;
        Ok(self.with(|settings| settings.proxies = proxies))
    }

    /// The header in which the correlation id stands.
    #[must_use]
    pub fn correlation_header(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.correlation = name.into())
    }

    /// How the address is found that a request's connection came from. With the feature `axum` it is that of
    /// `ConnectInfo`, for which the application is served `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub fn peer(self, peer: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.peer = Arc::new(peer))
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        self
    }
}

impl Settings {
    fn context(&self, request: &Parts) -> Context {
        let mut context = Context::new().correlation_id(self.correlation_id(&request.headers));
        if let Some(address) = self.address(request) {
            context = context.remote_addr(address.to_string());
        }
        (self.identify)(request).within(&context)
    }

    /// Where the request came from.
    fn address(&self, request: &Parts) -> Option<IpAddr> {
        let mut address = (self.peer)(request)?.to_canonical();
        let forwarded: Vec<&str> = request
            .headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        // Each proxy adds at the end whom it was asked by.
        for hop in forwarded.into_iter().rev() {
            if !self.trusts(address) {
                break;
            }
            let Some(hop) = read_address(hop.trim()) else { break };
            address = hop;
        }
        Some(address)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// What the request says it belongs to, if that is of a kind that can be kept; otherwise a new one.
    fn correlation_id(&self, headers: &HeaderMap) -> String {
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let named = said(&self.correlation).filter(|id| !id.is_empty() && id.len() <= 128);
        // version-trace-parent-flags, where the trace is that of W3C's Trace Context.
        let traced = || {
            let trace = said("traceparent")?.split('-').nth(1)?;
            (trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(trace)
        };
        match named.or_else(traced) {
            Some(id) => id.to_owned(),
            None => uuid::Uuid::now_v7().to_string(),
        }
    }
}

/// An address, perhaps with a port, as proxies write it.
fn read_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_matches('"');
    let address = bare
        .parse()
        .or_else(|_| bare.parse::<SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| bare.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>());
    address.ok().map(|address| address.to_canonical())
}

#[cfg(feature = "axum")]
fn connected(request: &Parts) -> Option<IpAddr> {
    request.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

#[cfg(not(feature = "axum"))]
fn connected(_: &Parts) -> Option<IpAddr> {
    None
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audited<S>;

    fn layer(&self, inner: S) -> Audited<S> {
        Audited { inner, settings: Arc::clone(&self.settings) }
    }
}

/// A service whose requests each run in a context.
#[derive(Clone)]
pub struct Audited<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S: fmt::Debug> fmt::Debug for Audited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audited").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for Audited<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = InScope<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let context = self.settings.context(&parts);
        parts.extensions.insert(RequestContext(context.clone()));
        let request = Request::from_parts(parts, body);
        let answer = call_in(context.clone(), || self.inner.call(request));
        put_in(context, answer)
    }
}

/// The context of a request, which [`AuditLayer`] left in its extensions; with the feature `axum` an extractor.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestContext(pub Context);

#[cfg(feature = "axum")]
impl<S: Sync> axum::extract::FromRequestParts<S> for RequestContext {
    type Rejection = (http::StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Self::Rejection> {
        parts.extensions.get().cloned().ok_or((
            http::StatusCode::INTERNAL_SERVER_ERROR,
            "there is no context: AuditLayer is not among this route's layers",
        ))
    }
}
