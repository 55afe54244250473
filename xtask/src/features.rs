//! The feature check: each feature of the published crates compiles alone, or with one database where it needs one.

use afterimage_throwaway::run;

use crate::{Outcome, cargo, metadata};

/// The published crates, with the features of which at least one is needed.
const DATABASES: &[&str] = &["sqlite", "postgres", "mysql"];
const PUBLISHED: [(&str, &[&str]); 5] = [
    ("afterimage-core", &[]),
    ("afterimage-archive", &[]),
    ("afterimage", DATABASES),
    ("afterimage-diesel", &[]),
    ("afterimage-web", DATABASES),
];

pub(crate) fn check() -> Outcome {
    let metadata = metadata(&["--no-deps"])?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (package, needed) in PUBLISHED {
        let Some(known) = packages.iter().find(|known| known["name"] == package) else {
            return Err(format!("there is no package {package}").into());
        };
        let features = known["features"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        // With nothing but a database it is checked where that is the feature.
        let none = needed.is_empty().then_some("");
        for feature in features.filter(|name| *name != "default").chain(none) {
            let with = needed.first().filter(|_| !needed.contains(&feature)).copied().unwrap_or_default();
            println!("{package} with {}", [feature, with].join(" "));
            let mut clippy = cargo();
            clippy.args(["clippy", "--quiet", "--locked", "--package", package, "--no-default-features"]);
            run(clippy.args(["--features", &[feature, with].join(" "), "--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}
