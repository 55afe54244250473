//! What it prints.

#![allow(clippy::unwrap_used)]

#[test]
fn it_runs() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_afterimage-example-sqlx-minimal")).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "version 2 by bob (customer request)\nversion 1 by ann (no reason given)\norder 1 was open\n"
    );
}
