//! Sockets of a host over turmoil's network. Everything written goes into the trace.

use super::trace::Trace;
use ashlar_runtime::{Connection, Listener, Net};
use async_trait::async_trait;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug)]
pub(crate) struct SimNet {
    pub(crate) host: usize,
    pub(crate) trace: Trace,
}

#[async_trait]
impl Net for SimNet {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        // Turmoil binds a host as a whole.
        let listener = turmoil::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
        Ok(Box::new(SimListener { listener, address, host: self.host, trace: self.trace.clone() }))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let stream = turmoil::net::TcpStream::connect(address).await?;
        Ok(Box::new(SimStream { stream, host: self.host, trace: self.trace.clone() }))
    }

    async fn listen_unix(&self, _path: &Path) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect_unix(&self, _path: &Path) -> io::Result<Box<dyn Connection>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct SimListener {
    listener: turmoil::net::TcpListener,
    address: SocketAddr,
    host: usize,
    trace: Trace,
}

impl std::fmt::Debug for SimListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimListener").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((Box::new(SimStream { stream, host: self.host, trace: self.trace.clone() }), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[derive(Debug)]
struct SimStream {
    stream: turmoil::net::TcpStream,
    host: usize,
    trace: Trace,
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, out)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(len)) = written {
            self.trace.sent(self.host, &bytes[..len]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            // Turmoil refuses a second shutdown, sockets do not.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other @ (Poll::Ready(_) | Poll::Pending) => other,
        }
    }
}
