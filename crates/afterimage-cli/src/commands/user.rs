//! `user`: who may log in to `serve`.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use afterimage::Moment;
use afterimage_web::users::{Grant, NewToken, Users};
use serde_json::json;

use super::{Done, Failure};
use crate::Outcome;
use crate::arguments::UserCommand;
use crate::config::Config;
use crate::output::{self, Format, harmless};

impl From<afterimage_web::users::UsersError> for Failure {
    fn from(error: afterimage_web::users::UsersError) -> Self {
        Self::Usage(error.to_string())
    }
}

pub(super) fn run(config: &Config, command: UserCommand) -> Done {
    let users = Users::open(config.users())?;
    match command {
        UserCommand::Add { name, role, label, tables, hide, password_file, no_password } => {
            let grant =
                Grant { tables: (!tables.is_empty()).then_some(tables), hidden: hide, role: role.into() };
            let password = if no_password { None } else { Some(password(password_file.as_deref())?) };
            users.add(&name, label.as_deref(), password.as_deref(), grant)?;
            let can = if no_password { "is known, without a password" } else { "can log in" };
            println!("{} {can}; kept in {}", harmless(&name), config.users().display());
        }
        UserCommand::Remove { name } => {
            users.remove(&name)?;
            println!("{} is removed, and out of every session", harmless(&name));
        }
        UserCommand::Password { name, password_file } => {
            users.set_password(&name, &password(password_file.as_deref())?)?;
            println!("{} has another password, and is out of every session", harmless(&name));
        }
        UserCommand::List => list(config, &users)?,
        UserCommand::Token { name, token, expires, role } => {
            let expires = in_time(&expires)?;
            let new = NewToken { name: token, role: role.into(), expires };
            let secret = users.add_token(&name, new)?;
            eprintln!("It is told only now, and valid until {} UTC:", expires.in_zone("UTC"));
            println!("{secret}");
        }
        UserCommand::Revoke { name, token } => {
            users.revoke_token(&name, &token)?;
            println!("the token {} of {} is valid no more", harmless(&token), harmless(&name));
        }
    }
    Ok(Outcome::Done)
}

fn list(config: &Config, users: &Users) -> Result<(), Failure> {
    let users = users.list()?;
    if config.format == Some(Format::Json) {
        let all: Vec<_> = users
            .iter()
            .map(|user| {
                let tokens: Vec<_> = user
                    .tokens
                    .iter()
                    .map(|token| json!({"name": token.name, "role": token.role, "expires": token.expires.to_string()}))
                    .collect();
                json!({
                    "name": user.name, "label": user.label, "role": user.grant.role, "tables": user.grant.tables,
                    "hidden": user.grant.hidden, "tokens": tokens,
                })
            })
            .collect();
        return Ok(output::json(&all)?);
    }
    let rows = users
        .iter()
        .map(|user| {
            let tables =
                user.grant.tables.as_ref().map_or_else(|| "all".to_owned(), |tables| tables.join(", "));
            let tokens: Vec<String> = user
                .tokens
                .iter()
                .map(|token| format!("{} until {}", token.name, token.expires.in_zone("UTC")))
                .collect();
            let role = json!(user.grant.role).as_str().unwrap_or_default().to_owned();
            [user.name.clone(), role, tables, user.grant.hidden.join(", "), tokens.join(", ")]
                .iter()
                .map(|cell| harmless(cell))
                .collect()
        })
        .collect();
    Ok(output::table(&["user", "role", "tables", "hidden", "tokens"], rows)?)
}

/// A password: of a file, or typed, or from what is piped in.
fn password(file: Option<&Path>) -> Result<String, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?,
        None if std::io::stdin().is_terminal() => {
            let first = rpassword::prompt_password("Password: ")?;
            if first != rpassword::prompt_password("Again: ")? {
                return Err(Failure::Usage("the two are not the same".to_owned()));
            }
            first
        }
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// So long from now: `90d`, `12h`; or a date.
fn in_time(text: &str) -> Result<Moment, Failure> {
    let now = Moment::now();
    let units = [("d", 86_400), ("h", 3600)];
    let span = units
        .iter()
        .find_map(|(unit, seconds)| Some(text.strip_suffix(unit)?.parse::<i64>().ok()? * seconds));
    let until = match span {
        Some(seconds) => {
            Moment::from_micros(now.as_micros().saturating_add(seconds.saturating_mul(1_000_000)))
        }
        None => Moment::parse(text, now, "UTC").map_err(afterimage::Error::from)?,
    };
    if until <= now {
        return Err(Failure::Usage(format!("{text} is not to come: write 90d, 12h or a date")));
    }
    Ok(until)
}
