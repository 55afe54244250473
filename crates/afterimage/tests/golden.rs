//! The generated SQL, as golden files and executed: for each case what `plan` prints is compared with its snapshot, run
//! by a client that knows nothing of the library, and then has to record the case's writes.
//!
//! A case is a folder of `golden`: `tracking.json` (the options), `writes.sql`, and `<database>/schema.sql`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use afterimage::Tracking;
use support::*;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.join("tracking.json").exists());
    cases.sort();
    assert!(cases.len() >= 6, "the cases are gone");
    cases
}

fn script(statements: &[String]) -> String {
    statements.iter().map(|statement| format!("{statement};\n")).collect()
}

fn compare(case: &Path, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(case);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

on_every_database! {
    async fn the_catalogue(db: &mut TestDb) {
        let dialect = afterimage_core::sql::dialect(db.audit.database());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        compare(&folder, db.by3("catalogue.sqlite", "catalogue.postgres", "catalogue.mariadb"), &script(&dialect.catalog()));
        db.run(&script(&dialect.catalog())).await;
        db.run(&script(&dialect.catalog())).await;
    }
}

on_every_database! {
    async fn what_plan_prints_is_golden_and_works(db: &mut TestDb) {
        let dialect = afterimage_core::sql::dialect(db.audit.database());
        for case in cases() {
            let mut db = db.like().await;
            let folder = case.join(db.by3("sqlite", "postgres", "mariadb"));
            let schema = read_to_string(folder.join("schema.sql")).unwrap();
            db.run(&schema).await;
            db.run(&script(&dialect.catalog())).await;
            let table = if schema.contains("Ord\"\"er") { "Ord\"er's; --" } else { "t" };
            let tracking: Tracking = serde_json::from_str(&read_to_string(case.join("tracking.json")).unwrap()).unwrap();
            let planned = db.audit.plan(table, &tracking).await.unwrap();
            compare(&folder, "install.sql", &script(&planned.plan.up));
            db.run(&format!("BEGIN; {} COMMIT", script(&planned.plan.up))).await;
            for statement in read_to_string(case.join("writes.sql")).unwrap().split(";\n") {
                db.run(statement).await;
            }
            db.verify().await;
            let status = db.audit.status().await.unwrap();
            assert!(status[0].records > 2, "{case:?}");
            assert!(status[0].is_healthy(), "{case:?}: {:?}", status[0].faults);
            db.run(&script(&planned.plan.down)).await;
            assert!(db.audit.status().await.unwrap().is_empty(), "{case:?}");
        }
    }
}
