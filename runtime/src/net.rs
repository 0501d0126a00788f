//! Sockets: what S3, RPC and admin listeners accept and connectors open.

use async_trait::async_trait;
use std::{fmt::Debug, io, net::SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream between two processes.
pub trait Connection: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Connection for T {}

#[async_trait]
pub trait Net: Debug + Send + Sync {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// The caller sets the deadline.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>>;
}

#[async_trait]
pub trait Listener: Debug + Send + Sync {
    /// Cancel-safe: an accepted connection is never lost.
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, SocketAddr)>;

    /// The address really bound, with the port the system chose for port 0.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// TCP of this machine, without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealNet;

#[async_trait]
impl Net for RealNet {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(RealListener(tokio::net::TcpListener::bind(address).await?)))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[derive(Debug)]
struct RealListener(tokio::net::TcpListener);

#[async_trait]
impl Listener for RealListener {
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
