//! The floor: what tokio's TCP costs by itself, with lengths in front and whole batches written at once.
//!
//! No ids, no tasks for calls, no names: one task with a sliding window of requests. `add` answers the sum of 16 bytes
//! as 8; everything else comes back as it is.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of `add`'s arguments.
pub const ADD: usize = 16;

/// Serves connections for ever.
///
/// # Errors
/// If accepting fails.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes away ends its own task only.
        tokio::spawn(async move { drop(serve_one(stream).await) });
    }
}

async fn serve_one(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut out = Vec::new();
    let mut len = 0;
    loop {
        let n = stream.read(&mut buffer[len..]).await?;
        if n == 0 {
            return Ok(());
        }
        len += n;
        let mut at = 0;
        while let Some((head, rest)) = buffer[at..len].split_first_chunk::<4>() {
            let wanted = u32::from_le_bytes(*head) as usize;
            if wanted > buffer.len() - 4 {
                // A blob: the rest of it straight into its own memory.
                let mut blob = vec![0; wanted];
                blob[..rest.len()].copy_from_slice(rest);
                stream.read_exact(&mut blob[rest.len()..]).await?;
                stream.write_all(&(wanted as u32).to_le_bytes()).await?;
                stream.write_all(&blob).await?;
                (at, len) = (0, 0);
                break;
            }
            let Some(body) = rest.get(..wanted) else { break };
            match <[u8; ADD]>::try_from(body) {
                Ok(_) => {
                    let number = |at: usize| i64::from_le_bytes(body[at..at + 8].try_into().unwrap_or_default());
                    out.extend_from_slice(&8u32.to_le_bytes());
                    out.extend_from_slice(&number(0).wrapping_add(number(8)).to_le_bytes());
                }
                Err(_) => {
                    out.extend_from_slice(head);
                    out.extend_from_slice(body);
                }
            }
            at += 4 + wanted;
        }
        buffer.copy_within(at..len, 0);
        len -= at;
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}

/// Makes `n_calls` calls with this body, `in_flight` at once.
///
/// # Errors
/// If the connection fails.
pub async fn calls(stream: &mut TcpStream, body: &[u8], n_calls: usize, in_flight: usize) -> io::Result<()> {
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    let answer = 4 + if body.len() == ADD { 8 } else { body.len() };
    let mut out = frame.repeat(in_flight.min(n_calls));
    let mut n_sent = in_flight.min(n_calls);
    let mut n_done = 0;
    let mut partial = 0;
    let mut buffer = vec![0; (64 << 10).max(answer.min(4 << 20))];
    stream.write_all(&out).await?;
    while n_done < n_calls {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        partial += n;
        let came = partial / answer;
        partial %= answer;
        n_done += came;
        out.clear();
        let next = came.min(n_calls - n_sent);
        (0..next).for_each(|_| out.extend_from_slice(&frame));
        n_sent += next;
        stream.write_all(&out).await?;
    }
    Ok(())
}
