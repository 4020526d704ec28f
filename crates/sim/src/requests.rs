//! All requests of a run: their numbers, what went wrong with which, and who cannot be reached. Also the way of a review to
//! a process and back, on which things go wrong like on any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::fault::{Call, Calm, Fate, Fault};

/// Numbers the requests of a run, and knows what goes wrong with which. Clones are the same.
#[derive(Clone)]
pub struct Requests(Arc<Mutex<State>>);

struct State {
    fate: Box<dyn Fate>,
    calls: Vec<Call>,
    happened: Vec<(Call, Fault)>,
    /// Processes that nobody reaches and that reach nobody, and until when.
    cut_off: BTreeMap<u32, Instant>,
    /// Processes of which a watch is held back: since when, and until when.
    held: Vec<(u32, Instant, Instant)>,
}

impl Requests {
    /// None yet.
    pub fn new(fate: Box<dyn Fate>) -> Self {
        Self(Arc::new(Mutex::new(State {
            fate,
            calls: Vec::new(),
            happened: Vec::new(),
            cut_off: BTreeMap::new(),
            held: Vec::new(),
        })))
    }

    /// Nothing goes wrong from now on. What lasts still ends in its time.
    pub fn calm(&self) {
        self.0.lock().fate = Box::new(Calm);
    }

    /// A process reaches nobody and is reached by nobody for that long. Its watches are silent, and go on afterwards.
    pub fn cut_off(&self, process: u32, length: Duration) {
        self.0.lock().cut_off.insert(process, Instant::now() + length);
    }

    /// A watch of a process is held back from now on; until when.
    pub(crate) fn hold(&self, process: u32, length: Duration) -> Instant {
        let now = Instant::now();
        self.0.lock().held.push((process, now, now + length));
        now + length
    }

    /// By how much longer than usual a process may not have seen what happened: a watch of it is held back, or was within
    /// this time.
    pub(crate) fn held_back(&self, process: u32, within: Duration) -> Duration {
        let now = Instant::now();
        let state = self.0.lock();
        let of = state.held.iter().filter(|(whose, _, until)| *whose == process && *until + within > now);
        of.map(|(_, since, _)| now - *since).max().unwrap_or_default()
    }

    /// Until when a process reaches nobody.
    pub(crate) fn cut_off_until(&self, process: u32) -> Option<Instant> {
        self.0.lock().cut_off.get(&process).copied().filter(|until| *until > Instant::now())
    }

    /// What went wrong so far, and with which request.
    pub fn happened(&self) -> Vec<(Call, Fault)> {
        self.0.lock().happened.clone()
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    pub(crate) fn meet(&self, call: impl FnOnce(u64) -> Call) -> (Call, Option<Fault>) {
        let mut state = self.0.lock();
        let call = call(state.calls.len() as u64 + 1);
        let fault = state.fate.of(&call);
        state.calls.push(call.clone());
        if let Some(fault) = fault {
            state.happened.push((call.clone(), fault));
        }
        (call, fault)
    }

    /// A review on its way to a process, and its answer on the way back. Absent, nobody hears of an answer. Whether it
    /// was decided on is another matter.
    pub async fn carry<R>(
        &self,
        site: &str,
        process: u32,
        dead: &CancellationToken,
        answer: impl Future<Output = R>,
    ) -> Option<R> {
        let (site, namespace, name) = (site.to_owned(), String::new(), String::new());
        let (_, fault) = self.meet(|number| Call { number, process, site, namespace, name });
        if self.cut_off_until(process).is_some() {
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
                    answer.await;
                    None
                }
                Some(Fault::Late(millis)) => {
                    sleep(Duration::from_millis(millis.into())).await;
                    Some(answer.await)
                }
                Some(Fault::LateAnswer(millis)) => {
                    let answer = answer.await;
                    sleep(Duration::from_millis(millis.into())).await;
                    Some(answer)
                }
                Some(Fault::CrashBefore) => {
                    dead.cancel();
                    None
                }
                Some(Fault::CrashAfter) => {
                    answer.await;
                    dead.cancel();
                    None
                }
                Some(Fault::Twice) | None => Some(answer.await),
            }
        };
        dead.run_until_cancelled(carried).await.flatten()
    }
}
