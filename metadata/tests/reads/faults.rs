//! A clock that is off, and wires that can be cut.

use ashlar_runtime::{Clock, Connection, Listener, Net, RealClock, RealNet};
use ashlar_types::{NodeId, Timestamp};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The machine's clocks, but that the wall clock can be set.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    real: RealClock,
    skew_ms: AtomicI64,
}

impl SkewedClock {
    pub(crate) fn new(skew_ms: i64) -> Self {
        Self { real: RealClock::new(), skew_ms: AtomicI64::new(skew_ms) }
    }

    pub(crate) fn set(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::SeqCst);
    }
}

impl Clock for SkewedClock {
    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.real.wall().0.saturating_add_signed(self.skew_ms.load(Ordering::SeqCst)))
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.real.sleep(duration)
    }
}

/// Which nodes do not reach which. Connections over a cut wire break when they are next used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wires(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<SocketAddr, NodeId>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Wires {
    pub(crate) fn name(&self, address: SocketAddr, node: NodeId) {
        self.0.lock().unwrap().names.insert(address, node);
    }

    /// Both ways.
    pub(crate) fn cut(&self, one: NodeId, other: NodeId) {
        self.0.lock().unwrap().cut.extend([(one, other), (other, one)]);
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    fn check(&self, from: NodeId, to: SocketAddr) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        match state.names.get(&to) {
            Some(to) if state.cut.contains(&(from, *to)) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(_) | None => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct CuttableNet {
    node: NodeId,
    wires: Wires,
}

impl CuttableNet {
    pub(crate) fn new(node: NodeId, wires: Wires) -> Self {
        Self { node, wires }
    }
}

#[async_trait]
impl Net for CuttableNet {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        RealNet.listen(address).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        self.wires.check(self.node, address)?;
        let inner = RealNet.connect(address).await?;
        Ok(Box::new(Wire { inner, from: self.node, to: address, wires: self.wires.clone() }))
    }

    async fn listen_unix(&self, path: &Path) -> io::Result<Box<dyn Listener>> {
        RealNet.listen_unix(path).await
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Box<dyn Connection>> {
        RealNet.connect_unix(path).await
    }
}

#[derive(Debug)]
struct Wire {
    inner: Box<dyn Connection>,
    from: NodeId,
    to: SocketAddr,
    wires: Wires,
}

impl Wire {
    fn check(&self) -> io::Result<()> {
        self.wires.check(self.from, self.to)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_read(context, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
