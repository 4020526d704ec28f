//! Decides which capacity type a node is, by its labels, and what a pod needs to get onto a node of a type.
//!
//! Knows what the common provisioners call spot and on-demand. It reads no node and adds nothing to a pod: the former
//! is the index's, the latter `steering`'s.

use std::collections::BTreeSet;

use crate::capacity::CapacityType;
use crate::selector::{self, Labels, Operator, Requirement, Selector, SelectorError};

/// How nodes of one capacity type are known, and what a pod must tolerate to run there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapacityClass {
    /// Matches the labels of its nodes.
    pub selector: Selector,
    /// Added to pods steered here.
    pub tolerations: Vec<Toleration>,
}

/// Both classes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapacityClasses {
    /// The class of [`CapacityType::Spot`].
    pub spot: CapacityClass,
    /// The class of [`CapacityType::OnDemand`].
    pub on_demand: CapacityClass,
}

/// A provisioner whose labels are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// Karpenter: `karpenter.sh/capacity-type`. Its third value, `reserved`, is capacity somebody bought for a purpose:
    /// neither class, so it is never asked for and never counted as either.
    Karpenter,
    /// EKS managed node groups: `eks.amazonaws.com/capacityType`.
    Eks,
    /// GKE node pools with spot VMs: `cloud.google.com/gke-spot`, absent elsewhere.
    Gke,
    /// AKS spot node pools: `kubernetes.azure.com/scalesetpriority`, which AKS also sets as a taint.
    Aks,
    /// Nodes that people label themselves: `capacity.spotalis.io`.
    Spotalis,
}

/// What a pod tolerates, as in its spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Toleration {
    /// The taint's key; `None` is every key.
    pub key: Option<Box<str>>,
    /// How the value is compared.
    pub operator: TolerationOperator,
    /// The taint's value; none with [`TolerationOperator::Exists`].
    pub value: Option<Box<str>>,
    /// The taint's effect; `None` is every effect.
    pub effect: Option<TaintEffect>,
    /// Seconds until a `NoExecute` taint evicts after all; `None` is never.
    pub toleration_seconds: Option<i64>,
}

/// How a toleration compares the taint's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TolerationOperator {
    /// The values are equal; what the API assumes when nothing is said.
    #[default]
    Equal,
    /// Any value.
    Exists,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaintEffect {
    /// New ones are not scheduled here.
    NoSchedule,
    /// New ones are scheduled here only in need.
    PreferNoSchedule,
    /// Running ones leave, too.
    NoExecute,
}

/// Why the API server would refuse every pod that carries this toleration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TolerationError {
    /// No key, yet a value to compare.
    #[error("a toleration without a key needs `operator: Exists`")]
    EqualWithoutKey,
    /// `Exists` does not look at values.
    #[error("a toleration with `operator: Exists` takes no value, remove {value:?}")]
    ExistsWithValue {
        /// The value that is too much.
        value: Box<str>,
    },
    /// Seconds mean something for `NoExecute` alone.
    #[error("`tolerationSeconds` needs `effect: NoExecute`")]
    SecondsWithoutNoExecute,
    /// Key or value is no label key or value.
    #[error(transparent)]
    Name(#[from] SelectorError),
}

/// Why two classes cannot tell nodes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassesError {
    /// The selector matches every node.
    #[error("the {0} selector is empty and so matches every node; name a label that only {0} nodes have")]
    Everything(CapacityType),
    /// Both match the same nodes.
    #[error("the spot and the on-demand selector are the same; each must match only nodes of its type")]
    Identical,
}

impl CapacityClass {
    /// The class of the nodes that `selector` matches, with nothing to tolerate.
    pub const fn new(selector: Selector) -> Self {
        Self { selector, tolerations: Vec::new() }
    }
}

impl CapacityClasses {
    /// Two classes that can tell nodes apart. Selectors that overlap are allowed, for only the nodes can say whether
    /// any of them is in both; such a node is of unknown type.
    pub fn new(spot: CapacityClass, on_demand: CapacityClass) -> Result<Self, ClassesError> {
        for (capacity, class) in [(CapacityType::Spot, &spot), (CapacityType::OnDemand, &on_demand)] {
            if class.selector.requirements.is_empty() {
                return Err(ClassesError::Everything(capacity));
            }
        }
        if spot.selector == on_demand.selector {
            return Err(ClassesError::Identical);
        }
        Ok(Self { spot, on_demand })
    }

    /// The classes of a known provisioner.
    pub fn preset(preset: Preset) -> Self {
        let by_value = |key, spot, on_demand| Self {
            spot: CapacityClass::new(only(key, Operator::In(one(spot)))),
            on_demand: CapacityClass::new(only(key, Operator::In(one(on_demand)))),
        };
        match preset {
            Preset::Karpenter => by_value("karpenter.sh/capacity-type", "spot", "on-demand"),
            Preset::Eks => by_value("eks.amazonaws.com/capacityType", "SPOT", "ON_DEMAND"),
            Preset::Spotalis => by_value("capacity.spotalis.io", "spot", "on-demand"),
            Preset::Gke => Self {
                spot: CapacityClass::new(only("cloud.google.com/gke-spot", Operator::In(one("true")))),
                on_demand: CapacityClass::new(only("cloud.google.com/gke-spot", Operator::DoesNotExist)),
            },
            Preset::Aks => Self {
                spot: CapacityClass {
                    selector: only(AKS_PRIORITY, Operator::In(one("spot"))),
                    tolerations: vec![Toleration {
                        key: Some(AKS_PRIORITY.into()),
                        operator: TolerationOperator::Equal,
                        value: Some("spot".into()),
                        effect: Some(TaintEffect::NoSchedule),
                        toleration_seconds: None,
                    }],
                },
                on_demand: CapacityClass::new(only(AKS_PRIORITY, Operator::NotIn(one("spot")))),
            },
        }
    }

    /// The class of one type.
    pub const fn of(&self, capacity: CapacityType) -> &CapacityClass {
        match capacity {
            CapacityType::Spot => &self.spot,
            CapacityType::OnDemand => &self.on_demand,
        }
    }

    /// The type of a node with these labels; `None` (unknown) when it is in neither class, or in both.
    pub fn classify(&self, node: &Labels) -> Option<CapacityType> {
        match (self.spot.selector.matches(node), self.on_demand.selector.matches(node)) {
            (true, false) => Some(CapacityType::Spot),
            (false, true) => Some(CapacityType::OnDemand),
            (true, true) | (false, false) => None,
        }
    }
}

const AKS_PRIORITY: &str = "kubernetes.azure.com/scalesetpriority";

fn only(key: &str, operator: Operator) -> Selector {
    Selector { requirements: vec![Requirement { key: key.into(), operator }] }
}

fn one(value: &str) -> BTreeSet<Box<str>> {
    BTreeSet::from([value.into()])
}

impl Preset {
    /// Every preset, in the order in which they are documented.
    pub const ALL: [Self; 5] = [Self::Karpenter, Self::Eks, Self::Gke, Self::Aks, Self::Spotalis];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Karpenter => "karpenter",
            Self::Eks => "eks",
            Self::Gke => "gke",
            Self::Aks => "aks",
            Self::Spotalis => "spotalis",
        }
    }

    /// Reads the word that [`Self::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == word)
    }
}

impl Toleration {
    /// Holds the API server's rules: a pod with a toleration that breaks one is refused.
    pub fn check(&self) -> Result<(), TolerationError> {
        let Self { key, operator, value, effect, toleration_seconds } = self;
        match key {
            Some(key) => selector::check_key(key)?,
            None if *operator == TolerationOperator::Equal => return Err(TolerationError::EqualWithoutKey),
            None => {}
        }
        match (operator, value) {
            (TolerationOperator::Exists, Some(value)) => {
                return Err(TolerationError::ExistsWithValue { value: value.clone() });
            }
            (TolerationOperator::Equal, Some(value)) => selector::check_value(value)?,
            (TolerationOperator::Exists | TolerationOperator::Equal, None) => {}
        }
        if toleration_seconds.is_some() && *effect != Some(TaintEffect::NoExecute) {
            return Err(TolerationError::SecondsWithoutNoExecute);
        }
        Ok(())
    }
}

impl TolerationOperator {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Exists => "Exists",
        }
    }

    /// Reads the word that [`Self::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Equal, Self::Exists].into_iter().find(|operator| operator.as_str() == word)
    }
}

impl TaintEffect {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }

    /// Reads the word that [`Self::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute].into_iter().find(|effect| effect.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(label: &str) -> Labels {
        label.split_once('=').map(|(key, value)| (key.into(), value.into())).into_iter().collect()
    }

    #[test]
    fn presets_tell_nodes_apart() {
        use CapacityType::{OnDemand, Spot};
        use Preset::{Aks, Eks, Gke, Karpenter, Spotalis};
        for (preset, label, wanted) in [
            (Karpenter, "karpenter.sh/capacity-type=spot", Some(Spot)),
            (Karpenter, "karpenter.sh/capacity-type=on-demand", Some(OnDemand)),
            (Karpenter, "karpenter.sh/capacity-type=reserved", None),
            (Karpenter, "", None),
            (Eks, "eks.amazonaws.com/capacityType=SPOT", Some(Spot)),
            (Eks, "eks.amazonaws.com/capacityType=ON_DEMAND", Some(OnDemand)),
            (Eks, "eks.amazonaws.com/capacityType=spot", None),
            (Gke, "cloud.google.com/gke-spot=true", Some(Spot)),
            (Gke, "", Some(OnDemand)),
            (Gke, "cloud.google.com/gke-spot=false", None),
            (Aks, "kubernetes.azure.com/scalesetpriority=spot", Some(Spot)),
            (Aks, "kubernetes.azure.com/scalesetpriority=regular", Some(OnDemand)),
            (Aks, "", Some(OnDemand)),
            (Spotalis, "capacity.spotalis.io=spot", Some(Spot)),
            (Spotalis, "capacity.spotalis.io=on-demand", Some(OnDemand)),
        ] {
            assert_eq!(CapacityClasses::preset(preset).classify(&node(label)), wanted, "{preset:?} {label:?}");
        }
    }

    #[test]
    fn presets_pass_their_own_checks() {
        for preset in Preset::ALL {
            assert_eq!(Preset::parse(preset.as_str()), Some(preset));
            let CapacityClasses { spot, on_demand } = CapacityClasses::preset(preset);
            for class in [&spot, &on_demand] {
                assert_eq!(Selector::parse(&class.selector.to_string()).as_ref(), Ok(&class.selector));
                assert!(class.tolerations.iter().all(|toleration| toleration.check().is_ok()));
            }
            assert!(CapacityClasses::new(spot, on_demand).is_ok(), "{preset:?}");
        }
    }

    #[test]
    fn a_node_in_both_classes_is_unknown() {
        let class = |selector| CapacityClass::new(Selector::parse(selector).unwrap());
        let classes = CapacityClasses::new(class("a"), class("b")).unwrap();
        let both = [("a", ""), ("b", "")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(classes.classify(&Labels::from(both)), None);
        assert_eq!(CapacityClasses::new(class("a"), class("a")), Err(ClassesError::Identical));
        assert_eq!(CapacityClasses::new(class(""), class("a")), Err(ClassesError::Everything(CapacityType::Spot)));
        assert_eq!(CapacityClasses::new(class("a"), class("")), Err(ClassesError::Everything(CapacityType::OnDemand)));
    }

    #[test]
    fn tolerations_the_api_server_would_refuse() {
        use TolerationOperator::{Equal, Exists};
        let toleration = |key: &'static str, operator, value: &'static str, effect: &str, seconds| Toleration {
            key: Some(key).filter(|key| !key.is_empty()).map(Into::into),
            operator,
            value: Some(value).filter(|value| !value.is_empty()).map(Into::into),
            effect: TaintEffect::parse(effect),
            toleration_seconds: seconds,
        };
        for (toleration, says) in [
            (toleration("a", Equal, "b", "NoSchedule", None), ""),
            (toleration("a", Equal, "", "", None), ""),
            (toleration("", Exists, "", "", None), ""),
            (toleration("a", Exists, "", "NoExecute", Some(30)), ""),
            (toleration("", Equal, "b", "", None), "needs `operator: Exists`"),
            (toleration("a", Exists, "b", "", None), "takes no value"),
            (toleration("a", Equal, "b", "NoSchedule", Some(30)), "needs `effect: NoExecute`"),
            (toleration("-", Exists, "", "", None), "label key"),
            (toleration("a", Equal, "b b", "", None), "label value"),
        ] {
            let said = toleration.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{toleration:?}: {said:?}");
        }
    }
}
