//! The licence check: every dependency may be used under one of a few licences. It needs no network.

use crate::{Outcome, metadata};

/// Licences that ask for nothing, or for nothing but their own text.
const ALLOWED: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "Unlicense",
    "CDLA-Permissive-2.0",
];

pub(crate) fn check() -> Outcome {
    let metadata = metadata(&["--all-features"])?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    if refused.is_empty() {
        println!("{} packages, all under licences that are allowed", packages.len());
        return Ok(());
    }
    Err(format!("licences that are not allowed:\n{}", refused.join("\n")).into())
}

/// Whether an SPDX expression leaves a choice that is allowed.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim())))
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn a_choice_is_enough_and_all_parts_count() {
        assert!(allowed("MIT OR GPL-3.0"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(allowed("Unlicense/MIT"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed("AGPL-3.0"));
    }
}
