//! The README's transcript and commands, as they stand there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Desk, mariadb, psql, stderr, stdout};

const README: &str = include_str!("../../../README.md");

/// The fenced blocks of a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    README
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}

/// The words of a command line, as a shell would split it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.split(" # ").next().unwrap().trim().chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_transcript_is_the_demos() {
    let desk = Desk::new();
    let tour = stdout(&desk.run_on("unused", &["demo"]));
    let transcript = blocks("console")[0];
    assert!(transcript.starts_with("$ afterimage demo\n"));
    for line in transcript.lines().skip(1).filter(|line| *line != "…") {
        // How long it took is the machine's.
        let line = line.split(".db in ").next().unwrap();
        assert!(tour.contains(line), "{line:?} is not in the tour:\n{tour}");
    }
}

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total NUMERIC);
    INSERT INTO orders VALUES (1, 'open', 1249), (2, 'paid', 80)";

/// Runs every command on the table and every statement of the right language.
fn your_own_table(desk: &Desk, database: &str, write: &dyn Fn(&str), sql: &str) {
    write(ORDERS);
    let console = blocks("console").into_iter().skip(2).flat_map(str::lines);
    let mut output = String::new();
    let mut written = false;
    for line in console {
        let Some(command) = line.strip_prefix("$ ") else {
            assert!(output.contains(line), "{line:?} is not in {output:?}");
            continue;
        };
        let Some(arguments) = command.strip_prefix("afterimage ") else { continue };
        if !arguments.starts_with("track") && !written {
            write(sql);
            written = true;
        }
        let arguments = words(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let done = desk.run_on(database, &arguments);
        output = stdout(&done);
        // What was before tracking began, it does not know, and says so.
        let honest = stderr(&done).contains("orders: it is tracked since");
        assert!(done.status.success() || honest, "{command}: {}", stderr(&done));
    }
    let history = stdout(&desk.run_on(database, &["history", "orders", "1", "--format", "json"]));
    assert!(history.contains(r#""history_user": "42""#) && history.contains("price match"), "{history}");
}

/// The migration that it prints holds the change and what follows it.
fn your_own_migration(desk: &Desk, database: &str, write: &dyn Fn(&str)) {
    let inline = README.split('`').find(|code| code.starts_with("afterimage plan orders")).unwrap();
    let arguments = words(inline.strip_prefix("afterimage ").unwrap());
    let plan = desk.run_on(database, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(plan.status.success(), "{}", stderr(&plan));
    write(&stdout(&plan));
    assert!(stdout(&desk.run_on(database, &["verify"])).contains("orders: whole"));
}

#[test]
fn your_own_table_on_sqlite() {
    let desk = Desk::new();
    let [_, sql] = blocks("sql")[..] else { panic!("two blocks of SQL") };
    your_own_table(&desk, "shop.db", &|sql| desk.sqlite3(sql), sql);
    your_own_migration(&desk, "shop.db", &|sql| desk.sqlite3(sql));
}

#[test]
fn your_own_table_on_postgres() {
    let server = std::env::var("AFTERIMAGE_TEST_POSTGRES").expect("run by `cargo xtask test`");
    let name = format!("readme_{}", std::process::id());
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    psql(&server, &format!("CREATE DATABASE {name}"));
    let [sql, _] = blocks("sql")[..] else { panic!("two blocks of SQL") };
    let desk = Desk::new();
    your_own_table(&desk, &url, &|sql| psql(&url, sql), sql);
    your_own_migration(&desk, &url, &|sql| psql(&url, sql));
}

#[test]
fn your_own_table_on_mariadb() {
    let server = std::env::var("AFTERIMAGE_TEST_MARIADB").expect("run by `cargo xtask test`");
    let name = format!("readme_{}", std::process::id());
    mariadb(&server, "", &format!("CREATE DATABASE {name}"));
    let [_, sql] = blocks("sql")[..] else { panic!("two blocks of SQL") };
    your_own_table(&Desk::new(), &format!("{server}/{name}"), &|sql| mariadb(&server, &name, sql), sql);
}
