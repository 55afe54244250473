//! The catalogue and the context.
//!
//! `afterimage_context` is a view over the rows of one's own connection in `afterimage_session`. A context counts for the
//! transaction that set it and no other: InnoDB's number of that transaction is kept with it, and compared with the one
//! of the transaction that writes. A row's own transaction can be read only where a table keeps it, so both are read off
//! `afterimage_probe`, a table with transaction-precise versions whose rows live for one statement.
//!
//! The first statement under a context makes a row of `afterimage_scope`, which its records refer to. Records written
//! without one refer to a row that says who the database took the writer for.

use crate::sql::catalog::{REVISED, STAYING};
use crate::sql::scoped::{CONTEXT_COLUMNS, context_values};
use crate::sql::{SHORT, Script};
use crate::{Context, Result};

const TEXT: &str = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin";
const NAME: &str = "VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin";

/// How the transaction in which this runs is numbered by InnoDB: into `@afterimage_trx`. The row is named by its whole
/// key, which the end of its version is part of: by a part of it, the deletion would lock the gap beside it too, and
/// unrelated writers would wait for one another.
const IDENTIFY: &str = "INSERT INTO afterimage_probe (conn) VALUES (CONNECTION_ID());
  DELETE FROM afterimage_probe WHERE conn = CONNECTION_ID() AND trx_end = 18446744073709551615;";

pub(super) fn create() -> Script {
    let mut script = tables();
    script.push(clock());
    script.extend(session_triggers());
    script.extend(scope_guards());
    script.extend(staying());
    script.extend(revised());
    script.push(format!(
        "CREATE OR REPLACE SQL SECURITY DEFINER VIEW afterimage_context AS
SELECT {CONTEXT_COLUMNS}, number FROM afterimage_session WHERE conn = CONNECTION_ID()"
    ));
    script
}

fn tables() -> Script {
    let table = |name: &str, columns: &[String]| {
        format!(
            "CREATE TABLE IF NOT EXISTS afterimage_{name} (\n  {}\n) ENGINE = InnoDB",
            columns.join(",\n  ")
        )
    };
    let own = |columns: &[&str]| columns.iter().map(ToString::to_string).collect::<Vec<_>>();
    // First: what the server commits after it carries its row to the disk, and the catalogue counts as there only then.
    let sequences =
        sequence("afterimage_sequence INCREMENT BY 2").into_iter().chain(sequence("afterimage_scopes"));
    let tables = vec![
        table("setting", &[format!("name {NAME} PRIMARY KEY"), format!("value {TEXT}")]),
        "INSERT IGNORE INTO afterimage_setting (name, value)
VALUES ('version', '3'), ('incarnation', REPLACE(UUID(), '-', '')), ('revision', UUID()), ('explicit_time', 'refused'), ('skip', 'refused')"
            .to_owned(),
        table(
            "tracked",
            &[
                "id BIGINT PRIMARY KEY".to_owned(),
                format!("schema_name {NAME}"),
                format!("table_name {NAME} NOT NULL"),
                format!("history_name {NAME} NOT NULL"),
                format!("tracking {TEXT} NOT NULL"),
                format!("state {NAME} NOT NULL"),
                "since BIGINT NOT NULL".to_owned(),
            ],
        ),
        table(
            "epoch",
            &[
                "table_id BIGINT NOT NULL".to_owned(),
                "number BIGINT NOT NULL".to_owned(),
                "from_date BIGINT NOT NULL".to_owned(),
                format!("layout {TEXT} NOT NULL"),
                "PRIMARY KEY (table_id, number)".to_owned(),
            ],
        ),
        table(
            "gap",
            &[
                "id BIGINT PRIMARY KEY AUTO_INCREMENT".to_owned(),
                "table_id BIGINT NOT NULL".to_owned(),
                format!("\"key\" {TEXT}"),
                "from_date BIGINT NOT NULL".to_owned(),
                "to_date BIGINT".to_owned(),
                format!("cause {TEXT} NOT NULL"),
                format!("recorded_by {TEXT}"),
            ],
        ),
        table(
            "scope",
            &[
                "id BIGINT PRIMARY KEY".to_owned(),
                "tx BIGINT".to_owned(),
                format!("actor {TEXT}"),
                format!("reason {TEXT}"),
                format!("context {TEXT}"),
                "began BIGINT NOT NULL".to_owned(),
                "last_date BIGINT".to_owned(),
                // Until when it was unfinished, if that was within a second; nothing for one whose records are all of one
                // moment.
                "lasting BIGINT".to_owned(),
                // Until when it may have been unfinished, if that is longer: there are few, so that whoever asks of a time
                // long ago need not read all that ended since.
                "lasting_long BIGINT".to_owned(),
                "KEY lasting (lasting, began)".to_owned(),
                "KEY lasting_long (lasting_long, began)".to_owned(),
                "KEY tx (tx)".to_owned(),
            ],
        ),
        // What left the histories, by whose wish: records cannot go without it.
        table(
            "removal",
            &[
                "id BIGINT PRIMARY KEY".to_owned(),
                "table_id BIGINT NOT NULL".to_owned(),
                format!("table_name {NAME} NOT NULL"),
                format!("what {NAME} NOT NULL"),
                "until_date BIGINT".to_owned(),
                format!("rule {TEXT}"),
                "records BIGINT NOT NULL".to_owned(),
                format!("recorded_by {TEXT}"),
                format!("reason {TEXT}"),
                "began BIGINT NOT NULL".to_owned(),
                "ended BIGINT NOT NULL".to_owned(),
                "open_in BIGINT UNSIGNED".to_owned(),
                "KEY open_in (open_in)".to_owned(),
            ],
        ),
        table(
            "hold",
            &[
                "id BIGINT PRIMARY KEY".to_owned(),
                "table_id BIGINT NOT NULL".to_owned(),
                format!("\"key\" {TEXT}"),
                format!("reason {TEXT} NOT NULL"),
                format!("placed_by {TEXT}"),
                "placed BIGINT NOT NULL".to_owned(),
                format!("lifted_by {TEXT}"),
                "lifted BIGINT".to_owned(),
            ],
        ),
        table(
            "redaction",
            &[
                "id BIGINT PRIMARY KEY".to_owned(),
                "table_id BIGINT NOT NULL".to_owned(),
                format!("\"key\" {TEXT} NOT NULL"),
                "bit INT NOT NULL".to_owned(),
                "from_id BIGINT NOT NULL".to_owned(),
                "from_date BIGINT NOT NULL".to_owned(),
                "before_id BIGINT NOT NULL".to_owned(),
                "before_date BIGINT NOT NULL".to_owned(),
                "removal_id BIGINT NOT NULL".to_owned(),
            ],
        ),
        table(
            "archive",
            &[
                "id BIGINT PRIMARY KEY".to_owned(),
                "table_id BIGINT NOT NULL".to_owned(),
                "removal_id BIGINT NOT NULL".to_owned(),
                format!("manifest {TEXT} NOT NULL"),
                format!("url {TEXT} NOT NULL"),
                format!("sha256 {TEXT} NOT NULL"),
                "cut BIGINT NOT NULL".to_owned(),
                format!("others {TEXT} NOT NULL"),
                "complete INT NOT NULL".to_owned(),
                "ended BIGINT".to_owned(),
                format!("ended_by {TEXT}"),
            ],
        ),
        "UPDATE afterimage_setting SET value = '3' WHERE name = 'version' AND value IN ('1', '2')".to_owned(),
        table("writer", &[format!("name {NAME} PRIMARY KEY"), "scope BIGINT NOT NULL".to_owned()]),
        table(
            "session",
            &[
                "conn BIGINT UNSIGNED NOT NULL DEFAULT CONNECTION_ID()".to_owned(),
                "number BIGINT NOT NULL DEFAULT 0".to_owned(),
                format!("actor {TEXT}"),
                format!("label {TEXT}"),
                format!("reason {TEXT}"),
                format!("remote_addr {TEXT}"),
                format!("correlation_id {TEXT}"),
                format!("extra {TEXT}"),
                "at BIGINT".to_owned(),
                "skip TINYINT".to_owned(),
                "began BIGINT".to_owned(),
                "trx BIGINT UNSIGNED".to_owned(),
                "tx BIGINT".to_owned(),
                "scope BIGINT".to_owned(),
                "PRIMARY KEY (conn, number)".to_owned(),
            ],
        ),
        format!(
            "{} WITH SYSTEM VERSIONING",
            table(
                "probe",
                &own(&[
                    "conn BIGINT UNSIGNED PRIMARY KEY",
                    "trx BIGINT UNSIGNED GENERATED ALWAYS AS ROW START INVISIBLE",
                    "trx_end BIGINT UNSIGNED GENERATED ALWAYS AS ROW END INVISIBLE",
                    "PERIOD FOR SYSTEM_TIME (trx, trx_end)",
                ]),
            )
        ),
    ];
    sequences.chain(tables).collect()
}

/// A server that is killed as it creates a sequence leaves one without its row, which gives no numbers. Nothing was
/// numbered by it: it is made anew.
fn sequence(described: &str) -> Script {
    let name = described.split(' ').next().unwrap_or_default();
    let create = format!("{described} CACHE 1000 ENGINE = InnoDB");
    vec![
        format!("CREATE SEQUENCE IF NOT EXISTS {create}"),
        format!(
            "BEGIN NOT ATOMIC
  DECLARE number BIGINT;
  DECLARE EXIT HANDLER FOR 1032, NOT FOUND CREATE OR REPLACE SEQUENCE {create};
  SELECT next_not_cached_value INTO number FROM {name};
END"
        ),
    ]
}

/// A time-based UUID as microseconds since the epoch: the one clock that neither `SET timestamp` nor the session's zone,
/// whose hours may come twice, has any say in. The server counts it from its start on, so that it never goes back while
/// the server runs, whatever is done to the machine's clock.
pub(super) fn micros_of_uuid(uuid: &str) -> String {
    format!(
        "CAST(CONV(CONCAT(SUBSTR({uuid}, 16, 3), SUBSTR({uuid}, 10, 4), SUBSTR({uuid}, 1, 8)), 16, 10) AS UNSIGNED) DIV 10 - 12219292800000000"
    )
}

/// The context that this connection set last, by its whole key. Whatever a trigger reads is locked, and what it does not
/// find locks the gap where it would be: so nothing is looked for of which it is not known that it is there.
pub(super) const OWN_CONTEXT: &str = "s.conn = CONNECTION_ID() AND s.number = @afterimage_context";

/// A member of a JSON object, where it is not NULL.
fn member(name: &str, value: &str) -> String {
    format!("IF({value} IS NULL, NULL, CONCAT('\"{name}\":', JSON_QUOTE({value})))")
}

/// The context of a scope as JSON: what is named, and then what else was given.
fn context_json(row: &str) -> String {
    let members =
        ["label", "remote_addr", "correlation_id"].map(|name| member(name, &format!("{row}.{name}")));
    let recorded = format!(
        "IF({row}.at IS NULL, NULL, CONCAT('\"recorded_at\":\"', DATE_FORMAT(FROM_UNIXTIME(0) + INTERVAL afterimage_clock() MICROSECOND, '%Y-%m-%dT%H:%i:%s.%fZ'), '\"'))"
    );
    format!(
        "NULLIF(JSON_MERGE_PATCH(COALESCE({row}.extra, '{{}}'), CONCAT('{{', CONCAT_WS(',', {}, {recorded}), '}}')), '{{}}')",
        members.join(", ")
    )
}

fn clock() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION afterimage_clock() RETURNS BIGINT NOT DETERMINISTIC NO SQL
BEGIN
  DECLARE now CHAR(36) CHARACTER SET ascii DEFAULT UUID();
  RETURN {};
END",
        micros_of_uuid("now")
    )
}

/// What is done once in a statement: whose it is. It stands in each trigger as it is. As a procedure they would call, it could
/// fail: 10.11 opens the tables of a statement again when another exchanged a trigger of one of them meanwhile, and then
/// forgets those that procedures read ("Table 'shop.w' doesn't exist").
pub(super) fn identify_statement() -> String {
    format!(
        "BEGIN
  SET @afterimage_scope = NULL, @afterimage_special = NULL;
  IF @@in_transaction AND @afterimage_context IS NOT NULL THEN
    {IDENTIFY}
    IF @afterimage_context_trx = @afterimage_trx THEN
      -- A savepoint may have taken back the context that the variable names: the one before it is there again.
      IF NOT EXISTS (SELECT 1 FROM afterimage_session AS s WHERE {own}) THEN
        SET @afterimage_context = (SELECT s.number FROM afterimage_session AS s WHERE s.conn = CONNECTION_ID() AND s.trx = @afterimage_trx LIMIT 1);
      END IF;
      INSERT INTO afterimage_scope (id, tx, actor, reason, context, began, lasting_long)
      SELECT s.number, COALESCE(s.tx, s.number), s.actor, s.reason, {context}, s.began, IF(s.tx IS NULL, 9223372036854775807, NULL)
      FROM afterimage_session AS s WHERE {own} AND s.trx = @afterimage_trx AND s.scope IS NULL;
      UPDATE afterimage_session AS s SET s.scope = s.number WHERE {own} AND s.trx = @afterimage_trx AND s.scope IS NULL;
      SELECT s.scope, s.at IS NOT NULL OR s.skip IS NOT NULL INTO @afterimage_scope, @afterimage_special
      FROM afterimage_session AS s WHERE {own} AND s.trx = @afterimage_trx;
    ELSE
      SET @afterimage_context = NULL;
    END IF;
  END IF;
  IF @afterimage_scope IS NULL THEN
    IF NOT (@afterimage_writer <=> USER()) THEN
      INSERT IGNORE INTO afterimage_writer (name, scope) VALUES (LEFT(USER(), 190), NEXTVAL(afterimage_scopes));
      INSERT IGNORE INTO afterimage_scope (id, context, began)
      SELECT w.scope, CONCAT('{{\"session_user\":', JSON_QUOTE(USER()), '}}'), afterimage_clock()
      FROM afterimage_writer AS w WHERE w.name = LEFT(USER(), 190);
      SET @afterimage_writer = USER();
    END IF;
    SELECT w.scope INTO @afterimage_scope FROM afterimage_writer AS w WHERE w.name = LEFT(USER(), 190);
  END IF;
END",
        own = OWN_CONTEXT,
        context = context_json("s"),
    )
}

/// What a client may say of a context; `OLD` and `NEW` as triggers have them.
fn checks() -> String {
    let refuse = |condition: &str, message: &str| {
        format!(
            "  IF {condition} THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: {message}';
  END IF;"
        )
    };
    [
        refuse("NOT @@in_transaction", "a context belongs to a transaction: begin one first"),
        refuse("NEW.extra IS NOT NULL AND (NOT JSON_VALID(NEW.extra) OR JSON_TYPE(NEW.extra) <> 'OBJECT')", "extra must be a JSON object"),
        refuse("NEW.extra IS NOT NULL AND JSON_EXISTS(NEW.extra, '$.skip')", "skip is a column of its own"),
        "  SET NEW.skip = IF(NEW.skip, 1, NULL);".to_owned(),
        refuse("NEW.at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM afterimage_setting WHERE name = 'explicit_time' AND value = 'allowed')", "an explicit time needs the setting explicit_time"),
        refuse("NEW.skip IS NOT NULL AND NOT EXISTS (SELECT 1 FROM afterimage_setting WHERE name = 'skip' AND value = 'allowed')", "skip needs the setting skip"),
        refuse("NEW.at > afterimage_clock()", "the explicit time is in the future"),
    ]
    .join("\n")
}

fn session_triggers() -> Script {
    let turn = "SET @afterimage_turn = COALESCE(@afterimage_turn, 0) + 1;";
    let own = "  IF NOT (NEW.conn <=> CONNECTION_ID()) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: a context belongs to its own connection';
  END IF;";
    vec![
        "CREATE OR REPLACE TRIGGER afterimage_probe_read BEFORE DELETE ON afterimage_probe FOR EACH ROW
SET @afterimage_trx = OLD.trx"
            .to_owned(),
        format!(
            "CREATE OR REPLACE TRIGGER afterimage_context_insert BEFORE INSERT ON afterimage_session FOR EACH ROW
BEGIN
{own}
{}
  {IDENTIFY}
  -- One condition would look for the row, and lock the gap without it, even where the numbers differ.
  IF @afterimage_context IS NOT NULL AND @afterimage_context_trx = @afterimage_trx THEN
    IF EXISTS (SELECT 1 FROM afterimage_session AS s WHERE {OWN_CONTEXT}) THEN
      SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: a context is set already: delete it first';
    END IF;
  END IF;
  SET @afterimage_context = NEXTVAL(afterimage_scopes), @afterimage_context_trx = @afterimage_trx;
  SET NEW.number = @afterimage_context, NEW.trx = @afterimage_trx, NEW.began = COALESCE(NEW.at, afterimage_clock()), NEW.tx = NULL, NEW.scope = NULL;
  {turn}
END",
            checks()
        ),
        // The engine itself notes the scope that a context was given; whoever else updates sets the context anew: records
        // from there on carry it, those before keep theirs.
        format!(
            "CREATE OR REPLACE TRIGGER afterimage_context_update BEFORE UPDATE ON afterimage_session FOR EACH ROW
BEGIN
  IF NEW.scope <=> OLD.scope THEN
{own}
{}
    SET @afterimage_context = NEXTVAL(afterimage_scopes);
    SET NEW.number = @afterimage_context, NEW.tx = IF(OLD.scope IS NULL, OLD.tx, COALESCE(OLD.tx, OLD.number)), NEW.scope = NULL;
    {turn}
  END IF;
END",
            checks()
        ),
        // Where it ended; one under which nothing was written has no scope.
        format!(
            "CREATE OR REPLACE TRIGGER afterimage_context_delete AFTER DELETE ON afterimage_session FOR EACH ROW
BEGIN
  UPDATE afterimage_scope AS c SET c.last_date = @afterimage_date,
    c.lasting = IF(@afterimage_date > c.began AND @afterimage_date <= c.began + {SHORT}, @afterimage_date, NULL),
    c.lasting_long = IF(@afterimage_date > c.began + {SHORT}, @afterimage_date, NULL)
  WHERE c.id = COALESCE(OLD.tx, OLD.scope) AND c.last_date IS NULL;
  IF OLD.number = @afterimage_context THEN
    SET @afterimage_context = NULL;
  END IF;
  {turn}
END"
        ),
    ]
}

fn scope_guards() -> Script {
    vec![
        "CREATE OR REPLACE TRIGGER afterimage_scope_update BEFORE UPDATE ON afterimage_scope FOR EACH ROW
IF OLD.last_date IS NOT NULL OR NEW.id <> OLD.id OR NOT (NEW.tx <=> OLD.tx) OR NOT (NEW.actor <=> OLD.actor)
  OR NOT (NEW.reason <=> OLD.reason) OR NOT (NEW.context <=> OLD.context) OR NEW.began <> OLD.began THEN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: a context cannot be changed once it is written';
END IF"
            .to_owned(),
        "CREATE OR REPLACE TRIGGER afterimage_scope_delete BEFORE DELETE ON afterimage_scope FOR EACH ROW
IF NOT EXISTS (SELECT 1 FROM afterimage_removal AS r WHERE r.open_in = CONNECTION_ID()) THEN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: a context that records refer to cannot be deleted';
END IF"
            .to_owned(),
    ]
}

/// What is written down of removals, holds, redactions and archives stays; a removal only goes on, a hold is only lifted, an archive
/// only completed and ended.
fn staying() -> Script {
    let refuse = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'afterimage: what is written down of removals, holds, redactions and archives stays'";
    let same = |columns: &[&str]| {
        columns
            .iter()
            .map(|column| format!("NEW.{column} <=> OLD.{column}"))
            .collect::<Vec<_>>()
            .join(" AND ")
    };
    let removal = format!(
        "{} AND NEW.records >= OLD.records AND (OLD.until_date IS NULL OR COALESCE(NEW.until_date >= OLD.until_date, FALSE))",
        same(&["id", "table_id", "table_name", "what", "rule", "recorded_by", "reason", "began"])
    );
    let hold = format!(
        "OLD.lifted IS NULL AND NEW.lifted IS NOT NULL AND {}",
        same(&["id", "table_id", "\"key\"", "reason", "placed_by", "placed"])
    );
    let archive = format!(
        "OLD.ended IS NULL AND NEW.complete >= OLD.complete AND {}",
        same(&["id", "table_id", "removal_id", "manifest", "url", "sha256", "cut", "others"])
    );
    let may_change = [removal.as_str(), &hold, "FALSE", &archive];
    let trigger = |table: &str, what: &str, event: &str, body: String| {
        format!(
            "CREATE OR REPLACE TRIGGER afterimage_{table}_{what} BEFORE {event} ON afterimage_{table} FOR EACH ROW\n{body}"
        )
    };
    STAYING
        .iter()
        .zip(may_change)
        .flat_map(|(table, allowed)| {
            let unless_allowed = format!("IF NOT ({allowed}) THEN\n  {refuse};\nEND IF");
            [
                trigger(table, "stays", "DELETE", refuse.to_owned()),
                trigger(table, "goes_on", "UPDATE", unless_allowed),
            ]
        })
        .collect()
}

/// Whoever remembers what the catalogue said sees that it says something else now.
fn revised() -> Script {
    let trigger = |table: &str, event: &str| {
        format!(
            "CREATE OR REPLACE TRIGGER afterimage_{table}_{event} AFTER {event} ON afterimage_{table} FOR EACH ROW
UPDATE afterimage_setting SET value = UUID() WHERE name = 'revision'"
        )
    };
    REVISED
        .iter()
        .flat_map(|table| ["insert", "update", "delete"].map(|event| trigger(table, event)))
        .collect()
}

/// In any `sql_mode`: a client's own is not for us to change.
pub(super) fn set_context(context: &Context, again: bool) -> Result<String> {
    let values = context_values(context, super::text)?;
    Ok(if again {
        let set: Vec<String> = CONTEXT_COLUMNS
            .split(", ")
            .zip(&values)
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        // By its number, so that no gap beside it is locked.
        format!("UPDATE afterimage_context SET {} WHERE number = @afterimage_context", set.join(", "))
    } else {
        format!("INSERT INTO afterimage_context ({CONTEXT_COLUMNS}) VALUES ({})", values.join(", "))
    })
}
