//! Statements that take the first rows of one table: worth reading in the order of its key, so that it stops early.

use sqlparser::ast::{
    Expr, GroupByExpr, Ident, LimitClause, OrderByKind, OrderByOptions, OrderBySort, Query, Select,
    SelectItem, SetExpr,
};

/// The columns by which a query orders the rows of which it takes the first: none where it takes any. Nothing for a query
/// that has to see them all.
pub(super) fn ordered_by(query: &Query) -> Option<Vec<&Ident>> {
    let limited = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => limit.is_some(),
        Some(LimitClause::OffsetCommaLimit { .. }) => true,
        None => query.fetch.is_some(),
    };
    let SetExpr::Select(select) = &*query.body else { return None };
    if !limited || query.with.is_some() || !is_row_by_row(select) {
        return None;
    }
    let Some(order) = &query.order_by else { return Some(Vec::new()) };
    let OrderByKind::Expressions(terms) = &order.kind else { return None };
    let directions: Vec<bool> = terms.iter().map(|term| ascends(&term.options)).collect::<Option<_>>()?;
    if directions.windows(2).any(|pair| pair[0] != pair[1]) {
        return None;
    }
    terms.iter().map(|term| column(&term.expr)).collect()
}

/// Each row that it gives is one of one table's.
fn is_row_by_row(select: &Select) -> bool {
    let [from] = select.from.as_slice() else { return false };
    let one_table = from.joins.is_empty() && select.lateral_views.is_empty();
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(terms, _) if terms.is_empty())
        || select.having.is_some()
        || select.distinct.is_some();
    let plain = select.projection.iter().all(|item| match item {
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => true,
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => match expr {
            Expr::Value(_) => true,
            Expr::Cast { expr, .. } => column(expr).is_some(),
            expr => column(expr).is_some(),
        },
        SelectItem::ExprWithAliases { .. } => false,
    });
    one_table && !grouped && plain
}

/// Whether a term goes upwards; nothing for an order of its own.
fn ascends(options: &OrderByOptions) -> Option<bool> {
    match (&options.sort, options.nulls_first) {
        (None | Some(OrderBySort::Asc), None) => Some(true),
        (Some(OrderBySort::Desc), None) => Some(false),
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}
