//! What lies between nodes: a proxy before each, and which directions are cut.
//!
//! A cut holds the bytes that flow from one node to another back, on every connection between the two, whoever opened
//! it, as a network does that loses packets in one direction. Connections stay open and bytes stay in order: what was
//! held arrives when the cut is healed, if anyone still waits for it.
//!
//! Who opened a connection is found by its socket: the kernel tells the inode of a port, and the inode is open in one
//! process.

use crate::ports::Port;
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// Bytes flow from the first node to the second.
type Direction = (u32, u32);

const BUFFER_BYTES: usize = 64 * 1024;

/// Shared by the proxies of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cut: watch::Sender<BTreeSet<Direction>>,
    /// Which process is which node.
    pids: Mutex<BTreeMap<u32, u32>>,
}

impl Links {
    /// From now on nothing that `from` sends reaches `to`.
    pub fn cut(&self, from: u32, to: u32) {
        self.0.cut.send_modify(|cut| {
            cut.insert((from, to));
        });
    }

    pub fn heal(&self) {
        self.0.cut.send_modify(BTreeSet::clear);
    }

    /// Connections that this process opens from now on are those of `node`.
    pub fn is_node(&self, pid: u32, node: u32) {
        self.0.pids.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, node);
    }

    /// The node that a connection from this address comes from; `None` for anyone else, whom no cut concerns.
    fn node_at(&self, address: SocketAddr) -> Option<u32> {
        let inode = socket_inode(&std::fs::read_to_string("/proc/net/tcp").ok()?, address.port())?;
        let pids = self.0.pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pids.into_iter().find(|(pid, _)| holds_socket(*pid, inode)).map(|(_, node)| node)
    }
}

/// The inode of the socket with this local port in a connection.
fn socket_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.split_once(':')?;
        let inode: u64 = fields.get(9)?.parse().ok()?;
        (u16::from_str_radix(local, 16) == Ok(port) && inode != 0).then_some(inode)
    })
}

fn holds_socket(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == &*wanted)
}

/// Stands before one node; ends with everything that passes it when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    _passing: JoinSet<()>,
}

impl Proxy {
    /// Passes what comes on to `target`, where `node` listens.
    pub async fn before(node: u32, target: SocketAddr, links: &Links) -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(port.address()).await.context("cannot listen for a proxy")?;
        let mut passing = JoinSet::new();
        let links = links.clone();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((caller, address)) = listener.accept() => {
                        connections.spawn(pass(node, target, caller, address, links.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { port, _passing: passing })
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

async fn pass(node: u32, target: SocketAddr, caller: TcpStream, address: SocketAddr, links: Links) {
    // A node that does not run refuses: the caller sees its connection closed.
    let Ok(callee) = TcpStream::connect(target).await else { return };
    let from = {
        let links = links.clone();
        tokio::task::spawn_blocking(move || links.node_at(address)).await.ok().flatten()
    };
    for stream in [&caller, &callee] {
        // Without it bytes are late, not wrong.
        let _ = stream.set_nodelay(true);
    }
    let ((caller_reads, caller_writes), (callee_reads, callee_writes)) =
        (caller.into_split(), callee.into_split());
    let inward = pump(caller_reads, callee_writes, from.map(|from| (from, node)), links.0.cut.subscribe());
    let outward = pump(callee_reads, caller_writes, from.map(|from| (node, from)), links.0.cut.subscribe());
    tokio::join!(inward, outward);
}

/// Until one side closes. A closed or broken side closes the other.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Option<Direction>,
    mut cut: watch::Receiver<BTreeSet<Direction>>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        if let Some(direction) = direction
            && cut.wait_for(|cut| !cut.contains(&direction)).await.is_err()
        {
            break;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
    // The other side may have closed already.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_holds_one_direction_back_and_healing_lets_it_go() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let links = Links::default();
        links.is_node(std::process::id(), 1);
        let proxy = Proxy::before(2, target.local_addr().unwrap(), &links).await.unwrap();
        let mut caller = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut callee, _) = target.accept().await.unwrap();
        let mut byte = [0];
        caller.write_all(b"a").await.unwrap();
        callee.read_exact(&mut byte).await.unwrap();
        links.cut(1, 2);
        caller.write_all(b"b").await.unwrap();
        // The other direction is open: when this has arrived, the held byte has had its chance.
        callee.write_all(b"c").await.unwrap();
        caller.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"c");
        assert!(callee.try_read(&mut byte).is_err(), "nothing arrives");
        links.heal();
        callee.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"b");
    }
}
