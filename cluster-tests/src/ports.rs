//! TCP ports on loopback that stay ours for as long as a node may want them back.
//!
//! A node keeps its addresses over restarts, and while it is dead nobody else may take them. So ports lie below the
//! range that the kernel gives to outgoing connections, and each one is locked by a file against other test
//! processes.

use anyhow::{Context, Result, bail};
use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
};

/// Given back when dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked for as long as it is open.
    _lock: File,
}

const LOWEST: u16 = 12_000;
/// Where Linux begins with ephemeral ports unless told otherwise.
const EPHEMERAL_DEFAULT: u16 = 32_768;

impl Port {
    /// A port that nobody listens on.
    pub fn free() -> Result<Self> {
        Self::block(0)
    }

    /// A port that is free together with those at the same distance as `followers` say: what `ashlar dev` needs,
    /// which derives the ports of its nodes from one.
    pub fn block(followers: u16) -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let highest = ephemeral_begin().saturating_sub(followers);
        if highest <= LOWEST {
            bail!("no ports between {LOWEST} and the ephemeral range; see net.ipv4.ip_local_port_range");
        }
        let span = highest - LOWEST;
        // Test processes begin apart from each other, so that they seldom try the same one.
        let begin = u16::try_from(std::process::id() % u32::from(span)).expect("below a u16");
        for _ in 0..span {
            let step = NEXT.fetch_add(followers + 1, Ordering::Relaxed);
            let offset = (u32::from(begin) + u32::from(step)) % u32::from(span);
            let number = LOWEST + u16::try_from(offset).expect("below a u16");
            if let Some(lock) = lock(number)?
                && (number..=number + followers).all(unused)
            {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("every port between {LOWEST} and {highest} is in use")
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn unused(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}

fn lock(number: u16) -> Result<Option<File>> {
    let dir: PathBuf = std::env::temp_dir().join("ashlar-test-ports");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = File::create(dir.join(number.to_string()))?;
    Ok(file.try_lock().is_ok().then_some(file))
}

fn ephemeral_begin() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_ports_differ_and_can_be_listened_on() {
        let ports: Vec<Port> = (0..20).map(|_| Port::free().unwrap()).collect();
        let listeners: Vec<_> = ports.iter().map(|port| TcpListener::bind(port.address()).unwrap()).collect();
        assert_eq!(listeners.len(), 20);
        assert!(ports.iter().all(|port| port.number() < ephemeral_begin()));
    }
}
