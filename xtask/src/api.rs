//! The API held against its document: by requests made up from it, and by a client generated from it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use afterimage_throwaway::{self as server, run};

use crate::{Outcome, python, service};

/// What must be true of every answer. That what the document does not allow is refused is not among it: a form sends what was
/// left empty, too, which is as if it were not there.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method";

pub(crate) fn check(arguments: &[String]) -> Outcome {
    let program = service::program()?;
    let root = std::env::current_dir()?;
    let bin = python("api", &root.join("xtask/api/requirements.txt"))?.with_file_name("");
    let postgres = server::Postgres::start(&[])?;
    let mariadb = server::MariaDb::start(&[])?;
    let port = mariadb.url().rsplit(':').next().unwrap_or_default().to_owned();
    let create = ["--protocol=tcp", "--host=127.0.0.1", "--user=root", "--port", &port, "--execute"];
    run(Command::new("mariadb").args(create).arg("CREATE DATABASE demo CHARACTER SET utf8mb4"))?;
    for into in [None, Some(postgres.url().to_owned()), Some(format!("{}/demo", mariadb.url()))] {
        let folder = tempfile::tempdir()?;
        let service = service::demo(&program, folder.path(), into.as_deref())?;
        println!("\n== {}", into.as_deref().and_then(|url| url.split(':').next()).unwrap_or("sqlite"));
        let document = folder.path().join("openapi.json");
        let url = format!("{}/api/openapi.json", service.address());
        run(Command::new("curl").args(["--silent", "--fail", "--output"]).arg(&document).arg(&url))?;
        client(&bin, &root, folder.path(), &document, service.address())?;
        let mut made_up = Command::new(bin.join("schemathesis"));
        made_up.args(["run", &url, "--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
        made_up.args(["--no-color", "--warnings", "off", "--checks", CHECKS]);
        if !arguments.iter().any(|argument| argument == "--max-examples") {
            made_up.args(["--max-examples", "100"]);
        }
        std::fs::copy(root.join("xtask/api/schemathesis.toml"), folder.path().join("schemathesis.toml"))?;
        run(made_up.args(arguments).current_dir(folder.path()))?;
    }
    Ok(())
}

/// Generates a client and lets it ask.
fn client(bin: &Path, root: &Path, folder: &Path, document: &Path, address: &str) -> Outcome {
    let mut generate = Command::new(bin.join("openapi-python-client"));
    generate
        .args(["generate", "--meta", "none", "--output-path", "afterimage_client", "--path"])
        .arg(document);
    run(generate.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let script: PathBuf = root.join("xtask/api/client.py");
    run(Command::new(bin.join("python")).arg(script).arg(address).env("PYTHONPATH", folder))
}
