//! What no API server would send to the webhook, and who never sends anything: answered or shown the door, and nobody else
//! notices.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use spotalis_e2e::{
    Caller, Calls, Cluster, Creations, Heard, Product, ProductOptions, Workload, next_pod, on_product, scenario, wanted,
};
use spotalis_rig::{NodeKind, RigOptions, say};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

/// Lists in lists, as many as a body has room for.
const DEPTH: usize = 1_500_000;
const PEAK: &str = "spotalis_process_resident_memory_peak_bytes";
/// What all of this may cost at its worst moment, beyond what there was before: 3 MiB for each body under way, 64 KiB for
/// each of 512 connections, and what an allocator keeps of it.
const MEMORY: f64 = 96.0 * 1024.0 * 1024.0;

#[tokio::test]
async fn the_webhook_survives_its_callers() -> Result<()> {
    on_product("hostile callers", RigOptions::default(), ProductOptions::default(), async |cluster, product| {
        cluster.rig().add_nodes(1, NodeKind::Spot).await?;
        cluster.rig().add_nodes(1, NodeKind::OnDemand).await?;
        cluster.managed_namespace("good").await?;
        let good = Workload::deployment("good", "web").replicas(2).spot(50);
        cluster.create(&good).await?;
        cluster.expect_split(&good, wanted(2, 50, 0)).await?;
        let review = review(cluster, &good).await?;
        let pid = product.replica().pid();
        let before = product.metric(PEAK, &[]).await;
        // A good client is there all the while.
        let calls = Calls::so_far(cluster.rig()).await?;
        let creations = Creations::begin(cluster, &good, 2).await?;
        scenario("bad reviews", bad_reviews(product, &review)).await?;
        scenario("large bodies at once", large_bodies(product)).await?;
        scenario("idle and slow connections", flood(product, &creations)).await?;
        creations.more(20).await?;
        let steered = creations.all_steered().await?;
        let now = Calls::so_far(cluster.rig()).await?;
        ensure!(now.failed_open == calls.failed_open, "{calls:?}, then {now:?}");
        let after = product.metric(PEAK, &[]).await;
        let mib = |bytes: f64| bytes / (1024.0 * 1024.0);
        say(format!(
            "  {steered} trials meanwhile, all steered; peak of memory {:.0} -> {:.0} MiB",
            mib(before),
            mib(after)
        ));
        ensure!(after > 0.0 && after - before < MEMORY, "{} MiB more", mib(after - before));
        ensure!(product.replica().pid() == pid && product.replica().health("/healthz").await?.0 == 200, "it runs");
        ensure!(!product.replica().log()?.iter().any(|line| line.to_string().contains("panicked")), "a panic");
        Ok(())
    })
    .await
}

/// The review of a pod that is steered; each of the bad ones is this one with something wrong.
async fn review(cluster: &Cluster<'_>, workload: &Workload) -> Result<Value> {
    let mut pod = json!(next_pod(cluster, workload).await?);
    pod["metadata"]["namespace"] = json!(workload.namespace());
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "e2e", "dryRun": true, "operation": "CREATE", "namespace": workload.namespace(),
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": pod,
        },
    }))
}

/// What is to come back.
#[derive(Debug)]
enum Wanted {
    /// This status, and no review.
    Status(u16),
    /// A review: allowed, as it is.
    Untouched,
    /// A review: allowed, with a patch.
    Steered,
}

impl Wanted {
    fn check(&self, what: &str, heard: &Heard) -> Result<()> {
        let response = &heard.json()["response"];
        let right = match self {
            Self::Status(status) => heard.status == *status && response.is_null(),
            Self::Untouched | Self::Steered => {
                let patched = !response["patch"].is_null();
                let allowed = response["allowed"] == true && response["uid"] == "e2e";
                heard.status == 200 && allowed && patched == matches!(self, Self::Steered)
            }
        };
        ensure!(right, "{what}: wanted {self:?}, heard {heard:?}");
        Ok(())
    }
}

/// The review after a change.
fn with(review: &Value, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut review = review.clone();
    change(&mut review["request"]);
    review.to_string().into_bytes()
}

async fn bad_reviews(product: &Product, review: &Value) -> Result<()> {
    let caller = Caller::of(product.replica())?;
    let whole = review.to_string().into_bytes();
    let labels: Value =
        (0..10_000).map(|number| (format!("label-{number}"), json!("value"))).collect::<serde_json::Map<_, _>>().into();
    // A value of lists in lists would itself be too deep to write or to drop.
    let deep = |(part, key): (&str, &str)| {
        let body = with(review, |request| request["object"][part][key] = json!("DEEP"));
        let lists = ["[".repeat(DEPTH), "]".repeat(DEPTH)].concat();
        String::from_utf8(body).map(|body| body.replace("\"DEEP\"", &lists).into_bytes())
    };
    let rows: Vec<(&str, Vec<u8>, Wanted)> = vec![
        ("as it should be", whole.clone(), Wanted::Steered),
        ("no body", Vec::new(), Wanted::Status(400)),
        (
            "garbage",
            (0..4096_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect(),
            Wanted::Status(400),
        ),
        ("another JSON", b"[1, 2, 3]".to_vec(), Wanted::Status(400)),
        (
            "no request",
            b"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\"}".to_vec(),
            Wanted::Status(400),
        ),
        ("without uid", with(review, |request| request["uid"] = Value::Null), Wanted::Status(400)),
        ("an empty uid", with(review, |request| request["uid"] = json!("")), Wanted::Status(400)),
        ("a uid that is no text", with(review, |request| request["uid"] = json!({"a": 1})), Wanted::Status(400)),
        ("a key twice", [&whole[..whole.len() - 1], b",\"request\":{}}"].concat(), Wanted::Untouched),
        ("another kind", with(review, |request| request["kind"]["kind"] = json!("Service")), Wanted::Untouched),
        ("another operation", with(review, |request| request["operation"] = json!("DELETE")), Wanted::Untouched),
        ("a subresource", with(review, |request| request["subResource"] = json!("status")), Wanted::Untouched),
        ("no object", with(review, |request| request["object"] = Value::Null), Wanted::Untouched),
        ("an object that is none", with(review, |request| request["object"] = json!(7)), Wanted::Untouched),
        (
            "labels that are none",
            with(review, |request| request["object"]["metadata"]["labels"] = json!(["a"])),
            Wanted::Untouched,
        ),
        (
            "no owner",
            with(review, |request| request["object"]["metadata"]["ownerReferences"] = json!([])),
            Wanted::Untouched,
        ),
        ("10,000 labels", with(review, |request| request["object"]["metadata"]["labels"] = labels), Wanted::Steered),
        ("nested a million deep where nobody looks", deep(("spec", "unknown"))?, Wanted::Steered),
        ("nested a million deep where somebody looks", deep(("metadata", "labels"))?, Wanted::Untouched),
        ("more than 3 MiB", vec![b' '; 3 * 1024 * 1024 + 1], Wanted::Status(413)),
    ];
    for (what, body, wanted) in &rows {
        wanted.check(what, &caller.post(body).await.with_context(|| (*what).to_owned())?)?;
    }
    // Cut anywhere: answered with the uid if that came through, refused if not, and never dropped.
    for cut in (0..whole.len()).step_by(whole.len() / 40 + 1) {
        let heard = caller.post(&whole[..cut]).await?;
        let json = heard.json();
        let fine = match heard.status {
            200 => {
                json["response"]["uid"] == "e2e"
                    && json["response"]["allowed"] == true
                    && json["response"]["patch"].is_null()
            }
            status => status == 400,
        };
        ensure!(fine, "cut at {cut}: {heard:?}");
    }
    broken_requests(&caller).await?;
    Wanted::Steered.check("as it should be, once more", &caller.post(&whole).await?)
}

/// Not even the HTTP is right.
async fn broken_requests(caller: &Caller) -> Result<()> {
    let rows: [(&str, &[u8], u16); 4] = [
        ("another path", b"POST /other HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 404),
        ("another method", b"GET /mutate HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 405),
        ("no HTTP", b"what is this?\r\n\r\n", 400),
        ("a length that is none", b"POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-length: many\r\n\r\n", 400),
    ];
    for (what, request, status) in rows {
        let heard = caller.say(request).await.with_context(|| what.to_owned())?;
        ensure!(heard.status == status, "{what}: {heard:?}");
    }
    // A head without end is not collected for ever.
    let head = [b"POST /mutate HTTP/1.1\r\nx: ".as_slice(), &vec![b'a'; 1024 * 1024]].concat();
    let heard = caller.say(&head).await;
    ensure!(heard.as_ref().map_or(true, |heard| heard.status == 431 || heard.status == 400), "{heard:?}");
    // One that goes away in the middle leaves nothing behind that would be noticed below.
    let mut stream = caller.connect().await?;
    stream.write_all(b"POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{\"request\":").await?;
    drop(stream);
    Ok(())
}

/// Sixteen bodies of the largest size at the same time, some that say so beforehand, some that do not.
async fn large_bodies(product: &Product) -> Result<()> {
    let caller = Caller::of(product.replica())?;
    let body = Arc::new(vec![b' '; 3 * 1024 * 1024]);
    let mut callers = JoinSet::new();
    for number in 0..16 {
        let (caller, body) = (caller.clone(), body.clone());
        callers.spawn(async move {
            if number % 2 == 0 {
                return caller.post(&*body).await;
            }
            let mut request =
                b"POST /mutate HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_vec();
            for chunk in body.chunks(64 * 1024).chain([&[b' '; 1][..]]) {
                request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
            caller.say(&request).await
        });
    }
    let heard: Vec<Heard> = callers.join_all().await.into_iter().collect::<Result<_>>()?;
    let count = |status: u16| heard.iter().filter(|heard| heard.status == status).count();
    // Exactly 3 MiB is read, and holds no review; a byte more is too much.
    ensure!((count(400), count(413)) == (8, 8), "{heard:?}");
    Ok(())
}

/// Far more connections than there are places, all of them held open: most say nothing, some greet and say nothing, some
/// begin a request and go on one byte at a time.
async fn flood(product: &Product, creations: &Creations) -> Result<()> {
    let caller = Caller::of(product.replica())?;
    let silent: Vec<_> = connect(1_700, || caller.dial()).await?;
    creations.more(20).await?;
    let greeted: Vec<_> = connect(200, || caller.connect()).await?;
    creations.more(20).await?;
    let slow: Vec<_> = connect(100, || async {
        let mut stream = caller.connect().await?;
        stream.write_all(b"POST /mutate HTTP/1.1\r\nhost: a\r\n").await?;
        Ok(stream)
    })
    .await?;
    let mut drops = JoinSet::new();
    for mut stream in slow {
        drops.spawn(async move {
            // Until it is shown the door.
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
    }
    creations.more(200).await?;
    ensure!(caller.post(b"{}").await?.status == 400, "a stranger is served, too");
    // Slow heads have an end by themselves.
    while drops.join_next().await.is_some() {}
    drop((silent, greeted));
    Ok(())
}

async fn connect<S, F: Future<Output = Result<S>>>(count: usize, one: impl Fn() -> F) -> Result<Vec<S>> {
    stream::iter(0..count).map(|_| one()).buffer_unordered(32).collect::<Vec<_>>().await.into_iter().collect()
}
