//! What was measured, as tables of Markdown.

use std::fmt::Write as _;

/// What one side did in one round: figures by name, in seconds unless their name says another unit.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// A side of a comparison, and what it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) name: String,
    /// The side without any audit that does the same through the same layer.
    pub(crate) base: String,
}

/// All rounds of a workload.
#[derive(Debug)]
pub(crate) struct Measured {
    title: String,
    about: String,
    sides: Vec<(Side, Vec<Figures>)>,
}

impl Measured {
    pub(crate) fn new(title: impl Into<String>, about: impl Into<String>) -> Self {
        Self { title: title.into(), about: about.into(), sides: Vec::new() }
    }

    pub(crate) fn add(&mut self, side: &Side, figures: Figures) {
        match self.sides.iter_mut().find(|(known, _)| known == side) {
            Some((_, rounds)) => rounds.push(figures),
            None => self.sides.push((side.clone(), vec![figures])),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (name, _) in self.sides.iter().flat_map(|(_, rounds)| rounds.iter().flatten()) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    fn values(&self, side: &str, figure: &str) -> Vec<f64> {
        let rounds = self.sides.iter().filter(|(known, _)| known.name == side).flat_map(|(_, rounds)| rounds);
        let of =
            |figures: &Figures| figures.iter().find(|(name, _)| *name == figure).map(|(_, value)| *value);
        rounds.filter_map(of).collect()
    }

    /// The median of each figure of each side.
    pub(crate) fn all(&self) -> Vec<(&str, &'static str, f64)> {
        let names = self.names();
        let sides = self.sides.iter().map(|(side, _)| side.name.as_str());
        sides
            .flat_map(|side| names.iter().map(move |name| (side, *name)))
            .filter_map(|(side, name)| Some((side, name, self.median(side, name)?)))
            .collect()
    }

    /// The median of a figure.
    pub(crate) fn median(&self, side: &str, figure: &str) -> Option<f64> {
        median(self.values(side, figure))
    }

    /// How many times the base a side took: the median over the rounds, each compared with the base's in the same round.
    pub(crate) fn ratio(&self, side: &str, base: &str, figure: &str) -> Option<f64> {
        let pairs = self.values(side, figure).into_iter().zip(self.values(base, figure));
        median(pairs.map(|(own, base)| own / base).collect())
    }

    fn cell(&self, side: &Side, figure: &str) -> String {
        let Some(value) = self.median(&side.name, figure) else { return String::new() };
        let shown = shown(figure, value);
        match self.ratio(&side.name, &side.base, figure) {
            Some(ratio) if side.base != side.name => format!("{shown} ({ratio:.2})"),
            _ => shown,
        }
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// What it is, and a table with a row for each side, or, where there are more figures than sides, for each figure.
    pub(crate) fn markdown(&self) -> String {
        let names = self.names();
        let sides: Vec<&Side> = self.sides.iter().map(|(side, _)| side).collect();
        let mut text = format!("{}\n\n", self.about);
        let mut line = |first: &str, cells: Vec<String>| {
            let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
        };
        let rule = |count: usize| vec!["---".to_owned(); count];
        if names.len() > sides.len() {
            line("", sides.iter().map(|side| side.name.clone()).collect());
            line("---", rule(sides.len()));
            for name in names {
                line(name, sides.iter().map(|side| self.cell(side, name)).collect());
            }
        } else {
            line("", names.iter().map(|name| (*name).to_owned()).collect());
            line("---", rule(names.len()));
            for side in sides {
                line(&side.name, names.iter().map(|name| self.cell(side, name)).collect());
            }
        }
        text
    }
}

/// A value with its unit.
pub(crate) fn shown(figure: &str, value: f64) -> String {
    if figure.contains("bytes") {
        return format!("{value:.0}");
    }
    let (value, unit) = match value {
        _ if value >= 1.0 => (value, "s"),
        _ if value >= 1e-3 => (value * 1e3, "ms"),
        _ => (value * 1e6, "µs"),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// The value below which such a part of all is.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    let at = ((values.len().saturating_sub(1)) as f64 * part).ceil() as usize;
    values.get(at).copied().unwrap_or_default()
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_middle_one_of_those_of_each_round() {
        let side = |name: &str| Side { name: name.to_owned(), base: "plain".to_owned() };
        let mut measured = Measured::new("Updates", "One row each.");
        for (plain, own) in [(1e-3, 2e-3), (2e-3, 3e-3), (1e-3, 9e-3)] {
            measured.add(&side("plain"), vec![("update", plain)]);
            measured.add(&side("snapshot"), vec![("update", own)]);
        }
        assert_eq!(measured.ratio("snapshot", "plain", "update"), Some(2.0));
        let table = "| | update |\n| --- | --- |\n| plain | 1.00 ms |\n| snapshot | 3.00 ms (2.00) |\n";
        assert_eq!(measured.markdown(), format!("One row each.\n\n{table}").replace("| |", "|  |"));
    }
}
