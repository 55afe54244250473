//! The catalogue, in schema `afterimage`.

use crate::sql::Script;
use crate::sql::catalog::{REVISED, STAYING};

pub(super) fn create() -> Script {
    let mut script: Script = STATEMENTS.iter().map(ToString::to_string).collect();
    script.extend(STAYING.map(|table| {
        format!(
            "CREATE OR REPLACE TRIGGER stays BEFORE UPDATE OR DELETE ON afterimage.{table}
FOR EACH ROW EXECUTE FUNCTION afterimage.stays()"
        )
    }));
    script.extend(REVISED.map(|table| {
        format!(
            "CREATE OR REPLACE TRIGGER revised AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON afterimage.{table}
FOR EACH STATEMENT EXECUTE FUNCTION afterimage.revised()"
        )
    }));
    script
}

const STATEMENTS: [&str; 23] = [
    "CREATE SCHEMA IF NOT EXISTS afterimage",
    "CREATE SEQUENCE IF NOT EXISTS afterimage.history_id",
    "CREATE TABLE IF NOT EXISTS afterimage.setting (
  name text PRIMARY KEY,
  value text
)",
    "INSERT INTO afterimage.setting (name, value)
VALUES ('version', '3'), ('incarnation', gen_random_uuid()::text), ('revision', gen_random_uuid()::text)
ON CONFLICT DO NOTHING",
    "CREATE TABLE IF NOT EXISTS afterimage.tracked (
  id bigint PRIMARY KEY,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  history_name text NOT NULL,
  tracking text NOT NULL,
  state text NOT NULL,
  since timestamptz NOT NULL
)",
    "CREATE TABLE IF NOT EXISTS afterimage.epoch (
  table_id bigint NOT NULL,
  number bigint NOT NULL,
  from_date timestamptz NOT NULL,
  layout text NOT NULL,
  PRIMARY KEY (table_id, number)
)",
    "CREATE TABLE IF NOT EXISTS afterimage.gap (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id bigint NOT NULL,
  key text,
  from_date timestamptz NOT NULL,
  to_date timestamptz,
  cause text NOT NULL,
  recorded_by text
)",
    // What left the histories, by whose wish: records cannot go without it.
    "CREATE TABLE IF NOT EXISTS afterimage.removal (
  id bigint PRIMARY KEY,
  table_id bigint NOT NULL,
  table_name text NOT NULL,
  what text NOT NULL,
  until_date timestamptz,
  rule text,
  records bigint NOT NULL,
  recorded_by text,
  reason text,
  began timestamptz NOT NULL,
  ended timestamptz NOT NULL,
  open_in bigint
)",
    "CREATE TABLE IF NOT EXISTS afterimage.hold (
  id bigint PRIMARY KEY,
  table_id bigint NOT NULL,
  key text,
  reason text NOT NULL,
  placed_by text,
  placed timestamptz NOT NULL,
  lifted_by text,
  lifted timestamptz
)",
    "CREATE TABLE IF NOT EXISTS afterimage.redaction (
  id bigint PRIMARY KEY,
  table_id bigint NOT NULL,
  key text NOT NULL,
  bit int NOT NULL,
  from_id bigint NOT NULL,
  from_date timestamptz NOT NULL,
  before_id bigint NOT NULL,
  before_date timestamptz NOT NULL,
  removal_id bigint NOT NULL
)",
    // Where records are that were moved out of the database.
    "CREATE TABLE IF NOT EXISTS afterimage.archive (
  id bigint PRIMARY KEY,
  table_id bigint NOT NULL,
  removal_id bigint NOT NULL,
  manifest text NOT NULL,
  url text NOT NULL,
  sha256 text NOT NULL,
  cut timestamptz NOT NULL,
  others text NOT NULL,
  complete int NOT NULL,
  ended timestamptz,
  ended_by text
)",
    "UPDATE afterimage.setting SET value = '3' WHERE name = 'version' AND value IN ('1', '2')",
    // Who may execute this may date records by hand. Nothing calls it: it is the right.
    "CREATE OR REPLACE FUNCTION afterimage.explicit_time() RETURNS void
LANGUAGE sql AS ''",
    "REVOKE EXECUTE ON FUNCTION afterimage.explicit_time() FROM PUBLIC",
    // Capture calls it with the owner's rights, so that it asks for those of the role that the session has taken on.
    "CREATE OR REPLACE FUNCTION afterimage.explicit_moment(asked text) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role pg_catalog.text := pg_catalog.current_setting('role');
BEGIN
  IF role OPERATOR(pg_catalog.=) 'none' THEN role := session_user; END IF;
  IF NOT pg_catalog.has_function_privilege(role, 'afterimage.explicit_time()', 'EXECUTE') THEN
    RAISE insufficient_privilege USING MESSAGE = 'afterimage: an explicit time needs EXECUTE on afterimage.explicit_time()';
  END IF;
  IF asked::pg_catalog.timestamptz OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN
    RAISE invalid_parameter_value USING MESSAGE = 'afterimage: the explicit time is in the future';
  END IF;
  RETURN asked::pg_catalog.timestamptz;
END $$",
    // Who may execute this may write without records. Nothing calls it either.
    "CREATE OR REPLACE FUNCTION afterimage.skip() RETURNS void
LANGUAGE sql AS ''",
    "REVOKE EXECUTE ON FUNCTION afterimage.skip() FROM PUBLIC",
    // What is skipped is a gap: of the table, open until somebody looks at it again.
    "CREATE OR REPLACE FUNCTION afterimage.skips(asked jsonb, tracked bigint, since timestamptz, who text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  role pg_catalog.text := pg_catalog.current_setting('role');
BEGIN
  IF asked OPERATOR(pg_catalog.=) 'false'::pg_catalog.jsonb OR asked OPERATOR(pg_catalog.=) 'null'::pg_catalog.jsonb THEN
    RETURN false;
  END IF;
  IF asked OPERATOR(pg_catalog.<>) 'true'::pg_catalog.jsonb THEN
    RAISE invalid_parameter_value USING MESSAGE = 'afterimage: skip is true or false';
  END IF;
  IF role OPERATOR(pg_catalog.=) 'none' THEN role := session_user; END IF;
  IF NOT pg_catalog.has_function_privilege(role, 'afterimage.skip()', 'EXECUTE') THEN
    RAISE insufficient_privilege USING MESSAGE = 'afterimage: skip needs EXECUTE on afterimage.skip()';
  END IF;
  INSERT INTO afterimage.gap (table_id, from_date, cause, recorded_by)
  SELECT tracked, since, 'writes were skipped', COALESCE(who, session_user::pg_catalog.text)
  WHERE NOT EXISTS (SELECT FROM afterimage.gap AS g WHERE g.table_id OPERATOR(pg_catalog.=) tracked AND g.key IS NULL AND g.to_date IS NULL);
  RETURN true;
END $$",
    "REVOKE EXECUTE ON FUNCTION afterimage.skips(jsonb, bigint, timestamptz, text) FROM PUBLIC",
    // It looks at the catalogue, which is not for everybody to see. Whoever entered a removal in this very transaction may
    // change and delete records of that table.
    "CREATE OR REPLACE FUNCTION afterimage.append_only() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' AND EXISTS (
    SELECT FROM afterimage.removal AS r JOIN afterimage.tracked AS t ON t.id OPERATOR(pg_catalog.=) r.table_id
    WHERE r.open_in OPERATOR(pg_catalog.=) (pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text::pg_catalog.int8)
      AND NOT EXISTS (SELECT FROM afterimage.hold AS l WHERE l.table_id OPERATOR(pg_catalog.=) t.id AND l.key IS NULL AND l.lifted IS NULL)
      AND t.schema_name OPERATOR(pg_catalog.=) TG_TABLE_SCHEMA::pg_catalog.text AND t.history_name OPERATOR(pg_catalog.=) TG_TABLE_NAME::pg_catalog.text
  ) THEN
    RETURN NULL;
  END IF;
  RAISE insufficient_privilege USING MESSAGE = 'afterimage: records of ' OPERATOR(pg_catalog.||) TG_RELID::pg_catalog.regclass::pg_catalog.text OPERATOR(pg_catalog.||) ' cannot be changed or deleted';
END $$",
    // What is written down of removals, holds, redactions and archives stays; a removal only goes on, a hold is only lifted, an
    // archive only completed and ended.
    "CREATE OR REPLACE FUNCTION afterimage.stays() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND TG_TABLE_NAME OPERATOR(pg_catalog.=) 'removal' THEN
    IF ROW(NEW.id, NEW.table_id, NEW.table_name, NEW.what, NEW.rule, NEW.recorded_by, NEW.reason, NEW.began)::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(OLD.id, OLD.table_id, OLD.table_name, OLD.what, OLD.rule, OLD.recorded_by, OLD.reason, OLD.began)::pg_catalog.record
      AND NEW.records OPERATOR(pg_catalog.>=) OLD.records AND (OLD.until_date IS NULL OR NEW.until_date OPERATOR(pg_catalog.>=) OLD.until_date) THEN
      RETURN NEW;
    END IF;
  ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND TG_TABLE_NAME OPERATOR(pg_catalog.=) 'hold' THEN
    IF OLD.lifted IS NULL AND NEW.lifted IS NOT NULL AND ROW(NEW.id, NEW.table_id, NEW.key, NEW.reason, NEW.placed_by, NEW.placed)::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(OLD.id, OLD.table_id, OLD.key, OLD.reason, OLD.placed_by, OLD.placed)::pg_catalog.record THEN
      RETURN NEW;
    END IF;
  ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND TG_TABLE_NAME OPERATOR(pg_catalog.=) 'archive' THEN
    IF OLD.ended IS NULL AND NEW.complete OPERATOR(pg_catalog.>=) OLD.complete AND ROW(NEW.id, NEW.table_id, NEW.removal_id, NEW.manifest, NEW.url, NEW.sha256, NEW.cut, NEW.others)::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(OLD.id, OLD.table_id, OLD.removal_id, OLD.manifest, OLD.url, OLD.sha256, OLD.cut, OLD.others)::pg_catalog.record THEN
      RETURN NEW;
    END IF;
  END IF;
  RAISE insufficient_privilege USING MESSAGE = 'afterimage: what is written down of removals, holds, redactions and archives stays';
END $$",
    // Whoever remembers what the catalogue said sees that it says something else now.
    "CREATE OR REPLACE FUNCTION afterimage.revised() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE afterimage.setting SET value = gen_random_uuid()::pg_catalog.text WHERE name OPERATOR(pg_catalog.=) 'revision';
  RETURN NULL;
END $$",
    // So that the right can be asked for by its name; what is in here stays closed.
    "GRANT USAGE ON SCHEMA afterimage TO PUBLIC",
];
