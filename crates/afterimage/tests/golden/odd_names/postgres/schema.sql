CREATE TABLE "Ord""er's; --" ("select" bigint PRIMARY KEY, "Ünï cödé 🦀" text, "a""b" text, "it's" text);
