CREATE TABLE t (tenant uuid, line int, note jsonb, PRIMARY KEY (tenant, line));
