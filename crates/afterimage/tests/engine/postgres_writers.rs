//! PostgreSQL: writers with few rights, odd settings or bad intentions (laws 2, 4 and 5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::*;
use afterimage::Tracking;

/// A role of this database's own: roles belong to the whole server.
async fn role(db: &mut TestDb, rights: &str) -> String {
    let name = format!("r_{}", db.text("current_database()").await.unwrap());
    db.run(&format!("CREATE ROLE {name} NOSUPERUSER {rights}; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON item TO {name}")).await;
    name
}

const ITEM: &str = "CREATE TABLE item (id int PRIMARY KEY, n int, x numeric, f float8, t text, b bytea, d timestamptz, v interval, j jsonb)";

#[tokio::test]
async fn a_writer_without_rights_on_the_history_is_recorded() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run(ITEM).await;
        db.track("item", Tracking::new().storage(storage)).await;
        let role = role(&mut db, "").await;
        let mut writer = db.another().await;
        run_on(&mut writer, &format!("SET ROLE {role}")).await.unwrap();
        run_on(
            &mut writer,
            "INSERT INTO item VALUES (1, 0), (2, 0); UPDATE item SET n = 1; DELETE FROM item WHERE id = 2",
        )
        .await
        .unwrap();
        run_on(&mut writer, "BEGIN; SELECT set_config('afterimage.context', '{\"actor\":\"ann\"}', true); UPDATE item SET n = 2; COMMIT; TRUNCATE item").await.unwrap();
        assert_eq!(db.signs("item", "1").await, "+~~-");
        assert_eq!(db.versions("item", "1").await[2].header.user.as_deref(), Some("ann"));
        for denied in [
            "SELECT * FROM item_history",
            "INSERT INTO item_history (history_date, history_tx, history_mask, history_type, id) VALUES (now(), 1, 1, '+', 9)",
            "DELETE FROM item_history",
            "UPDATE item_history SET history_user = 'me'",
            "TRUNCATE item_history",
            "DROP TABLE item_history",
            "ALTER TABLE item_history DISABLE TRIGGER ALL",
            "DROP TRIGGER \"!afterimage_insert\" ON item",
            "SELECT * FROM afterimage.tracked",
            "SELECT nextval('afterimage.history_id')",
            "CREATE OR REPLACE FUNCTION afterimage.capture_1_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "SELECT afterimage.capture_1_insert()",
        ] {
            assert!(run_on(&mut writer, denied).await.is_err(), "{denied}");
        }
        // An explicit time needs a right of its own, granted like any other.
        let explicit = "BEGIN; SELECT set_config('afterimage.context', '{\"at\":\"2020-01-01T00:00:00Z\"}', true); INSERT INTO item VALUES (5, 0); COMMIT";
        let refused = run_on(&mut writer, explicit).await.unwrap_err();
        assert!(refused.contains("an explicit time needs EXECUTE"), "{refused}");
        run_on(&mut writer, "ROLLBACK").await.unwrap();
        db.run(&format!("GRANT USAGE ON SCHEMA afterimage TO {role}; GRANT EXECUTE ON FUNCTION afterimage.explicit_time() TO {role}")).await;
        run_on(&mut writer, explicit).await.unwrap();
        assert_eq!(db.versions("item", "5").await[0].header.date.to_string(), "2020-01-01T00:00:00.000000Z");
        db.verify().await;
        db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
}

#[tokio::test]
async fn the_owner_too_can_only_add_records() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1)").await;
    db.track("item", Tracking::new()).await;
    for denied in [
        "DELETE FROM item_history",
        "DELETE FROM item_history WHERE false",
        "UPDATE item_history SET history_user = 'me'",
        "TRUNCATE item_history",
        "INSERT INTO item_history SELECT * FROM item_history ON CONFLICT (history_date, history_id) DO UPDATE SET history_user = 'me'",
        "MERGE INTO item_history AS h USING item AS i ON i.id = h.id WHEN MATCHED THEN DELETE",
    ] {
        let refused = db.try_run(denied).await.unwrap_err();
        assert!(refused.contains("afterimage"), "{denied}: {refused}");
    }
    db.verify().await;
}

#[tokio::test]
async fn hostile_names_on_the_search_path_change_nothing() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run("CREATE TABLE item (id int PRIMARY KEY, n int, x numeric(9, 2), f float8, t text COLLATE \"C\", c char(3), pair int4range, list numeric(5, 1)[])").await;
        db.run("CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
            .await;
        db.track("item", Tracking::new().storage(storage)).await;
        let role = role(&mut db, "").await;
        db.run(&format!("CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO {role}; GRANT CREATE, TEMPORARY ON DATABASE {} TO {role}", role.trim_start_matches("r_"))).await;
        for around in [
            "",
            "CREATE TRIGGER quiet AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION quiet()",
            "DROP TRIGGER quiet ON item; CREATE TABLE heir () INHERITS (item)",
        ] {
            db.run(around).await;
            db.audit.migrate(&[], &[]).await.unwrap();
            let mut writer = db.another().await;
            run_on(
                &mut writer,
                &format!("SET ROLE {role}; SET search_path = evil, pg_temp, public, pg_catalog"),
            )
            .await
            .unwrap();
            run_on(&mut writer, "DROP SCHEMA IF EXISTS pg_temp CASCADE;").await.ok();
            for sql in EVIL {
                run_on(&mut writer, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            run_on(&mut writer, "SET search_path = pg_temp, evil, public, pg_catalog").await.unwrap();
            for sql in [
                "INSERT INTO public.item VALUES (1, 1, 1, 1, 'a', 'c', '[1,2)', '{1,2}'), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
                "INSERT INTO public.item VALUES (3, 1, 1, 1, 'a', 'c', '[1,2)', '{1,2}')",
                "UPDATE public.item SET n = 5, x = 1.5, f = 2, t = 'b', c = 'd', pair = '[2,3)', list = '{1,3}'",
                "UPDATE public.item SET id = 4 WHERE id OPERATOR(pg_catalog.=) 3",
                "UPDATE public.item SET n = 6 WHERE id OPERATOR(pg_catalog.=) 4",
                "BEGIN; SELECT pg_catalog.set_config('afterimage.context', '{\"actor\":\"ann\",\"extra\":1}', true); UPDATE public.item SET n = 7; COMMIT",
                "DELETE FROM public.item WHERE id OPERATOR(pg_catalog.=) 4",
                "TRUNCATE public.item",
            ] {
                run_on(&mut writer, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            assert!(db.signs("item", "1").await.ends_with("+~~-"), "{around}");
            assert_eq!(
                db.text("SELECT count(*) FROM item_history WHERE history_user = 'mallory'").await.unwrap(),
                "0"
            );
            db.verify().await;
            run_on(&mut writer, "RESET search_path; DROP OWNED BY CURRENT_USER").await.ok();
            db.run(&format!("DROP SCHEMA evil CASCADE; CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON item TO {role}; GRANT CREATE, TEMPORARY ON DATABASE {} TO {role}", role.trim_start_matches("r_"))).await;
        }
        db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
}

/// Types, functions, operators and tables by the names that capture uses.
const EVIL: [&str; 16] = [
    "CREATE TYPE pg_temp.record AS (x int)",
    "CREATE TYPE pg_temp.timestamptz AS (x int)",
    "CREATE TYPE pg_temp.int8 AS (x int)",
    "CREATE TYPE pg_temp.text AS (x int)",
    "CREATE TYPE pg_temp.jsonb AS (x int)",
    "CREATE TYPE pg_temp.interval AS (x int)",
    "CREATE TABLE evil.item_history (id int)",
    "CREATE TEMP TABLE item (id int)",
    "CREATE TEMP TABLE old_rows (id int); CREATE TEMP TABLE new_rows (id int)",
    "CREATE FUNCTION evil.clock_timestamp() RETURNS pg_catalog.timestamptz LANGUAGE sql AS $$ SELECT '2000-01-01'::pg_catalog.timestamptz $$",
    "CREATE FUNCTION evil.now() RETURNS pg_catalog.timestamptz LANGUAGE sql AS $$ SELECT '2000-01-01'::pg_catalog.timestamptz $$",
    "CREATE FUNCTION evil.current_setting(pg_catalog.text, boolean) RETURNS pg_catalog.text LANGUAGE sql AS $$ SELECT '{\"actor\":\"mallory\"}'::pg_catalog.text $$",
    "CREATE FUNCTION evil.never(integer, integer) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; CREATE OPERATOR evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.never)",
    "CREATE FUNCTION evil.never(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; CREATE OPERATOR evil.= (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = evil.never)",
    "CREATE FUNCTION evil.zero(bigint, bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT 0::bigint $$; CREATE OPERATOR evil.| (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.zero)",
    "CREATE FUNCTION evil.row_number() RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$; CREATE FUNCTION evil.count(anyelement) RETURNS bigint LANGUAGE sql AS $$ SELECT 0::bigint $$",
];

/// What a value is recorded as does not depend on the writer's session, nor on the reader's.
#[tokio::test]
async fn odd_settings_change_nothing() {
    for storage in STORAGES {
        let mut db = TestDb::postgres().await;
        db.run(ITEM).await;
        db.track("item", Tracking::new().storage(storage)).await;
        let mut writer = db.another().await;
        for setting in [
            "datestyle = 'German, DMY'",
            "intervalstyle = 'sql_standard'",
            "timezone = 'Asia/Kathmandu'",
            "extra_float_digits = -15",
            "bytea_output = 'escape'",
            "standard_conforming_strings = off",
            "transform_null_equals = on",
            "array_nulls = off",
            "quote_all_identifiers = on",
            "plan_cache_mode = force_generic_plan",
            "work_mem = '64kB'",
            "jit_above_cost = 0",
            "enable_mergejoin = off",
            "enable_sort = off",
            "enable_seqscan = off",
            "row_security = off",
            "xmloption = document",
            "default_transaction_isolation = 'serializable'",
            "default_transaction_deferrable = on",
            "client_encoding = 'LATIN1'",
            "synchronous_commit = off",
            "escape_string_warning = on",
            "plpgsql.variable_conflict = error",
            "search_path = ''",
        ] {
            run_on(&mut writer, &format!("SET {setting}")).await.unwrap();
        }
        let values = "1.50, 0.1::float8 + 0.2::float8, 'a\\b', '\\\\xdeadbeef'::bytea, '2020-03-29 02:30:00+05:45', '1 year 2 mons 3 days 04:05:06.7', '{\"a\":1}'";
        for sql in [
            format!("INSERT INTO public.item VALUES (1, 1, {values})"),
            format!("INSERT INTO public.item SELECT i, 1, {values} FROM generate_series(2, 40) AS i"),
            "UPDATE public.item SET f = '-0', x = 1.5".into(),
            "UPDATE public.item SET f = 0, v = v * 2, d = d + interval '1 day'".into(),
            "UPDATE public.item SET id = -id".into(),
            "DELETE FROM public.item WHERE id < -20".into(),
        ] {
            run_on(&mut writer, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        db.verify().await;
        let life = db.versions("item", "-1").await;
        assert_eq!(life[0].row[5].1.to_string(), life.last().unwrap().row[5].1.to_string());
        let told: Vec<String> = life.iter().skip(1).flat_map(changes).collect();
        assert_eq!(told[..2], ["x: 1.50 -> 1.5", "f: 0.30000000000000004 -> -0"]);
        assert_eq!(told.last().unwrap(), "id: 1 -> -1");
    }
}

#[tokio::test]
async fn triggers_that_are_missing_are_told_and_mended() {
    for off in [
        "ALTER TABLE item DISABLE TRIGGER ALL",
        "ALTER TABLE item DISABLE TRIGGER \"!afterimage_insert\"",
        "ALTER TABLE item ENABLE REPLICA TRIGGER \"!afterimage_insert\"",
        "DROP TRIGGER \"!afterimage_insert\" ON item",
        "DROP FUNCTION afterimage.capture_1_insert CASCADE",
    ] {
        let mut db = TestDb::postgres().await;
        db.run("CREATE TABLE item (id int PRIMARY KEY)").await;
        db.track("item", Tracking::new()).await;
        db.run(off).await;
        assert_eq!(db.audit.status().await.unwrap()[0].state, afterimage::State::Missing, "{off}");
        assert!(!db.audit.verify(&[]).await.unwrap()[0].is_whole(), "{off}");
        db.run("INSERT INTO item VALUES (1)").await;
        let migrated = db.audit.migrate(&[], &[]).await.unwrap().remove(0);
        assert!(migrated.gap, "{off}");
        assert_eq!(migrated.resynced, 1, "{off}");
        assert_eq!(db.audit.status().await.unwrap()[0].state, afterimage::State::Ok, "{off}");
        db.verify().await;
        db.run("INSERT INTO item VALUES (2)").await;
        assert_eq!(db.signs("item", "2").await, "+", "{off}");
    }
}

/// What only `verify` can know: switched off and on again behind our back, or written as a replica does.
#[tokio::test]
async fn what_went_unseen_verify_finds() {
    for write in [
        "ALTER TABLE item DISABLE TRIGGER ALL; INSERT INTO item VALUES (99); ALTER TABLE item ENABLE TRIGGER ALL",
        "SET session_replication_role = replica; INSERT INTO item VALUES (99); RESET session_replication_role",
    ] {
        let mut db = TestDb::postgres().await;
        db.run("CREATE TABLE item (id int PRIMARY KEY)").await;
        db.track("item", Tracking::new()).await;
        db.run(write).await;
        assert_eq!(db.audit.status().await.unwrap()[0].state, afterimage::State::Ok);
        let verdict = db.audit.verify(&[]).await.unwrap().remove(0);
        let found: Vec<String> = verdict.differences.iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].contains("99"), "{found:?}");
    }
}

/// A capture function runs with the rights of who tracked: nobody else may put it under a table of their own.
#[tokio::test]
async fn nobody_can_make_a_capture_function_a_trigger_of_their_own() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE TABLE item (id int PRIMARY KEY, n int)").await;
    db.track("item", Tracking::new()).await;
    let role = role(&mut db, "").await;
    let mut writer = db.another().await;
    run_on(&mut writer, &format!("SET ROLE {role}; CREATE TEMP TABLE fake (id int, n int)")).await.unwrap();
    let forge = "CREATE TRIGGER x AFTER INSERT ON fake REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION afterimage.capture_1_insert()";
    assert!(run_on(&mut writer, forge).await.unwrap_err().contains("permission denied"));
    run_on(&mut writer, "INSERT INTO item VALUES (1, 1)").await.unwrap();
    assert_eq!(db.signs("item", "1").await, "+");
    // One that was opened by somebody is told and closed again.
    db.run("GRANT EXECUTE ON FUNCTION afterimage.capture_1_insert() TO PUBLIC").await;
    assert_eq!(db.audit.status().await.unwrap()[0].state, afterimage::State::Outdated);
    db.audit.migrate(&[], &[]).await.unwrap();
    assert!(run_on(&mut writer, forge).await.unwrap_err().contains("permission denied"));
    db.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn an_explicit_time_is_never_before_a_row_s_newest_record() {
    let mut db = TestDb::postgres().await;
    db.run("CREATE DOMAIN code AS char(3); CREATE TABLE item (id code PRIMARY KEY, n int)").await;
    db.track("item", Tracking::new()).await;
    db.run("INSERT INTO item VALUES ('a', 1), ('b', 1)").await;
    let at = |sql: &str| {
        format!(
            "BEGIN; SELECT set_config('afterimage.context', '{{\"at\":\"2020-01-01T00:00:00Z\"}}', true); {sql}; COMMIT"
        )
    };
    for write in ["TRUNCATE item", "UPDATE item SET n = 2", "DELETE FROM item WHERE id = 'a'"] {
        let refused = db.try_run(&at(write)).await.unwrap_err();
        assert!(refused.contains("newer record"), "{write}: {refused}");
        db.run("ROLLBACK").await;
    }
    db.run(&at("INSERT INTO item VALUES ('c', 1)")).await;
    db.verify().await;
}
