//! One request: who asks, for what, and how they see the database.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use afterimage::{Afterimage, Context, LogQuery, Moment, TableName, TrackedTable};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;

use crate::access::{Act, Visitor};
use crate::address::Links;
use crate::failure::Failure;
use crate::filter::{Parameters, Sought};
use crate::views::Views;

/// What a handler gives.
pub(crate) type Future = Pin<Box<dyn std::future::Future<Output = Result<Response, Failure>> + Send>>;

/// One request.
pub(crate) struct Asked {
    /// The database as whoever asks may see it.
    pub(crate) audit: Afterimage,
    /// The database as it is, for what is written back.
    whole: Afterimage,
    pub(crate) visitor: Visitor,
    /// The views that are kept, where they are.
    pub(crate) views: Option<Arc<dyn Views>>,
    /// The key by which links for others are signed, where they are.
    pub(crate) link_key: Option<Arc<[u8]>>,
    pub(crate) links: Links,
    /// The parameters of the address.
    pub(crate) parameters: Parameters,
    /// What a form sent, or a JSON document.
    pub(crate) body: Vec<u8>,
    pub(crate) zone: String,
    pub(crate) now: Moment,
    /// The path below wherever the router is nested, with its parameters.
    pub(crate) path: String,
    /// The number by which the logs know this request.
    pub(crate) id: String,
    /// The values that are looked for.
    pub(crate) sought: Sought,
    in_path: HashMap<String, String>,
    table: Option<TrackedTable>,
    /// What the request says it has already, where it only reads.
    pub(crate) if_none_match: Option<String>,
}

impl Asked {
    #[allow(clippy::too_many_arguments, reason = "each is one thing that a request has")]
    pub(crate) fn new(
        whole: &Afterimage,
        visitor: Visitor,
        views: Option<Arc<dyn Views>>,
        link_key: Option<Arc<[u8]>>,
        base: String,
        head: &Parts,
        in_path: HashMap<String, String>,
        body: Vec<u8>,
        id: String,
        zone: &str,
    ) -> Result<Self, Failure> {
        let query = head.uri.query().unwrap_or_default();
        let parameters = Parameters::read(query);
        let usual = zone;
        let zone = parameters.first("tz").unwrap_or(usual).to_owned();
        if !Moment::is_zone(&zone) {
            return Err(Failure::wrong(format!("{zone:?} is not a time zone, such as Europe/Berlin or UTC")));
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let header = |name: &str| head.headers.get(name)?.to_str().ok().map(ToOwned::to_owned);
        Ok(Self {
            audit: whole.seen_through(visitor.sight(Act::View)),
            whole: whole.clone(),
            links: Links::new(base, &zone, usual),
            if_none_match: header("if-none-match").filter(|_| head.method != Method::POST),
            table: None,
            sought: Sought::default(),
            now: Moment::now(),
            visitor,
            views,
            link_key,
            parameters,
            body,
            zone,
            path,
            id,
            in_path,
        })
    }

    /// The address of a page with these parameters, with the zone kept.
    pub(crate) fn address(&self, path: &str, parameters: &Parameters) -> String {
        self.links.to(&parameters.without(&["tz"]).on(path))
    }

    /// A parameter of the path.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.in_path.get(name).map_or("", String::as_str)
    }

    /// Finds the table that the path names, once: whatever is asked afterwards is asked of that very table.
    pub(crate) async fn find_table(&mut self) -> Result<TrackedTable, Failure> {
        let table = self.audit.tracked_table(self.part("table")).await?;
        self.table = Some(table.clone());
        Ok(table)
    }

    /// The table in the path, as this connection would name it; one that they may not view is not there.
    pub(crate) fn table(&self) -> Result<&TrackedTable, Failure> {
        self.table.as_ref().ok_or_else(|| Failure::missing("There is no such table."))
    }

    /// The table and the key in the path.
    pub(crate) fn row(&self) -> Result<(String, String), Failure> {
        Ok((self.table()?.table.to_string(), self.part("key").to_owned()))
    }

    /// Whether they may do this with this table.
    pub(crate) fn may(&self, act: Act, table: &TableName) -> bool {
        self.visitor.may(act, table)
    }

    /// The database as it is for this act: tables with which they may not do it are not there.
    pub(crate) fn audit_for(&self, act: Act) -> Afterimage {
        self.whole.seen_through(self.visitor.sight(act))
    }

    /// The tables that a transaction touched, whether or not they may be viewed.
    pub(crate) async fn tables_of_transaction(&self, id: &str) -> Result<Vec<TableName>, Failure> {
        let mut query = LogQuery::default();
        query.query.transactions.wanted.push(id.to_owned());
        let counts = self.whole.log_summary(&query).await?.counts;
        let mut tables: Vec<TableName> = counts.into_iter().map(|count| count.table).collect();
        tables.sort();
        tables.dedup();
        Ok(tables)
    }

    /// A moment that has all that is recorded by now: the records' clock may be ahead of this one.
    pub(crate) async fn present(&self) -> Result<Moment, Failure> {
        let newest = self.audit.log(&LogQuery::default().limit(1)).await?.entries;
        Ok(newest.first().map_or(self.now, |newest| newest.header.date.max(self.now)))
    }

    /// Who writes something back, and why.
    pub(crate) fn context(&self, reason: &str) -> Context {
        let context = self.visitor.context().clone().with("source", "web");
        let context = context.within(&Context::new().correlation_id(&self.id));
        if reason.is_empty() { context } else { context.reason(reason) }
    }

    /// A time for people, to the second, with its day.
    pub(crate) fn time(&self, moment: Moment) -> String {
        moment.formatted(&self.zone, "%a %-d %b %Y %H:%M:%S")
    }

    /// The time of day, to the second.
    pub(crate) fn clock(&self, moment: Moment) -> String {
        moment.formatted(&self.zone, "%H:%M:%S")
    }
}
