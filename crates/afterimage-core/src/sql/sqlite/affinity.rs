//! What a declared type does to the values of its column.

/// [Type affinity](https://www.sqlite.org/datatype3.html#determination_of_column_affinity).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Whole numbers.
    Integer,
    /// Texts.
    Text,
    /// Whatever it is, as it is.
    Blob,
    /// Floating point numbers.
    Real,
    /// Numbers of either kind.
    Numeric,
}

impl Affinity {
    /// That of a declared type: SQLite's own rules, in its own order.
    pub fn of(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        let has = |part: &str| upper.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || upper.is_empty() {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// A type of this affinity.
    pub fn sql_type(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Text => "TEXT",
            Self::Blob => "",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
        }
    }
}
