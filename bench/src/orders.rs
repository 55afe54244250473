//! The orders that every side writes: seven columns, some 330 bytes, of which an update changes the status and the total.

use crate::database::Kind;

/// So many versions each row has in a history that is read: one creation, the rest updates.
pub(crate) const VERSIONS: u32 = 10;

/// So many users take turns.
pub(crate) const USERS: u32 = 50;

pub(crate) const COLUMNS: [&str; 7] =
    ["id", "status", "total", "customer_notes", "internal_notes", "created_at", "last_modified_at"];

pub(crate) const STATUSES: [&str; 6] = ["new", "paid", "packed", "shipped", "returned", "closed"];

const CUSTOMER_NOTES: &str = "please deliver before noon and ring twice, else leave the parcel with the neighbour at number nine, who is there all day; the invoice goes to the address of the company, as agreed by phone";

const INTERNAL_NOTES: &str = "fragile, from the upper shelf of the second warehouse; checked by two";

/// One order as a program has it.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) status: &'static str,
    pub(crate) cents: i64,
    pub(crate) customer_notes: String,
    pub(crate) internal_notes: String,
}

impl Order {
    /// The order `id` in its version `k`.
    pub(crate) fn new(id: i64, k: i64) -> Self {
        Self {
            id,
            status: STATUSES[usize::try_from((id + k) % 6).unwrap_or_default()],
            cents: (id * 37) % 900_000 + 1000 + 125 * k,
            customer_notes: format!("{id:08} {CUSTOMER_NOTES}"),
            internal_notes: format!("{id:08} {INTERNAL_NOTES}"),
        }
    }
}

/// The types of the columns.
pub(crate) fn columns(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "id bigint PRIMARY KEY, status varchar(50) NOT NULL, total numeric(10,2) NOT NULL, customer_notes text NOT NULL, internal_notes text NOT NULL, created_at timestamptz NOT NULL, last_modified_at timestamptz NOT NULL"
        }
        Kind::Sqlite => {
            "id integer PRIMARY KEY, status varchar(50) NOT NULL, total real NOT NULL, customer_notes text NOT NULL, internal_notes text NOT NULL, created_at datetime NOT NULL, last_modified_at datetime NOT NULL"
        }
        Kind::MariaDb => {
            "id bigint PRIMARY KEY, status varchar(50) NOT NULL, total decimal(10,2) NOT NULL, customer_notes text NOT NULL, internal_notes text NOT NULL, created_at datetime(6) NOT NULL, last_modified_at datetime(6) NOT NULL"
        }
    }
}

/// The columns of the order `id` in its version `k`, as SQL over these two.
pub(crate) fn values(kind: Kind) -> [String; 7] {
    let statuses: Vec<String> = STATUSES.iter().map(|status| format!("'{status}'")).collect();
    let statuses = statuses.join(", ");
    let cents = "((id * 37) % 900000 + 1000 + 125 * k)";
    let notes = [CUSTOMER_NOTES, INTERNAL_NOTES];
    let (status, total, notes, time) = match kind {
        Kind::Postgres => (
            format!("(ARRAY[{statuses}])[(id + k) % 6 + 1]"),
            format!("({cents} / 100.0)::numeric(10,2)"),
            notes.map(|notes| format!("lpad(id::text, 8, '0') || ' {notes}'")),
            "'2026-01-01'::timestamptz + (id % 1000) * interval '1 second'",
        ),
        Kind::Sqlite => (
            format!("json_extract(json_array({statuses}), '$[' || ((id + k) % 6) || ']')"),
            format!("{cents} / 100.0"),
            notes.map(|notes| format!("printf('%08d', id) || ' {notes}'")),
            "datetime('2026-01-01', (id % 1000) || ' seconds')",
        ),
        Kind::MariaDb => (
            format!("elt((id + k) % 6 + 1, {statuses})"),
            format!("{cents} / 100"),
            notes.map(|notes| format!("concat(lpad(id, 8, '0'), ' {notes}')")),
            "'2026-01-01' + INTERVAL (id % 1000) SECOND",
        ),
    };
    let [customer_notes, internal_notes] = notes;
    ["id".to_owned(), status, total, customer_notes, internal_notes, time.to_owned(), time.to_owned()]
}
