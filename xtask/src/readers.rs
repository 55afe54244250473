//! Archives as other programs read them.

use std::process::Command;

use afterimage_throwaway::{self as server, run};

use crate::{Outcome, python, service};

/// Lets DuckDB and PySpark tell a table as of some times from its archive, and compares that with what the database said.
pub(crate) fn check() -> Outcome {
    server::need("sqlite3", "sqlite3")?;
    server::need("psql", "postgresql-client")?;
    server::need("java", "default-jre-headless")?;
    let program = service::program()?;
    let root = std::env::current_dir()?;
    let python = python("readers", &root.join("xtask/readers/requirements.txt"))?;
    let postgres = server::Postgres::start(&[])?;
    for url in [None, Some(postgres.url())] {
        let folder = tempfile::tempdir()?;
        let mut compare = Command::new(&python);
        compare.arg(root.join("xtask/readers/as_of.py")).arg(&program).arg(folder.path()).args(url);
        run(compare.current_dir(folder.path()))?;
    }
    Ok(())
}
