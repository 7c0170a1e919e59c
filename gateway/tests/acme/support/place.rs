//! An address of loopback that no other test has, so that ports can be fixed: pebble takes no port
//! 0, and the gateway and pebble have to know each other's.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

/// Ports of one test.
const PORTS: u16 = 20;

/// Tests of this process so far.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// Where the servers of one test are.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub ip: IpAddr,
    first: u16,
}

impl Place {
    /// One that nobody else has: the address is this process's, the ports are this test's.
    pub fn new() -> Self {
        let [_, b, c, d] = std::process::id().to_be_bytes();
        // Never 127.0, where everything else on a machine is.
        let ip = IpAddr::V4(Ipv4Addr::new(127, b + 64, c, d));
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        Self { ip, first: 10_000 + number * PORTS }
    }

    /// The `index`th port.
    pub fn at(&self, index: u16) -> SocketAddr {
        assert!(index < PORTS);
        SocketAddr::new(self.ip, self.first + index)
    }

    /// Where the gateway's plain HTTP and HTTPS are.
    pub fn http(&self) -> SocketAddr {
        self.at(0)
    }

    pub fn https(&self) -> SocketAddr {
        self.at(1)
    }
}
