//! The demo's database, and the web interface over it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use afterimage_throwaway::run;

use crate::Outcome;

/// A service that ends with us.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built.
pub(crate) fn program() -> Outcome<PathBuf> {
    run(Command::new("cargo").args(["build", "--quiet", "--package", "afterimage-cli"]))?;
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
    let mut child = serve.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut line = String::new();
    let told = child.stdout.as_mut().ok_or("the service says nothing")?;
    let read = BufReader::new(told).read_line(&mut line);
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).map(ToOwned::to_owned);
    let address = address.unwrap_or_default().trim_end_matches('/').to_owned();
    let service = Service { child, address };
    read?;
    if service.address.is_empty() { Err("the service does not say where it is".into()) } else { Ok(service) }
}
