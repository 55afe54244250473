CREATE TABLE t (id bigint PRIMARY KEY, name text NOT NULL, total numeric(12,2));
