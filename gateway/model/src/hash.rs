//! The hashes that consistent-hash balancers are given.

use std::net::IpAddr;

/// Hashes bytes, with the same result on every worker and in every process: XXH3 (64 bits, seed 0).
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Hashes a client address.
pub fn hash_ip(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(v4) => hash_bytes(&v4.octets()),
        IpAddr::V6(v6) => hash_bytes(&v6.octets()),
    }
}
