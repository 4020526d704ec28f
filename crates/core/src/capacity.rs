//! The two kinds of capacity a replica can be wanted on.

use std::fmt;

/// What a replica is wanted on, or what a node is known to be.
///
/// A node that matches neither class, or both, is *unknown*: `Option<CapacityType>` with `None`. Unknown is never wanted,
/// which is why it is not a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapacityType {
    /// Cheap capacity that the cloud takes back at short notice.
    Spot,
    /// Capacity that stays until it is given back.
    OnDemand,
}

impl CapacityType {
    /// Both types, in the order in which every table shows them.
    pub const ALL: [Self; 2] = [Self::Spot, Self::OnDemand];

    /// The other type.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Spot => Self::OnDemand,
            Self::OnDemand => Self::Spot,
        }
    }

    /// The word of labels and sentences: `spot`, `on-demand`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::OnDemand => "on-demand",
        }
    }

    /// The value of the metric label `type`: `spot`, `on_demand`.
    pub const fn as_metric_label(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::OnDemand => "on_demand",
        }
    }

    /// Reads the word that [`Self::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == word)
    }
}

impl fmt::Display for CapacityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
