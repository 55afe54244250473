INSERT INTO t (id, email) VALUES ('a', 'A@x'), ('b', 'b@x');
UPDATE t SET gone = 1 WHERE id = 'a';
INSERT INTO t (id, email) VALUES ('c', 'a@x') ON CONFLICT DO NOTHING;
DELETE FROM t WHERE id = 'b';
