//! Pictures of the web interface, for the guide: the demo's pages in Chromium.

use std::path::Path;
use std::process::{Command, Stdio};

use afterimage_throwaway::{need, run};

use crate::{Outcome, service};

/// Each picture's name, its address, and the size of the window; dark where it says so.
const PICTURES: [(&str, &str, (u32, u32), bool); 5] = [
    ("web-activity", "/?range=all", (1280, 900), false),
    ("web-record", "/r/country_codes/TUR", (1280, 800), false),
    ("web-compare", "/r/country_codes/MKD/compare/5..current", (1280, 520), true),
    ("web-restore", "/r/country_codes/TUR/restore/5", (1280, 560), false),
    ("web-phone", "/r/country_codes/TUR", (390, 800), false),
];

pub(crate) fn take() -> Outcome {
    need("chromium", "chromium")?;
    let program = service::program()?;
    let docs = std::env::current_dir()?.join("docs");
    let folder = tempfile::tempdir()?;
    let service = service::demo(&program, folder.path(), None)?;
    for (name, path, (width, height), dark) in PICTURES {
        let picture = docs.join(format!("{name}.png"));
        shoot(&picture, &format!("{}{path}", service.address()), (width, height), dark)?;
        println!("{}", picture.display());
    }
    report(&program, folder.path(), &docs.join("report.png"))
}

/// A report of the demo's last years, as whoever asked for it opens it.
fn report(program: &Path, folder: &Path, picture: &Path) -> Outcome {
    let mut report = Command::new(program);
    report.args([
        "--database-url",
        "afterimage-demo.db",
        "report",
        "-q",
        "table:country_codes since:2020-01-01",
    ]);
    report.args(["--title", "Country codes since 2020", "-o", "report.html"]);
    run(report.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let address = format!("file://{}", folder.join("report.html").display());
    shoot(picture, &address, (1100, 900), false)?;
    println!("{}", picture.display());
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
