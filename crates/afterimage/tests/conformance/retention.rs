//! Cleaning up.

use afterimage::{Context, Dedupe, Moment, PointInTime, Prune, Retention, Storage, Track, Tracking};

use super::capture::docs;
use crate::support::*;

fn keeper() -> Context {
    Context::actor("keeper")
}

fn day(day: i64) -> Moment {
    // 2000-01-01 is the day 0.
    Moment::from_micros((10_957 + day) * 86_400_000_000)
}

async fn prune(db: &TestDb, until: Moment, dry_run: bool) -> u64 {
    let request = Prune::new().tables(["doc"]).keep(Retention::until(until)).dry_run(dry_run);
    db.audit.prune(&request, &keeper()).await.unwrap()[0].records
}

async fn dedupe(db: &TestDb, request: Dedupe) -> u64 {
    let would = db.audit.dedupe(&request.clone().dry_run(true), &keeper()).await.unwrap()[0].records;
    let done = db.audit.dedupe(&request, &keeper()).await.unwrap()[0].records;
    assert_eq!(would, done);
    done
}

/// A document that was written on each of these days.
async fn dated(db: &mut TestDb, tracking: Tracking, days: &[i64]) {
    db.run("CREATE TABLE doc (id INTEGER PRIMARY KEY, rank INTEGER, title TEXT)").await;
    db.audit.allow_explicit_time(true).await.unwrap();
    let begin = Track::new("doc", tracking).context(Context::new().at(day(-100)));
    db.audit.track_with(begin, &mut |_| {}).await.unwrap();
    for (n, at) in days.iter().enumerate() {
        let mut tx = db.audit.begin(&Context::actor("ann").at(day(*at))).await.unwrap();
        let sql = match n {
            0 => "INSERT INTO doc VALUES (1, 0, 'a')".to_owned(),
            n => format!("UPDATE doc SET rank = {n}"),
        };
        tx.execute(&sql, &[]).await.unwrap();
        tx.commit().await.unwrap();
    }
}

conformance! {
    "16" "duplicates go, and old records: but what is ignored and stands in the newest record, and what was current at the cut, stay" superseded by "laws 7 and 9" => case_16(db, tracking) {
        docs(db, tracking.record_unchanged(true)).await;
        for sql in ["INSERT INTO doc VALUES (1, 1, 'a')", "UPDATE doc SET rank = 1", "UPDATE doc SET rank = 2"] {
            db.tick().await;
            db.run(sql).await;
        }
        assert_eq!(dedupe(db, Dedupe::new()).await, 1);
        assert_eq!(db.signs("doc", "1").await, "+~");
        for title in ["b", "c"] {
            db.tick().await;
            db.run(&format!("UPDATE doc SET note = '{title}'")).await;
        }
        // The row has the newest title, and its newest record says so.
        assert_eq!(dedupe(db, Dedupe::new().ignore(["note"])).await, 1);
        assert_eq!(db.signs("doc", "1").await, "+~~");
        let cut = db.moment().await;
        let PointInTime::At(moment) = cut else { unreachable!() };
        db.run("UPDATE doc SET rank = 3").await;
        assert_eq!((prune(db, moment, true).await, db.signs("doc", "1").await.as_str()), (2, "+~~~"));
        assert_eq!((prune(db, moment, false).await, db.signs("doc", "1").await.as_str()), (2, "~~"));
        // Populating again writes nothing, and a name that is none refuses.
        assert_eq!(db.audit.baseline("doc", &keeper()).await.unwrap(), 0);
        assert!(db.audit.baseline("dco", &keeper()).await.is_err());
    }

    "25" "flushing before a day removes what is older; reads are no changes, and `serve --access-log` keeps them" superseded by "law 9" => case_25(db, tracking) {
        dated(db, tracking, &[-2, -1, 1]).await;
        let before = db.as_of("doc", PointInTime::At(day(0))).await;
        assert_eq!(prune(db, day(0), false).await, 1);
        assert_eq!(db.signs("doc", "1").await, "~~");
        assert_eq!(db.as_of("doc", PointInTime::At(day(0))).await, before);
        assert_eq!(prune(db, day(0), false).await, 0);
    }

    "T13" "creations, deletions, reasons and other actors stay, also where nothing changed; duplicates of deleted rows go" => trap_13(db, tracking) {
        docs(db, tracking.record_unchanged(true)).await;
        for sql in ["INSERT INTO doc VALUES (1, 1, 'a')", "DELETE FROM doc", "INSERT INTO doc VALUES (1, 1, 'a')"] {
            db.tick().await;
            db.run(sql).await;
        }
        db.run_as("ann", "looked at it", "UPDATE doc SET rank = 1").await;
        assert_eq!(dedupe(db, Dedupe::new()).await, 0);
        for sql in ["INSERT INTO doc VALUES (2, 1, 'a')", "UPDATE doc SET rank = 1 WHERE id = 2", "DELETE FROM doc WHERE id = 2"] {
            db.tick().await;
            db.run(sql).await;
        }
        assert_eq!(dedupe(db, Dedupe::new()).await, 1);
        assert_eq!((db.signs("doc", "1").await.as_str(), db.signs("doc", "2").await.as_str()), ("+-+~", "+-"));
    }

    "T14" "a row that never changed keeps its only record, however old" => trap_14(db, tracking) {
        dated(db, tracking, &[-90]).await;
        assert_eq!(prune(db, day(5_000), false).await, 0);
        assert_eq!(db.signs("doc", "1").await, "+");
        let version = db.versions("doc", "1").await.remove(0);
        assert_eq!(db.as_of("doc", at(&version)).await.len(), 1);
    }
}
