//! WebSockets: connections that each send a message of 100 bytes, wait for its echo, and send the next; and the echo server behind the proxies (RFC 6455). Both
//! are processes of their own: the benchmark starts itself again as `websocket-load` or `websocket-echo`. Frames of one size need no parser.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Load;

/// The key of RFC 6455 §1.3, and what accepts it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const PATIENCE: Duration = Duration::from_secs(5);
const PAYLOAD: usize = 100;
/// A final binary frame of 100 bytes, from a client (with a mask of zeros) and from a server.
const ASKED: usize = 2 + 4 + PAYLOAD;
const ECHOED: usize = 2 + PAYLOAD;

/// Loads an address with a number of connections for a number of seconds, from core 1.
pub(crate) fn load(address: SocketAddr, connections: usize, seconds: u64) -> Result<Load, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("taskset")
        .args(["-c", "1"])
        .arg(own)
        .args(["websocket-load", &address.to_string(), &connections.to_string(), &seconds.to_string()])
        .output()
        .map_err(|e| format!("websocket-load: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [done, rate] if done > 0.0 => Ok(Load { done: done as u64, failures: 0, rate, ..Load::default() }),
        _ => Err(format!("websocket-load on {address} said: {text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// `websocket-load`: prints how many echoes came, and the echoes a second.
pub(crate) fn generate(address: SocketAddr, connections: usize, seconds: u64) -> Result<(), String> {
    let mut all: Vec<TcpStream> = (0..connections).map(|_| open(address)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut frame = [b'x'; ASKED];
    frame[..6].copy_from_slice(&[0x82, 0x80 | PAYLOAD as u8, 0, 0, 0, 0]);
    let (mut done, mut echo) = (0_u64, [0; ECHOED]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        // All connections send before any echo is read: the proxy sees bursts, as from many clients.
        for stream in &mut all {
            stream.write_all(&frame).map_err(|e| e.to_string())?;
        }
        for stream in &mut all {
            stream.read_exact(&mut echo).map_err(|e| e.to_string())?;
            if echo[..2] != [0x82, PAYLOAD as u8] || echo[2..] != frame[6..] {
                return Err("an echo is not what was sent".to_owned());
            }
            done += 1;
        }
    }
    println!("{done} {:.0}", done as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /service-9/echo HTTP/1.1\r\nHost: bench.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    )?;
    // Nothing follows the head until a message is sent.
    let mut head = BufReader::new(&stream);
    let (mut line, mut accepted) = (String::new(), false);
    while line != "\r\n" {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        accepted |= line.trim_end().ends_with(ACCEPT);
    }
    if accepted { Ok(stream) } else { Err(std::io::Error::other("the upgrade was not accepted")) }
}

/// `websocket-echo`: accepts WebSockets for ever at each address, and echoes messages of 100 bytes.
pub(crate) fn echo(addresses: &[SocketAddr]) -> Result<(), String> {
    let threads: Vec<_> = addresses
        .iter()
        .map(|address| {
            let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
            Ok(std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || answer(stream));
                }
            }))
        })
        .collect::<Result<_, String>>()?;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(());
        }
    }
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )?;
    let (mut frame, mut echo) = ([0; ASKED], [0x82; ECHOED]);
    echo[1] = PAYLOAD as u8;
    loop {
        head.read_exact(&mut frame)?;
        for (to, (at, from)) in echo[2..].iter_mut().zip(frame[6..].iter().enumerate()) {
            *to = from ^ frame[2 + at % 4];
        }
        stream.write_all(&echo)?;
    }
}
