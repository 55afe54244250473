INSERT INTO t (tenant, line, note) VALUES ('00000000-0000-0000-0000-00000000000a', -1, '{"a": 1.0}'), ('00000000-0000-0000-0000-00000000000a', 2, NULL);
UPDATE t SET note = '{"a": 1.00}';
UPDATE t SET line = line + 10 WHERE line = 2;
DELETE FROM t WHERE line = -1;
