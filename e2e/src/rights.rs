//! Takes rights from the product while it runs, and gives them back, as an administrator with a hasty hand does.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::PostParams;

use crate::{Cluster, USER};

/// A right that was taken, and the role as it was before.
#[derive(Debug)]
pub struct Withdrawn {
    roles: Api<ClusterRole>,
    before: ClusterRole,
}

impl Withdrawn {
    /// Takes the right to do `verb` with `resource` from the product's role.
    pub async fn from(cluster: &Cluster<'_>, verb: &str, resource: &str) -> Result<Self> {
        let roles: Api<ClusterRole> = Api::all(cluster.client());
        let before = roles.get(USER).await?;
        let mut role = before.clone();
        let mut taken = false;
        for rule in role.rules.iter_mut().flatten() {
            let mut others = rule.clone();
            let resources = rule.resources.as_mut().context("a rule about resources")?;
            if resources.iter().any(|name| name == resource) && rule.verbs.iter().any(|name| name == verb) {
                resources.retain(|name| name == resource);
                rule.verbs.retain(|name| name != verb);
                others.resources.iter_mut().for_each(|names| names.retain(|name| name != resource));
                taken = true;
                role.rules.get_or_insert_default().push(others);
                break;
            }
        }
        ensure!(taken, "the product's role has no right to {verb} {resource}");
        // A rule without verbs or without resources is no rule.
        role.rules.iter_mut().for_each(|rules| {
            rules.retain(|rule| {
                !rule.verbs.is_empty() && rule.resources.as_ref().is_some_and(|names| !names.is_empty())
            });
        });
        roles.replace(USER, &PostParams::default(), &role).await?;
        Ok(Self { roles, before })
    }

    /// Gives it back.
    pub async fn restore(self) -> Result<()> {
        let Self { roles, mut before } = self;
        before.metadata.resource_version = None;
        roles.replace(USER, &PostParams::default(), &before).await?;
        Ok(())
    }
}
