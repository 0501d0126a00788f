//! Sockets: what S3, RPC and admin listeners accept and connectors open.

use async_trait::async_trait;
use std::{fmt::Debug, io, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream between two processes.
pub trait Connection: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Connection for T {}

#[async_trait]
pub trait Net: Debug + Send + Sync {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// The caller sets the deadline.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>>;

    /// A socket in the file system for the machine's own operator: mode 0600, a stale one is replaced.
    async fn listen_unix(&self, path: &Path) -> io::Result<Box<dyn Listener>>;

    async fn connect_unix(&self, path: &Path) -> io::Result<Box<dyn Connection>>;
}

#[async_trait]
pub trait Listener: Debug + Send + Sync {
    /// Cancel-safe: an accepted connection is never lost.
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, SocketAddr)>;

    /// The address really bound, with the port the system chose for port 0; `0.0.0.0:0` for a unix socket.
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

    async fn listen_unix(&self, path: &Path) -> io::Result<Box<dyn Listener>> {
        // A socket that nobody answers on was left by a process that died.
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = tokio::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Box::new(UnixListener(listener)))
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
    }
}

#[derive(Debug)]
struct UnixListener(tokio::net::UnixListener);

#[async_trait]
impl Listener for UnixListener {
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, SocketAddr)> {
        let (stream, _) = self.0.accept().await?;
        Ok((Box::new(stream), self.local_addr()?))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([0, 0, 0, 0], 0)))
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
