//! Reading the past with statements that were written for the present: which tables a statement reads, and the same
//! statement reading something else in their place.
//!
//! Each table's name is exchanged for the name of a common table expression of ours, which gives the table's rows of that
//! time under its columns of today. The statement's own text stays as it is, character by character, but for these names.
//! What cannot be understood for certain is refused: nothing is read of today by mistake.

mod first;

use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor,
};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Location;

use crate::name::{Quoted, TableName};
use crate::{Database, Error, ErrorKind, Result};

/// A statement that only reads, and where it names what it reads.
#[derive(Debug, Clone)]
pub struct Question<'s> {
    sql: &'s str,
    database: Database,
    relations: Vec<Relation>,
    /// The names of its own common table expressions.
    own: Vec<String>,
    /// Where its list of common table expressions begins, if it has one.
    list: Option<usize>,
    /// By what it orders the rows of which it takes the first.
    first: Option<Vec<String>>,
}

/// A place where a statement names a table.
#[derive(Debug, Clone)]
struct Relation {
    table: TableName,
    at: Range<usize>,
    aliased: bool,
}

impl<'s> Question<'s> {
    /// Reads a statement. Anything but one query that takes no locks is refused, and so is whatever is not understood.
    ///
    /// ```
    /// use afterimage_core::{Database, TableName, past::Question};
    /// let question = Question::read(Database::Sqlite, "SELECT count(*) FROM orders JOIN main.item AS i").unwrap();
    /// assert_eq!(question.tables(), [&TableName::bare("orders"), &TableName::new("main", "item")]);
    /// assert!(Question::read(Database::Sqlite, "DELETE FROM orders").is_err());
    /// ```
    pub fn read(database: Database, sql: &'s str) -> Result<Self> {
        let dialect: &dyn Dialect = match database {
            Database::Postgres => &PostgreSqlDialect {},
            Database::Sqlite => &SQLiteDialect {},
            Database::MariaDb => &MySqlDialect {},
        };
        if database == Database::MariaDb && sql.contains('\\') {
            // Whether it escapes what follows is a setting of the session's.
            return Err(refused("it has a backslash in it: give that text as a parameter"));
        }
        let statements = Parser::parse_sql(dialect, sql)
            .map_err(|error| refused(&format!("it is not understood: {error}")))?;
        let [Statement::Query(query)] = statements.as_slice() else {
            return Err(match statements.len() {
                1 => refused("the past can only be read"),
                _ => refused("it is not one statement"),
            });
        };
        let mut reader =
            Reader { database, lines: Lines::of(sql), relations: Vec::new(), own: Vec::new(), names: 0 };
        if let ControlFlow::Break(error) = query.visit(&mut reader) {
            return Err(error);
        }
        if reader.names != 0 {
            return Err(refused("it names a table in a place that is not understood"));
        }
        let list = match query.with.as_ref().and_then(|with| with.cte_tables.first()) {
            Some(first) => Some(reader.lines.range(&first.alias.name)?.start),
            None => None,
        };
        let first = first::ordered_by(query)
            .map(|columns| columns.into_iter().map(|column| reader.folded(column)).collect());
        let mut relations = reader.relations;
        relations.sort_by_key(|relation| relation.at.start);
        Ok(Self { sql, database, relations, own: reader.own, list, first })
    }

    /// The tables that it reads, each once; a name that is one of its own common table expressions is none.
    pub fn tables(&self) -> Vec<&TableName> {
        let mut tables: Vec<&TableName> = Vec::new();
        for relation in self.relations.iter().filter(|relation| !self.is_own(&relation.table)) {
            if !tables.contains(&&relation.table) {
                tables.push(&relation.table);
            }
        }
        tables
    }

    /// The names of its own common table expressions. None of them may be that of a table too: where such a name
    /// stands, it may mean either.
    pub fn own_names(&self) -> &[String] {
        &self.own
    }

    /// Whether it takes the first rows of the one table that it reads, in the order of that table's key or in any: then it
    /// is worth stopping early.
    pub fn takes_the_first_by(&self, key: &[String]) -> bool {
        let one = self.relations.len() == 1;
        one && self
            .first
            .as_ref()
            .is_some_and(|order| order.iter().zip(key).all(|(column, part)| self.is_same(column, part)))
    }

    fn is_own(&self, table: &TableName) -> bool {
        table.schema.is_none() && self.own.iter().any(|own| self.is_same(own, &table.name))
    }

    /// PostgreSQL's names are folded already; the others compare them in any case.
    fn is_same(&self, a: &str, b: &str) -> bool {
        match self.database {
            Database::Postgres => a == b,
            Database::Sqlite | Database::MariaDb => a.to_lowercase() == b.to_lowercase(),
        }
    }

    /// The same statement, reading each of these tables from a query instead.
    pub fn instead(&self, tables: &[(TableName, String)]) -> String {
        let worked_out_anew = match self.database {
            // Where a query is worked out once and kept, no condition of the statement's reaches into it.
            Database::Postgres | Database::Sqlite => " NOT MATERIALIZED",
            Database::MariaDb => "",
        };
        let list: Vec<String> = (0..)
            .zip(tables)
            .map(|(n, (_, query))| format!("{} AS{worked_out_anew} (\n{query}\n)", name(n)))
            .collect();
        let list = list.join(",\n");
        let mut text = String::with_capacity(self.sql.len() + list.len() + 64);
        let mut from = 0;
        if !tables.is_empty() {
            match self.list {
                Some(at) => {
                    text.push_str(&self.sql[..at]);
                    text.push_str(&format!("{list},\n"));
                    from = at;
                }
                None => text.push_str(&format!("WITH {list}\n")),
            }
        }
        for relation in self.relations.iter().filter(|relation| !self.is_own(&relation.table)) {
            let Some(n) = tables.iter().position(|(table, _)| *table == relation.table) else { continue };
            text.push_str(&self.sql[from..relation.at.start]);
            text.push_str(&name(n));
            if !relation.aliased {
                text.push_str(&format!(" AS {}", Quoted::new(&relation.table.name)));
            }
            from = relation.at.end;
        }
        text.push_str(&self.sql[from..]);
        text
    }
}

/// What the n-th table's rows of that time are called.
fn name(n: usize) -> String {
    Quoted::new(&format!("afterimage_then_{n}")).to_string()
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidQuery, format!("this statement cannot be asked of the past: {why}"))
}

/// Walks through a statement.
struct Reader<'s> {
    database: Database,
    lines: Lines<'s>,
    relations: Vec<Relation>,
    own: Vec<String>,
    /// Names of tables met, less those whose place is understood.
    names: i32,
}

impl Reader<'_> {
    fn folded(&self, ident: &Ident) -> String {
        match (self.database, ident.quote_style) {
            (Database::Postgres, None) => ident.value.to_lowercase(),
            _ => ident.value.clone(),
        }
    }

    fn relation(&mut self, name: &ObjectName, aliased: bool) -> Result<()> {
        let mut idents = Vec::new();
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(ident) => idents.push(ident),
                ObjectNamePart::Function(_) => return Err(refused("it names a table by a function")),
            }
        }
        let table = match idents.as_slice() {
            [name] => TableName::bare(self.folded(name)),
            [schema, name] => TableName::new(self.folded(schema), self.folded(name)),
            _ => return Err(refused(&format!("{name} is no name of a table of this database"))),
        };
        let (first, last) = (idents[0], idents[idents.len() - 1]);
        let at = self.lines.range(first)?.start..self.lines.range(last)?.end;
        self.relations.push(Relation { table, at, aliased });
        Ok(())
    }
}

impl Visitor for Reader<'_> {
    type Break = Error;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Error> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(refused("the past can only be read")),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(refused("nobody can lock what was"));
        }
        let foreign = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if foreign || matches!(*query.body, SetExpr::Table(_)) {
            return ControlFlow::Break(refused("write it as a SELECT"));
        }
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.own.push(self.folded(&cte.alias.name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        match select.into {
            Some(_) => ControlFlow::Break(refused("the past can only be read")),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_relation(&mut self, _: &ObjectName) -> ControlFlow<Error> {
        self.names += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                partitions,
                json_path,
                sample,
                index_directives,
                inheritance,
                ..
            } => {
                self.names -= 1;
                let particular = !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || sample.is_some()
                    || !index_directives.is_empty()
                    || inheritance.is_some();
                if particular {
                    return ControlFlow::Break(refused(&format!(
                        "it reads {name} in a particular way, by an index, a partition or the like"
                    )));
                }
                // With arguments it is a function.
                if args.is_none()
                    && let Err(error) = self.relation(name, alias.is_some())
                {
                    return ControlFlow::Break(error);
                }
                ControlFlow::Continue(())
            }
            TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            other => ControlFlow::Break(refused(&format!("{other} is not understood"))),
        }
    }
}

/// Where each line of a text begins: the parser counts lines and characters, from 1.
struct Lines<'s> {
    sql: &'s str,
    starts: Vec<usize>,
}

impl<'s> Lines<'s> {
    fn of(sql: &'s str) -> Self {
        let starts = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { sql, starts }
    }

    /// The bytes of an identifier, its quotes included.
    fn range(&self, ident: &Ident) -> Result<Range<usize>> {
        let span = ident.span;
        let range = self.at(span.start)?..self.at(span.end)?;
        // Whatever the parser says, nothing is cut that is not the name.
        let text = self.sql.get(range.clone()).unwrap_or_default();
        let value = match ident.quote_style {
            None => text.to_owned(),
            Some(open) => {
                let close = if open == '[' { ']' } else { open };
                let inside =
                    text.strip_prefix(open).and_then(|text| text.strip_suffix(close)).unwrap_or_default();
                inside.replace(&format!("{close}{close}"), &close.to_string())
            }
        };
        if value == ident.value {
            return Ok(range);
        }
        Err(refused(&format!("the place of {} in it is not clear", ident.value)))
    }

    fn at(&self, location: Location) -> Result<usize> {
        let unclear = || refused("a place in it is not clear");
        let line = usize::try_from(location.line).ok().and_then(|line| line.checked_sub(1));
        let start = *line.and_then(|line| self.starts.get(line)).ok_or_else(unclear)?;
        let column = usize::try_from(location.column).ok().and_then(|column| column.checked_sub(1));
        let rest = &self.sql[start..];
        let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
        column.and_then(|column| ends.into_iter().nth(column)).map(|at| start + at).ok_or_else(unclear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Database; 3] = [Database::Postgres, Database::Sqlite, Database::MariaDb];

    fn instead(database: Database, sql: &str) -> String {
        let question = Question::read(database, sql).unwrap();
        let tables: Vec<(TableName, String)> = question
            .tables()
            .into_iter()
            .map(|table| (table.clone(), format!("SELECT '{}'", table.name)))
            .collect();
        question.instead(&tables)
    }

    #[test]
    fn names_are_exchanged_and_nothing_else() {
        assert_eq!(
            instead(
                Database::Sqlite,
                "SELECT * -- of orders\nFROM orders, 'x', \"my \"\"own\"\"\" AS o WHERE a = 'orders'"
            ),
            "WITH \"afterimage_then_0\" AS NOT MATERIALIZED (\nSELECT 'orders'\n),\n\"afterimage_then_1\" AS NOT MATERIALIZED (\nSELECT 'x'\n),\n\"afterimage_then_2\" AS NOT MATERIALIZED (\nSELECT 'my \"own\"'\n)\nSELECT * -- of orders\nFROM \"afterimage_then_0\" AS \"orders\", \"afterimage_then_1\" AS \"x\", \"afterimage_then_2\" AS o WHERE a = 'orders'"
        );
        assert_eq!(
            instead(Database::Postgres, "SELECT 'ü', * FROM Shop.Orders WHERE id = $1"),
            "WITH \"afterimage_then_0\" AS NOT MATERIALIZED (\nSELECT 'orders'\n)\nSELECT 'ü', * FROM \"afterimage_then_0\" AS \"orders\" WHERE id = $1"
        );
        assert_eq!(
            instead(Database::MariaDb, "SELECT `orders`.`id` FROM `orders` WHERE `id` IN (?, ?)"),
            "WITH \"afterimage_then_0\" AS (\nSELECT 'orders'\n)\nSELECT `orders`.`id` FROM \"afterimage_then_0\" AS \"orders\" WHERE `id` IN (?, ?)"
        );
    }

    #[test]
    fn wherever_a_table_is_read_it_is_found() {
        for (sql, tables) in [
            ("SELECT 1", ""),
            (
                "SELECT (SELECT max(x) FROM a) FROM b WHERE EXISTS (SELECT 1 FROM c) ORDER BY (SELECT 1 FROM d)",
                "a b c d",
            ),
            (
                "SELECT * FROM a JOIN (b JOIN c ON 1 = 1) ON 1 = 1 LEFT JOIN (SELECT * FROM d) AS e ON e.x = a.x",
                "a b c d",
            ),
            ("SELECT x FROM a UNION SELECT x FROM b UNION ALL SELECT x FROM a", "a b"),
            ("WITH q AS (SELECT * FROM a), r AS (SELECT * FROM q) SELECT * FROM r, b", "a b"),
            ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t, a) SELECT n FROM t", "a"),
            (
                "SELECT CASE WHEN x IN (SELECT y FROM a) THEN 1 END, count(*) FROM b GROUP BY (SELECT 1 FROM c) HAVING (SELECT 1 FROM d) = 1 LIMIT 1",
                "a b c d",
            ),
        ] {
            for database in ALL {
                let question = Question::read(database, sql).unwrap();
                let mut found: Vec<&str> =
                    question.tables().iter().map(|table| table.name.as_str()).collect();
                found.sort_unstable();
                assert_eq!(found.join(" "), tables, "{database}: {sql}");
            }
        }
    }

    #[test]
    fn a_page_in_the_order_of_the_key_stops_early() {
        let key = ["Id".to_owned(), "no".to_owned()];
        for (sql, first) in [
            ("SELECT * FROM a LIMIT 1", true),
            (
                "SELECT a.x, 1 AS one, CAST(y AS CHAR) FROM a WHERE x > 3 ORDER BY \"Id\" DESC LIMIT 5 OFFSET 10",
                true,
            ),
            ("SELECT \"Id\" FROM a AS b ORDER BY b.\"Id\", b.no, b.x LIMIT 5", true),
            ("SELECT * FROM a", false),
            ("SELECT * FROM a ORDER BY \"Id\"", false),
            ("SELECT * FROM a ORDER BY x LIMIT 5", false),
            ("SELECT * FROM a ORDER BY \"Id\" DESC, no LIMIT 5", false),
            ("SELECT count(*) FROM a LIMIT 1", false),
            ("SELECT DISTINCT x FROM a LIMIT 1", false),
            ("SELECT x FROM a GROUP BY x LIMIT 1", false),
            ("SELECT * FROM a JOIN b ON b.x = a.x LIMIT 1", false),
            ("SELECT * FROM a WHERE x IN (SELECT x FROM b) LIMIT 1", false),
            ("SELECT x FROM a UNION SELECT x FROM a LIMIT 1", false),
        ] {
            for database in ALL {
                let sql = if database == Database::MariaDb { sql.replace('"', "`") } else { sql.to_owned() };
                let question = Question::read(database, &sql).unwrap();
                assert_eq!(question.takes_the_first_by(&key), first, "{database}: {sql}");
            }
        }
        let question = Question::read(Database::Sqlite, "SELECT * FROM a ORDER BY ID LIMIT 1").unwrap();
        assert!(question.takes_the_first_by(&key));
    }

    #[test]
    fn what_it_calls_its_own_goes_on_after_ours() {
        assert_eq!(
            instead(Database::Sqlite, "WITH q AS (SELECT * FROM a) SELECT * FROM q"),
            "WITH \"afterimage_then_0\" AS NOT MATERIALIZED (\nSELECT 'a'\n),\nq AS (SELECT * FROM \"afterimage_then_0\" AS \"a\") SELECT * FROM q"
        );
        let question = Question::read(Database::Sqlite, "WITH Q AS (SELECT 1) SELECT * FROM q").unwrap();
        assert_eq!((question.own_names(), question.tables().len()), (&["Q".to_owned()][..], 0));
    }

    #[test]
    fn what_writes_locks_or_is_not_understood_is_refused() {
        for sql in [
            "",
            "nonsense",
            "SELECT 1; SELECT 2",
            "DELETE FROM a",
            "UPDATE a SET x = 1",
            "INSERT INTO a SELECT * FROM b",
            "DROP TABLE a",
            "SELECT * FROM a FOR UPDATE",
            "SELECT * FROM (SELECT * FROM a FOR UPDATE) AS x",
            "SELECT * FROM one.two.a",
            "TABLE a",
            "EXPLAIN SELECT * FROM a",
            "SET x = 1",
        ] {
            for database in ALL {
                assert!(Question::read(database, sql).is_err(), "{database}: {sql}");
            }
        }
        for sql in [
            "WITH gone AS (DELETE FROM a RETURNING x) SELECT * FROM gone",
            "SELECT * INTO b FROM a",
            "SELECT * FROM ONLY a",
            "SELECT * FROM a TABLESAMPLE SYSTEM (10)",
        ] {
            assert!(Question::read(Database::Postgres, sql).is_err(), "{sql}");
        }
        for sql in [
            "SELECT * FROM a PARTITION (p0)",
            "SELECT * FROM a USE INDEX (i)",
            "SELECT * FROM a LOCK IN SHARE MODE",
            "SELECT x INTO OUTFILE '/tmp/x' FROM a",
            "SELECT 'a\\' FROM b -- '",
        ] {
            assert!(Question::read(Database::MariaDb, sql).is_err(), "{sql}");
        }
        assert!(Question::read(Database::Sqlite, "SELECT * FROM a INDEXED BY i").is_err());
        assert!(Question::read(Database::Sqlite, "SELECT 1 WHERE 1 IN a").is_err());
    }
}
