INSERT INTO "Ord""er's; --" VALUES (1, 'x', 'y', 'z');
UPDATE "Ord""er's; --" SET "Ünï cödé 🦀" = 'x2', "it's" = 'z2';
DELETE FROM "Ord""er's; --";
