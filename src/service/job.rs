//! A job: one run, plan, adoption or verification of one sync of a config folder. It checks the mapping against its source,
//! prepares the destination, and hands both to `sync`.

use std::sync::Arc;

use tokio::sync::watch;

use super::open::{self, Failure};
use super::peers::RunLease;
#[cfg(feature = "otlp")]
use super::trace::RunTrace;
use crate::config::Project;
use crate::delivery::{self, Delivery, KeepRequests, Permit, ReadBackClient, Signal};
use crate::destination::{AddressedChange, ConfiguredDestination, Destination, DestinationSeal};
use crate::error::{Error, Kind, Result, Within};
use crate::io::http::{HttpClient, Transport};
use crate::io::{Clock, Random};
use crate::ledger::Ledger;
use crate::ledger::kept_requests::KeptRequests;
use crate::ledger::shared::{Claim, sync_lease};
use crate::mapping::{Mapping, MappingFile, fingerprint};
use crate::sync::decide::Decision;
use crate::sync::remote_groups::RemoteGroups;
use crate::sync::report::Report;
use crate::sync::verify::{self, Verification, Verified};
use crate::sync::{self, Monitor, Plan, Reader, RunOptions, RunOrigin, Session, Warehouse};

/// What the jobs of a process share.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The config folder.
    pub project: &'a Project,
    /// The ledger; nothing else may use this connection meanwhile.
    pub ledger: &'a dyn Ledger,
    /// The network.
    pub http_client: &'a HttpClient,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// For run ids and jitter.
    pub random: &'a Random,
}

impl<'a> Context<'a> {
    /// A job of the sync of this name.
    ///
    /// Errors: there is no such sync, or its mapping has mistakes.
    pub fn job(
        self,
        sync: &str,
        (options, origin): (&'a RunOptions, &'a RunOrigin),
        monitor: &'a dyn Monitor,
        signal: watch::Receiver<Signal>,
    ) -> Result<Job<'a>, Failure> {
        Ok(Job { context: self, file: open::named(self.project, sync)?, options, origin, monitor, signal })
    }
}

/// One job.
pub struct Job<'a> {
    /// What it shares with others.
    pub context: Context<'a>,
    file: &'a MappingFile,
    options: &'a RunOptions,
    origin: &'a RunOrigin,
    monitor: &'a dyn Monitor,
    signal: watch::Receiver<Signal>,
}

/// What a run meets the outside with. What watches a job puts something of its own around these.
struct JobEnds<'a> {
    monitor: &'a dyn Monitor,
    transport: &'a dyn Transport,
    read_by: &'a (dyn Fn(Warehouse) -> Box<dyn Reader + 'a> + Send + Sync),
}

/// Takes the pages of a plan, with the destination they would go to.
pub type ShowPage<'a> = dyn FnMut(&dyn Destination, &[Decision]) -> Result<()> + Send + 'a;

impl Job<'_> {
    /// The mapping.
    pub fn mapping(&self) -> &Mapping {
        &self.file.mapping
    }

    /// The settings of its destination, as a plan seals them.
    pub fn destination_seal(&self) -> Result<DestinationSeal> {
        DestinationSeal::new(self.configured()?)
    }

    fn configured(&self) -> Result<ConfiguredDestination<'_>> {
        let settings = open::destination_of(self.context.project, self.file)?;
        Ok(ConfiguredDestination { of: open::destination_type(settings)?, values: &settings.values })
    }

    fn place(&self) -> String {
        format!("sync {}", self.file.mapping.name)
    }

    fn session<'s>(&'s self, fingerprint: &'s str, delivery: Option<&'s Delivery<'s>>) -> Session<'s> {
        Session {
            mapping: &self.file.mapping,
            fingerprint,
            syncs: Some(self.context.project.names()),
            destination: self.configured().ok(),
            ledger: self.context.ledger,
            delivery,
            clock: self.context.clock,
            random: self.context.random,
            monitor: self.monitor,
            options: self.options,
            origin: self.origin,
            signal: self.signal.clone(),
        }
    }

    /// The source, once it was asked whether the mapping fits it.
    async fn warehouse(&self) -> Result<Warehouse, Failure> {
        let mut source = open::fitting_source(self.context.project, self.file).await?;
        let instance = source.instance(&self.context.project.settings.state.input_limits()).await?;
        Ok(Warehouse { source, instance })
    }

    async fn destination(&self) -> Result<Box<dyn Destination>> {
        let settings = open::destination_of(self.context.project, self.file)?;
        let group_type = &self.file.mapping.group_type;
        open::destination(settings, group_type).within(|| self.place())
    }

    async fn prepare(&self, destination: &mut dyn Destination, transport: &dyn Transport) -> Result<()> {
        delivery::prepare(destination, transport, self.context.clock, self.context.random).await.within(|| self.place())
    }

    /// Both ends, ready to be used. Either may never respond, so stopping the run ends the waiting too.
    async fn ends(&self, transport: &dyn Transport) -> Result<(Box<dyn Destination>, Warehouse), Failure> {
        let ready = async {
            let mut destination = self.destination().await?;
            let warehouse = self.warehouse().await?;
            self.prepare(destination.as_mut(), transport).await?;
            Ok((destination, warehouse))
        };
        let stopped = async {
            let mut signal = self.signal.clone();
            // A closed channel means nobody can ask any more.
            if signal.wait_for(|signal| *signal >= Signal::Stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ready = ready => ready,
            () = stopped => Err(Error::new(Kind::Interrupted, "stopped before anything was read").into()),
        }
    }

    /// A failure to find something at the source is one of a source that is busy, where an earlier run has read it.
    async fn missing_for_now(&self, failure: Failure, fingerprint: &str) -> Failure {
        if !failure.is_missing() {
            return failure;
        }
        match self.session(fingerprint, None).missing_for_now(failure.as_error()).await {
            busy if busy.kind() == Kind::SourceBusy => busy.into(),
            _ => failure,
        }
    }

    /// Runs the sync. When its id was given out beforehand, a failure is recorded under it however early it comes.
    pub async fn run(&self) -> Result<Report, Failure> {
        #[cfg(feature = "otlp")]
        {
            let settings = &self.context.project.settings;
            let source = settings.sources.get(&self.file.mapping.source).map_or("", |source| &source.kind);
            let destination = open::destination_of(self.context.project, self.file).map_or("", |to| &to.kind);
            if let Some(trace) = RunTrace::begin(self.mapping(), (source, destination), self.context.clock) {
                let (monitor, transport) = (trace.monitor(self.monitor), trace.transport(self.context.http_client));
                let read_by = |warehouse| trace.reader(warehouse);
                let ends = JobEnds { monitor: &monitor, transport: &transport, read_by: &read_by };
                let result = self.run_with(&ends).await;
                trace.end(&result);
                return result;
            }
        }
        let (monitor, transport) = (self.monitor, self.context.http_client);
        self.run_with(&JobEnds { monitor, transport, read_by: &|warehouse| Box::new(warehouse) }).await
    }

    /// The lease of the sync, where other processes might run it: from before anything is read until the run is recorded.
    async fn claim(&self) -> Result<Option<Claim>> {
        let Some(shared) = self.context.ledger.shared() else { return Ok(None) };
        let attempt = open::attempt_longest(self.context.project, self.file)?;
        let detail = RunLease::text(self.origin.run.as_deref(), &self.origin.started_by, None);
        shared.claim(&sync_lease(&self.file.mapping.name), attempt, &detail).await.map(Some).within(|| self.place())
    }

    /// Runs the sync with these ends.
    async fn run_with(&self, ends: &JobEnds<'_>) -> Result<Report, Failure> {
        let claim = self.claim().await?;
        let fingerprint = fingerprint(&self.file.mapping);
        let (destination, warehouse) = match self.ends(ends.transport).await {
            Ok(ends) => ends,
            Err(failure) => {
                let failure = self.missing_for_now(failure, &fingerprint).await;
                if self.origin.run.is_some() {
                    // The failure itself is what must be told.
                    let session = self.session(&fingerprint, None);
                    drop(sync::note_failure(&session, &failure.as_error(), failure.problems()).await);
                }
                return Err(failure);
            }
        };
        let mut settings = open::delivery_settings(open::destination_of(self.context.project, self.file)?);
        settings.grace = self.origin.grace.unwrap_or(settings.grace);
        let keeps = self.context.ledger.history().kept_requests().is_some_and(KeptRequests::keeps);
        settings.keep = match self.options.group {
            _ if !keeps => KeepRequests::Never,
            None => KeepRequests::Undelivered,
            Some(_) => KeepRequests::Always,
        };
        let (transport, signal) = (ends.transport, self.signal.clone());
        let delivery =
            Delivery::new(destination.as_ref(), transport, self.context.clock, self.context.random, settings, signal)
                .permitted_by(claim.map(|claim| Arc::new(move || claim.may_send()) as Permit));
        let session = Session { monitor: ends.monitor, ..self.session(&fingerprint, Some(&delivery)) };
        let mut reader = (ends.read_by)(warehouse);
        Ok(sync::run(&session, reader.as_mut()).await.within(|| self.place())?)
    }

    /// Shows what a run would do, page by page, and writes nothing that lasts. The ledger is a read-only one.
    pub async fn plan(&self, show: &mut ShowPage<'_>) -> Result<Plan, Failure> {
        let (destination, mut warehouse) = self.ends(self.context.http_client).await?;
        let destination = destination.as_ref();
        let fingerprint = fingerprint(&self.file.mapping);
        let session = self.session(&fingerprint, None);
        let refuse = |addressed: &AddressedChange| destination.parts(addressed).err();
        let show = &mut |page: &[Decision]| show(destination, page);
        Ok(sync::plan(&session, &mut warehouse, &refuse, show).await.within(|| self.place())?)
    }

    /// Takes the source's rows as already held by the destination. Returns how many groups.
    pub async fn adopt(&self) -> Result<u64, Failure> {
        let mut warehouse = self.warehouse().await?;
        let fingerprint = fingerprint(&self.file.mapping);
        let session = self.session(&fingerprint, None);
        Ok(sync::adopt(&session, &mut warehouse).await.within(|| self.place())?)
    }

    /// Compares what the destination holds with what is synced. With `repair`, the next run sends in full what
    /// differs.
    pub async fn verify(&self, repair: bool, sink: &mut verify::Sink<'_>) -> Result<Verified> {
        let mut destination = self.destination().await?;
        // Asked before anything travels: most destinations cannot be.
        ReadBackClient::new(destination.as_ref(), self.context.http_client, self.context.clock, self.context.random)
            .within(|| self.place())?;
        self.prepare(destination.as_mut(), self.context.http_client).await?;
        let reader = ReadBackClient::new(
            destination.as_ref(),
            self.context.http_client,
            self.context.clock,
            self.context.random,
        )
        .within(|| self.place())?;
        let remote = RemoteGroups::open(&self.context.project.settings.state.input_limits()).await?;
        let mark = format!("verify-{}", self.context.clock.now().format("%Y%m%dT%H%M%SZ"));
        let verification = Verification {
            mapping: &self.file.mapping,
            features: &destination.features(),
            ledger: self.context.ledger,
            remote: &remote,
            reader: &reader,
            repair: repair.then_some(mark.as_str()),
            monitor: self.monitor,
        };
        verify::verify(&verification, sink).await.within(|| self.place())
    }
}
