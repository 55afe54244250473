INSERT INTO t (id, name, total) VALUES (1, 'a', 1.5), (2, 'b', NULL);
UPDATE t SET total = 2.5;
UPDATE t SET id = 3 WHERE id = 1;
DELETE FROM t WHERE id = 2;
