//! Answers one admission from the index: who owns the pod, what policy holds, and what the ledger says.
//!
//! Nothing here waits. That something is not known yet is an answer of its own, for the caller to wait and ask again.

use std::sync::Arc;

use jiff::Timestamp;
use spotalis_core::admission::{Doubt, Question, Shape, Verdict};
use spotalis_core::capacity::CapacityType;
use spotalis_core::opt_in::OptIn;
use spotalis_core::policy::Policy;
use spotalis_core::slots::{MAX_SLOT, Seat};
use spotalis_core::steering::{self, PodPlacement, Steering, UserConstraint};

use super::mark::Mark;
use super::{Currency, Index, PodKey, Source, View, WorkloadKey, WorkloadKind, convert};

/// A pod about to be created.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// `request.uid`.
    pub id: &'a str,
    /// Leave no trace.
    pub dry_run: bool,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name, empty for pods of ReplicaSets.
    pub name: &'a str,
    /// The API group and version of its controlling owner, such as `apps/v1`.
    pub owner_api: &'a str,
    /// The controlling owner: kind, name, UID.
    pub owner: (&'a str, &'a str, &'a str),
    /// The admission id it carries already, if any.
    pub marked: Option<&'a str>,
    /// The type it was steered to already, if any.
    pub steered: Option<CapacityType>,
    /// Label `pod-template-hash`.
    pub template_hash: Option<&'a str>,
    /// What it says about where it wants to run.
    pub placement: &'a PodPlacement<'a>,
}

/// How to look for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What is missing may still come: [`Answer::NotYet`] asks to wait for a change and to look again.
    First,
    /// There was a wait. An owner that is not known is guessed by its name, and the pod goes to on-demand in doubt; a
    /// reservation too many gives way.
    Last,
    /// As [`Look::Last`], and too late to trust anything: on-demand.
    Late,
}

/// What the index says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Not ours to touch.
    Untouched(Untouched),
    /// Something is not in the index yet: the namespace, the owner, or what makes room for one more.
    NotYet,
    /// Steered by an earlier call for the same creation. Only what another webhook took away since is to be added again.
    Already {
        /// What it was steered to.
        capacity: CapacityType,
        /// The policy that holds.
        policy: Arc<Policy>,
    },
    /// Its own constraints exclude both types: it is left alone and counts as neither.
    Unplaceable {
        /// The constraint.
        constraint: UserConstraint,
        /// The workload it belongs to.
        workload: WorkloadKey,
    },
    /// Decided.
    Decided {
        /// Where it goes.
        verdict: Verdict,
        /// The policy that holds.
        policy: Arc<Policy>,
        /// The workload it belongs to.
        workload: WorkloadKey,
    },
}

/// Why a pod is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Untouched {
    /// The workload is not opted in.
    NotManaged,
    /// Its owner is of a kind that is not managed.
    ForeignOwner,
    /// Nothing is known of its owner.
    UnknownOwner,
    /// The name of a StatefulSet's pod does not end in an ordinal of it.
    NoOrdinal,
    /// It is bound to a node already.
    Bound,
}

/// The types that a pod's own constraints leave.
enum Reach {
    Bound,
    Both,
    Only(CapacityType),
    Nowhere(UserConstraint),
}

/// The owner as the index knows it.
struct Owner {
    key: WorkloadKey,
    /// The admission id in its template, copied there by somebody.
    copied: Option<Mark>,
    shape: Option<Shape>,
}

impl Index {
    /// Decides where a pod goes.
    pub fn admit(&mut self, newcomer: &Newcomer<'_>, look: Look, now: Timestamp) -> Answer {
        let (kind, _, uid) = newcomer.owner;
        // Nobody waits for the owner of a pod that is none of our business whoever owns it.
        let rules = &self.rules.opt_in;
        let is_never = match self.namespaces.get(newcomer.namespace) {
            Some(record) => rules.never(newcomer.namespace, &record.labels).is_some(),
            None => rules.is_never_by_name(newcomer.namespace),
        };
        if is_never {
            return Answer::Untouched(Untouched::NotManaged);
        }
        if look == Look::First && !self.namespaces.contains_key(newcomer.namespace) {
            return Answer::NotYet;
        }
        let known = match (newcomer.owner_api, kind) {
            ("apps/v1", "ReplicaSet") => self.replica_set_owner(newcomer),
            ("apps/v1", "StatefulSet") => self.stateful_set_owner(newcomer),
            _ => Err(Untouched::ForeignOwner),
        };
        let (owner, unknown) = match known {
            Err(why) => return Answer::Untouched(why),
            Ok(Some(owner)) => (Some(owner), false),
            Ok(None) if look == Look::First => return Answer::NotYet,
            Ok(None) => (self.owner_by_name(newcomer), true),
        };
        let Some(Owner { key, copied, shape }) = owner else {
            return Answer::Untouched(Untouched::UnknownOwner);
        };
        let Some(record) = self.workloads.get(&key) else {
            return Answer::Untouched(Untouched::UnknownOwner);
        };
        match self.opt_in_of(&key, record) {
            OptIn::Managed => {}
            OptIn::Out | OptIn::Half(_) | OptIn::Never(_) => return Answer::Untouched(Untouched::NotManaged),
        }
        let policy = record.policy.clone();
        if let (Some(id), Some(capacity)) = (newcomer.marked, newcomer.steered)
            && copied != Some(Mark::of(id))
        {
            return Answer::Already { capacity, policy };
        }
        let pinned = match self.reach(newcomer.placement, &policy) {
            Reach::Bound => return Answer::Untouched(Untouched::Bound),
            Reach::Nowhere(constraint) => return Answer::Unplaceable { constraint, workload: key },
            Reach::Only(capacity) => Some(capacity),
            Reach::Both => None,
        };
        let question = Question {
            id: newcomer.id,
            dry_run: newcomer.dry_run,
            target: policy.target(),
            shape: shape.unwrap_or(Shape::Interchangeable { replicas: u32::MAX }),
            pinned,
            doubt: if look == Look::Late {
                Some(Doubt::Deadline)
            } else {
                self.doubt(newcomer.namespace, unknown, now)
            },
            waited: look != Look::First,
            now,
        };
        let owner = self.strings.intern(uid);
        let ledger = &mut self.owners.entry(owner.clone()).or_default().ledger;
        if ledger.is_crowded(&question) {
            return Answer::NotYet;
        }
        let verdict = ledger.decide(&question);
        self.drop_owner_if_empty(&owner);
        Answer::Decided { verdict, policy, workload: key }
    }

    /// Counts what the leader decided about a pod of this owner, until the pod is seen: so that this replica can go on
    /// from there when it has to decide itself.
    pub fn note_admission(&mut self, owner: &str, id: &str, seat: Seat, now: Timestamp) {
        let owner = self.strings.intern(owner);
        self.owners.entry(owner).or_default().ledger.note(id, seat, now);
    }

    /// Which types the pod could be steered to.
    fn reach(&self, placement: &PodPlacement<'_>, policy: &Policy) -> Reach {
        let rules = self.steering_rules(policy);
        let conflict = |capacity| match steering::steer(placement, capacity, &self.rules.classes, rules) {
            Steering::Bound => Err(Reach::Bound),
            Steering::Satisfied | Steering::Amend(_) => Ok(None),
            Steering::Conflict(conflict) => Ok(Some(conflict.constraint)),
        };
        match (conflict(CapacityType::Spot), conflict(CapacityType::OnDemand)) {
            (Err(bound), _) | (_, Err(bound)) => bound,
            (Ok(None), Ok(None)) => Reach::Both,
            (Ok(None), Ok(Some(_))) => Reach::Only(CapacityType::Spot),
            (Ok(Some(_)), Ok(None)) => Reach::Only(CapacityType::OnDemand),
            (Ok(Some(_)), Ok(Some(constraint))) => Reach::Nowhere(constraint),
        }
    }

    fn doubt(&self, namespace: &str, unknown_owner: bool, now: Timestamp) -> Option<Doubt> {
        let admission = |holds: &dyn Fn(Currency) -> bool| {
            // Budgets and provisioners play no part in admission.
            let mut views = View::REQUIRED.into_iter().filter(|view| *view != View::PodDisruptionBudgets);
            views.all(|view| self.covering(view, namespace).is_some_and(holds))
        };
        if !admission(&|currency| currency.synced) {
            Some(Doubt::ColdIndex)
        } else if unknown_owner {
            Some(Doubt::UnknownOwner)
        } else if !admission(&|currency| currency.is_fresh(now)) {
            Some(Doubt::StaleIndex)
        } else {
            None
        }
    }

    /// The watch that shows this view's objects of a namespace.
    fn covering(&self, view: View, namespace: &str) -> Option<Currency> {
        let everywhere = self.sources.get(&Source { view, namespace: None });
        everywhere.or_else(|| self.sources.get(&Source { view, namespace: Some(namespace.into()) })).copied()
    }

    fn replica_set_owner(&self, newcomer: &Newcomer<'_>) -> Result<Option<Owner>, Untouched> {
        let (_, _, uid) = newcomer.owner;
        let Some(replica_set) = self.replica_sets.get(uid) else { return Ok(None) };
        // A UID is no secret, and an owner has no pods in other namespaces.
        let deployment = replica_set.deployment.as_ref().filter(|_| &*replica_set.namespace == newcomer.namespace);
        let Some(key) = self.workload_of_uid.get(deployment.ok_or(Untouched::ForeignOwner)?) else { return Ok(None) };
        let shape = Some(Shape::Interchangeable { replicas: replica_set.replicas });
        Ok(Some(Owner { key: key.clone(), copied: replica_set.copied, shape }))
    }

    /// A ReplicaSet of a Deployment is named after it and the template hash.
    fn owner_by_name(&mut self, newcomer: &Newcomer<'_>) -> Option<Owner> {
        let (_, name, _) = newcomer.owner;
        let deployment = name.strip_suffix(newcomer.template_hash?)?.strip_suffix('-')?;
        let key = self.workload_key(WorkloadKind::Deployment, newcomer.namespace, deployment);
        let record = self.workloads.get(&key)?;
        Some(Owner { copied: Mark::in_template(&record.object.spec.template.metadata), key, shape: None })
    }

    fn stateful_set_owner(&self, newcomer: &Newcomer<'_>) -> Result<Option<Owner>, Untouched> {
        let (_, owner_name, uid) = newcomer.owner;
        let Some(key) = self.workload_of_uid.get(uid) else { return Ok(None) };
        let Some(record) = self.workloads.get(key) else { return Ok(None) };
        if &*key.namespace != newcomer.namespace {
            return Err(Untouched::ForeignOwner);
        }
        let spec = &record.object.spec;
        let start = spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start);
        let slot = slot_of_ordinal(newcomer.name, owner_name, start).ok_or(Untouched::NoOrdinal)?;
        let pod = PodKey { namespace: key.namespace.clone(), name: newcomer.name.into() };
        let predecessor = self.pods.get(&pod).and_then(|pod| pod.counted).and_then(|counted| counted.capacity);
        let shape = Shape::Ordinal { slot, replicas: convert::replicas(spec.replicas), predecessor };
        Ok(Some(Owner { key: key.clone(), copied: Mark::in_template(&spec.template.metadata), shape: Some(shape) }))
    }
}

/// The slot of `NAME-ORDINAL`: the ordinal minus the first one, plus one. Anybody may create a pod that names a
/// StatefulSet as its owner, so the ordinal is no more to be trusted than a claim.
pub(super) fn slot_of_ordinal(pod: &str, stateful_set: &str, start: i32) -> Option<u32> {
    let ordinal: u32 = pod.strip_prefix(stateful_set)?.strip_prefix('-')?.parse().ok()?;
    let slot = i64::from(ordinal) - i64::from(start) + 1;
    u32::try_from(slot).ok().filter(|slot| (1..=MAX_SLOT).contains(slot))
}
