//! Old records as Parquet files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use crate::archived::{address, files, manifest, read, says_what_the_log_says};
use crate::retention::{aged, keeper};
use crate::support::*;
use afterimage::{Afterimage, Archive, ErrorKind, Moment, Prune, Redact, Retention, Tracking, Value};

/// Gives how many were compared.
async fn say_what_the_log_says(db: &TestDb, folder: &Path) -> usize {
    says_what_the_log_says(&db.audit, folder).await.unwrap()
}

on_every_database! {
    async fn what_is_archived_is_what_the_log_says(db: &mut TestDb) {
        for storage in STORAGES {
            let folder = tempfile::tempdir().unwrap();
            aged(db, Tracking::new().storage(storage).mask(["note"])).await;
            db.run("UPDATE item SET note = 'secret' WHERE id = 1; UPDATE item SET id = 7 WHERE id = 1; UPDATE item SET n = 9 WHERE id = 7").await;
            db.run("INSERT INTO item VALUES (1, 5, NULL); DELETE FROM item WHERE id = 7; UPDATE item SET n = 6").await;
            let archive = Archive::new(address(folder.path()), Retention::days(250)).copy(true).tables(["item"]);
            let done = db.audit.archive(&archive, &keeper()).await.unwrap().remove(0);
            assert_eq!((done.records, done.files), (3, 2));
            assert_eq!(say_what_the_log_says(db, folder.path()).await, 3);
            // What pruning by the same rule would remove.
            let would = Prune::new().tables(["item"]).keep(Retention::days(250)).dry_run(true);
            assert_eq!(db.audit.prune(&would, &keeper()).await.unwrap()[0].records, 3);
            // Each says until when it was current.
            for (_, archived) in read(folder.path()).into_values() {
                assert!(archived.until.0 > archived.record.header.date && archived.until.0 <= done.cut);
            }
            let (faults, sound) = Afterimage::verify_archive(&address(folder.path())).await.unwrap();
            assert_eq!((faults, sound), (vec![], 3));
            // All of it, key changes and deletions too, beside what another run wrote.
            let all = tempfile::tempdir().unwrap();
            let now = db.moment().await;
            let afterimage::PointInTime::At(cut) = now else { unreachable!() };
            let archive = Archive::new(address(all.path()), Retention::until(cut)).copy(true).tables(["item"]);
            let done = db.audit.archive(&archive, &keeper()).await.unwrap().remove(0);
            assert!(say_what_the_log_says(db, all.path()).await + 1 == done.records as usize, "a departure is not told");
            db.audit.untrack("item", true).await.unwrap();
            db.run("DROP TABLE item").await;
        }
    }
}

on_every_database! {
    async fn what_is_redacted_or_masked_is_in_no_archive(db: &mut TestDb) {
        let folder = tempfile::tempdir().unwrap();
        db.run("CREATE TABLE item (id INTEGER PRIMARY KEY, mail VARCHAR(40), pin VARCHAR(40)); INSERT INTO item VALUES (1, 'ann@example.org', '1234')").await;
        db.track("item", Tracking::new().mask(["pin"])).await;
        db.run("UPDATE item SET mail = 'bob@example.org', pin = '5678'; UPDATE item SET mail = ''; UPDATE item SET pin = '9999'").await;
        db.audit.redact(&Redact::new("item", "1").fields(["mail"]), &keeper()).await.unwrap();
        let afterimage::PointInTime::At(cut) = db.moment().await else { unreachable!() };
        let archive = Archive::new(address(folder.path()), Retention::until(cut)).copy(true);
        let done = db.audit.archive(&archive, &keeper()).await.unwrap().remove(0);
        assert_eq!(done.records, 3);
        assert_eq!(say_what_the_log_says(db, folder.path()).await, 3);
        let (_, first) = read(folder.path()).into_values().next().unwrap();
        assert_eq!(first.record.values[1..], [Value::Redacted, Value::Masked]);
        for file in files(folder.path()) {
            let bytes = std::fs::read(file).unwrap();
            for secret in ["example.org", "1234", "5678"] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
            }
        }
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_an_archive_is_found() {
    let mut db = TestDb::sqlite().await;
    aged(&mut db, Tracking::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let url = address(folder.path());
    let archive = Archive::new(&url, Retention::days(250));
    db.audit.archive(&archive, &keeper()).await.unwrap();
    let found = async || Afterimage::verify_archive(&url).await.unwrap();
    assert_eq!(found().await, (vec![], 3));
    let some = files(folder.path());
    // A byte that is another.
    let sound = std::fs::read(&some[0]).unwrap();
    let mut changed = sound.clone();
    changed[sound.len() / 2] ^= 1;
    std::fs::write(&some[0], &changed).unwrap();
    let (faults, _) = found().await;
    assert!(faults.len() == 1 && faults[0].fault.contains("not what was written"), "{faults:?}");
    // A file that is gone, and one that nobody wrote.
    std::fs::rename(&some[0], some[0].with_file_name("stray.parquet")).unwrap();
    let (faults, _) = found().await;
    assert!(faults.iter().any(|fault| fault.fault == "it is missing"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.fault.starts_with("no manifest names it")), "{faults:?}");
    std::fs::remove_file(some[0].with_file_name("stray.parquet")).unwrap();
    std::fs::write(&some[0], &sound).unwrap();
    assert_eq!(found().await, (vec![], 3));
    // A manifest that is none.
    let manifests = folder.path().join("item/_manifests");
    let manifest = manifest(&manifests);
    std::fs::write(manifest, "{").unwrap();
    let (faults, _) = found().await;
    assert!(faults[0].fault.contains("cannot be read"), "{faults:?}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_before_anything_is_read() {
    let mut db = TestDb::sqlite().await;
    aged(&mut db, Tracking::new()).await;
    for (url, why) in [
        ("somewhere", "write file:///folder or s3://bucket/folder"),
        ("ftp://host/folder", "write file:///folder or s3://bucket/folder"),
        ("s3://key:secret@bucket/folder", "keys belong in the environment"),
        ("s3://bucket/folder?secret=1", "keys belong in the environment"),
    ] {
        let refused = db.audit.archive(&Archive::new(url, Retention::days(1)), &keeper()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{url}: {refused}");
        let said = refused.to_string();
        assert!(said.contains(why) && !said.contains("secret@"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Archive::new("file:///proc/nowhere", Retention::days(250));
    assert_eq!(db.audit.archive(&nowhere, &keeper()).await.unwrap_err().kind(), ErrorKind::Connection);
    let nothing = Afterimage::verify_archive(&address(&folder.path().join("nowhere"))).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
    assert!(!folder.path().join("nowhere").exists());
    let refused = Archive::new(address(folder.path()), Retention::versions(3)).copy(true);
    assert!(message(db.audit.archive(&refused, &keeper()).await).contains("from when on"));
    let nothing = Archive::new(address(folder.path()), Retention::days(1000)).copy(true);
    let done = db.audit.archive(&nothing, &keeper()).await.unwrap().remove(0);
    assert_eq!((done.records, done.files), (0, 0));
    assert!(done.cut < Moment::now() && files(folder.path()).is_empty());
}

/// A mask of several words, of which any may say nothing.
#[tokio::test]
async fn wide_tables_are_archived_too() {
    for storage in STORAGES {
        let mut db = TestDb::sqlite().await;
        let folder = tempfile::tempdir().unwrap();
        let columns: Vec<String> = (0..150).map(|n| format!("c{n} INTEGER")).collect();
        db.run(&format!(
            "CREATE TABLE item (id INTEGER PRIMARY KEY, {}); INSERT INTO item (id) VALUES (1)",
            columns.join(", ")
        ))
        .await;
        db.track("item", Tracking::new().storage(storage)).await;
        for n in [0, 70, 140, 1, 140, 0] {
            db.run(&format!("UPDATE item SET c{n} = coalesce(c{n}, 0) + 1")).await;
        }
        let afterimage::PointInTime::At(cut) = db.moment().await else { unreachable!() };
        let archive = Archive::new(address(folder.path()), Retention::until(cut)).copy(true);
        assert_eq!(db.audit.archive(&archive, &keeper()).await.unwrap()[0].records, 6);
        assert_eq!(say_what_the_log_says(&db, folder.path()).await, 6);
    }
}

/// Names that no path takes as they are, and columns that look like parts of a header or like JSON.
#[tokio::test]
async fn odd_names_are_found_again() {
    let mut db = TestDb::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    db.run("CREATE TABLE \"odd/na me %ä#{}\" (\"k.1\" TEXT PRIMARY KEY, \"before\" ANY, \"a\"\"b\" INTEGER)")
        .await;
    db.track("odd/na me %ä#{}", Tracking::new()).await;
    db.run("INSERT INTO \"odd/na me %ä#{}\" VALUES ('x', 1, 2); UPDATE \"odd/na me %ä#{}\" SET \"before\" = 'one'; UPDATE \"odd/na me %ä#{}\" SET \"before\" = x'00', \"a\"\"b\" = 'two'; UPDATE \"odd/na me %ä#{}\" SET \"a\"\"b\" = NULL").await;
    let afterimage::PointInTime::At(cut) = db.moment().await else { unreachable!() };
    let archive = Archive::new(address(folder.path()), Retention::until(cut)).copy(true);
    assert_eq!(db.audit.archive(&archive, &keeper()).await.unwrap()[0].records, 3);
    assert_eq!(say_what_the_log_says(&db, folder.path()).await, 3);
    assert_eq!(Afterimage::verify_archive(&address(folder.path())).await.unwrap(), (vec![], 3));
}

/// SQLite hands records over as JSON, which has fifteen digits for a number, no bytes, and no text that is no UTF-8.
#[tokio::test]
async fn whatever_a_column_of_sqlites_holds_is_archived_as_it_is() {
    let mut db = TestDb::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    // More of them than one of its functions takes values.
    let more: Vec<String> = (0..120).map(|n| format!("c{n} TEXT")).collect();
    db.run(&format!(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, i INTEGER, t TEXT, r REAL, n NUMERIC, a, {})",
        more.join(", ")
    ))
    .await;
    db.track("item", Tracking::new()).await;
    let mut values: Vec<String> = [
        "NULL",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "0.0",
        "0.1",
        "-1.5",
        "1e999",
        "-1e999",
        "4.9406564584124654e-324",
        "2.2250738585072014e-308",
        "1.7976931348623157e308",
        "9007199254740993.0",
        "x''",
        "x'00ff'",
        "''",
        "'[]'",
        "'a\"b\\c/'",
        "char(0, 1, 9, 10, 13, 31, 127, 8232)",
        "'é漢' || char(128512)",
        "CAST(x'ff' AS TEXT)",
        "CAST(x'61c3' AS TEXT)",
        // Characters that a text with such bytes in it might be taken for.
        "char(1113855, 1114111) || CAST(x'c3' AS TEXT) || char(1113856)",
        "char(1113855, 1114111)",
    ]
    .map(str::to_owned)
    .into();
    // Every power of two that there is, with whatever digits follow.
    values.extend((0..2048_u64).step_by(37).enumerate().map(|(n, exponent)| {
        let digits = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 12;
        format!("{:e}", f64::from_bits((exponent << 52) | digits)).replace("NaN", "NULL")
    }));
    for (n, value) in values.iter().enumerate() {
        db.run(&format!("INSERT INTO item (id, i, t, r, n, a, c7, c119) VALUES ({n}, {value}, {value}, {value}, {value}, {value}, {value}, {value}); UPDATE item SET c0 = 'more' WHERE id = {n}")).await;
    }
    db.run(
        "UPDATE item SET i = 0.0 * -1, t = 0.0 * -1, r = 0.0 * -1, n = 0.0 * -1, a = 0.0 * -1 WHERE id = 0",
    )
    .await;
    db.run("UPDATE item SET c1 = 'more'; UPDATE item SET id = id + 1000").await;
    // Bytes as an actor, which SQLite's JSON takes for JSON; a time between two microseconds.
    db.audit.allow_explicit_time(true).await.unwrap();
    db.tick().await;
    let now = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000 - 0.5";
    db.run(&format!("BEGIN; INSERT INTO afterimage_context (actor, reason, at) VALUES (CAST('Wolfie' AS BLOB), x'ff00', {now}); UPDATE item SET c2 = 'more'; DELETE FROM afterimage_context; COMMIT")).await;
    db.run("UPDATE item SET c3 = 'more'").await;
    let afterimage::PointInTime::At(cut) = db.moment().await else { unreachable!() };
    let archive = Archive::new(address(folder.path()), Retention::until(cut)).copy(true);
    let done = db.audit.archive(&archive, &keeper()).await.unwrap().remove(0);
    assert!(done.records as usize > values.len() * 3);
    let kept = read(folder.path());
    assert!(say_what_the_log_says(&db, folder.path()).await > values.len() * 3);
    let holds = |value: &Value| kept.values().any(|(_, archived)| archived.record.values.contains(value));
    for sign in ["-0.0", "Infinity", "-Infinity"] {
        assert!(holds(&Value::Number(sign.to_owned())) || holds(&Value::Text(sign.to_owned())), "{sign}");
    }
}
