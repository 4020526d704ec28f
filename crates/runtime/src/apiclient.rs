//! Talks to the API server: builds the client, paces it, sends one request once, and says what an answer means.
//!
//! Nothing is ever re-sent here. Whether to try again is a decision, and a refusal such as "a budget forbids it" is an
//! outcome that the caller wants to see at once, with everything the server said about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::text::chain;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a connection counts as dead. Longer than a watch may be silent (the server ends one after at most
/// 295 s); single calls have their own, shorter limits.
const READ_TIMEOUT: Duration = Duration::from_mins(5);
/// How long sending a request may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a server gets to answer the first request.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read; the largest object the server stores is 1.5 MiB.
const ANSWER_LIMIT: usize = 16 << 20;
/// However long the server asks us to wait, look again after this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// What to wait when the server says "slow down" without saying for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where to find the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterSource {
    /// This kubeconfig, and its current context.
    Kubeconfig(PathBuf),
    /// The service account of the pod we run in.
    InCluster,
    /// The user's usual kubeconfig, else the pod's service account.
    Inferred,
}

/// No client could be made, or the cluster does not answer it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file is not there or may not be read.
    #[error("cannot read the kubeconfig {}; check the path and its permissions, or leave --kubeconfig out", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no kubeconfig.
    #[error(
        "the kubeconfig {} is not usable; `kubectl --kubeconfig {0} config view` shows what kubectl makes of it",
        path.display()
    )]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no service account to use.
    #[error("not in a pod with a service account; set --kubeconfig, or automountServiceAccountToken: true on the pod")]
    NotInCluster(#[source] Box<kube::config::InClusterError>),
    /// Neither of the two.
    #[error("found neither a usable kubeconfig nor a service account; set --kubeconfig")]
    NothingFound(#[source] Box<kube::config::InferConfigError>),
    /// Certificates or credentials in the configuration do not work.
    #[error("the credentials for {server} are not usable; log in to the cluster again and retry")]
    Credentials {
        /// Which server.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Nobody answers.
    #[error("the API server {server} does not answer; check the address, and `kubectl version` from the same place")]
    Unreachable {
        /// Which server.
        server: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// It answers and does not know us.
    #[error("the API server {server} does not accept our credentials; they may have expired, log in again")]
    Expired {
        /// Which server.
        server: String,
    },
    /// It answers something else.
    #[error("the API server {server} answered {status}; is this the address of an API server?")]
    Unexpected {
        /// Which server.
        server: String,
        /// What it answered.
        status: StatusCode,
    },
}

/// A client, and where it leads.
#[derive(Clone)]
pub struct Cluster {
    /// Sends each request once.
    pub client: Client,
    /// The API server's address.
    pub server: String,
    /// The namespace of the kubeconfig's context, or of the pod.
    pub namespace: String,
}

impl Cluster {
    /// Reads the configuration and builds the client. Nothing is sent yet.
    pub async fn configure(source: &ClusterSource) -> Result<Self, ConnectError> {
        let mut config = match source {
            ClusterSource::Kubeconfig(path) => from_file(path).await?,
            ClusterSource::InCluster => {
                kube::Config::incluster().map_err(|source| ConnectError::NotInCluster(Box::new(source)))?
            }
            ClusterSource::Inferred => {
                kube::Config::infer().await.map_err(|source| ConnectError::NothingFound(Box::new(source)))?
            }
        };
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.write_timeout = Some(WRITE_TIMEOUT);
        config.reset_reader_on_write = true;
        let server = config.cluster_url.to_string();
        let namespace = config.default_namespace.clone();
        match Client::try_from(config) {
            Ok(client) => Ok(Self { client, server, namespace }),
            Err(source) => Err(ConnectError::Credentials { server, source: Box::new(source) }),
        }
    }

    /// Asks for the server's version, the cheapest question that shows whether it knows us.
    pub async fn probe(&self) -> Result<(), ConnectError> {
        let request = Request::get("/version").body(Vec::new()).expect("a constant request is valid");
        let server = self.server.clone();
        match send(&self.client, request, PROBE_TIMEOUT).await {
            Ok(response) if response.status().is_success() => Ok(()),
            // Anonymous requests are answered 403 where they are not allowed to see the version.
            Ok(response) if response.status() == StatusCode::FORBIDDEN => Ok(()),
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Err(ConnectError::Expired { server }),
            Ok(response) => Err(ConnectError::Unexpected { server, status: response.status() }),
            Err(TransportError::Credentials(source)) => Err(ConnectError::Credentials { server, source }),
            Err(source) => Err(ConnectError::Unreachable { server, source }),
        }
    }
}

async fn from_file(path: &Path) -> Result<kube::Config, ConnectError> {
    let invalid = |source| ConnectError::Invalid { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => kubeconfig,
        Err(KubeconfigError::ReadConfig(source, path)) => return Err(ConnectError::Unreadable { path, source }),
        Err(source) => return Err(invalid(source)),
    };
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(invalid)
}

/// A request got no complete answer. If it was a write, it may have been applied or not.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Too late.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The credentials could not be produced: an exec plugin failed, a token file is missing.
    #[error("cannot obtain credentials")]
    Credentials(#[source] Box<kube::Error>),
    /// No connection, or it broke.
    #[error("cannot reach the API server")]
    Unreachable(#[source] Box<kube::Error>),
    /// The answer broke off or is too large.
    #[error("cannot read the answer")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends `request` once and reads the whole answer, all within `timeout`.
///
/// When this returns early, or is dropped, a request that has not left yet does not leave any more. The answer keeps its
/// headers, which the typed calls of the client lose: `Retry-After` is one of them.
pub async fn send(
    client: &Client,
    request: Request<Vec<u8>>,
    timeout: Duration,
) -> Result<Response<Bytes>, TransportError> {
    let exchange = async {
        let response = client.send(request.map(Body::from)).await.map_err(transport)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(TransportError::Answer)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(TransportError::Timeout(timeout)))
}

fn transport(error: kube::Error) -> TransportError {
    match error {
        error @ kube::Error::Auth(_) => TransportError::Credentials(Box::new(error)),
        error => TransportError::Unreachable(Box::new(error)),
    }
}

/// What was tried, to be named when it is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// As in a Role: `patch`, `create`.
    pub verb: &'static str,
    /// As in a Role: `nodes`, `pods/eviction`.
    pub resource: &'static str,
}

/// Why a call did not do what was asked. A variant for each thing a caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 401.
    #[error("the API server does not accept our credentials for {verb} {resource}; they may have expired", verb = .0.verb, resource = .0.resource)]
    Unauthorized(Call),
    /// 403: a missing permission, an admission policy, or a quota.
    #[error(
        "not allowed to {verb} {resource}: {message}; `kubectl auth can-i {verb} {resource} --as USER` tells a missing \
         permission from somebody's policy",
        verb = .call.verb,
        resource = .call.resource
    )]
    Forbidden {
        /// What was tried.
        call: Call,
        /// The server's words.
        message: String,
    },
    /// 404: gone, and most often that is fine.
    #[error("it does not exist")]
    NotFound,
    /// 409: changed since we looked, or a precondition failed.
    #[error("it was changed by somebody else")]
    Conflict,
    /// 409 on a create.
    #[error("it exists already")]
    AlreadyExists,
    /// The name belongs to another object by now, which PATCH says by 422 on `metadata.uid`, and a precondition by 409.
    #[error("the name belongs to another object now")]
    WrongUid,
    /// 422 or 400: what we sent is not acceptable.
    #[error("the API server refuses the object: {message}")]
    Invalid {
        /// The server's words.
        message: String,
    },
    /// 429 with the cause `DisruptionBudget`.
    #[error("a PodDisruptionBudget forbids it: {message}")]
    BudgetExhausted {
        /// The server's words, with the numbers.
        message: String,
    },
    /// 429 with a Status and a delay: the budget's own status is behind.
    #[error("the PodDisruptionBudget is still being processed, wait {retry_after:?}")]
    BudgetBehind {
        /// The server's delay.
        retry_after: Duration,
    },
    /// 500 of the eviction subresource.
    #[error("more than one PodDisruptionBudget selects the pod; an eviction needs there to be one")]
    SeveralBudgets,
    /// 429 of priority and fairness, or 503 with a delay: everybody has to slow down.
    #[error("the API server is overloaded, wait {retry_after:?}")]
    Throttled {
        /// The server's delay, or a second.
        retry_after: Duration,
    },
    /// Any other status. A write may have been applied.
    #[error("the API server answered {code}: {message}")]
    Server {
        /// The status code.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// No answer. A write may have been applied.
    #[error("no answer to {verb} {resource}", verb = .call.verb, resource = .call.resource)]
    Transport {
        /// What was tried.
        call: Call,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The answer is no JSON of the kind expected.
    #[error("the answer to {verb} {resource} cannot be read", verb = .call.verb, resource = .call.resource)]
    Unreadable {
        /// What was tried.
        call: Call,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ApiError {
    /// The word of metric labels and log fields.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::AlreadyExists => "already_exists",
            Self::WrongUid => "wrong_uid",
            Self::Invalid { .. } => "invalid",
            Self::BudgetExhausted { .. } => "budget_exhausted",
            Self::BudgetBehind { .. } => "budget_behind",
            Self::SeveralBudgets => "several_budgets",
            Self::Throttled { .. } => "throttled",
            Self::Server { .. } => "server",
            Self::Transport { .. } => "transport",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    /// Whether a write that ended so may nevertheless have been applied.
    pub const fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Server { .. } | Self::Transport { .. } | Self::Unreadable { .. } => true,
            Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::NotFound
            | Self::Conflict
            | Self::AlreadyExists
            | Self::WrongUid
            | Self::Invalid { .. }
            | Self::BudgetExhausted { .. }
            | Self::BudgetBehind { .. }
            | Self::SeveralBudgets
            | Self::Throttled { .. } => false,
        }
    }

    /// The meaning of an error of one of the client's typed calls. Those lose the headers, so a throttled call waits for
    /// the default.
    pub fn from_kube(call: Call, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                // The client puts this in when the body is no Status.
                let parsed = status.reason != "Failed to parse error data";
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                refusal(call, code, parsed.then_some(&*status), &status.message, None)
            }
            kube::Error::SerdeError(source) => Self::Unreadable { call, source },
            error => Self::Transport { call, source: transport(error) },
        }
    }
}

/// The answer's body if it is a success, else what the answer means.
pub fn accepted(call: Call, response: Response<Bytes>) -> Result<Bytes, ApiError> {
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        return Ok(body);
    }
    let status = serde_json::from_slice::<Status>(&body).ok().filter(|status| status.code != 0);
    let text = String::from_utf8_lossy(&body);
    let message = status.as_ref().map_or(text.trim(), |status| &status.message);
    Err(refusal(call, parts.status, status.as_ref(), message, retry_after(&parts.headers)))
}

/// `Retry-After` in seconds; the API server never sends the other form, a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// What a 409 says if the UID in a precondition is another's (`rest.BeforeDelete`, `storage.Preconditions.Check`). Nothing but
/// these words tells it from other conflicts.
const UID_PRECONDITION: [&str; 2] = ["the UID in the precondition", "UID in precondition"];

/// Bound on the server's words in our errors.
const MESSAGE_LIMIT: usize = 1024;

fn refusal(
    call: Call,
    code: StatusCode,
    status: Option<&Status>,
    message: &str,
    retry_after: Option<Duration>,
) -> ApiError {
    let clipped = || crate::text::printable(&crate::text::clip(message, MESSAGE_LIMIT)).into_owned();
    let reason = status.map_or("", |status| status.reason.as_str());
    let details = status.and_then(|status| status.details.as_ref());
    let retry_after = retry_after.or_else(|| {
        let seconds = details?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST_RETRY_AFTER))
    });
    let causes = details.map_or(&[][..], |details| &details.causes);
    match code {
        StatusCode::UNAUTHORIZED => ApiError::Unauthorized(call),
        StatusCode::FORBIDDEN => ApiError::Forbidden { call, message: clipped() },
        StatusCode::NOT_FOUND => ApiError::NotFound,
        StatusCode::CONFLICT if reason == "AlreadyExists" => ApiError::AlreadyExists,
        StatusCode::CONFLICT if UID_PRECONDITION.iter().any(|words| message.contains(words)) => ApiError::WrongUid,
        StatusCode::CONFLICT => ApiError::Conflict,
        StatusCode::UNPROCESSABLE_ENTITY if causes.iter().any(|cause| cause.field == "metadata.uid") => {
            ApiError::WrongUid
        }
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => ApiError::Invalid { message: clipped() },
        StatusCode::TOO_MANY_REQUESTS => match causes.iter().find(|cause| cause.reason == "DisruptionBudget") {
            Some(cause) => {
                let message = crate::text::printable(&crate::text::clip(&cause.message, MESSAGE_LIMIT)).into_owned();
                ApiError::BudgetExhausted { message }
            }
            None if status.is_some() && is_eviction(call) => {
                ApiError::BudgetBehind { retry_after: retry_after.unwrap_or(DEFAULT_RETRY_AFTER) }
            }
            None => ApiError::Throttled { retry_after: retry_after.unwrap_or(DEFAULT_RETRY_AFTER) },
        },
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => {
            ApiError::Throttled { retry_after: retry_after.unwrap_or(DEFAULT_RETRY_AFTER) }
        }
        // The only thing that tells this 500 from others is its sentence.
        StatusCode::INTERNAL_SERVER_ERROR if message.contains("more than one PodDisruptionBudget") => {
            ApiError::SeveralBudgets
        }
        code => ApiError::Server { code: code.as_u16(), message: clipped() },
    }
}

fn is_eviction(call: Call) -> bool {
    call.resource == "pods/eviction"
}

/// Paces calls: `qps` in the long run, `burst` at once, and none at all for a while after the server asked for that.
/// First come, first served.
#[derive(Debug)]
pub struct RateLimit {
    state: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// How far ahead of the long-run pace a caller may be.
    tolerance: Duration,
    /// When the bucket would be full again, had it a bottom.
    full_at: Instant,
    paused_until: Instant,
}

impl RateLimit {
    /// `qps` calls a second, `burst` at once; zero counts as one.
    pub fn new(qps: u32, burst: u32) -> Self {
        let (interval, tolerance) = Self::pace(qps, burst);
        let now = Instant::now();
        Self { state: Mutex::new(Pace { interval, tolerance, full_at: now, paused_until: now }) }
    }

    /// Changes the pace from now on.
    pub fn set(&self, qps: u32, burst: u32) {
        let mut state = self.state.lock();
        (state.interval, state.tolerance) = Self::pace(qps, burst);
    }

    fn pace(qps: u32, burst: u32) -> (Duration, Duration) {
        let interval = Duration::from_secs(1) / qps.max(1);
        (interval, interval.saturating_mul(burst.max(1)))
    }

    /// Waits for the next turn. Dropping the future gives the turn up, not back.
    pub async fn turn(&self) {
        let mut at = self.reserve(Instant::now());
        loop {
            if at > Instant::now() {
                sleep_until(at).await;
            }
            // A pause that came meanwhile holds for those who wait, too.
            let paused_until = self.state.lock().paused_until;
            if paused_until <= Instant::now() {
                return;
            }
            at = paused_until;
        }
    }

    /// Takes the next turn if it is due now.
    pub fn try_turn(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        let full_at = state.full_at.max(now) + state.interval;
        let due = full_at.checked_sub(state.tolerance).is_none_or(|at| at <= now) && state.paused_until <= now;
        if due {
            state.full_at = full_at;
        }
        due
    }

    /// No turns before `delay` is over.
    pub fn pause(&self, delay: Duration) {
        let mut state = self.state.lock();
        state.paused_until = state.paused_until.max(Instant::now() + delay);
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut state = self.state.lock();
        state.full_at = state.full_at.max(now) + state.interval;
        state.full_at.checked_sub(state.tolerance).map_or(now, |at| at.max(now))
    }
}

/// One line for a log: the error and its causes.
pub fn explain(error: &ApiError) -> String {
    chain(error)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;

    const EVICT: Call = Call { verb: "create", resource: "pods/eviction" };
    const PATCH: Call = Call { verb: "patch", resource: "nodes" };

    fn answer(code: u16, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
        let mut response = Response::builder().status(code);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn status(code: u16, reason: &str, details: &str) -> String {
        format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"the words","reason":"{reason}","details":{details},"code":{code}}}"#
        )
    }

    /// Bodies as a real API server writes them.
    #[test]
    fn answers_and_their_meaning() {
        let budget = r#"{"causes":[{"reason":"DisruptionBudget","message":"The disruption budget web needs 3 healthy pods and has 3 currently"}]}"#;
        let uid = r#"{"name":"n","kind":"Node","causes":[{"reason":"FieldValueInvalid","message":"field is immutable","field":"metadata.uid"}]}"#;
        let two = r#"{"kind":"Status","status":"Failure","message":"This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.","code":500}"#;
        let other = r#"{"kind":"Status","status":"Failure","message":"Operation cannot be fulfilled on pods \"web-0\": the UID in the precondition (a) does not match the UID in record (b). The object might have been deleted and then recreated","reason":"Conflict","code":409}"#;
        let other_of_storage = r#"{"kind":"Status","status":"Failure","message":"Operation cannot be fulfilled on pods \"web-0\": StorageError: invalid object, Code: 4, Key: /registry/pods/shop/web-0, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: a, UID in object meta: b","reason":"Conflict","code":409}"#;
        let retry = [("retry-after", "7")];
        for (call, code, headers, body, want) in [
            (PATCH, 401, &[][..], status(401, "Unauthorized", "{}"), "unauthorized"),
            (PATCH, 403, &[], status(403, "Forbidden", "{}"), "forbidden"),
            (PATCH, 404, &[], status(404, "NotFound", "{}"), "not_found"),
            (PATCH, 409, &[], status(409, "Conflict", "{}"), "conflict"),
            (EVICT, 409, &[], other.to_owned(), "wrong_uid"),
            (EVICT, 409, &[], other_of_storage.to_owned(), "wrong_uid"),
            (PATCH, 409, &[], status(409, "AlreadyExists", "{}"), "already_exists"),
            (PATCH, 422, &[], status(422, "Invalid", uid), "wrong_uid"),
            (PATCH, 422, &[], status(422, "Invalid", "{}"), "invalid"),
            (PATCH, 400, &[], status(400, "BadRequest", "{}"), "invalid"),
            (EVICT, 429, &[], status(429, "TooManyRequests", budget), "budget_exhausted"),
            (EVICT, 429, &retry, status(429, "TooManyRequests", r#"{"retryAfterSeconds":10}"#), "budget_behind"),
            (EVICT, 429, &retry, "Too many requests, please try again later.".into(), "throttled"),
            (PATCH, 429, &retry, status(429, "TooManyRequests", "{}"), "throttled"),
            (PATCH, 503, &retry, "shutting down".into(), "throttled"),
            (EVICT, 500, &[], two.into(), "several_budgets"),
            (EVICT, 500, &[], status(500, "InternalError", "{}"), "server"),
            (PATCH, 502, &[], "<html>bad gateway</html>".into(), "server"),
        ] {
            let error = accepted(call, answer(code, headers, &body)).expect_err("no success");
            assert_eq!(error.as_label(), want, "{code} {body}");
        }
        assert_eq!(accepted(PATCH, answer(201, &[], "{}")).unwrap(), "{}");
    }

    #[test]
    fn delays_are_kept() {
        let header = accepted(EVICT, answer(429, &[("retry-after", "7")], "later")).unwrap_err();
        assert!(matches!(header, ApiError::Throttled { retry_after } if retry_after.as_secs() == 7), "{header:?}");
        let body = status(429, "TooManyRequests", r#"{"retryAfterSeconds":10}"#);
        let details = accepted(EVICT, answer(429, &[], &body)).unwrap_err();
        assert!(matches!(details, ApiError::BudgetBehind { retry_after } if retry_after.as_secs() == 10));
        let absurd = format!("{}", u64::MAX);
        let absurd = accepted(EVICT, answer(429, &[("retry-after", &absurd)], "later")).unwrap_err();
        assert!(matches!(absurd, ApiError::Throttled { retry_after } if retry_after == LONGEST_RETRY_AFTER));
        let none = accepted(EVICT, answer(429, &[], "later")).unwrap_err();
        assert!(matches!(none, ApiError::Throttled { retry_after } if retry_after == DEFAULT_RETRY_AFTER));
    }

    #[test]
    fn a_refusal_names_what_was_tried() {
        let error = accepted(PATCH, answer(403, &[], &status(403, "Forbidden", "{}"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not allowed to patch nodes: the words; `kubectl auth can-i patch nodes --as USER` tells a missing permission \
             from somebody's policy"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn typed_calls_mean_the_same() {
        let client = client(429, "Too many requests, please try again later.");
        let error = client.apiserver_version().await.unwrap_err();
        assert_eq!(ApiError::from_kube(EVICT, error).as_label(), "throttled");
        let client = self::client(404, &status(404, "NotFound", "{}"));
        let error = client.apiserver_version().await.unwrap_err();
        assert_eq!(ApiError::from_kube(PATCH, error).as_label(), "not_found");
    }

    fn client(code: u16, body: &str) -> Client {
        let body = body.to_owned();
        let service = service_fn(move |_: Request<Body>| {
            let response = Response::builder().status(code).header("retry-after", "3");
            let response = response.body(Body::from(body.clone().into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(response) }
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn sending_keeps_headers_and_keeps_to_its_time() {
        let request = || Request::get("/version").body(Vec::new()).unwrap();
        let response = send(&client(429, "later"), request(), Duration::from_secs(1)).await.unwrap();
        assert_eq!(retry_after(response.headers()), Some(Duration::from_secs(3)));

        let never = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let error = send(&Client::new(never, "default"), request(), Duration::from_secs(4)).await.unwrap_err();
        assert!(matches!(error, TransportError::Timeout(after) if after.as_secs() == 4), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept() {
        let limit = RateLimit::new(10, 5);
        let start = Instant::now();
        for _ in 0..5 {
            limit.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "a burst goes at once");
        for _ in 0..10 {
            limit.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        limit.pause(Duration::from_secs(9));
        limit.turn().await;
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_mins(1)).await;
        limit.set(1, 1);
        let start = Instant::now();
        for _ in 0..3 {
            limit.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn bad_kubeconfigs_are_named() {
        let missing = ClusterSource::Kubeconfig("/nonexistent/kubeconfig".into());
        let error = Cluster::configure(&missing).await.err().unwrap();
        assert!(matches!(&error, ConnectError::Unreadable { .. }), "{error:?}");
        assert!(error.to_string().contains("/nonexistent/kubeconfig"), "{error}");

        let path = std::env::temp_dir().join(format!("spotalis-kubeconfig-{}", std::process::id()));
        std::fs::write(&path, "clusters: [\n").unwrap();
        let error = Cluster::configure(&ClusterSource::Kubeconfig(path.clone())).await.err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(&error, ConnectError::Invalid { .. }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_tells_strangers_from_api_servers() {
        for (code, want) in [(200, "ok"), (403, "ok"), (401, "expired"), (502, "unexpected"), (404, "unexpected")] {
            let (server, namespace) = ("https://cluster.example/".to_owned(), "default".to_owned());
            let cluster = Cluster { client: client(code, "{}"), server, namespace };
            let got = match cluster.probe().await {
                Ok(()) => "ok",
                Err(ConnectError::Expired { .. }) => "expired",
                Err(ConnectError::Unexpected { .. }) => "unexpected",
                Err(error) => panic!("{code}: {error:?}"),
            };
            assert_eq!(got, want, "{code}");
        }
    }

    #[tokio::test]
    async fn a_dead_server_is_named() {
        // Port 1 on the loopback: nobody listens there.
        let mut config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let cluster = Cluster { client, server: "http://127.0.0.1:1/".into(), namespace: "default".into() };
        let error = cluster.probe().await.unwrap_err();
        assert!(matches!(&error, ConnectError::Unreachable { .. }), "{error:?}");
        assert!(chain(&error).contains("refused"), "{}", chain(&error));
    }
}
