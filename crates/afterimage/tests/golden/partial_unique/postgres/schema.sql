CREATE TABLE t (id text PRIMARY KEY, email text, gone int NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX t_email ON t (lower(email)) WHERE gone = 0;
