//! What somebody should know of workloads that are not managed: that their two rows are alike for that reason, and which labels
//! and annotations of ours they have nevertheless. Whether they are managed is decided elsewhere.

use serde_json::Value;
use spotalis_core::opt_in::Mode;
use spotalis_core::policy::Carrier;
use spotalis_core::policy::keys::{self, Known};
use spotalis_sim::whatif::{Inventory, Workload};

use super::policies::{Standing, Wanted};

/// So many are named; the rest is counted.
const NAMED: usize = 8;

/// All that there is to say, in the order of names.
pub fn notes(inventory: &Inventory, wanted: &[Wanted], mode: Mode) -> Vec<String> {
    let all: Vec<(&Workload, Standing)> =
        inventory.workloads.iter().zip(wanted).map(|(workload, wanted)| (workload, wanted.standing)).collect();
    let mut notes: Vec<String> = all
        .iter()
        .filter(|(_, standing)| *standing != Standing::Managed)
        .filter_map(|(workload, standing)| {
            without_effect(&workload.object, *standing)
                .map(|what| format!("{} {} is not managed: {what}", workload.kind.word(), workload.name))
        })
        .collect();
    let is_managed = |namespace: &str| {
        let theirs = |workload: &Workload| workload.name.split_once('/').is_some_and(|(its, _)| its == namespace);
        all.iter().any(|(workload, standing)| *standing == Standing::Managed && theirs(workload))
    };
    notes.extend(inventory.namespaces.iter().filter_map(|namespace| {
        let name = namespace["metadata"]["name"].as_str().filter(|name| !is_managed(name))?;
        let what = without_effect(namespace, Standing::OptedOut)?;
        Some(format!("nothing in Namespace {name} is managed: {what}"))
    }));
    notes.extend(alike(&all, mode));
    notes
}

/// That of some the two rows are alike, and what would change it. Who says no is meant, unless nobody says yes.
fn alike(all: &[(&Workload, Standing)], mode: Mode) -> Option<String> {
    let none = all.iter().all(|(_, standing)| *standing != Standing::Managed);
    let says_no = |workload: &Workload| workload.object["metadata"]["labels"][keys::ENABLED] == "false";
    let out = all.iter().filter(|(workload, standing)| {
        // The others are named one by one, with what is missing.
        *standing == Standing::OptedOut && (none || !says_no(workload))
    });
    let out: Vec<&str> = out.map(|(workload, _)| &*workload.name).collect();
    if out.is_empty() {
        return None;
    }
    let named = out.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = match out.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let who = match mode {
        Mode::Both => "both on the workload and on its Namespace",
        Mode::Either => "on the workload or on its Namespace",
    };
    Some(format!(
        "{} of {} workloads are not opted in, so Spotalis leaves them alone and their rows with and without it are alike: \
         {named}{more}; the label {}: \"true\" opts in, {who}",
        out.len(),
        all.len(),
        keys::ENABLED
    ))
}

/// What an object that is not managed says to Spotalis in vain. Of one that is half opted in the missing word is told elsewhere, so
/// only what is wrong is told here.
fn without_effect(object: &Value, standing: Standing) -> Option<String> {
    let carriers = [(Carrier::Label, "labels"), (Carrier::Annotation, "annotations")];
    let all = carriers.into_iter().flat_map(|(carrier, field)| {
        let pairs = object["metadata"][field].as_object().into_iter().flatten();
        pairs.filter(|(key, _)| key.starts_with(keys::PREFIX)).map(move |(key, value)| (carrier, key, value))
    });
    let told = all.filter_map(|(carrier, key, value)| {
        let what = match keys::look_up(key) {
            Known::ByUs => return None,
            Known::Unknown(Some(meant)) => format!("is unknown; did you mean {meant}?"),
            Known::Unknown(None) => "is unknown".to_owned(),
            Known::ByPeople(read) if !read.contains(&carrier) => format!("is read only as {}", read.first()?),
            Known::ByPeople(_) if key == keys::ENABLED => match value.as_str() {
                Some("true" | "false") => return None,
                _ => format!("is {value}, and has to be exactly \"true\""),
            },
            Known::ByPeople(_) if standing == Standing::HalfOptedIn => return None,
            Known::ByPeople(_) => "has no effect".to_owned(),
        };
        Some(format!("{carrier} {key} {what}"))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spotalis_config::Config;
    use spotalis_sim::whatif::{Assumptions, read};

    use super::super::policies;
    use super::*;

    /// The notes about Deployments with this metadata, in a namespace with this one.
    fn told(namespace: &str, workloads: &[&str], mode: Mode) -> Vec<String> {
        let deployment = |metadata: &&str| {
            let template = "{metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: a}]}}";
            format!(
                "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{namespace: shop, {metadata}}}\n\
                 spec: {{selector: {{matchLabels: {{app: a}}}}, template: {template}}}\n"
            )
        };
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, {namespace}}}\n")
            + &workloads.iter().map(deployment).collect::<String>();
        let assumptions = Assumptions { namespace: "default".to_owned(), ready_after: Duration::ZERO };
        let inventory = Inventory::of(read("a.yaml", &text).unwrap(), &assumptions).unwrap();
        let wanted = policies::wanted(&inventory, &Config::defaults());
        notes(&inventory, &wanted, mode)
    }

    const YES: &str = "labels: {spotalis.io/enabled: 'true'}";

    #[test]
    fn who_is_not_opted_in_is_counted_in_one_note() {
        let many: Vec<String> = (0..10).map(|number| format!("name: w{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told_of_all = told("annotations: {}", &many, Mode::Both);
        let wanted = "10 of 10 workloads are not opted in, so Spotalis leaves them alone and their rows with and without it are \
                      alike: shop/w0, shop/w1, shop/w2, shop/w3, shop/w4, shop/w5, shop/w6, shop/w7 and 2 more; the label \
                      spotalis.io/enabled: \"true\" opts in, both on the workload and on its Namespace";
        assert_eq!(told_of_all, [wanted]);
        let no = "name: declines, labels: {spotalis.io/enabled: 'false'}";
        let yes = format!("name: asks, {YES}");
        assert_eq!(told(YES, &[&yes, no], Mode::Both), [""; 0], "who says no is meant");
        let alone = told(YES, &[no], Mode::Either);
        assert!(alone.len() == 1 && alone[0].starts_with("1 of 1 workloads are not opted in"), "{alone:?}");
        assert!(alone[0].ends_with("opts in, on the workload or on its Namespace"), "{alone:?}");
        assert_eq!(told(YES, &["name: half"], Mode::Both), [""; 0], "half is told with what is missing");
    }

    #[test]
    fn what_says_something_in_vain_is_named() {
        for (namespace, workload, wanted) in [
            (
                "annotations: {}",
                "labels: {spotalis.io/enable: 'true'}",
                "Deployment shop/w is not managed: label spotalis.io/enable is unknown; did you mean spotalis.io/enabled?",
            ),
            (
                YES,
                "labels: {spotalis.io/enabled: 'True'}",
                "Deployment shop/w is not managed: label spotalis.io/enabled is \"True\", and has to be exactly \"true\"",
            ),
            (
                "annotations: {}",
                "annotations: {spotalis.io/enabled: 'true', spotalis.io/spot-percentage: '50', a.b/c: d}",
                "Deployment shop/w is not managed: annotation spotalis.io/enabled is read only as label, annotation \
                 spotalis.io/spot-percentage has no effect",
            ),
            (
                "labels: {spotalis.io/enabled: 'yes', spotalis.io/colour: red}",
                "annotations: {}",
                "nothing in Namespace shop is managed: label spotalis.io/colour is unknown, label spotalis.io/enabled is \"yes\", \
                 and has to be exactly \"true\"",
            ),
        ] {
            let told = told(namespace, &[&format!("name: w, {workload}")], Mode::Both);
            assert!(told.contains(&wanted.to_owned()), "{wanted}: {told:?}");
        }
    }
}
