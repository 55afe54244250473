//! A proxy before the service: whom it says a request comes from, and whether it is to be believed.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
pub use ipnet::IpNet;

use crate::access::Role;

/// What proxies write down of whoever they speak for, each at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies before the service, and what is believed of them. Nobody is believed unless it is said here.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    trusted: Vec<IpNet>,
    user: Option<HeaderName>,
    role: Option<Role>,
}

impl Proxy {
    /// Proxies at these addresses are believed when they say whom they speak for (`X-Forwarded-For`).
    pub fn at(trusted: impl IntoIterator<Item = IpNet>) -> Self {
        Self { trusted: trusted.into_iter().collect(), ..Self::default() }
    }

    /// They are believed, too, when they name a user in this header. They must remove it from what comes from elsewhere.
    #[must_use]
    pub fn user_header(mut self, name: HeaderName) -> Self {
        self.user = Some(name);
        self
    }

    /// What somebody may whom they name and the file of users does not; without this, nothing.
    #[must_use]
    pub fn role_of_others(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    pub(super) fn others(&self) -> Option<Role> {
        self.role
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// The user whom a proxy names.
    pub(super) fn user<'h>(&self, head: &'h Parts) -> Option<&'h str> {
        let value = head.headers.get(self.user.as_ref()?)?;
        if !peer(head).is_some_and(|peer| self.trusts(peer)) {
            tracing::warn!(
                target: "afterimage::access", path = head.uri.path(),
                "a user was named by somebody who is no trusted proxy; it was not believed"
            );
            return None;
        }
        value.to_str().ok().map(str::trim).filter(|name| !name.is_empty() && name.len() <= 200)
    }

    /// Where a request comes from: the last address that no trusted proxy has. `None`, where that is this machine itself, which
    /// may speak for anybody.
    pub(super) fn client(&self, head: &Parts) -> Option<IpAddr> {
        let mut client = peer(head)?;
        for named in forwarded(&head.headers).into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            let Some(named) = named else { break };
            client = named;
        }
        let client = client.to_canonical();
        (!client.is_loopback()).then_some(client)
    }
}

fn peer(head: &Parts) -> Option<IpAddr> {
    head.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical())
}

/// The addresses that proxies wrote down, in their order; `None` where something else stands.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED_FOR).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or("?").split(',').map(str::trim).collect::<Vec<_>>())
        .map(|text| {
            let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
            text.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn head(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1234)));
        head
    }

    fn proxy() -> Proxy {
        Proxy::at(["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()])
            .user_header(HeaderName::from_static("x-user"))
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_comes_from() {
        let client = |peer, forwarded: &[(&str, &str)]| {
            proxy().client(&head(peer, forwarded)).map(|ip| ip.to_string()).unwrap_or_default()
        };
        assert_eq!(client("192.0.2.1", &[("x-forwarded-for", "203.0.113.9")]), "192.0.2.1");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "203.0.113.9")]), "203.0.113.9");
        // What a client made up stands before what the proxies wrote.
        let chain = [("x-forwarded-for", "198.51.100.1, 203.0.113.9:4711"), ("x-forwarded-for", "10.2.2.2")];
        assert_eq!(client("127.0.0.1", &chain), "203.0.113.9");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "unknown")]), "10.1.1.1");
        assert_eq!(client("127.0.0.1", &[]), "");
        assert_eq!(Proxy::default().client(&head("::1", &[])), None);
    }

    #[test]
    fn only_a_trusted_proxy_names_a_user() {
        let named = [("x-user", " ann ")];
        assert_eq!(proxy().user(&head("10.1.1.1", &named)), Some("ann"));
        assert_eq!(proxy().user(&head("192.0.2.1", &named)), None);
        assert_eq!(Proxy::default().user(&head("127.0.0.1", &named)), None);
        assert_eq!(proxy().user(&head("10.1.1.1", &[("x-user", "")])), None);
    }
}
