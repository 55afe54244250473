INSERT INTO t (id, card, cache_key, status) VALUES (1, '4111', '1', 'open');
UPDATE t SET cache_key = '2';
UPDATE t SET card = '5555';
DELETE FROM t;
