//! CSV that is harmless to spreadsheets.

use afterimage::Value;

/// One line of CSV. Guarded, a text that a spreadsheet would run as a formula gets an apostrophe before it.
pub(crate) fn csv_line<S: AsRef<str>>(file: &mut Vec<u8>, cells: impl IntoIterator<Item = S>, guarded: bool) {
    for (n, cell) in cells.into_iter().enumerate() {
        if n > 0 {
            file.push(b',');
        }
        let cell = cell.as_ref();
        let runs = guarded && cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number(cell);
        let cell = if runs { format!("'{cell}") } else { cell.to_owned() };
        if cell.contains(['"', ',', '\n', '\r']) {
            file.push(b'"');
            file.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            file.push(b'"');
        } else {
            file.extend_from_slice(cell.as_bytes());
        }
    }
    file.extend_from_slice(b"\r\n");
}

/// A number may have a sign.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix(['-', '+']).unwrap_or(cell);
    !digits.is_empty() && digits.starts_with(|c: char| c.is_ascii_digit()) && digits.parse::<f64>().is_ok()
}

/// A value in CSV: NULL is nothing at all; the rest as in JSON, text bare.
pub(crate) fn csv_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_file_is_a_formula() {
        let mut file = Vec::new();
        csv_line(&mut file, ["=1+1", "-1.5", "+x", "@a", "-", "a,b", "\tx"], true);
        assert_eq!(String::from_utf8(file).unwrap(), "'=1+1,-1.5,'+x,'@a,'-,\"a,b\",'\tx\r\n");
        let mut file = Vec::new();
        csv_line(&mut file, ["=1+1"], false);
        assert_eq!(file, b"=1+1\r\n");
    }
}
