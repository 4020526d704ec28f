//! `kubectl` at the door of the demo: it shows what it shows of a real cluster, and does what it does to one. No cluster is
//! started; only kubectl is the rig's.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spotalis_e2e::{Process, binary, eventually, scenario};
use spotalis_rig::Binaries;

#[tokio::test]
async fn kubectl_sees_and_does_what_it_would_in_a_real_cluster() -> Result<()> {
    let Some(programs) = Binaries::obtain_or_skip(false)? else { return Ok(()) };
    let door = Door::open(programs.kubectl).await?;
    scenario("what is shown", async { shown(&door) }).await?;
    scenario("what is sent", async { sent(&door) }).await?;
    scenario("what is asked of nodes", async { placed(&door) }).await?;
    let mut process = door.process;
    ensure!(!process.has_ended(), "the demo lives on");
    process.signal("INT")?;
    ensure!(process.ended(Duration::from_secs(10)).await? == 0, "it ends well");
    Ok(())
}

/// A demo that listens, and the kubectl that was told where.
struct Door {
    process: Process,
    kubectl: PathBuf,
    kubeconfig: String,
}

impl Door {
    async fn open(kubectl: PathBuf) -> Result<Self> {
        let log = std::env::temp_dir().join(format!("spotalis-door-{}.log", std::process::id()));
        let words = ["demo", "--scenario", "rollout", "--listen", "127.0.0.1:0"].map(str::to_owned);
        let process = Process::start(&binary()?, &words, &log)?;
        // The workloads are there, with all their pods.
        let kubeconfig = eventually("a demo that listens", async || {
            let said = fs::read_to_string(&log).ok()?;
            let all = ["10 of 10 ready", "3 of 3 ready"].iter().all(|counted| said.contains(counted));
            let line = said.lines().find_map(|line| line.split_once("export KUBECONFIG=")).filter(|_| all)?;
            Some(line.1.to_owned())
        })
        .await?;
        fs::remove_file(&log)?;
        Ok(Self { process, kubectl, kubeconfig })
    }

    /// A shell in which `kubectl` is this one.
    fn shell(&self, script: &str) -> Result<Output> {
        let directory = self.kubectl.parent().context("it lies somewhere")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path)))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("PATH", path).env("KUBECONFIG", &self.kubeconfig);
        Ok(shell.output()?)
    }

    /// What it says, when it works.
    fn says(&self, script: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.shell(script)?;
        ensure!(status.success(), "{script}: {}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)? + &String::from_utf8(stderr)?)
    }

    /// The words of each line of a table.
    fn table(&self, what: &str) -> Result<Vec<Vec<String>>> {
        let said = self.says(&format!("kubectl get {what}"))?;
        Ok(said.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
    }
}

fn shown(door: &Door) -> Result<()> {
    for (what, heads, cells) in [
        ("pods db-0", "NAME READY STATUS RESTARTS AGE", "db-0 1/1 Running 0 "),
        ("nodes spot-1", "NAME STATUS ROLES AGE VERSION", "spot-1 Ready <none> "),
        ("deployments web", "NAME READY UP-TO-DATE AVAILABLE AGE", "web 10/10 10 10 "),
        ("sts db", "NAME READY AGE", "db 3/3 "),
        ("ns shop", "NAME STATUS AGE", "shop Active "),
        ("deployments web --subresource=scale", "NAME DESIRED AVAILABLE AGE", "web 10 10 "),
        ("mutatingwebhookconfigurations", "NAME WEBHOOKS AGE", "spotalis 1 "),
    ] {
        let table = door.table(what)?;
        let row = table.get(1).map(|row| row.join(" ")).unwrap_or_default();
        ensure!(table[0].join(" ") == heads && row.starts_with(cells), "{what}: {table:?}");
    }
    let sets = door.table("rs")?;
    ensure!(sets[0].join(" ") == "NAME DESIRED CURRENT READY AGE" && sets[2][1..4] == ["10", "10", "10"], "{sets:?}");
    let pods = door.table("pods db-0 -o wide")?;
    ensure!(pods[0][5..7] == ["IP", "NODE"] && pods[1][5].starts_with("10."), "{pods:?}");
    let nodes = door.table("nodes spot-1 -o wide")?;
    ensure!(nodes[1][4..].join(" ") == "v1.36.3 <none> <none> embedded embedded (amd64) embedded://1", "{nodes:?}");
    let leases = door.table("leases --all-namespaces")?;
    ensure!(leases[0].join(" ") == "NAMESPACE NAME HOLDER AGE", "{leases:?}");
    let all = door.says("kubectl get all")?;
    ensure!(["pod/db-0", "deployment.apps/web", "statefulset.apps/db"].iter().all(|it| all.contains(it)), "{all}");
    let sorted = door.table("pods --sort-by=.spec.nodeName --no-headers -o custom-columns=NODE:.spec.nodeName")?;
    ensure!(sorted.is_sorted() && sorted.len() == 18, "{sorted:?}");
    Ok(())
}

fn sent(door: &Door) -> Result<()> {
    // What kubectl makes up itself is protobuf, and it is told what else to do.
    let made = "kubectl create deployment hello --image=registry.example/hello:1";
    let refused = door.shell(made)?;
    let told = String::from_utf8(refused.stderr)?;
    let advice = "kubectl create ... --dry-run=client -o yaml | kubectl apply -f -";
    ensure!(!refused.status.success() && told.contains(advice), "{told}");
    let advised = door.says(&advice.replace("kubectl create ...", made))?;
    ensure!(advised == "deployment.apps/hello created\n", "{advised}");
    let budget =
        advice.replace("kubectl create ...", "kubectl create pdb hello --selector=app=hello --min-available=1");
    ensure!(door.says(&budget)? == "poddisruptionbudget.policy/hello created\n");
    let done = door.says("kubectl rollout status deployment hello --timeout=60s")?;
    ensure!(done.contains("successfully rolled out"), "{done}");
    let budgets = door.table("pdb hello")?;
    let heads = "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE";
    ensure!(budgets[0].join(" ") == heads && budgets[1][..4] == ["hello", "1", "N/A", "0"], "{budgets:?}");
    door.says("kubectl delete deployment,pdb hello")?;
    Ok(())
}

fn placed(door: &Door) -> Result<()> {
    let deployment = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: picky}
spec:
  replicas: 2
  selector: {matchLabels: {app: picky}}
  template:
    metadata: {labels: {app: picky}}
    spec:
      nodeSelector: {kubernetes.io/arch: amd64, kubernetes.io/os: linux}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - {key: node.kubernetes.io/instance-type, operator: Exists}
                  - {key: topology.kubernetes.io/region, operator: Exists}
      containers: [{name: main, image: registry.example/picky:1}]
";
    door.says(&format!("kubectl apply -f - <<'END'{deployment}END"))?;
    let done = door.says("kubectl rollout status deployment picky --timeout=60s")?;
    ensure!(done.contains("successfully rolled out"), "{done}");
    Ok(())
}
