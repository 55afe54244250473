CREATE TABLE "Ord""er's; --" ("select" INTEGER PRIMARY KEY, "Ünï cödé 🦀" TEXT, "a""b" TEXT, "it's" TEXT);
