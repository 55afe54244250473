CREATE TABLE t (id INT PRIMARY KEY, card TEXT NOT NULL, cache_key BLOB, status TEXT);
