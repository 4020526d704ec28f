//! Says how each program of the control plane is started: arguments, environment, files, and where it says it is ready.
//!
//! Plain functions of the plan; nothing here starts anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::binaries::Binaries;
use crate::component::Launch;

/// A program of the control plane. In the order in which they are ended: the API server first, for it would wait for an
/// etcd that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// KWOK, in the place of all kubelets.
    Kwok,
    /// Karpenter with its KWOK provider.
    Karpenter,
    /// etcd.
    Etcd,
}

impl Part {
    /// The program's name, also that of its log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
            Self::Karpenter => "karpenter",
            Self::Etcd => "etcd",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ports of 127.0.0.1 that one rig uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
    pub(crate) controller_manager: u16,
    pub(crate) scheduler: u16,
    pub(crate) kwok: u16,
    pub(crate) karpenter_health: u16,
    pub(crate) karpenter_metrics: u16,
}

impl Ports {
    pub(crate) const COUNT: usize = 8;
}

impl From<[u16; Self::COUNT]> for Ports {
    fn from(ports: [u16; Self::COUNT]) -> Self {
        let [etcd, etcd_peer, apiserver, controller_manager, scheduler, kwok, karpenter_health, karpenter_metrics] =
            ports;
        Self { etcd, etcd_peer, apiserver, controller_manager, scheduler, kwok, karpenter_health, karpenter_metrics }
    }
}

/// Arguments that a rig's owner adds, after the rig's own: the last of a kind holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtraArgs {
    pub(crate) apiserver: Vec<String>,
    pub(crate) controller_manager: Vec<String>,
    pub(crate) scheduler: Vec<String>,
}

/// Everything that decides how the programs run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) ports: Ports,
    pub(crate) binaries: Binaries,
    pub(crate) audit: bool,
    pub(crate) extra: ExtraArgs,
}

impl Plan {
    /// The API server's address.
    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.apiserver)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(crate) fn serving_cert(&self) -> PathBuf {
        self.dir.join("serving.crt")
    }

    pub(crate) fn serving_key(&self) -> PathBuf {
        self.dir.join("serving.key")
    }

    pub(crate) fn token_key(&self) -> PathBuf {
        self.dir.join("tokens.key")
    }

    pub(crate) fn token_public_key(&self) -> PathBuf {
        self.dir.join("tokens.pub")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub(crate) fn kubeconfig_of(&self, part: Part) -> PathBuf {
        self.dir.join(format!("{part}.kubeconfig"))
    }

    pub(crate) fn stages(&self) -> PathBuf {
        self.dir.join("stages.yaml")
    }

    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.dir.join("audit-policy.json")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    pub(crate) fn log(&self, part: Part) -> PathBuf {
        self.dir.join(format!("{part}.log"))
    }

    /// The address that answers 200 as soon as the part is of use.
    pub(crate) fn readiness(&self, part: Part) -> String {
        let Ports { etcd, apiserver, controller_manager, scheduler, kwok, karpenter_health, .. } = self.ports;
        match part {
            Part::Etcd => format!("http://127.0.0.1:{etcd}/health"),
            Part::ApiServer => format!("https://127.0.0.1:{apiserver}/readyz"),
            Part::ControllerManager => format!("https://127.0.0.1:{controller_manager}/healthz"),
            Part::Scheduler => format!("https://127.0.0.1:{scheduler}/readyz"),
            Part::Kwok => format!("http://127.0.0.1:{kwok}/readyz"),
            Part::Karpenter => format!("http://127.0.0.1:{karpenter_health}/readyz"),
        }
    }

    /// How the part is started. `None` for Karpenter in a rig without it.
    pub(crate) fn launch(&self, part: Part) -> Option<Launch> {
        let (program, args, env) = match part {
            Part::Etcd => (&self.binaries.etcd, self.etcd(), BTreeMap::new()),
            Part::ApiServer => (&self.binaries.kube_apiserver, self.apiserver(), BTreeMap::new()),
            Part::ControllerManager => {
                (&self.binaries.kube_controller_manager, self.controller_manager(), BTreeMap::new())
            }
            Part::Scheduler => (&self.binaries.kube_scheduler, self.scheduler(), BTreeMap::new()),
            Part::Kwok => (&self.binaries.kwok, self.kwok(), BTreeMap::new()),
            Part::Karpenter => (&self.binaries.karpenter.as_ref()?.program, Vec::new(), self.karpenter_env()),
        };
        let (dir, log) = (self.dir.join("work").join(part.as_str()), self.log(part));
        Some(Launch { program: program.clone(), args, env, dir, log })
    }

    fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        vec![
            format!("--data-dir={}", self.dir.join("etcd").display()),
            // What this etcd holds is worth nothing after a crash of the machine.
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn apiserver(&self) -> Vec<String> {
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            format!("--secure-port={}", self.ports.apiserver),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            flag("client-ca-file", &self.ca()),
            flag("service-account-key-file", &self.token_public_key()),
            flag("service-account-signing-key-file", &self.token_key()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // There is one API server, and nobody reaches it by its Service.
            "--endpoint-reconciler-type=none".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        args.extend(self.serving());
        if self.audit {
            args.extend([
                flag("audit-policy-file", &self.audit_policy()),
                flag("audit-log-path", &self.audit_log()),
                // Blocking: what a finished request did is in the log. Megabytes so many that the file is never rotated.
                "--audit-log-mode=blocking".to_owned(),
                "--audit-log-maxsize=1000000".to_owned(),
            ]);
        }
        args.extend(self.extra.apiserver.iter().cloned());
        args
    }

    fn controller_manager(&self) -> Vec<String> {
        let mut args = vec![
            flag("kubeconfig", &self.kubeconfig_of(Part::ControllerManager)),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.controller_manager),
            flag("service-account-private-key-file", &self.token_key()),
            flag("root-ca-file", &self.ca()),
            "--use-service-account-credentials=true".to_owned(),
        ];
        args.extend(self.serving());
        args.extend(unhindered());
        args.extend(self.extra.controller_manager.iter().cloned());
        args
    }

    fn scheduler(&self) -> Vec<String> {
        let mut args = vec![
            flag("kubeconfig", &self.kubeconfig_of(Part::Scheduler)),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.scheduler),
        ];
        args.extend(self.serving());
        args.extend(unhindered());
        args.extend(self.extra.scheduler.iter().cloned());
        args
    }

    fn kwok(&self) -> Vec<String> {
        vec![
            flag("kubeconfig", &self.kubeconfig()),
            flag("config", &self.stages()),
            "--manage-all-nodes=true".to_owned(),
            // The node lifecycle controller's own expectation.
            "--node-lease-duration-seconds=40".to_owned(),
            format!("--server-address=127.0.0.1:{}", self.ports.kwok),
        ]
    }

    fn karpenter_env(&self) -> BTreeMap<String, String> {
        [
            ("KUBECONFIG", self.kubeconfig().display().to_string()),
            ("SYSTEM_NAMESPACE", "kube-system".to_owned()),
            ("DISABLE_LEADER_ELECTION", "true".to_owned()),
            ("METRICS_PORT", self.ports.karpenter_metrics.to_string()),
            ("HEALTH_PROBE_PORT", self.ports.karpenter_health.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn serving(&self) -> [String; 2] {
        [flag("tls-cert-file", &self.serving_cert()), flag("tls-private-key-file", &self.serving_key())]
    }
}

/// One copy of each, and not held back to the 20 or 50 requests a second that are their defaults.
fn unhindered() -> [String; 3] {
    ["--leader-elect=false".to_owned(), "--kube-api-qps=300".to_owned(), "--kube-api-burst=400".to_owned()]
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let program = |name: &str| PathBuf::from("/bin").join(name);
        Plan {
            dir: "/rig".into(),
            ports: Ports::from([1, 2, 3, 4, 5, 6, 7, 8]),
            binaries: Binaries {
                etcd: program("etcd"),
                kube_apiserver: program("kube-apiserver"),
                kube_controller_manager: program("kube-controller-manager"),
                kube_scheduler: program("kube-scheduler"),
                kubectl: program("kubectl"),
                kwok: program("kwok"),
                kwok_stages: "/stages".into(),
                karpenter: None,
            },
            audit: false,
            extra: ExtraArgs { apiserver: vec!["--v=4".to_owned()], ..ExtraArgs::default() },
        }
    }

    #[test]
    fn the_api_server_is_ended_first_and_etcd_last() {
        let mut parts = [Part::Etcd, Part::Karpenter, Part::ApiServer, Part::Kwok, Part::Scheduler];
        parts.sort();
        assert_eq!((parts[0], parts[4]), (Part::ApiServer, Part::Etcd));
    }

    #[test]
    fn extra_arguments_come_last_and_only_where_they_belong() {
        let plan = plan();
        assert_eq!(plan.launch(Part::ApiServer).unwrap().args.last().unwrap(), "--v=4");
        assert!(!plan.launch(Part::Scheduler).unwrap().args.contains(&"--v=4".to_owned()));
    }

    #[test]
    fn the_audit_log_is_written_only_on_demand() {
        let audits = |plan: &Plan| plan.launch(Part::ApiServer).unwrap().args.iter().any(|arg| arg.contains("audit"));
        assert!(!audits(&plan()));
        assert!(audits(&Plan { audit: true, ..plan() }));
    }

    #[test]
    fn no_karpenter_without_its_program() {
        assert_eq!(plan().launch(Part::Karpenter), None);
    }
}
