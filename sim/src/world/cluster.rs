//! All hosts of a run on one network, stepped from outside.

use super::{
    Host, Seed, Trace,
    clock::SimTime,
    host::{Order, Shared},
};
use crate::{Settings, setup::Setup, workload::Workload};
use ashlar_metadata::node::{GroupStatus, Role};
use ashlar_types::GroupId;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

const PORT: u16 = 7000;
/// Messages of a connection on their way, and connections that wait to be accepted.
const TCP_CAPACITY: usize = 1 << 16;
/// How often histories of disks are cut.
const FORGET_MS: u64 = 5_000;

pub struct Cluster {
    sim: turmoil::Sim<'static>,
    pub hosts: Vec<Arc<Host>>,
    pub shared: Arc<Shared>,
    pub seed: Seed,
}

/// The simulation itself failed: a process panicked.
#[derive(Debug, thiserror::Error)]
#[error("a process panicked: {0}")]
pub struct Panicked(pub String);

impl Cluster {
    pub fn new(settings: Settings, seed: u64, echo: super::trace::Echo) -> Self {
        let mut seed = Seed::new(seed);
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .simulation_duration(Duration::from_secs(1 << 30))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_micros(200))
            .max_message_latency(Duration::from_millis(seed.between(2, 12)))
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .rng_seed(seed.number())
            .build();
        let time = SimTime::default();
        let trace = Trace::new(time.clone(), echo);
        let hosts = settings.hosts;
        let shared = Arc::new(Shared {
            workload: Workload::new(&settings, seed.fork(), time.clone()),
            setup: Setup::new(&settings),
            settings,
            time,
            trace,
        });
        let hosts: Vec<Arc<Host>> = (0..hosts)
            .map(|index| {
                let ip = sim.lookup(format!("n{}", index + 1));
                let address = SocketAddr::new(ip, PORT);
                Arc::new(Host::new(index, address, Arc::clone(&shared), seed.fork()))
            })
            .collect();
        shared.setup.introduce(&hosts);
        for host in &hosts {
            let running = Arc::clone(host);
            sim.host(host.name.as_str(), move || Arc::clone(&running).run());
        }
        Self { sim, hosts, shared, seed }
    }

    pub fn trace(&self) -> &Trace {
        &self.shared.trace
    }

    pub fn millis(&self) -> u64 {
        self.shared.time.millis()
    }

    /// One millisecond.
    pub fn step(&mut self) -> Result<(), Panicked> {
        self.shared.time.set(self.sim.elapsed());
        self.sim.step().map_err(|error| Panicked(error.to_string()))?;
        let now = self.millis();
        if now.is_multiple_of(FORGET_MS) {
            for host in &self.hosts {
                host.forget_history();
            }
        }
        Ok(())
    }

    pub fn run_for(&mut self, duration: Duration) -> Result<(), Panicked> {
        let end = self.millis() + u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        while self.millis() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Steps until something holds; `false` if it does not within the time given.
    pub fn until(
        &mut self,
        limit: Duration,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Panicked> {
        let end = self.millis() + u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        while self.millis() < end {
            for _ in 0..20 {
                self.step()?;
            }
            if holds(self) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The replica that leads by the highest term known, with its host.
    pub fn leader(&self, group: GroupId) -> Option<(usize, GroupStatus)> {
        let statuses = self.hosts.iter().flat_map(|host| {
            let of_group = move |status: &GroupStatus| status.group == group && status.role == Role::Leader;
            host.status().into_iter().filter(of_group).map(move |status| (host.index, status))
        });
        statuses.max_by_key(|(_, status)| status.term)
    }

    /// The power of a host fails; `silently` its peers hear nothing of it.
    pub fn cut_power(&mut self, index: usize, silently: bool) {
        let host = Arc::clone(&self.hosts[index]);
        host.die();
        if silently {
            self.each_other(index, |sim, a, b| sim.partition(a, b));
        }
        self.sim.crash(host.name.as_str());
        if silently {
            self.each_other(index, |sim, a, b| sim.repair(a, b));
        }
        host.cut_power();
    }

    /// The process of a host is killed.
    pub fn kill(&mut self, index: usize) {
        let host = Arc::clone(&self.hosts[index]);
        host.die();
        self.sim.crash(host.name.as_str());
        host.killed();
    }

    /// Boots a host that is down.
    pub fn boot(&mut self, index: usize) {
        let host = Arc::clone(&self.hosts[index]);
        self.sim.bounce(host.name.as_str());
    }

    /// Whether a process runs there.
    pub fn runs(&mut self, index: usize) -> bool {
        let name = self.hosts[index].name.clone();
        self.sim.is_host_running(name.as_str())
    }

    pub fn partition(&mut self, a: usize, b: usize) {
        self.sim.partition(self.name(a), self.name(b));
    }

    pub fn partition_oneway(&mut self, from: usize, to: usize) {
        self.sim.partition_oneway(self.name(from), self.name(to));
    }

    pub fn repair(&mut self, a: usize, b: usize) {
        self.sim.repair(self.name(a), self.name(b));
    }

    /// Messages wait until the release.
    pub fn hold(&mut self, a: usize, b: usize) {
        self.sim.hold(self.name(a), self.name(b));
    }

    pub fn release(&mut self, a: usize, b: usize) {
        self.sim.release(self.name(a), self.name(b));
    }

    /// Orders the first host that runs.
    pub fn operate(&self, order: &Order) {
        if let Some(host) = self.hosts.iter().find(|host| host.node().is_some()) {
            host.order(order.clone());
        }
    }

    fn name(&self, index: usize) -> &str {
        &self.hosts[index].name
    }

    fn each_other(&self, index: usize, change: impl Fn(&turmoil::Sim<'static>, &str, &str)) {
        for other in (0..self.hosts.len()).filter(|other| *other != index) {
            change(&self.sim, self.name(index), self.name(other));
        }
    }
}
