//! What a benchmark prints: figures with their units and what is wanted of them, as text or as JSON.

use std::fmt;

use serde::Serialize;

/// The figures of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub benchmark: &'static str,
    /// How it was measured.
    pub method: String,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// The most it may be, where something is wanted of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

impl Figure {
    /// A figure of which nothing is wanted: a baseline.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, at_most: None }
    }

    /// A figure that may be so much.
    pub fn at_most(what: impl Into<String>, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { at_most: Some(bound), ..Self::new(what, value, unit) }
    }

    /// Whether it is what is wanted.
    pub fn holds(&self) -> bool {
        self.at_most.is_none_or(|bound| self.value <= bound)
    }
}

impl Report {
    /// Whether every figure is what is wanted.
    pub fn holds(&self) -> bool {
        self.figures.iter().all(Figure::holds)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.benchmark, self.method)?;
        let width = self.figures.iter().map(|figure| figure.what.chars().count()).max().unwrap_or(0);
        for figure in &self.figures {
            let Figure { what, value, unit, at_most } = figure;
            write!(f, "  {what:width$}  {value:>12.3} {unit}")?;
            if let Some(bound) = at_most {
                write!(f, "  (at most {bound}: {})", if figure.holds() { "yes" } else { "NO" })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
