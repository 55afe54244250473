//! Pieces of expressions that all databases share.

use crate::layout::{self, Field, Layout};
use crate::name::Quoted;

/// `alias.column`, quoted.
pub(super) fn col(alias: &str, column: &str) -> String {
    format!("{alias}.{}", Quoted::new(column))
}

/// Joins the parts with an operator as a balanced tree: a thousand columns are no thousand levels deep.
pub(super) fn balanced(parts: &[String], operator: &str, empty: &str) -> String {
    match parts {
        [] => empty.to_owned(),
        [one] => one.clone(),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            format!("({} {operator} {})", balanced(left, operator, empty), balanced(right, operator, empty))
        }
    }
}

/// Whether a record's mask names the field or holds the full row.
pub(super) fn mask_names(alias: &str, field: &Field) -> String {
    let full = 1_i64 << layout::FULL_BIT;
    let (word, bit) = field.word_and_bit();
    if word == 0 {
        return format!("({alias}.history_changed & {}) <> 0", full | bit);
    }
    format!(
        "(({alias}.history_changed & {full}) <> 0 OR ({alias}.{} & {bit}) <> 0)",
        layout::word_column(word)
    )
}

/// Whether a record's row is gone after it, where that matters.
pub(super) fn is_gone(alias: &str, gone: Option<bool>) -> String {
    match gone {
        Some(true) => format!("{alias}.history_type = '-'"),
        Some(false) => format!("{alias}.history_type <> '-'"),
        None => "1 = 1".to_owned(),
    }
}

/// The fields of each word of the mask.
pub(super) fn fields_by_word(layout: &Layout) -> Vec<Vec<&Field>> {
    let mut words = vec![Vec::new(); layout.words()];
    for field in &layout.fields {
        words[field.word_and_bit().0].push(field);
    }
    words
}

/// The mask of a record that names every field and holds the full row, as literals.
pub(super) fn full_mask(layout: &Layout) -> Vec<String> {
    layout.full_mask().iter().map(ToString::to_string).collect()
}

/// Indents every line but the first.
pub(super) fn indented(text: &str, spaces: usize) -> String {
    text.replace('\n', &format!("\n{:spaces$}", ""))
}

#[cfg(test)]
mod tests {
    use super::balanced;

    #[test]
    fn a_thousand_parts_are_ten_levels_deep() {
        let parts: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
        let text = balanced(&parts, "+", "0");
        let (_, deepest) = text.chars().fold((0_i32, 0), |(depth, deepest), c| {
            let depth = depth + i32::from(c == '(') - i32::from(c == ')');
            (depth, deepest.max(depth))
        });
        assert_eq!(deepest, 10);
    }
}
