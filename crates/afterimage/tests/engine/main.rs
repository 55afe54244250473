//! Everything that is tested by examples, on every database: one program, since each would carry the whole engine.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod archive;
#[path = "../support/archived.rs"]
mod archived;
mod capture;
mod catalogue;
mod concurrency;
mod context;
mod costs;
mod cut;
mod dedupe;
mod events;
mod follow;
mod gaps;
mod log;
mod mariadb_baseline;
mod mariadb_context;
mod mariadb_roads;
mod mariadb_types;
mod moved;
mod plans;
mod postgres_baseline;
mod postgres_partitions;
mod postgres_parts;
mod postgres_roads;
mod postgres_types;
mod postgres_writers;
mod questions;
mod readme;
mod recent;
mod redaction;
mod regressions;
mod related;
mod restore;
mod resync;
mod retention;
mod round_trips;
mod schema_changes;
mod sight;
mod sqlite_baseline;
mod sqlite_context;
mod sqlite_guards;
mod sqlite_old_client;
mod sqlite_replace;
mod sqlite_roads;
mod sqlite_turns;
mod starting;
mod stats;
mod tables;
mod views;
mod web;
