//! The demo's database, and the web interface over it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use afterimage_throwaway::{Service, run};

use crate::{Outcome, cargo};

/// The program, built.
pub(crate) fn program() -> Outcome<PathBuf> {
    run(cargo().args(["build", "--quiet", "--package", "afterimage-cli"]))?;
    Ok(std::env::current_dir()?.join("target/debug/afterimage"))
}

/// Plays the demo in a folder, into a database of another kind where one is named, and serves it.
pub(crate) fn demo(program: &Path, folder: &Path, into: Option<&str>) -> Outcome<Service> {
    let mut demo = Command::new(program);
    demo.args(["demo", "--no-serve"]).args(into.map(|url| ["--into", url]).into_iter().flatten());
    run(demo.current_dir(folder).stdout(Stdio::null()))?;
    let database = into.unwrap_or("afterimage-demo.db");
    let mut serve = Command::new(program);
    serve.args(["--database-url", database, "serve", "--listen", "127.0.0.1:0"]);
    Service::start(serve.current_dir(folder).stderr(Stdio::null()))
}
