//! Pictures of the web interface, for the guide: the demo's pages in Chromium.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use afterimage_throwaway::{need, run};

use crate::Outcome;

/// Each picture's name, its address, and the size of the window; dark where it says so.
const PICTURES: [(&str, &str, (u32, u32), bool); 5] = [
    ("web-activity", "/?range=all", (1280, 900), false),
    ("web-record", "/r/country_codes/TUR", (1280, 800), false),
    ("web-compare", "/r/country_codes/MKD/compare/5..current", (1280, 520), true),
    ("web-restore", "/r/country_codes/TUR/restore/5", (1280, 560), false),
    ("web-phone", "/r/country_codes/TUR", (390, 800), false),
];

/// A service that ends with us.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn take() -> Outcome {
    need("chromium", "chromium")?;
    run(Command::new("cargo").args(["build", "--quiet", "--package", "afterimage-cli"]))?;
    let program = std::env::current_dir()?.join("target/debug/afterimage");
    let docs = std::env::current_dir()?.join("docs");
    let folder = std::env::temp_dir().join(format!("afterimage-pictures-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    run(Command::new(&program).args(["demo", "--no-serve"]).current_dir(&folder).stdout(Stdio::null()))?;
    let mut serve = Command::new(&program);
    serve.args(["--database-url", "afterimage-demo.db", "serve", "--listen", "127.0.0.1:0"]);
    let mut service =
        Service(serve.current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let mut line = String::new();
    BufReader::new(service.0.stdout.as_mut().ok_or("the service says nothing")?).read_line(&mut line)?;
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).ok_or("where is it?")?;
    for (name, path, (width, height), dark) in PICTURES {
        let picture = docs.join(format!("{name}.png"));
        shoot(&picture, &format!("{}{path}", address.trim_end_matches('/')), (width, height), dark)?;
        println!("{}", picture.display());
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn shoot(picture: &Path, address: &str, (width, height): (u32, u32), dark: bool) -> Outcome {
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
    if dark {
        chromium.arg("--force-dark-mode");
    }
    chromium.arg(format!("--window-size={width},{height}"));
    chromium.arg(format!("--screenshot={}", picture.display())).arg(address);
    run(chromium.stderr(Stdio::null()))
}
