//! The webhook as the API server counts it: how often it was called, and how often the API server went on without an
//! answer, as `failurePolicy: Ignore` has it do. The product itself cannot know the latter.

use anyhow::Result;
use spotalis_rig::Rig;

use crate::Scrape;

/// The name of the webhook within its registration.
const WEBHOOK: (&str, &str) = ("name", "pods.spotalis.io");

/// Counts since the API server's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were not, or not in time.
    pub failed_open: u64,
}

impl Calls {
    /// So far.
    pub async fn so_far(rig: &Rig) -> Result<Self> {
        let scrape = Scrape::parse(&rig.apiserver_metrics().await?);
        Ok(Self {
            answered: count(scrape.sum("apiserver_admission_webhook_request_total", &[WEBHOOK, ("code", "200")])),
            failed_open: count(scrape.sum("apiserver_admission_webhook_fail_open_count", &[WEBHOOK])),
        })
    }
}

/// The value of a metric that counts things, to be compared exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole, and small")]
pub const fn count(value: f64) -> u64 {
    value as u64
}
