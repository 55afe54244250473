//! `completions` and `man`: what the program knows of itself, for shells and for readers.

use std::path::Path;

use clap::CommandFactory as _;

use super::Done;
use crate::Outcome;
use crate::arguments::Arguments;

pub(super) fn completions(shell: clap_complete::Shell) -> Done {
    clap_complete::generate(shell, &mut Arguments::command(), "afterimage", &mut std::io::stdout());
    Ok(Outcome::Done)
}

/// One page for the program, and one for each command.
pub(super) fn pages(folder: &Path) -> Done {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)?;
    Ok(Outcome::Done)
}
