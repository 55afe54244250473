CREATE TABLE "Ord""er's; --" ("select" INT PRIMARY KEY, "Ünï cödé ñ" TEXT, "a""b" TEXT, "it's" TEXT);
