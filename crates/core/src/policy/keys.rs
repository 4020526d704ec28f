//! Every `spotalis.io/…` key there is, who sets it, and what a misspelt one was meant to be.
//!
//! No other place writes such a key out.

use crate::suggest;

use super::Carrier;

/// What all keys on workloads, namespaces, pods and nodes begin with.
pub const PREFIX: &str = "spotalis.io/";

/// Label of namespaces and workloads: `"true"` opts in.
pub const ENABLED: &str = "spotalis.io/enabled";
/// Annotation: the share of replicas wanted on spot.
pub const SPOT_PERCENTAGE: &str = "spotalis.io/spot-percentage";
/// Annotation: the replicas that always stay on on-demand.
pub const MIN_ON_DEMAND: &str = "spotalis.io/min-on-demand";
/// Annotation: how strictly pods are steered.
pub const PLACEMENT: &str = "spotalis.io/placement";
/// Annotation: how long a pod waits for spot.
pub const SPOT_FALLBACK_AFTER: &str = "spotalis.io/spot-fallback-after";
/// Annotation: when the disruption window opens.
pub const DISRUPTION_SCHEDULE: &str = "spotalis.io/disruption-schedule";
/// Annotation: how long the disruption window stays open.
pub const DISRUPTION_DURATION: &str = "spotalis.io/disruption-duration";
/// Annotation: whose clock the disruption window follows.
pub const DISRUPTION_TIME_ZONE: &str = "spotalis.io/disruption-time-zone";
/// Label or annotation: whether a single replica is protected.
pub const PROTECT: &str = "spotalis.io/protect";

/// Pod label, ours: the type the pod was steered to.
pub const CAPACITY_TYPE: &str = "spotalis.io/capacity-type";
/// Pod annotation, ours: the slot the pod took.
pub const SLOT: &str = "spotalis.io/slot";
/// Pod annotation, ours: settles the reservation made at admission.
pub const ADMISSION_ID: &str = "spotalis.io/admission-id";
/// Pod annotation, ours: why this type, for people.
pub const PLACEMENT_REASON: &str = "spotalis.io/placement-reason";
/// Node annotation and taint, ours: the record of an interruption.
pub const INTERRUPTION: &str = "spotalis.io/interruption";
/// Node taint, ours: a fallback node on its way out.
pub const SCALE_DOWN: &str = "spotalis.io/scale-down";
/// `ConfigMap` label, ours: what kind of record it holds.
pub const RECORD: &str = "spotalis.io/record";
/// Lease annotation, ours: where the leader answers its followers.
pub const PEER_ADDRESS: &str = "spotalis.io/peer-address";

/// Node label of the preset `spotalis`, for nodes that people label themselves.
pub const NODE_CAPACITY: &str = "capacity.spotalis.io";

/// What people set, and where each key is read.
const SET_BY_PEOPLE: [(&str, &[Carrier]); 9] = [
    (ENABLED, &[Carrier::Label]),
    (SPOT_PERCENTAGE, &[Carrier::Annotation]),
    (MIN_ON_DEMAND, &[Carrier::Annotation]),
    (PLACEMENT, &[Carrier::Annotation]),
    (SPOT_FALLBACK_AFTER, &[Carrier::Annotation]),
    (DISRUPTION_SCHEDULE, &[Carrier::Annotation]),
    (DISRUPTION_DURATION, &[Carrier::Annotation]),
    (DISRUPTION_TIME_ZONE, &[Carrier::Annotation]),
    (PROTECT, &[Carrier::Label, Carrier::Annotation]),
];

/// What we set ourselves. Templates and controllers copy such keys from object to object, so none is ever a mistake.
const SET_BY_US: [&str; 8] =
    [CAPACITY_TYPE, SLOT, ADMISSION_ID, PLACEMENT_REASON, INTERRUPTION, SCALE_DOWN, RECORD, PEER_ADDRESS];

/// What a `spotalis.io/…` key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Set by people; read only here.
    ByPeople(&'static [Carrier]),
    /// Set by us.
    ByUs,
    /// Nobody's; perhaps this one was meant.
    Unknown(Option<&'static str>),
}

/// Looks a key up that begins with [`PREFIX`].
pub fn look_up(key: &str) -> Known {
    if let Some((_, carriers)) = SET_BY_PEOPLE.iter().find(|(known, _)| *known == key) {
        return Known::ByPeople(carriers);
    }
    if SET_BY_US.contains(&key) {
        return Known::ByUs;
    }
    // Compared without the prefix, which would make every mistake look small.
    let word = key.strip_prefix(PREFIX).unwrap_or(key);
    let words = SET_BY_PEOPLE.iter().map(|(known, _)| &known[PREFIX.len()..]);
    let meant = suggest::closest(word, words);
    Known::Unknown(meant.and_then(full_name))
}

/// The closed set of label values for metrics that count by key.
pub fn metric_label(key: &str) -> &'static str {
    SET_BY_PEOPLE.iter().find(|(known, _)| *known == key).map_or("unknown", |(known, _)| &known[PREFIX.len()..])
}

fn full_name(word: &str) -> Option<&'static str> {
    SET_BY_PEOPLE.iter().map(|(known, _)| *known).find(|known| &known[PREFIX.len()..] == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::check_key;

    #[test]
    fn every_key_is_a_valid_key_under_the_prefix() {
        for key in SET_BY_PEOPLE.iter().map(|(key, _)| *key).chain(SET_BY_US) {
            assert!(key.starts_with(PREFIX) && check_key(key).is_ok(), "{key}");
        }
        assert!(check_key(NODE_CAPACITY).is_ok());
    }

    #[test]
    fn unknown_keys_are_guessed() {
        for (key, wanted) in [
            ("spotalis.io/spot-percentage", Known::ByPeople(&[Carrier::Annotation])),
            ("spotalis.io/protect", Known::ByPeople(&[Carrier::Label, Carrier::Annotation])),
            ("spotalis.io/slot", Known::ByUs),
            ("spotalis.io/spot-precentage", Known::Unknown(Some(SPOT_PERCENTAGE))),
            ("spotalis.io/enable", Known::Unknown(Some(ENABLED))),
            ("spotalis.io/disruption-timezone", Known::Unknown(Some(DISRUPTION_TIME_ZONE))),
            ("spotalis.io/colour", Known::Unknown(None)),
            ("spotalis.io/", Known::Unknown(None)),
        ] {
            assert_eq!(look_up(key), wanted, "{key}");
        }
    }

    #[test]
    fn metric_labels_are_a_closed_set() {
        assert_eq!(metric_label(DISRUPTION_TIME_ZONE), "disruption-time-zone");
        assert_eq!(metric_label("spotalis.io/whatever-somebody-wrote"), "unknown");
        assert_eq!(metric_label(SLOT), "unknown");
    }
}
