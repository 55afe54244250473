//! Links for somebody who is no user: to one page, to look at only, for a while. They are signed, and kept nowhere.

use std::sync::Arc;

use afterimage::{Context, Moment, TableName};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::access::{Act, Authorizer, Refusal, Rights, Visitor};
use crate::filter::Parameters;

/// What the paths of linked pages begin with.
pub(crate) const PREFIX: &str = "/s/";

/// So far a page may be turned over, beside what was linked.
const TURNED: [&str; 6] = ["before", "after", "skip", "show", "unchanged", "at"];

/// What a link says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Linked {
    /// The address, below wherever the router is nested.
    address: String,
    /// Until when, in seconds since 1970.
    until: i64,
    /// Who made it: it shows what they may see, as long as they may.
    by: String,
}

/// A link's token: what it says, and the signature.
pub(crate) fn token(key: &[u8], address: &str, until: Moment, by: &str) -> String {
    let until = until.as_micros() / 1_000_000;
    let linked = Linked { address: address.to_owned(), until, by: by.to_owned() };
    let said = serde_json::to_vec(&linked).unwrap_or_default();
    let signed = signature(key, &said).map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(said), URL_SAFE_NO_PAD.encode(signed))
}

fn signature(key: &[u8], said: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(said);
    Some(mac)
}

/// What a token says, where its signature is right.
fn read(key: &[u8], token: &str) -> Option<Linked> {
    let (said, signed) = token.split_once('.')?;
    let said = URL_SAFE_NO_PAD.decode(said).ok()?;
    let signed = URL_SAFE_NO_PAD.decode(signed).ok()?;
    // In constant time.
    signature(key, &said)?.verify_slice(&signed).ok()?;
    serde_json::from_slice(&said).ok()
}

impl Linked {
    /// Whether a request is for what is linked: the page itself, turned over; of a record, whatever there is of it to look at.
    fn covers(&self, path: &str, query: &str) -> bool {
        let (own, parameters) = self.address.split_once('?').unwrap_or((self.address.as_str(), ""));
        let is_record = own.starts_with("/r/") && own.split('/').count() == 4;
        if is_record && path.strip_prefix(own).is_some_and(|rest| rest.starts_with('/')) {
            return true;
        }
        let (asked, linked) = (Parameters::read(query), Parameters::read(parameters));
        let same = |parameters: &Parameters| parameters.without(&TURNED).pairs().cloned().collect::<Vec<_>>();
        // A filter that was left out, or added, is another view.
        path == own && (is_record || same(&asked) == same(&linked) && keeps_time(&asked, &linked))
    }
}

/// A time that is part of what was linked stays it.
fn keeps_time(asked: &Parameters, linked: &Parameters) -> bool {
    linked.first("at") == asked.first("at")
}

/// Lets in whoever has a link.
pub(crate) struct ByLink {
    pub(crate) key: Arc<[u8]>,
    pub(crate) host: Arc<dyn Authorizer>,
}

#[async_trait::async_trait]
impl Authorizer for ByLink {
    async fn visitor(&self, request: &Parts) -> Result<Visitor, Refusal> {
        let base = crate::web::base(request);
        let token = base.rsplit('/').next().unwrap_or_default();
        let linked = read(&self.key, token).ok_or(Refusal::Forbidden)?;
        if linked.until < Moment::now().as_micros() / 1_000_000 {
            return Err(Refusal::Expired);
        }
        let reads = request.method == axum::http::Method::GET || request.method == axum::http::Method::HEAD;
        if !reads || !linked.covers(request.uri.path(), request.uri.query().unwrap_or_default()) {
            return Err(Refusal::Forbidden);
        }
        let maker = self.host.named(&linked.by).await.ok_or(Refusal::Expired)?;
        let context = Context::new().label(format!("a link of {}", linked.by));
        Ok(Visitor::new(context, Looking(maker)))
    }
}

/// What somebody may see, and nothing else that they may do.
struct Looking(Visitor);

impl Rights for Looking {
    fn may(&self, act: Act, table: &TableName) -> bool {
        act == Act::View && self.0.may(act, table)
    }

    fn sees(&self, table: &TableName, column: &str) -> bool {
        self.0.sees(table, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(address: &str) -> Linked {
        Linked { address: address.to_owned(), until: 0, by: "ann".to_owned() }
    }

    #[test]
    fn a_token_is_what_was_signed_and_nothing_else() {
        let key = b"0123456789abcdef0123456789abcdef";
        let token = token(key, "/r/orders/17", Moment::from_micros(7_000_000), "ann");
        let read_back = read(key, &token).unwrap();
        assert_eq!(
            (read_back.address.as_str(), read_back.until, read_back.by.as_str()),
            ("/r/orders/17", 7, "ann")
        );
        assert_eq!(read(b"another key, another key, another", &token), None);
        let (said, signed) = token.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"address":"/","until":9999999999,"by":"ann"}"#);
        assert_eq!(read(key, &format!("{forged}.{signed}")), None);
        for broken in [said, "", ".", &format!("{said}."), &format!("{said}.{}", &signed[1..])] {
            assert_eq!(read(key, broken), None, "{broken}");
        }
    }

    #[test]
    fn a_link_covers_its_page_and_of_a_record_all_of_it() {
        let record = linked("/r/orders/17");
        assert!(record.covers("/r/orders/17", "field=total") && record.covers("/r/orders/17/v/3", ""));
        for other in ["/r/orders/170", "/r/orders", "/r/orders/18", "/", "/export.csv", "/api/log"] {
            assert!(!record.covers(other, ""), "{other}");
        }
        let view = linked("/?range=all&table=orders");
        assert!(
            view.covers("/", "range=all&table=orders")
                && view.covers("/", "range=all&table=orders&before=5.5")
        );
        for other in ["", "range=all", "range=all&table=orders&table=customer", "range=all&table=customer"] {
            assert!(!view.covers("/", other), "{other}");
        }
        let state = linked("/asof/orders?at=2026-11-01");
        assert!(!state.covers("/asof/orders", "at=2026-11-01&tz=Pacific/Kiritimati"));
        let now = linked("/api/tables/orders/as-of");
        assert!(!now.covers("/api/tables/orders/as-of", "at=2020-01-01"));
        assert!(state.covers("/asof/orders", "at=2026-11-01&after=17"));
        assert!(
            !state.covers("/asof/orders", "at=now") && !state.covers("/asof/orders/csv", "at=2026-11-01")
        );
    }
}
