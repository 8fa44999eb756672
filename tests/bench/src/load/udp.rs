//! UDP: flows that each send a datagram, wait for its echo, and send the next; and the echo server behind the proxies. Both are processes of their own
//! on core 1, so that their time is not counted as the proxy's: the benchmark starts itself again as `udp-load` or `udp-echo`.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Load;

/// The size of a datagram, the same as the answers in the HTTP rows.
const PAYLOAD: usize = 100;
/// A datagram that has not come back within this time is lost.
const LOST: Duration = Duration::from_millis(500);

/// Loads an address with a number of flows for a number of seconds, from core 1.
pub(crate) fn load(address: SocketAddr, flows: usize, seconds: u64) -> Result<Load, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("taskset")
        .args(["-c", "1"])
        .arg(own)
        .args(["udp-load", &address.to_string(), &flows.to_string(), &seconds.to_string()])
        .output()
        .map_err(|e| format!("udp-load: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [done, lost, rate] if done > 0.0 => Ok(Load { done: done as u64, failures: lost as u64, rate, ..Load::default() }),
        _ => Err(format!("udp-load on {address} said: {text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// `udp-load`: prints how many echoes came, how many datagrams were lost, and the echoes a second.
pub(crate) fn generate(address: SocketAddr, flows: usize, seconds: u64) -> Result<(), String> {
    let flow = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(LOST))?;
        Ok(socket)
    };
    let flows: Vec<UdpSocket> = (0..flows).map(|_| flow()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let (mut done, mut lost, mut buffer) = (0_u64, 0_u64, [0; PAYLOAD]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        // All flows send before any echo is read: the proxy sees bursts, as from many clients.
        for socket in &flows {
            let _ = socket.send(&[b'x'; PAYLOAD]);
        }
        for socket in &flows {
            match socket.recv(&mut buffer) {
                Ok(_) => done += 1,
                Err(_) => lost += 1,
            }
        }
    }
    println!("{done} {lost} {:.0}", done as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// `udp-echo`: echoes datagrams for ever at each address.
pub(crate) fn echo(addresses: &[SocketAddr]) -> Result<(), String> {
    let threads: Vec<_> = addresses
        .iter()
        .map(|address| {
            let socket = UdpSocket::bind(address).map_err(|e| format!("{address}: {e}"))?;
            Ok(std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }))
        })
        .collect::<Result<_, String>>()?;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}
