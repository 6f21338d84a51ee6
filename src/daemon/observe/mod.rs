//! What can be observed of the daemon from outside: its [`log`], its [`metrics`], its [`alerts`], and what it notifies the
//! service manager of.

pub mod alerts;
pub mod log;
pub mod metrics;

use self::metrics::Metrics;
use super::systemd::ServiceManager;
use crate::config;
use crate::error::Result;

/// Everybody who is notified of what happens.
pub(super) struct Notifier {
    pub(super) metrics: Metrics,
    pub(super) alerts: alerts::Alerting,
    pub(super) service_manager: ServiceManager,
}

impl Notifier {
    /// A notifier with these settings; `stored` is the state of the alerts before the restart.
    pub(super) fn new(settings: Option<&config::Alerts>, stored: Option<&str>) -> Result<Notifier> {
        Ok(Notifier {
            metrics: Metrics::new(),
            alerts: alerts::Alerting::new(settings, stored)?,
            service_manager: ServiceManager::from_env(),
        })
    }
}
