//! All requests of a run: which they were, what went wrong with which, and what a process cannot have heard of yet. Also the
//! way of a review to a process and back, on which things go wrong like on any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::fault::{Call, Calm, Fate, Fault};

/// After the last thing that went wrong, whoever decides where pods go knows again what there is: a reservation nobody
/// hears of any more lasts half a minute, and another leader is there by then.
const SETTLING: Duration = Duration::from_secs(45);

/// Numbers the requests of a run, and knows what goes wrong with which. Clones are the same.
#[derive(Clone)]
pub struct Requests(Arc<Mutex<State>>);

struct State {
    fate: Box<dyn Fate>,
    calls: Vec<Call>,
    /// How many there were of each process and site.
    counts: BTreeMap<(u32, String), u32>,
    happened: Vec<(Call, Fault)>,
    /// Processes that nobody reaches and that reach nobody.
    cut_off: BTreeMap<u32, CutOff>,
    delays: Vec<Delay>,
    /// Until when pods may go where they should not.
    disturbed: Instant,
}

#[derive(Clone, Copy)]
struct CutOff {
    until: Instant,
    silent: bool,
}

/// A process does not hear at once of what happens to objects of a resource.
struct Delay {
    process: u32,
    /// Absent, of any.
    resource: Option<String>,
    since: Instant,
    /// Absent, it goes on.
    until: Option<Instant>,
    /// By how much everything is late; absent, nothing comes any more.
    lag: Option<Duration>,
}

impl Delay {
    /// Of what time what is known may be, at most so long ago, if that time was within this one.
    fn age(&self, now: Instant, within: Duration) -> Option<Duration> {
        let counts = self.until.is_none_or(|until| until + within > now);
        counts.then(|| self.lag.unwrap_or(now - self.since))
    }
}

/// A delay that goes on as long as this is there.
pub(crate) struct Delayed {
    requests: Requests,
    number: usize,
}

impl Drop for Delayed {
    fn drop(&mut self) {
        let mut state = self.requests.0.lock();
        state.delays[self.number].until = Some(Instant::now());
        state.disturb(Duration::ZERO);
    }
}

impl State {
    fn disturb(&mut self, length: Duration) {
        self.disturbed = self.disturbed.max(Instant::now() + length + SETTLING);
    }
}

impl Requests {
    /// None yet. Has to be called within a runtime.
    pub fn new(fate: Box<dyn Fate>) -> Self {
        Self(Arc::new(Mutex::new(State {
            fate,
            calls: Vec::new(),
            counts: BTreeMap::new(),
            happened: Vec::new(),
            cut_off: BTreeMap::new(),
            delays: Vec::new(),
            disturbed: Instant::now(),
        })))
    }

    /// Nothing goes wrong from now on. What lasts still ends in its time.
    pub fn calm(&self) {
        self.0.lock().fate = Box::new(Calm);
    }

    /// A process reaches nobody and is reached by nobody for that long: its requests are refused at once, or, if nobody says
    /// so, answered by nobody. Its watches are silent, and go on afterwards.
    pub fn cut_off(&self, process: u32, length: Duration, silent: bool) {
        let until = Instant::now() + length;
        if self.cut_off_now(process).is_none_or(|before| before.until < until) {
            self.0.lock().cut_off.insert(process, CutOff { until, silent });
        }
        self.is_deaf(process, length);
    }

    /// A process hears of nothing for that long.
    pub(crate) fn is_deaf(&self, process: u32, length: Duration) {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.delays.push(Delay { process, resource: None, since: now, until: Some(now + length), lag: None });
        state.disturb(length);
    }

    /// Something else happens by which pods may go where they should not.
    pub fn disturb(&self) {
        self.0.lock().disturb(Duration::ZERO);
    }

    /// Whether pods may go where they should not, for what went wrong lately.
    pub fn is_disturbed(&self) -> bool {
        let state = self.0.lock();
        state.disturbed > Instant::now() || state.delays.iter().any(|delay| delay.until.is_none())
    }

    /// A process does not hear of this resource from now on, or hears everything so much later.
    pub(crate) fn delay(&self, process: u32, resource: &str, lag: Option<Duration>) -> Delayed {
        let mut state = self.0.lock();
        let number = state.delays.len();
        let (resource, since) = (Some(resource.to_owned()), Instant::now());
        state.delays.push(Delay { process, resource, since, until: None, lag });
        Delayed { requests: self.clone(), number }
    }

    /// How old what a process knows of these resources may be because it was not told, within that time.
    pub(crate) fn age(&self, process: u32, resources: &[&str], within: Duration) -> Duration {
        let now = Instant::now();
        let state = self.0.lock();
        let of = state.delays.iter().filter(|delay| {
            let about = delay.resource.as_deref().is_none_or(|resource| resources.contains(&resource));
            delay.process == process && about
        });
        of.filter_map(|delay| delay.age(now, within)).max().unwrap_or_default()
    }

    /// Returns when a process is not cut off any more; at once, if it is not. Whether it was.
    pub(crate) async fn reached(&self, process: u32) -> bool {
        let mut was = false;
        while let Some(CutOff { until, silent: _ }) = self.cut_off_now(process) {
            was = true;
            sleep_until(until).await;
        }
        was
    }

    /// Whether a process reaches nobody; if so, it may hear that only when it is over.
    pub(crate) async fn is_cut_off(&self, process: u32) -> bool {
        let cut_off = self.cut_off_now(process);
        if cut_off.is_some_and(|cut_off| cut_off.silent) {
            self.reached(process).await;
        }
        cut_off.is_some()
    }

    fn cut_off_now(&self, process: u32) -> Option<CutOff> {
        self.0.lock().cut_off.get(&process).copied().filter(|cut_off| cut_off.until > Instant::now())
    }

    /// What went wrong so far, and with which request.
    pub fn happened(&self) -> Vec<(Call, Fault)> {
        self.0.lock().happened.clone()
    }

    /// Whether a request to this site may have come to nothing, although its sender lived on.
    pub(crate) fn has_lost(&self, site: &str) -> bool {
        let state = self.0.lock();
        let is_lost = |(call, fault): &(Call, Fault)| call.site == site && fault.is_loss();
        !state.cut_off.is_empty() || state.happened.iter().any(is_lost)
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    /// Another request, and what goes wrong with it: of this process, to this site, namespace and name.
    pub(crate) fn meet(
        &self,
        process: u32,
        (site, namespace, name): (String, String, String),
    ) -> (Call, Option<Fault>) {
        let mut state = self.0.lock();
        let count = state.counts.entry((process, site.clone())).or_default();
        *count += 1;
        let nth = *count;
        let call = Call { number: state.calls.len() as u64 + 1, process, nth, site, namespace, name };
        let fault = state.fate.of(&call);
        state.calls.push(call.clone());
        if let Some(fault) = fault {
            state.happened.push((call.clone(), fault));
            if call.is_about_steering() || fault.is_crash() {
                state.disturb(fault.length());
            }
        }
        (call, fault)
    }

    /// A review on its way to a process, and its answer on the way back. Absent, nobody hears of an answer. Whether it
    /// was decided on is another matter.
    pub async fn carry<R, F: Future<Output = R>>(
        &self,
        site: &str,
        process: u32,
        dead: &CancellationToken,
        answer: impl Fn() -> F,
    ) -> Option<R> {
        let (_, fault) = self.meet(process, (site.to_owned(), String::new(), String::new()));
        if self.is_cut_off(process).await {
            return None;
        }
        let carried = async {
            match fault {
                Some(
                    Fault::Unsent
                    | Fault::Broken
                    | Fault::Conflict
                    | Fault::Overload
                    | Fault::Expired(_)
                    | Fault::Behind
                    | Fault::Held(..),
                ) => None,
                Some(Fault::Lost | Fault::Cut(_)) => {
                    answer().await;
                    None
                }
                Some(Fault::Late(millis)) => {
                    sleep(Duration::from_millis(millis.into())).await;
                    Some(answer().await)
                }
                Some(Fault::LateAnswer(millis)) => {
                    let answer = answer().await;
                    sleep(Duration::from_millis(millis.into())).await;
                    Some(answer)
                }
                Some(Fault::Hang) => {
                    answer().await;
                    std::future::pending().await
                }
                Some(Fault::CrashBefore) => {
                    dead.cancel();
                    None
                }
                Some(Fault::CrashAfter) => {
                    answer().await;
                    dead.cancel();
                    None
                }
                Some(Fault::Twice) => {
                    answer().await;
                    Some(answer().await)
                }
                None => Some(answer().await),
            }
        };
        dead.run_until_cancelled(carried).await.flatten()
    }
}
