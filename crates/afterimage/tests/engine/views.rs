//! Views of the past: for clients that know nothing of us.

#![cfg(feature = "past")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::{PointInTime, Tracking, ViewsIn};

/// A table whose every column has something to tell, and one beside it, which changed since the moment that is given back.
async fn library(db: &mut TestDb, tracking: Tracking) -> PointInTime {
    db.run(
        "CREATE TABLE doc (id INTEGER PRIMARY KEY, title VARCHAR(50), card VARCHAR(20), cache VARCHAR(50))",
    )
    .await;
    db.run("CREATE TABLE loan (doc INTEGER NOT NULL, day INTEGER NOT NULL, who VARCHAR(20), PRIMARY KEY (doc, day))").await;
    db.run("INSERT INTO doc VALUES (1, 'one', '4111', 'c1'), (2, 'two', NULL, 'c2')").await;
    db.run("INSERT INTO loan VALUES (1, 1, 'ann'), (1, 2, 'bob'), (2, 1, 'ann')").await;
    db.track("doc", tracking.clone().mask(["card"]).exclude(["cache"])).await;
    db.track("loan", tracking).await;
    db.run("UPDATE loan SET who = 'eve' WHERE doc = 1 AND day = 2").await;
    let then = db.moment().await;
    db.run("UPDATE doc SET title = 'uno', cache = 'c1 of today' WHERE id = 1").await;
    db.run("DELETE FROM doc WHERE id = 2").await;
    db.run("UPDATE loan SET who = 'zoe', day = day + 10").await;
    db.alter("doc", "ALTER TABLE doc RENAME COLUMN title TO heading").await;
    db.alter("doc", "ALTER TABLE doc ADD COLUMN pages INTEGER NOT NULL DEFAULT 3").await;
    then
}

/// What any program may ask; it reads the tables by their names.
async fn asked(db: &mut TestDb) -> Vec<String> {
    let one = "SELECT concat_ws(' ', id, heading, coalesce(card, '-'), coalesce(cache, '-'), pages) FROM doc ORDER BY id";
    let two = "SELECT concat_ws(' ', d.heading, l.day, l.who) FROM doc AS d JOIN loan AS l ON l.doc = d.id WHERE d.id = 1 ORDER BY l.day";
    let sqlite = [
        "SELECT id || ' ' || heading || ' ' || coalesce(card, '-') || ' ' || coalesce(cache, '-') || ' ' || pages FROM doc ORDER BY id",
        "SELECT d.heading || ' ' || l.day || ' ' || l.who FROM doc AS d JOIN loan AS l ON l.doc = d.id WHERE d.id = 1 ORDER BY l.day",
    ];
    let mut lines = Vec::new();
    for sql in db.by3(sqlite, [one, two], [one, two]) {
        lines.extend(db.lines(sql).await);
    }
    lines
}

const THEN: [&str; 4] = ["1 one ••• c1 of today 3", "2 two - - 3", "one 1 ann", "one 2 eve"];

on_every_database! {
    async fn any_client_sees_the_tables_as_they_were(db: &mut TestDb) {
        for storage in STORAGES {
            let mut db = db.like().await;
            let then = library(&mut db, Tracking::new().storage(storage)).await;
            let today = asked(&mut db).await;
            assert_eq!(today[0], "1 uno 4111 c1 of today 3");
            let past = db.audit.at(then).await.unwrap();
            let name = match db.is_mariadb() {
                true => format!("{}_then", db.text("SELECT database()").await.unwrap()),
                false => "then \"so\"".to_owned(),
            };
            let places = db.by3(vec![ViewsIn::Session], vec![ViewsIn::Schema(&name), ViewsIn::Session], vec![ViewsIn::Schema(&name)]);
            for place in places {
                let named = past.views(&["doc"], place).await.unwrap();
                let all = past.views(&[], place).await.unwrap();
                assert!(named.len() < all.len() && all.starts_with(&named));
                for statement in &all {
                    db.run(statement).await;
                }
                if let ViewsIn::Schema(_) = place {
                    let back = if db.is_mariadb() { db.text("SELECT database()").await } else { None };
                    let use_it = db.by("", "SET search_path = \"then \"\"so\"\"\"");
                    db.run(&back.as_ref().map_or(use_it.to_owned(), |_| format!("USE {name}"))).await;
                    assert_eq!(asked(&mut db).await, THEN, "{storage:?} {place:?}");
                    refused(&mut db).await;
                    db.run(&back.map_or("SET search_path = public".to_owned(), |back| format!("USE {back}"))).await;
                    assert_eq!(asked(&mut db).await, today);
                } else {
                    assert_eq!(asked(&mut db).await, THEN, "{storage:?} {place:?}");
                    refused(&mut db).await;
                }
            }
            if db.is_mariadb() {
                db.run(&format!("DROP DATABASE {name}")).await;
            }
            db.verify().await;
        }
    }
}

/// Nothing is written through a view.
async fn refused(db: &mut TestDb) {
    for write in
        ["UPDATE doc SET heading = 'x'", "DELETE FROM loan", "INSERT INTO loan (doc, day) VALUES (9, 9)"]
    {
        db.try_run(write).await.unwrap_err();
    }
}

on_every_database! {
    async fn what_views_cannot_be_is_said(db: &mut TestDb) {
        let then = library(db, Tracking::new()).await;
        let past = db.audit.at(then).await.unwrap();
        let place = db.by3(ViewsIn::Session, ViewsIn::Session, ViewsIn::Schema("july"));
        let other = db.by3(ViewsIn::Schema("july"), ViewsIn::Schema("july"), ViewsIn::Session);
        let unknown = message(past.views(&["nothing"], place).await);
        assert!(unknown.contains("nothing"), "{unknown}");
        if !db.is_postgres() {
            let words = db.by3("SQLite has no schemas", "", "MariaDB has no temporary views");
            let refused = message(past.views(&[], other).await);
            assert!(refused.contains(words), "{refused}");
        }
        let of_now = db.audit.at(PointInTime::Now).await.unwrap();
        assert!(message(of_now.views(&[], place).await).contains("those of now are the tables"));
        let before = db.audit.at(PointInTime::parse("2001-01-01", "UTC").unwrap()).await.unwrap();
        assert!(message(before.views(&[], place).await).contains("it is tracked since"));
    }
}

/// Who may read the views needs no right on the tables, nor on their histories.
#[tokio::test]
async fn an_auditor_reads_views_alone() {
    let mut db = TestDb::postgres().await;
    let then = library(&mut db, Tracking::new()).await;
    let past = db.audit.at(then).await.unwrap();
    for statement in past.views(&[], ViewsIn::Schema("july")).await.unwrap() {
        db.run(&statement).await;
    }
    let auditor = format!("auditor_{}", db.text("SELECT current_database()").await.unwrap());
    db.run(&format!("CREATE ROLE \"{auditor}\"")).await;
    db.run(&format!("GRANT USAGE ON SCHEMA july TO \"{auditor}\"; GRANT SELECT ON ALL TABLES IN SCHEMA july TO \"{auditor}\"")).await;
    db.run(&format!("SET ROLE \"{auditor}\"; SET search_path = july")).await;
    assert_eq!(asked(&mut db).await, THEN);
    for forbidden in ["SELECT * FROM public.doc", "SELECT * FROM public.doc_history"] {
        assert!(db.try_run(forbidden).await.unwrap_err().contains("permission denied"));
    }
    db.run(&format!("RESET ROLE; DROP OWNED BY \"{auditor}\"; DROP ROLE \"{auditor}\"")).await;
}

/// Two tables of one name cannot both be views of it in one place.
#[tokio::test]
async fn of_two_tables_of_one_name_one_is_to_be_named() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE SCHEMA depot; CREATE TABLE depot.doc (id int PRIMARY KEY)").await;
    library(&mut db, Tracking::new()).await;
    db.track("depot.doc", Tracking::new()).await;
    let then = db.moment().await;
    let past = db.audit.at(then).await.unwrap();
    assert!(message(past.views(&[], ViewsIn::Session).await).contains("two tables \"doc\""));
    assert_eq!(past.views(&["depot.doc"], ViewsIn::Session).await.unwrap().len(), 1);
}
