//! Connections with TLS around them, from either end.

use super::{Proven, Tls, verify};
use crate::{refusals::Refusals, tuning::TLS_BUFFER_BYTES};
use ashlar_runtime::Connection;
use rustls::{CertificateError, OtherError, server::Acceptor};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

/// rustls takes records of at most 16 KiB out of what one read gave it; larger reads save system calls.
type Buffered = BufReader<Box<dyn Connection>>;

fn buffered(connection: Box<dyn Connection>) -> Buffered {
    BufReader::with_capacity(TLS_BUFFER_BYTES, connection)
}

fn not_ready() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "this node has no certificate yet")
}

impl Tls {
    /// `address` and `refusals`: for what is said when the peer refuses us later on.
    pub(crate) async fn connect(
        &self,
        connection: Box<dyn Connection>,
        address: &str,
        refusals: &Arc<Refusals>,
    ) -> io::Result<Box<dyn Connection>> {
        let (config, name) = self.configs().client.ok_or_else(not_ready)?;
        let connecting = TlsConnector::from(config).connect_with(name, buffered(connection), |connection| {
            connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        });
        let stream = connecting.await?;
        Ok(Box::new(Outgoing { stream, address: address.to_owned(), refusals: Arc::clone(refusals) }))
    }

    pub(crate) async fn accept(
        &self,
        connection: Box<dyn Connection>,
    ) -> io::Result<(Box<dyn Connection>, Proven)> {
        let config = self.configs().server.ok_or_else(not_ready)?;
        let begun = LazyConfigAcceptor::new(Acceptor::default(), buffered(connection)).await?;
        let asked = begun.client_hello().server_name().map(str::to_owned);
        let accepting = begun.into_stream_with(config, |connection| {
            connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        });
        let stream = accepting.await.map_err(|error| {
            let asked = asked.as_deref().unwrap_or("nobody");
            io::Error::new(error.kind(), format!("{} (the caller asked for {asked})", reason(&error)))
        })?;
        let proven = match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
            None => Proven::NoCertificate,
            Some(certificate) => match verify::holder(certificate) {
                Some((cluster, node)) => Proven::Node(cluster, node),
                None => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the certificate names no node"));
                }
            },
        };
        Ok((Box::new(stream), proven))
    }
}

/// In TLS 1.3 a server looks at the client's certificate when the client has finished already, so that its refusal is
/// the first thing that is read.
#[derive(Debug)]
struct Outgoing {
    stream: tokio_rustls::client::TlsStream<Buffered>,
    address: String,
    refusals: Arc<Refusals>,
}

/// Our own reasons are inside of what rustls says.
pub(crate) fn reason(error: &io::Error) -> String {
    match rustls_error(error) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ours)))) => {
            ours.to_string()
        }
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl Outgoing {
    fn tell(&self, error: &io::Error) {
        if let Some(rustls::Error::AlertReceived(alert)) = rustls_error(error) {
            self.refusals
                .told_by(&self.address, &format!("it did not take this node's certificate: {alert:?}"));
        }
    }
}

impl AsyncRead for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if let Err(error) = &result {
            self.tell(error);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
